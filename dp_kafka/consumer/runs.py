"""A run: messages of one lane that one worker handles one after another, counting without a lock.

It is the quick way through a lane in the partition's order. A worker claims many messages at once, and after
each it writes how many it has done. Whatever is out of the ordinary ends the run under the lane's lock: what
was not begun goes back to the lane, and the message in the worker's hand goes on the ordinary way. The worker
finds out by looking, after each message, whether the run is still the lane's. Each writes before it reads, so
one of the two notices the other:

    worker: handler returns; run.done = 3; looks whether the run is still the lane's
    ender:  the run is no longer the lane's; reads run.done, once; left_at = that

So when the ender has read 2, the worker that writes 3 finds that the run has ended. Where it ended, left_at,
it asks under the lock, as the ender may still be about to write it. Both counts matter then:

    left_at 2 -> message 3 is in the worker's hand, to be finished
    left_at 3 -> message 3 is counted already, and message 4 is in its hand, not begun
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dp_kafka.consumer.message import Message
    from dp_kafka.consumer.offsets import OffsetTracker

__all__ = ["Run"]


class Run:
    """Messages that one worker handles one after another. But for `done`, the lane's lock guards it."""

    __slots__ = ("done", "left_at", "messages")

    def __init__(self, messages: list[Message]) -> None:
        self.messages = messages
        #: How many the worker has finished; written by the worker alone, without the lock.
        self.done = 0
        #: How many of those are counted; once the run has ended, how many were finished then.
        self.left_at = 0

    def count(self, offsets: OffsetTracker) -> None:
        """Take what the worker has done since the last count into the books of its lane."""
        # Read once: its worker goes on meanwhile, and what is counted here must be what is finished.
        done = self.done
        if done > self.left_at:
            offsets.finish_first(done - self.left_at)
            self.left_at = done

    def end(self, offsets: OffsetTracker) -> list[Message]:
        """Count for the last time; what is left: the message in the worker's hand, and those not begun.

        The lane must have let go of the run before: whatever its worker finishes after the count, it then
        sees that the run has ended.
        """
        self.count(offsets)
        return self.messages[self.left_at :]
