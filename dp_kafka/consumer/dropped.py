"""Dropped lanes of which handlers have messages in hand: whoever waits for a stop waits for those, too.

A lane that is dropped leaves its session, with what is in hand of it: after a revoke that has waited long
enough, when a partition is lost, when a session fails. The consumer goes on without it, and may leave the
group. But its handlers run to their ends, also beside those of the next session.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from dp_kafka.consumer.lane import Lane

__all__ = ["Dropped"]

#: The longest wait in one go.
LOOK_SECONDS = 1.0


class Dropped:
    """The dropped lanes of one group that handlers may still have messages of."""

    def __init__(self) -> None:
        # Replaced by the poll thread, and read by others as it is: no lock.
        self._lanes: list[Lane] = []

    def add(self, lanes: Iterable[Lane]) -> None:
        """Lanes were dropped. Poll thread, before it says that the consumer has stopped."""
        self._lanes = [lane for lane in (*self._lanes, *lanes) if lane.in_hand]

    def wait(self, deadline: float | None) -> bool:
        """Wait until nothing of them is in hand; False at `deadline` (of `time.monotonic()`). Any thread."""
        for lane in self._lanes:
            while not lane.session.wait_idle([lane], _seconds_to(deadline)):
                if deadline is not None and time.monotonic() >= deadline:
                    return False
        return True


def _seconds_to(deadline: float | None) -> float:
    return LOOK_SECONDS if deadline is None else max(0.0, min(LOOK_SECONDS, deadline - time.monotonic()))
