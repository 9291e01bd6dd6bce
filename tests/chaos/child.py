"""What the consumer and producer processes of a run share: their arguments, SIGTERM, their stacks."""

from __future__ import annotations

import faulthandler
import logging
import os
import select
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.chaos.journal import Journal
from tests.chaos.settings import Settings

__all__ = ["begin", "ticks"]

#: What SIGTERM's handler writes into, and `ticks` waits for. It may run between any two instructions of the
#: main thread, so it takes no lock; an Event has one.
_PIPE, _END = os.pipe()


def begin() -> tuple[Settings, Journal]:
    """Read the command line: the run's settings and the path of the journal.

    SIGTERM ends `ticks`; SIGUSR1 writes all stacks to stderr, for a process that hangs.
    """
    signal.signal(signal.SIGTERM, lambda _number, _frame: os.write(_END, b"!"))
    faulthandler.register(signal.SIGUSR1, file=sys.stderr, all_threads=True)
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(threadName)s %(levelname)s %(message)s"
    )
    return Settings.from_json(sys.argv[1]), Journal(Path(sys.argv[2]))


def ticks(period: float) -> Iterator[None]:
    """One tick each `period` seconds, until SIGTERM comes; a process whose parent is gone ends at once."""
    parent = os.getppid()
    while not select.select([_PIPE], [], [], period)[0]:
        if os.getppid() != parent:
            os._exit(3)
        yield
