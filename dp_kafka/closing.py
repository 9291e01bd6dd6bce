"""CLOSE THREAD of a client: what those of both clients have in common. It runs once, by a deadline.

Guarantees:
- whoever asks for the close, and however often, also a signal handler on top of one that asks, it runs once;
- the deadline may be brought forward while it runs, and is never put back;
- what fails in it is reported, and all that wait for the end are told of the end.
"""

from __future__ import annotations

import math
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection

from dp_kafka.interrupts import Beginning, is_owned

__all__ = ["LOOK_SECONDS", "ClosingThread", "Deadline"]

#: The longest wait before it looks again at a deadline that a later close() may have brought forward.
LOOK_SECONDS = 0.05


class Deadline:
    """By when a client has to be closed, in `time.monotonic()`; at first there is none. Any thread."""

    def __init__(self) -> None:
        #: Notified of a change. Reentrant, as a signal handler may close on top of one.
        self._condition = threading.Condition()
        #: All that were asked for. To add one is one step, in which no signal handler can come.
        self._asked = [math.inf]

    def bring_forward(self, at: float | None) -> None:
        """Set it, unless an earlier one is set; None asks for nothing."""
        if at is not None:
            self._asked.append(at)
            with self._condition:
                self._condition.notify_all()

    @property
    def _at(self) -> float:
        return min(self._asked)

    @property
    def is_set(self) -> bool:
        """Whether there is one."""
        return self._at < math.inf

    def remaining(self) -> float | None:
        """How many seconds are left, 0 when it has passed; None where there is none."""
        return max(0.0, self._at - time.monotonic()) if self.is_set else None

    def has_passed(self, grace: float = 0.0) -> bool:
        """Whether it was `grace` seconds ago, or longer."""
        return time.monotonic() >= self._at + grace

    def wait(self, timeout: float) -> None:
        """Wait until it has passed, at most `timeout` seconds."""
        until = time.monotonic() + timeout
        with self._condition:
            while (remaining := min(until, self._at) - time.monotonic()) > 0:
                self._condition.wait(remaining)

    def interrupted(self) -> bool:
        """Whether the calling thread is a signal handler's, on top of a change of its own."""
        return is_owned(self._condition)


class ClosingThread(threading.Thread, ABC):
    """Closes one client, once. Each kind of client says how, in the methods that are abstract here."""

    def __init__(self, topic: str, deadline: Deadline) -> None:
        super().__init__(name=f"dp-kafka:close:{topic}", daemon=True)
        self._deadline = deadline
        self._beginning = Beginning()
        #: The thread that closes: this one, or where none can be started, the caller's. Under one key, as to
        #: find nobody there and to write it is one step: a Ctrl-C just behind the start of the thread makes
        #: the next close() begin again.
        self._runner: dict[str, threading.Thread] = {}
        #: Whether a close has begun; for good.
        self.begun = False
        #: How many messages had to be left.
        self.left = 0

    def begin(self, deadline: float | None, first: Callable[[], object] | None = None) -> bool:
        """Begin to close, if this is the first call: True. A later one may bring the deadline forward.

        Args: `first` is called before the thread starts, if this is the first call.
        """
        # Before the client is said to close: whoever sees that it does, sees by when.
        self._deadline.bring_forward(deadline)
        with self._beginning.attempt() as is_first:
            if is_first:
                self.begun = True
                if first is not None:
                    first()
                self._start()
        return is_first

    def _start(self) -> None:
        try:
            # A thread of its own: the caller may be one of those that it waits for, and has a timeout.
            self.start()
        except RuntimeError:
            if self.ident is not None:
                # It runs: the call that started it was interrupted.
                return
            # While the interpreter shuts down no thread can be started. Those that would wait for themselves
            # cannot close: that is left to the next call.
            if threading.current_thread() in self._waited_for():
                self._refuse()
                raise
            self.run()

    def interrupted(self) -> bool:
        """Whether the calling thread is a signal handler's, on top of a `begin` of its own."""
        return self._beginning.interrupted() or self._deadline.interrupted()

    def run(self) -> None:
        """Close, and tell."""
        current = threading.current_thread()
        try:
            if self._runner.setdefault("thread", current) is current:
                self._close()
        except BaseException as error:  # noqa: BLE001  # whoever waits for the end must get it
            self._failed(error)
        finally:
            if self.runner is current:
                self._finish()

    @property
    def runner(self) -> threading.Thread | None:
        """The thread that closes, or has."""
        return self._runner.get("thread")

    def _join(self, thread: threading.Thread, grace: float, enough: Callable[[], bool] | None = None) -> None:
        """Join a thread until it ends, or `grace` seconds after the deadline, or when it is `enough`."""
        while thread.is_alive() and not self._deadline.has_passed(grace):
            if enough is not None and enough():
                return
            thread.join(LOOK_SECONDS)

    @abstractmethod
    def _waited_for(self) -> Collection[threading.Thread | None]:
        """The threads that the close waits for."""

    @abstractmethod
    def _refuse(self) -> None:
        """Where the close has to be left to a later call: take nothing more until then."""

    @abstractmethod
    def _close(self) -> None:
        """Close, step by step, while the deadline allows."""

    @abstractmethod
    def _failed(self, error: BaseException) -> None:
        """Report what `_close` has raised."""

    @abstractmethod
    def _finish(self) -> None:
        """What has to be said at the end, whatever went wrong before."""
