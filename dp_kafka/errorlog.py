"""ERRORS THREAD of a client: logs what comes on its errors channel, if its user has asked for that."""

from __future__ import annotations

import threading
from collections.abc import Callable

from dp_kafka.channels import ErrorsChannel
from dp_kafka.interrupts import is_owned

__all__ = ["ErrorLog"]


class ErrorLog:
    """The thread `dp-kafka:errors:<topic>`, from the first `start` until the channel is closed."""

    def __init__(self, errors: ErrorsChannel, topic: str, log: Callable[[BaseException], None]) -> None:
        self._errors = errors
        self._topic = topic
        self._log = log
        #: Guards the thread. Reentrant, as a signal handler that closes may come on top of its start.
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Log from now on; nothing happens when it does already, or the channel is closed. Any thread."""
        with self._lock:
            if self._thread is None and not self._errors.closed:
                name = f"dp-kafka:errors:{self._topic}"
                thread = self._thread = threading.Thread(target=self._run, name=name, daemon=True)
                try:
                    thread.start()
                except BaseException:
                    # No thread can be started, say: the next call tries again.
                    if thread.ident is None:
                        self._thread = None
                    raise

    @property
    def thread(self) -> threading.Thread | None:
        """The thread, if it was started; once the channel is closed none will be."""
        with self._lock:
            return self._thread

    def interrupted(self) -> bool:
        """Whether the calling thread is a signal handler's, on top of a `start` of its own."""
        return is_owned(self._lock)

    def _run(self) -> None:
        for error in self._errors:
            self._log(error)
