"""The upstream channel: the messages that may be handled now, at most one of each lane at a time.

The poll thread and whoever releases a message put; workers and users get. When a message is taken, its
lane is asked for the next one that may be out beside it, so the channel stays short whatever the
number of buffered messages.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from queue import Empty

from dp_kafka.channels import Channel, wait_until
from dp_kafka.consumer.lane import Lane
from dp_kafka.consumer.message import Message
from dp_kafka.errors import ChannelClosed
from dp_kafka.interrupts import calls_under_way

__all__ = ["UpstreamChannel"]


class UpstreamChannel(Channel[Message]):
    """A channel of messages that asks the lane of each taken message for its next one.

    Its mutex and the lock of a lane are never held together: it asks a lane outside, and a lane puts outside.
    """

    def __init__(self) -> None:
        super().__init__()
        #: How often `flush` was called. Guarded by `mutex`, as all that follows.
        self.flushes = 0
        #: How many threads wait for a message, and whether one of them is about to wake up. It wakes the next
        #: if there is more to take: many messages put at once must not wake as many threads to find nothing.
        self._waiting = 0
        self._waking = False

    #: Makes the current context that of a message's trace; None without tracing.
    enter_trace: Callable[[Message], None] | None = None

    def offer(self, message: Message) -> None:
        """Put without blocking; on a closed channel the message is not put and stays unread."""
        with self.mutex:
            if not self._closed:
                self._put(message)
                self._wake_locked()

    def offer_all(self, messages: list[Message]) -> None:
        """`offer` for many, in one go."""
        with self.mutex:
            if not self._closed:
                self.queue.extend(messages)
                self._wake_locked()

    def take(self, block: bool = True, timeout: float | None = None) -> Message:
        """Take the next message that may be handled, waiting at most `timeout` seconds (None: for ever).

        Raises:
            ChannelClosed: the consumer is closed.
            queue.Empty: nothing came within `timeout`, or at once with `block=False`.
        """
        while True:
            message = self._next(block, timeout)
            usable, following = message._lane.taken(message)
            if following is not None:
                self.offer(following)
            if usable:
                return message
            # Its partition was revoked or lost while it waited, or it must wait longer: take another one.

    #: What users call, and tracing replaces; workers call `take`.
    get = take

    def get_row(self, count: int) -> list[Message]:
        """Take the next message and those of its lane that follow it, `count` at most, without waiting.

        Raises:
            ChannelClosed: the consumer is closed.
            queue.Empty: nothing is there.
        """
        while True:
            message = self._next(block=False)
            messages = message._lane.taken_row(message, count)
            if messages:
                return messages

    def interrupted(self) -> bool:
        """As of a Channel; also on top of a call that uses a lane of this channel."""
        return super().interrupted() or any(lane.session.upstream is self for lane in calls_under_way(Lane))

    def wait(self, timeout: float | None, flushes: int) -> bool:
        """Wait for a message without taking it; True if there is one.

        Ends early when the channel is closed, or flushed since its count of `flushes` was read.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self.mutex:
            while not self.queue and not self._closed and self.flushes == flushes:
                if not self._wait_locked(deadline):
                    break
            return bool(self.queue)

    def flush(self) -> None:
        """Ask whoever collects a batch to handle now what it has: the messages are about to be left."""
        with self.mutex:
            self.flushes += 1
            self.not_empty.notify_all()

    def _next(self, block: bool, timeout: float | None = None) -> Message:
        message = super().get(block, timeout)
        if self.queue:
            with self.mutex:
                self._wake_locked()
        return message

    def _wake_locked(self) -> None:
        if self._waiting and not self._waking and self.queue:
            self._waking = True
            self.not_empty.notify()

    def _wait_locked(self, deadline: float | None) -> bool:
        """Wait until something has happened; False when the deadline has passed."""
        self._waiting += 1
        try:
            return wait_until(self.not_empty, deadline)
        finally:
            self._waiting -= 1
            # Also when another one is about to wake up: one more is then woken, which does no harm.
            self._waking = False

    def _wait_for_item_locked(self, deadline: float | None) -> None:
        while not self.queue:
            if self._closed:
                raise ChannelClosed("get on a closed and empty channel: its owner has been closed")
            if not self._wait_locked(deadline) and not self.queue:
                raise Empty

    @property
    def starving(self) -> bool:
        """Whether somebody waits for a message and there is none; a glance without the lock."""
        return self._waiting > 0 and not self.queue

    @property
    def has_messages(self) -> bool:
        """Whether a message waits; a glance without the lock, for the workers' fairness."""
        return bool(self.queue)
