"""What the consumer and producer processes of a run share: their arguments, SIGTERM, their stacks."""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from dp_kafka.shutdown import SignalEvent
from tests.chaos.journal import Journal
from tests.chaos.settings import Settings

__all__ = ["begin", "ticks"]


def begin() -> tuple[Settings, Journal, SignalEvent]:
    """Read the command line: the run's settings and the path of the journal; and what SIGTERM sets.

    SIGUSR1 writes all stacks to stderr, for a process that hangs.
    """
    ended = SignalEvent(signal.SIGTERM)
    faulthandler.register(signal.SIGUSR1, file=sys.stderr, all_threads=True)
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(threadName)s %(levelname)s %(message)s"
    )
    return Settings.from_json(sys.argv[1]), Journal(Path(sys.argv[2])), ended


def ticks(period: float, ended: SignalEvent) -> Iterator[None]:
    """One tick each `period` seconds, until `ended` is set; a process whose parent is gone ends at once."""
    parent = os.getppid()
    while not ended.wait(period):
        if os.getppid() != parent:
            os._exit(3)
        yield
