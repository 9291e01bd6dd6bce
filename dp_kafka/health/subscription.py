"""SUBSCRIPTION THREAD: tells consumers when the health that they depend on has changed.

Guarantees: a subscriber is told on one thread only, one status after another, and only when the worst of
its checks is another than it was told last; what it raises is logged and stops nobody.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from dp_kafka.health.check import Check
from dp_kafka.health.grace import Reading
from dp_kafka.health.status import Status, worst
from dp_kafka.logs import log_error

__all__ = ["Subscriber", "SubscriptionThread", "Subscriptions"]

logger = logging.getLogger("dp_kafka.health")


class Subscriber(Protocol):
    """What can be subscribed: `ConsumerGroup` can."""

    def on_health_update(self, status: Status) -> object:
        """The worst of the checks is now `status`. It should not block: other subscribers wait."""


class _Subscription:
    def __init__(self, subscriber: Subscriber) -> None:
        self.subscriber = subscriber
        #: The checks that it depends on; None stands for all.
        self.checks: list[Check] | None = []
        #: What it was told last. Subscription thread only.
        self.told: Status | None = None


class Subscriptions:
    """Who depends on which checks."""

    def __init__(self) -> None:
        #: Guards the list, and the list of checks in each subscription.
        self._lock = threading.Lock()
        self._subscriptions: list[_Subscription] = []

    def after_fork(self) -> None:
        """In a forked child: whoever held the lock does not exist here."""
        self._lock = threading.Lock()

    def add(self, subscriber: Subscriber, checks: Sequence[Check]) -> None:
        """Subscribe to `checks` in addition; without any, to all that there are and will be."""
        with self._lock:
            found = self._find(subscriber)
            if found is None:
                found = _Subscription(subscriber)
                self._subscriptions.append(found)
            if not checks:
                found.checks = None
            elif found.checks is not None:
                found.checks = [*dict.fromkeys([*found.checks, *checks])]

    def remove(self, subscriber: Subscriber) -> None:
        """End all subscriptions of a subscriber; nothing happens when it has none."""
        with self._lock:
            found = self._find(subscriber)
            if found is not None:
                self._subscriptions.remove(found)

    def _find(self, subscriber: Subscriber) -> _Subscription | None:
        # By identity: a subscriber needs neither a hash nor an equality.
        return next((one for one in self._subscriptions if one.subscriber is subscriber), None)

    def tell(self, readings: dict[Check, Reading]) -> None:
        """Tell those whose status has changed. Subscription thread only.

        A subscriber hears nothing before each of its checks has run.
        """
        with self._lock:
            todo = [(one, None if one.checks is None else list(one.checks)) for one in self._subscriptions]
        for subscription, checks in todo:
            mine = [readings[check] for check in (readings if checks is None else checks)]
            if not mine or not all(reading.has_run for reading in mine):
                continue
            status = worst(reading.counted for reading in mine)
            if status is subscription.told:
                continue
            subscription.told = status
            try:
                subscription.subscriber.on_health_update(status)
            except BaseException as error:  # noqa: BLE001  # user code; the others must hear of it all the same
                log_error(logger, "a subscriber failed on a health update", error, {"status": status.value})


class SubscriptionThread(threading.Thread):
    """Looks at the checks whenever one has changed, or time has changed what it means."""

    def __init__(
        self, subscriptions: Subscriptions, readings: Callable[[], tuple[dict[Check, Reading], float | None]]
    ) -> None:
        """Args: `readings` gives what each check says now, and the seconds after which to look again."""
        super().__init__(name="dp-kafka:health-updates", daemon=True)
        self._subscriptions = subscriptions
        self._readings = readings
        #: Guards `_changed` and `_ending`, and is notified when one is set.
        self._condition = threading.Condition()
        self._changed = True
        self._ending = False

    def wake(self) -> None:
        """Something has changed; any thread."""
        with self._condition:
            self._changed = True
            self._condition.notify()

    def end(self) -> None:
        """Look no more; any thread."""
        with self._condition:
            self._ending = True
            self._condition.notify()

    def run(self) -> None:
        """Tell subscribers until told to end."""
        pause: float | None = 0.0
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._changed or self._ending, pause)
                if self._ending:
                    return
                self._changed = False
            readings, pause = self._readings()
            self._subscriptions.tell(readings)
