"""Subscriptions: who hears of which status, and when."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dp_kafka.errors import HealthCheckError
from dp_kafka.health import CheckState, HealthCheck, Status
from tests.waiting import PATIENCE


class Subscriber:
    """Keeps what it was told."""

    def __init__(self, on_update: Callable[[Status], object] = lambda status: None) -> None:
        self.told: list[Status] = []
        self._on_update = on_update
        self._condition = threading.Condition()

    def on_health_update(self, status: Status) -> None:
        with self._condition:
            self.told.append(status)
            self._condition.notify_all()
        self._on_update(status)

    def wait_told(self, *statuses: Status) -> None:
        with self._condition:
            self._condition.wait_for(lambda: self.told == list(statuses), PATIENCE)
        assert self.told == list(statuses)

    __hash__ = None  # type: ignore[assignment]  # a subscriber needs none


class Pushed:
    """A check whose state the test updates whenever it likes."""

    def __init__(self, status: Status | None = Status.OK) -> None:
        self.first = status
        self.state: CheckState | None = None
        self.ran = threading.Event()

    def __call__(self, state: CheckState) -> None:
        self.state = state
        if self.first is not None:
            state.update(self.first, "at first")
        self.ran.set()

    def say(self, status: Status) -> None:
        assert self.ran.wait(PATIENCE)
        assert self.state is not None
        self.state.update(status, "said")


@pytest.fixture
def health() -> Iterator[HealthCheck]:
    made = HealthCheck(interval=3600)
    yield made
    assert made.stop(PATIENCE)


def test_a_subscriber_hears_of_each_change_and_of_no_repetition(health: HealthCheck) -> None:
    check, subscriber = Pushed(), Subscriber()
    health.subscribe(subscriber, health.add_check("x", check))
    health.start()
    subscriber.wait_told(Status.OK)
    check.say(Status.OK)
    check.say(Status.WARNING)
    subscriber.wait_told(Status.OK, Status.WARNING)
    check.say(Status.WARNING)
    check.say(Status.OK)
    subscriber.wait_told(Status.OK, Status.WARNING, Status.OK)


def test_a_subscriber_hears_the_worst_of_its_checks_only(health: HealthCheck) -> None:
    first, second, third = Pushed(), Pushed(), Pushed()
    subscriber = Subscriber()
    added = [health.add_check(name, check) for name, check in (("a", first), ("b", second), ("c", third))]
    health.subscribe(subscriber, added[0], added[1])
    health.start()
    subscriber.wait_told(Status.OK)
    third.say(Status.WARNING)
    second.say(Status.WARNING)
    subscriber.wait_told(Status.OK, Status.WARNING)
    first.say(Status.WARNING)
    second.say(Status.OK)
    first.say(Status.OK)
    subscriber.wait_told(Status.OK, Status.WARNING, Status.OK)


def test_a_subscriber_hears_nothing_before_all_its_checks_have_run(health: HealthCheck) -> None:
    ready, late = Pushed(), Pushed(None)
    go_on = threading.Event()

    def slow(state: CheckState) -> None:
        go_on.wait(PATIENCE)
        late(state)
        state.update(Status.OK, "at last")

    subscriber = Subscriber()
    health.add_check("ready", ready)
    health.add_check("late", slow)
    health.subscribe(subscriber)
    health.start()
    assert ready.ran.wait(PATIENCE)
    ready.say(Status.WARNING)
    ready.say(Status.OK)
    assert subscriber.told == []
    go_on.set()
    subscriber.wait_told(Status.OK)


def test_checks_may_be_named_or_given_as_callables(health: HealthCheck) -> None:
    first, second = Pushed(), Pushed(Status.WARNING)
    health.add_check("a", first)
    health.add_check("b", second)
    by_name, by_function, by_default = Subscriber(), Subscriber(), Subscriber()
    health.subscribe(by_name, "a")
    health.subscribe(by_function, second)
    health.subscribe(by_default)
    health.start()
    by_name.wait_told(Status.OK)
    by_function.wait_told(Status.WARNING)
    by_default.wait_told(Status.WARNING)


def test_a_second_subscription_adds_checks(health: HealthCheck) -> None:
    subscriber = Subscriber()
    health.add_check("a", Pushed())
    health.add_check("b", Pushed(Status.WARNING))
    health.subscribe(subscriber, "a")
    health.subscribe(subscriber, "b", "a")
    health.start()
    subscriber.wait_told(Status.WARNING)


def test_one_may_subscribe_after_the_start(health: HealthCheck) -> None:
    health.add_check("a", Pushed())
    health.start()
    subscriber = Subscriber()
    health.subscribe(subscriber, "a")
    subscriber.wait_told(Status.OK)


def test_who_unsubscribes_hears_no_more(health: HealthCheck) -> None:
    check, leaver, stayer = Pushed(), Subscriber(), Subscriber()
    health.add_check("a", check)
    health.subscribe(leaver)
    health.subscribe(stayer)
    health.start()
    leaver.wait_told(Status.OK)
    stayer.wait_told(Status.OK)
    health.unsubscribe(leaver)
    health.unsubscribe(leaver)
    check.say(Status.WARNING)
    stayer.wait_told(Status.OK, Status.WARNING)
    assert leaver.told == [Status.OK]


@pytest.mark.parametrize("kind", [RuntimeError, SystemExit])
def test_what_a_subscriber_raises_keeps_nothing_from_the_others(
    health: HealthCheck, caplog: pytest.LogCaptureFixture, kind: type[BaseException]
) -> None:
    def fail(status: Status) -> None:
        raise kind("not today")

    check, failing, other = Pushed(), Subscriber(fail), Subscriber()
    health.add_check("a", check)
    health.subscribe(failing)
    health.subscribe(other)
    health.start()
    other.wait_told(Status.OK)
    check.say(Status.WARNING)
    other.wait_told(Status.OK, Status.WARNING)
    assert failing.told == [Status.OK, Status.WARNING]
    assert "not today" in caplog.text


def test_a_check_that_hangs_is_told_when_its_time_is_over() -> None:
    """No update wakes anybody then: the time alone does."""
    go_on = threading.Event()
    subscriber = Subscriber()
    with HealthCheck(interval=3600, check_timeout=0.1, critical_timeout=0) as health:
        health.subscribe(subscriber, health.add_check("x", lambda state: go_on.wait(PATIENCE)))
        try:
            subscriber.wait_told(Status.CRITICAL)
        finally:
            go_on.set()
        subscriber.wait_told(Status.CRITICAL, Status.WARNING)


def test_the_end_of_a_grace_is_told() -> None:
    subscriber = Subscriber()
    # The grace runs from the start: long enough for the subscription and the first telling.
    with HealthCheck(interval=3600, critical_timeout=3) as health:
        health.subscribe(subscriber, health.add_check("x", Pushed(Status.CRITICAL)))
        subscriber.wait_told(Status.WARNING, Status.CRITICAL)


def test_a_subscriber_may_stop_the_health_check() -> None:
    health = HealthCheck(interval=3600)
    stopped = threading.Event()

    def stop(status: Status) -> None:
        assert health.stop() is False
        stopped.set()

    health.add_check("x", Pushed())
    health.subscribe(Subscriber(stop))
    health.start()
    assert stopped.wait(PATIENCE)
    assert health.stop(PATIENCE)


@pytest.mark.parametrize("subscriber", [None, object(), "consumer"])
def test_what_is_no_subscriber_is_refused(health: HealthCheck, subscriber: Any) -> None:
    with pytest.raises(HealthCheckError, match="on_health_update"):
        health.subscribe(subscriber)


def test_an_unknown_check_is_refused(health: HealthCheck) -> None:
    health.add_check("known", Pushed())
    for unknown in ("unknown", Pushed(), HealthCheck().add_check("known", Pushed())):
        with pytest.raises(HealthCheckError, match=r"none of the checks \['known'\]"):
            health.subscribe(Subscriber(), unknown)


def test_who_hears_of_all_checks_goes_on_hearing_of_all(health: HealthCheck) -> None:
    """A further subscription to one of them adds nothing, and takes nothing away."""
    first, other = Pushed(), Pushed()
    subscriber = Subscriber()
    check = health.add_check("first", first)
    health.add_check("other", other)
    health.subscribe(subscriber)
    health.subscribe(subscriber, check)
    health.start()
    subscriber.wait_told(Status.OK)
    other.say(Status.WARNING)
    subscriber.wait_told(Status.OK, Status.WARNING)
