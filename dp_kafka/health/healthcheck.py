"""HealthCheck: the health of a service: its checks, run periodically, as a document and as a WSGI app."""

from __future__ import annotations

import datetime
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any

from dp_kafka import forks
from dp_kafka.errors import ForkedError, HealthCheckError
from dp_kafka.health.check import Check, CheckFunction, CheckThread
from dp_kafka.health.grace import Limits, Reading
from dp_kafka.health.liveness import STUCK_SECONDS, Liveness, Watched
from dp_kafka.health.state import CheckState, timestamp, utc_now
from dp_kafka.health.status import Status, worst
from dp_kafka.health.subscription import Subscriber, Subscriptions, SubscriptionThread
from dp_kafka.health.version import VersionInfo
from dp_kafka.health.wsgi import StartResponse, answer
from dp_kafka.logs import log_event, thread_stack

__all__ = ["HealthCheck"]

logger = logging.getLogger("dp_kafka.health")


class HealthCheck:
    """Runs the checks of a service and says how it is; itself a WSGI app.

    As a context manager it starts and stops. Every method may be called from any thread. Each check runs
    on a thread of its own, so one that hangs shows as CRITICAL and delays no other.

    Args:
        version: of the service; a text is its version number.
        interval: seconds from the end of a check's run to the next.
        critical_timeout: seconds since a check's last success during which its CRITICAL counts as WARNING
            only, for the service and for subscribers.
        check_timeout: seconds after which a check that has not ended is CRITICAL.
        jitter: how far an interval may be off, as a part of it, so that services don't ask in step.
        clock, now, rand: the monotonic clock, the time of day, and random numbers from 0 to 1; tests give
            their own.

    Raises:
        HealthCheckError: an argument that makes no sense.
    """

    def __init__(
        self,
        version: VersionInfo | str = "",
        *,
        interval: float = 30.0,
        critical_timeout: float = 90.0,
        check_timeout: float = 10.0,
        jitter: float = 0.05,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime.datetime] = utc_now,
        rand: Callable[[], float] = random.random,
    ) -> None:
        _check_seconds("interval", interval)
        _check_seconds("check_timeout", check_timeout)
        _check_seconds("critical_timeout", critical_timeout, zero=True)
        if not 0 <= jitter < 1:
            raise HealthCheckError(f"jitter must be from 0 to less than 1, but is {jitter!r}")
        self._version = version if isinstance(version, VersionInfo) else VersionInfo(str(version))
        self._interval = interval
        self._jitter = jitter
        self._limits = Limits(critical_timeout, check_timeout)
        self._clock = clock
        self._now = now
        self._rand = rand
        self._subscriptions = Subscriptions()
        #: Guards the lists of checks and of liveness, which are replaced and never changed, and the threads.
        self._lock = threading.Lock()
        self._checks: tuple[Check, ...] = ()
        self._alive: tuple[Liveness, ...] = ()
        self._threads: list[CheckThread] = []
        self._updates: SubscriptionThread | None = None
        self._stopping = threading.Event()
        self._pid: int | None = None
        self._started_at = clock()
        self._start_time = now()
        forks.track(self, HealthCheck._after_fork)

    def _after_fork(self) -> None:
        """Let go of the parent's threads, in a forked child, and of every lock that one of them may hold."""
        self._lock = threading.Lock()
        self._subscriptions.after_fork()
        for check in self._checks:
            check.state.after_fork()
        self._threads, self._updates = [], None
        stopped = self._stopping.is_set()
        self._stopping = threading.Event()
        if stopped:
            self._stopping.set()

    # -- setting up ---------------------------------------------------------------------------------

    def add_check(self, name: str, check: CheckFunction) -> Check:
        """Register `check`, a callable that takes a CheckState, as `producer.checker` does.

        Once started, it runs at once. Returns what `subscribe` takes.

        Raises:
            HealthCheckError: not callable, or there is one of that name, or the health check is stopped.
        """
        if not callable(check):
            raise HealthCheckError(
                f"expected a checker, a callable that takes a CheckState, but got {type(check).__name__}"
            )
        state = CheckState(name, clock=self._clock, now=self._now)
        added = Check(check, state, self._clock, self._wake)
        with self._lock:
            self._not_stopped()
            if any(known.name == name for known in self._checks):
                raise HealthCheckError(f"there is a check named {name!r} already: give each its own name")
            self._checks = (*self._checks, added)
            if self._updates is not None:
                self._run(added)
        return added

    def add_liveness(self, *clients: Watched, stuck_after: float = STUCK_SECONDS) -> None:
        """Have the threads of `clients` looked at when somebody asks for liveness.

        A worker that is with one message for longer than `stuck_after` seconds counts as stuck.
        """
        with self._lock:
            self._alive = (*self._alive, Liveness(*clients, stuck_after=stuck_after))

    def subscribe(self, consumer: Subscriber, *checks: Check | str | CheckFunction) -> None:
        """Call `consumer.on_health_update(status)` whenever the worst of `checks` has become another.

        A check is given as what `add_check` returned, as its name, or as the callable. Without any, all
        checks count. A second call adds checks. The consumer hears nothing before all of them have run; what
        it is told counts the grace of `critical_timeout`. It should follow one HealthCheck only, and not be
        started and stopped by hand as well.

        Raises:
            HealthCheckError: not a subscriber, or a check that was not added.
        """
        if not callable(getattr(consumer, "on_health_update", None)):
            raise HealthCheckError(
                f"a subscriber has a method on_health_update(status), but {type(consumer).__name__} has none"
            )
        self._subscriptions.add(consumer, [self._check(check) for check in checks])
        self._wake()

    def unsubscribe(self, consumer: Subscriber) -> None:
        """Tell `consumer` nothing more."""
        self._subscriptions.remove(consumer)

    def _check(self, wanted: Check | str | CheckFunction) -> Check:
        for check in self._checks:
            if wanted is check or wanted in (check.name, check.function):
                return check
        raise HealthCheckError(
            f"{wanted!r} is none of the checks {[check.name for check in self._checks]}: add it first"
        )

    # -- life ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to run the checks; returns at once. Nothing happens when it is started already.

        Raises:
            HealthCheckError: it was stopped: make a new one.
            ForkedError: it was started in a process that this one was forked from.
            RuntimeError: a thread can't be started; the next call starts those that are missing.
        """
        self._same_process()
        with self._lock:
            self._not_stopped()
            if self._updates is None:
                self._started_at = self._clock()
                self._start_time = self._now()
                self._updates = SubscriptionThread(self._subscriptions, self._readings)
                try:
                    self._updates.start()
                except BaseException:
                    if self._updates.ident is None:
                        self._updates = None
                    raise
                self._pid = os.getpid()
            running = {thread.check for thread in self._threads}
            for check in self._checks:
                if check not in running:
                    self._run(check)

    def stop(self, timeout: float | None = None) -> bool:
        """End the threads. True when they have ended; False when a check still runs after `timeout` seconds.

        `timeout=None` waits `check_timeout`. A check that hangs is left to itself, and logged with its stack.
        From a check or a subscriber it returns False at once, as it can't wait for itself.
        """
        self._stopping.set()
        with self._lock:
            threads: list[threading.Thread] = [*self._threads]
            if self._updates is not None:
                self._updates.end()
                threads.append(self._updates)
        if threading.current_thread() in threads:
            return False
        until = time.monotonic() + (self._limits.check_timeout if timeout is None else timeout)
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        running = [thread for thread in threads if thread.is_alive()]
        for thread in running:
            log_event(
                logger,
                logging.ERROR,
                "stopped while a health check still runs",
                {"thread": thread.name},
                stack=thread_stack(thread.ident),
            )
        return not running

    def __enter__(self) -> HealthCheck:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self, check: Check) -> None:
        thread = CheckThread(check, self._pause, self._stopping)
        self._threads.append(thread)
        try:
            thread.start()
        except BaseException:
            # Not where it runs, and a Ctrl-C came just behind its start.
            if thread.ident is None:
                self._threads.remove(thread)
            raise

    def _pause(self) -> float:
        return self._interval * (1 + self._jitter * (2 * self._rand() - 1))

    def _wake(self) -> None:
        updates = self._updates
        if updates is not None:
            updates.wake()

    def _not_stopped(self) -> None:
        if self._stopping.is_set():
            raise HealthCheckError("the health check is stopped: make a new one")

    def _same_process(self) -> None:
        if self._pid is not None and self._pid != os.getpid():
            raise ForkedError(
                "the health check was started before the process was forked, and its threads are the "
                "parent's: make and start it in each worker process, after the fork"
            )

    # -- what it says -------------------------------------------------------------------------------

    @property
    def status(self) -> Status:
        """The worst of all checks, after the grace; WARNING until each has run."""
        return self._overall(self._readings()[0].values())

    @staticmethod
    def _overall(readings: Iterable[Reading]) -> Status:
        return worst(reading.counted for reading in readings)

    def _readings(self) -> tuple[dict[Check, Reading], float | None]:
        """What each check says now, and the seconds until time alone changes something of it."""
        now = self._clock()
        readings = {check: check.reading(now, self._started_at, self._limits) for check in self._checks}
        changes = [reading.changes_at for reading in readings.values() if reading.changes_at is not None]
        return readings, max(0.0, min(changes) - now) if changes else None

    def to_dict(self) -> dict[str, Any]:
        """The health document, ready for JSON: status, version, uptime (milliseconds), start_time, checks.

        A check shows what it found; the status of the whole counts a CRITICAL check as WARNING during its
        grace.

        Raises:
            ForkedError: it was started in a process that this one was forked from.
        """
        self._same_process()
        readings, _ = self._readings()
        checks = [
            {**check.state.to_dict(), "status": reading.status.value, "message": reading.message}
            for check, reading in readings.items()
        ]
        return {
            "status": self._overall(readings.values()).value,
            "version": self._version.to_dict(),
            "uptime": int((self._clock() - self._started_at) * 1000),
            "start_time": timestamp(self._start_time),
            "checks": checks,
        }

    def liveness_to_dict(self) -> dict[str, Any]:
        """The liveness document: status OK or CRITICAL, and the problems found. Asks no broker."""
        problems = [problem for alive in self._alive for problem in alive.problems()]
        return {"status": (Status.CRITICAL if problems else Status.OK).value, "problems": problems}

    @property
    def is_alive(self) -> bool:
        """False when a thread of a client given to `add_liveness` is stuck or dead."""
        return not self.liveness_to_dict()["problems"]

    # -- WSGI ---------------------------------------------------------------------------------------

    def __call__(self, environ: Mapping[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """WSGI: the health document, or, where the path ends in /liveness, the liveness document.

        200 when OK, 429 while warming up and in WARNING, 500 when CRITICAL.
        """
        if str(environ.get("PATH_INFO", "")).rstrip("/").endswith("/liveness"):
            return self.liveness(environ, start_response)
        return answer(environ, start_response, self._document)

    #: The same under a name: `health.wsgi`.
    wsgi = __call__

    def liveness(self, environ: Mapping[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """WSGI: the liveness document: 200 when alive, 500 when a thread is stuck or dead."""
        return answer(environ, start_response, self.liveness_to_dict)

    def _document(self) -> dict[str, Any]:
        try:
            return self.to_dict()
        except ForkedError as error:
            log_event(logger, logging.ERROR, "health check used in a forked child", {"error": str(error)})
            return {"status": Status.CRITICAL.value, "error": str(error)}

    def __repr__(self) -> str:
        return f"<HealthCheck {self.status} of {[check.name for check in self._checks]}>"


def _check_seconds(name: str, value: object, *, zero: bool = False) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 <= value < threading.TIMEOUT_MAX or (value == 0 and not zero):  # type: ignore[operator]
        least = "zero or more" if zero else "more than zero"
        raise HealthCheckError(f"{name} must be a number of seconds, {least}, but is {value!r}")
