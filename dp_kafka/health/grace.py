"""What a check's state means at a given instant: grace before CRITICAL, and checks that do not end. Pure."""

from __future__ import annotations

from typing import NamedTuple

from dp_kafka.health.state import Snapshot
from dp_kafka.health.status import Status

__all__ = ["Limits", "Reading", "read"]


class Limits(NamedTuple):
    """Seconds: how long CRITICAL counts as WARNING, and how long a check may take."""

    critical_timeout: float
    check_timeout: float


class Reading(NamedTuple):
    """A check at one instant.

    `status`: as shown for the check. `counted`: as it counts for the whole service, after the grace.
    `has_run`: it has said something, or has had the time to. `changes_at`: when `counted` will be another
    without any update, or None.
    """

    status: Status
    counted: Status
    message: str
    has_run: bool
    changes_at: float | None


def read(
    snapshot: Snapshot, *, running_since: float | None, started_at: float, now: float, limits: Limits
) -> Reading:
    """Read a check's state. All instants are of the same monotonic clock.

    A CRITICAL counts as WARNING until `critical_timeout` has passed since the last success, or, if there was
    none, since `started_at`. A check that has run longer than `check_timeout` is CRITICAL, whatever it said
    before.
    """
    ends_at = None if running_since is None else running_since + limits.check_timeout
    if ends_at is not None and now >= ends_at:
        seconds = now - (running_since or 0.0)
        status, message = Status.CRITICAL, f"the check has not ended for {seconds:.0f} seconds"
        ends_at = None
    elif snapshot.status is None:
        return Reading(Status.WARNING, Status.WARNING, "not checked yet", False, ends_at)
    else:
        status, message = snapshot.status, snapshot.message
    if status is not Status.CRITICAL:
        return Reading(status, status, message, True, ends_at)
    since = started_at if snapshot.success_at is None else snapshot.success_at
    grace_ends = since + limits.critical_timeout
    if now >= grace_ends:
        return Reading(status, Status.CRITICAL, message, True, None)
    return Reading(status, Status.WARNING, message, True, grace_ends)
