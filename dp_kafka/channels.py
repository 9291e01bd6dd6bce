"""Channels: closeable queues, the bounded errors channel, events without a lock, and those that call back."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from queue import Empty, Full, Queue
from typing import Any, Generic, TypeVar

from dp_kafka.errors import ChannelClosed
from dp_kafka.interrupts import is_owned

T = TypeVar("T")

__all__ = ["Channel", "Empty", "ErrorsChannel", "Full", "LockFreeEvent", "Signal"]


class Channel(Queue[T], Generic[T]):
    """A `queue.Queue` that can be closed, as a Go channel can.

    What was put before `close()` can still be taken; then `get` raises `ChannelClosed`. `put` on a closed
    channel raises `ChannelClosed`, also for a thread that was already waiting for room. Every method may be
    called from any thread. Its mutex, that of `queue.Queue`, guards the items and the flag.

    Args:
        maxsize: how many items fit; 0 means no bound.
    """

    def __init__(self, maxsize: int = 0) -> None:
        super().__init__(maxsize)
        self._closed = False
        _make_reentrant(self)

    @property
    def closed(self) -> bool:
        """True once `close()` was called; items may still be inside."""
        return self._closed

    def interrupted(self) -> bool:
        """Whether the calling thread is a signal handler's, on top of a call that holds this."""
        return is_owned(self.mutex)

    def close(self) -> bool:
        """Refuse further items and wake every waiting thread. True if this call closed it. Never blocks."""
        with self.mutex:
            if self._closed:
                return False
            self._closed = True
            self.not_empty.notify_all()
            self.not_full.notify_all()
            return True

    def put(self, item: T, block: bool = True, timeout: float | None = None) -> None:
        """Add an item, waiting for room at most `timeout` seconds (None: until there is room).

        Raises:
            ChannelClosed: the channel is closed, or was closed while this call waited.
            queue.Full: no room within `timeout`, or at once with `block=False`.
        """
        deadline = None if block and timeout is None else deadline_of(block, timeout)
        with self.mutex:
            if self._closed or 0 < self.maxsize <= self._qsize():
                self._wait_for_room_locked(deadline)
            self._put(item)
            self.unfinished_tasks += 1
            self.not_empty.notify()

    def get(self, block: bool = True, timeout: float | None = None) -> T:
        """Take the oldest item, waiting at most `timeout` seconds (None: until there is one).

        Raises:
            ChannelClosed: the channel is closed and empty.
            queue.Empty: nothing came within `timeout`, or at once with `block=False`.
        """
        deadline = None if block and timeout is None else deadline_of(block, timeout)
        with self.mutex:
            if not self._qsize():
                self._wait_for_item_locked(deadline)
            item = self._get()
            if self.maxsize:
                self.not_full.notify()
            return item

    def _wait_for_room_locked(self, deadline: float | None) -> None:
        while not self._closed and 0 < self.maxsize <= self._qsize():
            if not wait_until(self.not_full, deadline):
                raise Full
        self._check_open()

    def _check_open(self) -> None:
        if self._closed:
            raise ChannelClosed("put on a closed channel: its owner has been closed")

    def _wait_for_item_locked(self, deadline: float | None) -> None:
        while not self._qsize():
            if self._closed:
                raise ChannelClosed("get on a closed and empty channel: its owner has been closed")
            if not wait_until(self.not_empty, deadline):
                raise Empty

    def __iter__(self) -> Iterator[T]:
        """Yield items as they come, until the channel is closed and empty."""
        while True:
            try:
                yield self.get()
            except ChannelClosed:
                return

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<{type(self).__name__} {state}, {self._qsize()} waiting, maxsize {self.maxsize}>"


class ErrorsChannel(Channel[BaseException]):
    """The errors of a client, bounded: when nobody reads them the oldest go, and are counted in `dropped`."""

    def __init__(self, maxsize: int = 20) -> None:
        super().__init__(maxsize)
        #: How many errors went unread because newer ones came. Guarded by `mutex`.
        self.dropped = 0

    def put(self, item: BaseException, block: bool = True, timeout: float | None = None) -> None:  # noqa: ARG002
        """Add an error without ever blocking; on a closed channel it is not kept (it has been logged)."""
        with self.mutex:
            if self._closed:
                return
            if 0 < self.maxsize <= self._qsize():
                self._get()
                self.dropped += 1
            self._put(item)
            self.not_empty.notify()


class LockFreeEvent(threading.Event):
    """A `threading.Event` that a signal handler may set, and wait for, on top of whatever its thread does.

    `threading.Event` has one lock, which is not reentrant: a handler that comes on top of a `wait` and waits
    itself hangs, and with it every thread that sets the event. Were it reentrant, the `wait` below could miss
    a `set` that came while the handler was at work. Here each who waits has a gate of its own.
    """

    def __init__(self) -> None:
        super().__init__()
        self._flag = False
        #: The gates of those who wait: locks that are taken. To add, discard or copy is one step each.
        self._gates = set[threading.Lock]()

    def is_set(self) -> bool:
        """Whether it is set. Any thread may ask; it never blocks."""
        return self._flag

    def set(self) -> None:
        """Set it, and wake all who wait. Signal handlers and any thread may; it never blocks."""
        self._flag = True
        for gate in list(self._gates):
            # Two may set it at the same time: then the gate is open already.
            with contextlib.suppress(RuntimeError):
                gate.release()

    def clear(self) -> None:
        """Take it back: who waits from now on waits for the next `set`. It never blocks."""
        self._flag = False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, at most `timeout` seconds; True if it is. Any threads may."""
        if self._flag:
            return True
        gate = threading.Lock()
        gate.acquire(blocking=False)
        self._gates.add(gate)
        try:
            # Looked at again: whoever set it before the gate was there has not opened it.
            return self._flag or gate.acquire(timeout=-1 if timeout is None else max(0.0, timeout))
        finally:
            self._gates.discard(gate)


class Signal(LockFreeEvent):
    """An event that runs a callback once, in the thread that sets it first."""

    def __init__(self, on_set: Callable[[], None] | None = None) -> None:
        super().__init__()
        # Whoever pops it calls it: of two threads that set at the same time one alone finds it here.
        self._on_set = [] if on_set is None else [on_set]

    def set(self) -> None:
        """Set the event; the first call also runs the callback."""
        super().set()
        self._call_back()

    def _then(self, on_set: Callable[[], None]) -> None:
        """Run one more callback when it is set, or now if it is."""
        self._on_set.append(on_set)
        # Looked at behind that: whoever set it before has not seen the callback.
        if self.is_set():
            self._call_back()

    def _call_back(self) -> None:
        while True:
            try:
                on_set = self._on_set.pop()
            except IndexError:
                return
            on_set()

    def _forget(self) -> None:
        """Call nobody back from now on, as in a forked child; takes no lock."""
        self._on_set.clear()


def _make_reentrant(queue: Queue[Any]) -> None:
    """Give a queue a lock that can tell whether the thread that asks holds it: see `Channel.interrupted`."""
    mutex: Any = threading.RLock()
    queue.mutex = mutex
    queue.not_empty = threading.Condition(mutex)
    queue.not_full = threading.Condition(mutex)
    queue.all_tasks_done = threading.Condition(mutex)


def deadline_of(block: bool, timeout: float | None) -> float | None:
    """The instant of `time.monotonic()` until which a call may wait; None without a limit."""
    if not block:
        return 0.0
    if timeout is None:
        return None
    if timeout < 0:
        raise ValueError(f"timeout must not be negative, but is {timeout!r}")
    return time.monotonic() + timeout


def wait_until(condition: threading.Condition, deadline: float | None) -> bool:
    """Wait for a notification; False when the deadline has passed."""
    if deadline is None:
        condition.wait()
        return True
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        return False
    condition.wait(remaining)
    return True
