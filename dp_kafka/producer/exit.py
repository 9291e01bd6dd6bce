"""What becomes of producers that a program forgot to close: the end of the interpreter closes them.

Their threads are daemons, which just stop then, and what they had not delivered would be lost without a word.
"""

from __future__ import annotations

import atexit
import logging
import threading
import weakref
from typing import Protocol

from dp_kafka.channels import LockFreeEvent
from dp_kafka.logs import log_event

__all__ = ["EXIT_SECONDS", "close_at_exit", "ending"]

logger = logging.getLogger("dp_kafka.producer")

#: How long a producer may take to deliver what it has when the interpreter ends.
EXIT_SECONDS = 5.0


class _Channels(Protocol):
    @property
    def closed(self) -> threading.Event: ...


class _Producer(Protocol):
    """The part of a Producer that is used here."""

    @property
    def topic(self) -> str: ...
    @property
    def channels(self) -> _Channels: ...
    def close(self, timeout: float | None = None) -> int: ...


#: Set once the interpreter ends: producers close then, and nobody has closed them, nor have they died.
ending = LockFreeEvent()

#: Every producer that lives. Any thread adds.
_made: weakref.WeakSet[_Producer] = weakref.WeakSet()


def close_at_exit(producer: _Producer) -> None:
    """Close this producer when the interpreter ends, if it lives and is not closed by then."""
    _made.add(producer)


@atexit.register
def _close_all() -> None:
    ending.set()
    for producer in list(_made):
        if producer.channels.closed.is_set():
            continue
        log_event(
            logger,
            logging.WARNING,
            "a producer was not closed before the program ended: closing it",
            {"topic": producer.topic, "timeout_seconds": EXIT_SECONDS},
        )
        producer.close(EXIT_SECONDS)
