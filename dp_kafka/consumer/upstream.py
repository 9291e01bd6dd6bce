"""The upstream channel: the messages that may be handled now, at most one of each lane at a time.

The poll thread and whoever releases a message put; workers and users get. When a message is taken, its
lane is asked for the next one that may be out beside it, so the channel stays short whatever the
number of buffered messages.
"""

from __future__ import annotations

from collections.abc import Callable

from dp_kafka.channels import Channel
from dp_kafka.consumer.message import Message

__all__ = ["UpstreamChannel"]


class UpstreamChannel(Channel[Message]):
    """A channel of messages that asks the lane of each taken message for its next one.

    Lock order: this channel's mutex, then the lane's lock; a lane never puts while it holds its lock.
    """

    def __init__(self) -> None:
        super().__init__()
        #: How often `flush` was called. Guarded by `mutex`.
        self.flushes = 0

    #: Makes the current context that of a message's trace; None without tracing.
    enter_trace: Callable[[Message], None] | None = None

    def offer(self, message: Message) -> None:
        """Put without blocking; on a closed channel the message is not put and stays unread."""
        with self.mutex:
            if not self._closed:
                self._put(message)
                self.not_empty.notify()

    def take(self, block: bool = True, timeout: float | None = None) -> Message:
        """Take the next message that may be handled, waiting at most `timeout` seconds (None: for ever).

        Raises:
            ChannelClosed: the consumer group is closed.
            queue.Empty: nothing came within `timeout`, or at once with `block=False`.
        """
        while True:
            message = super().get(block, timeout)
            usable, following = message._lane.taken(message)
            if following is not None:
                self.offer(following)
            if usable:
                return message
            # Its partition was given up while it waited here, or it must wait longer: take another one.

    #: What users call, and tracing replaces; workers call `take`.
    get = take

    def get_run(self, count: int) -> list[Message]:
        """Take the next message and those of its lane that follow it, `count` at most, without waiting.

        Raises:
            ChannelClosed: the consumer group is closed.
            queue.Empty: nothing is there.
        """
        while True:
            message = super().get(block=False)
            messages = message._lane.taken_run(message, count)
            if messages:
                return messages

    def wait(self, timeout: float | None, flushes: int) -> bool:
        """Wait for a message without taking it; True if there is one.

        Ends early when the channel is closed, or flushed since its count of `flushes` was read.
        """
        with self.not_empty:
            self.not_empty.wait_for(
                lambda: self._qsize() > 0 or self._closed or self.flushes != flushes, timeout
            )
            return self._qsize() > 0

    def flush(self) -> None:
        """Ask whoever collects a batch to handle now what it has: the messages are about to be given up."""
        with self.mutex:
            self.flushes += 1
            self.not_empty.notify_all()

    @property
    def has_messages(self) -> bool:
        """Whether a message waits; a glance without the lock, for the workers' fairness."""
        return bool(self.queue)
