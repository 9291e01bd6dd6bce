"""An event that signals set: it takes no lock, so that a signal may come at any instant."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
import weakref
from collections.abc import Callable
from types import FrameType

__all__ = ["SignalEvent"]

#: The longest single wait, in seconds: poll() counts milliseconds in 32 bits.
_LONGEST = 86_400.0


class SignalEvent(threading.Event):
    """A `threading.Event` that signals set, or a signal handler of yours.

    A handler runs on the main thread, between any two of its instructions. `threading.Event` has a lock that
    is not reentrant: `set` in a handler, on top of a `wait` that is just about to begin, hangs the process.
    This one takes no lock. It stays set: `clear` is refused.

    It goes wherever an event is waited for, such as the `stop` of `dp_kafka.redrive.redrive`, and into
    `select` together with files and sockets. A forked child has its own, which is set if it was set before.

    Args:
        signals: each of them sets it from now on, instead of what it did before, and does nothing when it is
            set. Without any, a handler of your own may set it.

    Raises:
        ValueError: signals were given, and this is not the main thread, or there is no such signal.
    """

    def __init__(self, *signals: int) -> None:
        super().__init__()
        self._number: int | None = None
        #: True before the pipe is written to, and looked at before it is polled: a handler may run between.
        self._came = False
        self._pipe = _Pipe()
        _events.add(self)
        for number in signals:
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self._number is None:
            self._number = number
        self.set()

    @property
    def number(self) -> int | None:
        """The first of `signals` that came, None if none did: `sys.exit(128 + ended.number)`."""
        return self._number

    def is_set(self) -> bool:
        """Whether it is set. Any thread may ask; it never blocks."""
        return self._came

    def set(self) -> None:
        """Set it, and wake all who wait. Signal handlers and any thread may; it never blocks."""
        if not self._came:
            self._came = True
            self._pipe.write()

    def clear(self) -> None:
        """Refused: a request to end is not taken back.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("a SignalEvent stays set: make a new one")

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, at most `timeout` seconds; True if it is. Any threads may."""
        until = None if timeout is None else time.monotonic() + timeout
        poll = select.poll()
        poll.register(self, select.POLLIN)
        while not self._came:
            left = _LONGEST if until is None else min(_LONGEST, until - time.monotonic())
            if left <= 0:
                break
            poll.poll(left * 1000)
        return self._came

    def fileno(self) -> int:
        """The descriptor that can be read when it is set, for `select`; leave what it holds there."""
        return self._pipe.reader

    def __repr__(self) -> str:
        return f"<SignalEvent {'set' if self._came else 'unset'}>"

    def _after_fork(self) -> None:
        """In a child: what is written to the parent's pipe would wake the parent."""
        self._pipe = _Pipe()
        if self._came:
            self._pipe.write()


class _Pipe:
    """A pipe that can be read once it was written to, by this process. It is closed with its last user."""

    _ends: tuple[int, ...] = ()

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._ends = self.reader, self._writer = os.pipe()

    def write(self) -> None:
        # Not in a child that is so new that `_after_fork` has not run in it.
        if self._pid == os.getpid():
            os.write(self._writer, b"!")

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        for end in self._ends:
            close(end)


#: All that live, for a forked child, which has but one thread.
_events: weakref.WeakSet[SignalEvent] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for event in list(_events):
        event._after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)
