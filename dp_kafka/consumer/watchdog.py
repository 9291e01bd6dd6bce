"""Handlers that take long: who has been with the same message since the last look, and for how long.

The watchdog looks about once a second at what each worker has in hand. So a handler costs nothing to
watch, and the seconds are counted from the first look at which its message was seen. Pure but for
`report_slow`, which logs: it gets the time and the workers from whoever looks.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from dp_kafka.consumer.message import Message
from dp_kafka.logs import log_event, thread_stack

__all__ = ["WATCH_SECONDS", "Slow", "Watchdog", "Worked", "report_slow"]

logger = logging.getLogger("dp_kafka.consumer")

#: How often the poll thread looks.
WATCH_SECONDS = 1.0


class Worked(Protocol):
    """What is watched: a worker thread."""

    @property
    def name(self) -> str: ...
    @property
    def ident(self) -> int | None: ...
    @property
    def current(self) -> Message | None: ...


class Slow(NamedTuple):
    """A worker that has had the same message (of a batch: its first one) in hand for `seconds`."""

    worker: Worked
    message: Message
    seconds: float


class _Sighting:
    __slots__ = ("attempt", "message", "reported", "since")

    def __init__(self, message: Message, now: float) -> None:
        # Held, so that no later message can be at its address and be taken for it.
        self.message = message
        self.attempt = message.attempt
        self.since = now
        self.reported = False


class Watchdog:
    """Remembers who had what in hand at the last look. Any thread may look.

    Args:
        slow_after: seconds after which a handler is slow; None: never.
    """

    def __init__(self, slow_after: float | None) -> None:
        self._slow_after = slow_after
        #: Guards `_seen`.
        self._lock = threading.Lock()
        self._seen: dict[Worked, _Sighting] = {}

    def look(self, now: float, workers: Iterable[Worked]) -> list[Slow]:
        """Those that have become slow: each message, each time that it is handled, once."""
        slow_after = self._slow_after
        if slow_after is None:
            return []
        found = []
        with self._lock:
            for worker, sighting in self._sightings(now, workers):
                if not sighting.reported and now - sighting.since >= slow_after:
                    sighting.reported = True
                    found.append(Slow(worker, sighting.message, now - sighting.since))
        return found

    def longer_than(self, seconds: float, now: float, workers: Iterable[Worked]) -> list[Slow]:
        """All that have had their message for more than `seconds`."""
        with self._lock:
            return [
                Slow(worker, sighting.message, now - sighting.since)
                for worker, sighting in self._sightings(now, workers)
                if now - sighting.since > seconds
            ]

    def _sightings(self, now: float, workers: Iterable[Worked]) -> list[tuple[Worked, _Sighting]]:
        """Look, and return what is known of those that have something in hand."""
        seen: dict[Worked, _Sighting] = {}
        for worker in workers:
            message = worker.current
            if message is None:
                continue
            sighting = self._seen.get(worker)
            if sighting is None or sighting.message is not message or sighting.attempt != message.attempt:
                sighting = _Sighting(message, now)
            seen[worker] = sighting
        self._seen = seen
        return list(seen.items())


def report_slow(slow: Slow, fields: Mapping[str, Any]) -> None:
    """Log a slow handler with the stack of its thread; of its message only where it is from."""
    stack = thread_stack(slow.worker.ident)
    if stack is None or slow.worker.current is not slow.message:
        return
    seen = {
        **fields,
        "partition": slow.message.partition,
        "offset": slow.message.offset,
        "worker": slow.worker.name,
        "seconds": round(slow.seconds, 1),
    }
    log_event(logger, logging.WARNING, "handler is slow", seen, stack=stack)
