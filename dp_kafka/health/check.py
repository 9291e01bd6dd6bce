"""CHECK THREADS: one registered check, run again and again on a thread of its own.

Guarantees: a check that hangs holds up nothing but itself, and is seen to hang; whatever it raises, its
thread lives on and its state is CRITICAL; it never runs twice at a time.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TypeAlias

from dp_kafka.health.grace import Limits, Reading, read
from dp_kafka.health.state import CheckState
from dp_kafka.health.status import Status
from dp_kafka.logs import log_error

__all__ = ["Check", "CheckFunction", "CheckThread"]

logger = logging.getLogger("dp_kafka.health")

#: A check: it updates the state that it is given, as `producer.checker` does.
CheckFunction: TypeAlias = Callable[[CheckState], object]


class Check:
    """A registered check, as `HealthCheck.add_check` makes it: a `function`, and the `state` that it updates.

    `changed` is called whenever it may say something else than before.
    """

    def __init__(
        self,
        function: CheckFunction,
        state: CheckState,
        clock: Callable[[], float],
        changed: Callable[[], object],
    ) -> None:
        self.function = function
        self.state = state
        state.on_update = changed
        self._clock = clock
        self._changed = changed
        #: When the run under way began, by the clock; None between runs. Written by the check's thread only.
        self._running_since: float | None = None

    @property
    def name(self) -> str:
        """The name that it was registered with."""
        return self.state.name

    def run(self) -> None:
        """Run it once. Never raises."""
        updates = self.state.snapshot.updates
        self._running_since = self._clock()
        # From now on it is a matter of time until it has run for too long.
        self._changed()
        try:
            self.function(self.state)
        except BaseException as error:  # noqa: BLE001  # a check may raise anything; its thread lives on
            log_error(logger, "a health check failed", error, {"check": self.name})
            # The type alone: the document is open to the network, and what the error says may not be.
            self.state.update(Status.CRITICAL, f"the check failed with {type(error).__name__}, see the log")
        else:
            if self.state.snapshot.updates == updates:
                self.state.update(Status.WARNING, "the check has not updated its state")
        finally:
            self._running_since = None
            # One that had run for too long has ended after all, whatever it said before.
            self._changed()

    def reading(self, now: float, started_at: float, limits: Limits) -> Reading:
        """What its state means at `now`; any thread."""
        return read(
            self.state.snapshot,
            running_since=self._running_since,
            started_at=started_at,
            now=now,
            limits=limits,
        )

    def __repr__(self) -> str:
        return f"<Check {self.state!r}>"


class CheckThread(threading.Thread):
    """Runs one check now, and then again after each pause, until it is told to stop."""

    def __init__(self, check: Check, pause: Callable[[], float], stopping: threading.Event) -> None:
        """Args: `pause` gives the seconds until the next run."""
        super().__init__(name=f"dp-kafka:health:{check.name}", daemon=True)
        #: What it runs.
        self.check = check
        self._pause = pause
        self._stopping = stopping

    def run(self) -> None:
        """Run the check until told to stop."""
        pause = 0.0
        while not self._stopping.wait(pause):
            self.check.run()
            pause = self._pause()
