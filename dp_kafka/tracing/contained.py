"""What goes wrong in telemetry stays there: a message is sent, handled and committed all the same.

Span processors, propagators and views are code of users and of others. What they raise must not fail a send
or a handler, nor end a thread of this library.
"""

from __future__ import annotations

import logging
import threading
import time
from types import TracebackType
from typing import Any

from dp_kafka.logs import log_event

__all__ = ["contained"]

logger = logging.getLogger("dp_kafka.telemetry")

#: The least time between two lines in the log, in seconds.
LOG_SECONDS = 60.0


class _Contained:
    """`with contained:` logs an exception, at most once a minute, and goes on after the block. Any thread."""

    def __init__(self) -> None:
        #: Guards the time and the count. It is taken only after a failure.
        self._lock = threading.Lock()
        self._next = 0.0
        self._held_back = 0

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        with self._lock:
            now = time.monotonic()
            held_back, due = self._held_back, now >= self._next
            self._held_back = 0 if due else held_back + 1
            if due:
                self._next = now + LOG_SECONDS
        if due:
            fields: dict[str, Any] = {"error": str(error), "error_type": type(error).__name__}
            if held_back:
                fields["others_since_last_line"] = held_back
            event = "telemetry failed, messages go on without it"
            log_event(logger, logging.WARNING, event, fields, exc_info=error)
        return True


#: One for all: it keeps nothing of a block.
contained = _Contained()
