"""A thread that its first use starts, once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from dp_kafka.interrupts import is_owned

__all__ = ["OnDemandThread"]

T = TypeVar("T", bound=threading.Thread)


class OnDemandThread(Generic[T]):
    """Makes and starts a thread when it is first needed. Any thread may call it."""

    def __init__(self, make: Callable[[], T], wanted: Callable[[], bool]) -> None:
        """Args: `wanted` says whether it may still be started; once it is false it stays so."""
        self._make = make
        self._wanted = wanted
        #: Guards the thread. Reentrant, as a signal handler that closes may come on top of its start.
        self._lock = threading.RLock()
        self._thread: T | None = None

    def start(self) -> None:
        """Start it, unless it was started, or is not wanted any more.

        Raises:
            RuntimeError: no thread can be started; the next call tries again.
        """
        with self._lock:
            if self._thread is None and self._wanted():
                thread = self._make()
                try:
                    self._thread = thread
                    thread.start()
                except BaseException:
                    # Else what it is needed for would wait for nobody.
                    if thread.ident is None:
                        self._thread = None
                    raise

    @property
    def thread(self) -> T | None:
        """The thread, if it was started. Once it is not wanted any more, this does not change."""
        with self._lock:
            return self._thread

    def interrupted(self) -> bool:
        """Whether the calling thread is a signal handler's, on top of a `start` of its own."""
        return is_owned(self._lock)
