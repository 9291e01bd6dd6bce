"""How a command ends early: SIGTERM as an exception, or both signals as an event that loops look at."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any

from dp_kafka.signals import SignalEvent

__all__ = ["Ending", "Terminated", "ended_by", "ending", "raise_terminated"]


class Terminated(BaseException):
    """SIGTERM came. As KeyboardInterrupt, it is no error that anybody should handle on the way."""


def raise_terminated(_number: int, _frame: FrameType | None) -> None:
    """The handler of SIGTERM where a command may end anywhere."""
    raise Terminated


def ended_by(error: BaseException) -> int:
    """The exit code of a command that such a signal has ended."""
    return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)


class Ending:
    """Whether the command shall end: `asked` is set by the first signal; `code` is the exit code then."""

    def __init__(self) -> None:
        self.asked = SignalEvent()
        self.code = 0

    def on_signal(self, number: int, _frame: FrameType | None) -> None:
        """The handler of both signals: the first asks, the second insists."""
        if self.asked.is_set():
            raise KeyboardInterrupt if number == signal.SIGINT else Terminated
        self.code = 128 + number
        self.asked.set()


@contextlib.contextmanager
def ending() -> Iterator[Ending]:
    """Within it SIGINT and SIGTERM set an event, so that what is in hand is finished; a second one raises."""
    asked = Ending()
    before: dict[signal.Signals, Any] = {}
    try:
        for each in (signal.SIGINT, signal.SIGTERM):
            before[each] = signal.signal(each, asked.on_signal)
    except ValueError:
        # Not the main thread, as in a test: nobody sends it signals.
        before = {}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
