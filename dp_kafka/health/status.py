"""Status: what a health check can say, and which of several statements counts."""

from __future__ import annotations

import enum
from collections.abc import Iterable

__all__ = ["Status", "worst"]


class Status(str, enum.Enum):
    """How well something is; each member equals its text, as in `Status.OK == "OK"`.

    - `OK`: it works.
    - `WARNING`: something is wrong that may pass, or does no harm yet.
    - `CRITICAL`: it does not work.
    """

    OK = "OK"
    WARNING = "WARNING"
    CRITICAL = "CRITICAL"

    def __str__(self) -> str:
        return self.value


_ORDER = tuple(Status)


def worst(statuses: Iterable[Status]) -> Status:
    """The worst of several statuses; OK when there is none."""
    return max(statuses, key=_ORDER.index, default=Status.OK)
