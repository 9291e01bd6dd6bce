"""CheckState: what the last run of one health check has found, and when it went well or badly."""

from __future__ import annotations

import datetime
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from dp_kafka.health.status import Status

__all__ = ["CheckState", "Snapshot", "timestamp", "utc_now"]


def utc_now() -> datetime.datetime:
    """The time of day, in UTC."""
    return datetime.datetime.now(datetime.timezone.utc)


def timestamp(moment: datetime.datetime | None) -> str | None:
    """A moment as the health document writes it, like 2024-05-01T12:00:00.123456Z; None stays None."""
    if moment is None:
        return None
    return moment.astimezone(datetime.timezone.utc).isoformat(timespec="microseconds")[:-6] + "Z"


class Snapshot(NamedTuple):
    """All of a CheckState at one instant."""

    status: Status | None
    message: str
    status_code: int
    last_checked: datetime.datetime | None
    last_success: datetime.datetime | None
    last_failure: datetime.datetime | None
    #: When the last OK came, by the state's clock: the time of day may jump, this does not.
    success_at: float | None
    #: How many updates there have been.
    updates: int


_EMPTY = Snapshot(None, "", 0, None, None, None, None, 0)


class CheckState:
    """Where a check reports what it has found: a check is a callable that takes one and updates it.

    Every method and property may be called from any thread, and none blocks. Before the first update
    `status` is None.

    Args:
        name: shown in the health document.
        clock, now: the monotonic clock and the time of day; tests give their own.

    `on_update` is called after each update, on the thread that made it; the `HealthCheck` sets it.
    """

    def __init__(
        self,
        name: str = "Kafka",
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime.datetime] = utc_now,
    ) -> None:
        self._name = name
        self._clock = clock
        self._now = now
        #: Guards the step from one snapshot to the next; readers take the current one as it is.
        self._lock = threading.Lock()
        self._snapshot = _EMPTY
        #: Called after each update, outside the lock; whoever runs the check sets it.
        self.on_update: Callable[[], object] | None = None

    def after_fork(self) -> None:
        """In a forked child: whoever held the lock does not exist here."""
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The name of the check."""
        return self._name

    @property
    def status(self) -> Status | None:
        """What the last update said; None before the first."""
        return self._snapshot.status

    @property
    def message(self) -> str:
        """The last update in words."""
        return self._snapshot.message

    @property
    def status_code(self) -> int:
        """The HTTP status code that the last update was about; 0 when it was about none."""
        return self._snapshot.status_code

    @property
    def last_checked(self) -> datetime.datetime | None:
        """When the last update came, in UTC."""
        return self._snapshot.last_checked

    @property
    def last_success(self) -> datetime.datetime | None:
        """When the last OK came, in UTC."""
        return self._snapshot.last_success

    @property
    def last_failure(self) -> datetime.datetime | None:
        """When the last WARNING or CRITICAL came, in UTC."""
        return self._snapshot.last_failure

    @property
    def snapshot(self) -> Snapshot:
        """All of it at one instant; never half of one update and half of another."""
        return self._snapshot

    def update(self, status: Status | str, message: str, status_code: int = 0) -> None:
        """Say how it is now. `status_code` is for checks that ask something over HTTP.

        Raises:
            ValueError: `status` is none of OK, WARNING and CRITICAL; nothing has changed.
        """
        try:
            status = Status(status)
        except ValueError:
            raise ValueError(
                f"invalid check status, must be one of {', '.join(Status)}, but got {status!r}"
            ) from None
        well = status is Status.OK
        with self._lock:
            before, now = self._snapshot, self._now()
            self._snapshot = Snapshot(
                status,
                str(message),
                status_code,
                last_checked=now,
                last_success=now if well else before.last_success,
                last_failure=before.last_failure if well else now,
                success_at=self._clock() if well else before.success_at,
                updates=before.updates + 1,
            )
        if self.on_update is not None:
            self.on_update()

    def to_dict(self) -> dict[str, Any]:
        """The check's part of the health document, ready for JSON; `status_code` only when it is not 0."""
        seen = self._snapshot
        return {
            "name": self._name,
            "status": None if seen.status is None else seen.status.value,
            **({"status_code": seen.status_code} if seen.status_code else {}),
            "message": seen.message,
            "last_checked": timestamp(seen.last_checked),
            "last_success": timestamp(seen.last_success),
            "last_failure": timestamp(seen.last_failure),
        }

    def __repr__(self) -> str:
        return f"<CheckState {self._name!r} {self.status or 'not checked yet'}: {self.message!r}>"
