"""The watchdog over handlers, and the signs of life of threads: pure, with a clock that the test sets."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, cast

import pytest

from dp_kafka.consumer.message import Message
from dp_kafka.consumer.watchdog import Slow, Watchdog, report_slow
from dp_kafka.errors import KafkaClientError
from dp_kafka.health import CheckState, Liveness, Status
from dp_kafka.pulse import Pulse, Trouble


@dataclass(eq=False)
class FakeMessage:
    topic: str = "t"
    partition: int = 1
    offset: int = 7
    attempt: int = 1


@dataclass(eq=False)
class FakeWorker:
    name: str = "worker"
    ident: int | None = None
    current: Any = None


def looks(dog: Watchdog, worker: FakeWorker, *times: float) -> list[float]:
    """The times of the looks at which the worker was reported."""
    return [now for now in times if dog.look(now, [worker])]


def test_a_message_is_reported_once_when_its_time_is_over() -> None:
    worker = FakeWorker(current=FakeMessage())
    dog = Watchdog(10.0)
    assert looks(dog, worker, 100, 105, 109.9, 110, 111, 200) == [110]


def test_the_report_tells_whose_and_how_long() -> None:
    worker = FakeWorker(current=FakeMessage())
    dog = Watchdog(10.0)
    dog.look(100, [worker])
    assert dog.look(112, [worker]) == [Slow(worker, worker.current, 12)]


def test_time_counts_from_the_first_sight_of_each_message() -> None:
    worker = FakeWorker(current=FakeMessage())
    dog = Watchdog(10.0)
    assert looks(dog, worker, 100, 105) == []
    worker.current = FakeMessage()
    assert looks(dog, worker, 106, 112) == []
    assert looks(dog, worker, 116) == [116]


def test_another_attempt_at_the_same_message_is_another_handling() -> None:
    worker = FakeWorker(current=FakeMessage())
    dog = Watchdog(10.0)
    assert looks(dog, worker, 100, 110) == [110]
    worker.current.attempt = 2
    assert looks(dog, worker, 111, 120) == []
    assert looks(dog, worker, 121) == [121]


def test_a_worker_without_a_message_is_not_slow() -> None:
    worker = FakeWorker(current=FakeMessage())
    dog = Watchdog(10.0)
    dog.look(100, [worker])
    worker.current = None
    assert looks(dog, worker, 110, 120) == []


def test_the_same_message_in_another_worker_counts_anew() -> None:
    first, second = FakeWorker(current=FakeMessage()), FakeWorker()
    dog = Watchdog(10.0)
    dog.look(100, [first, second])
    first.current, second.current = None, first.current
    assert dog.look(110, [first, second]) == []


def test_without_a_limit_nothing_is_slow_but_liveness_sees_it() -> None:
    worker = FakeWorker(current=FakeMessage())
    dog = Watchdog(None)
    assert looks(dog, worker, 100, 1000) == []
    assert dog.longer_than(60, 1000, [worker]) == []
    assert dog.longer_than(60, 1061, [worker]) == [Slow(worker, worker.current, 61)]


def test_liveness_sees_a_message_as_long_as_it_is_there() -> None:
    worker = FakeWorker(current=FakeMessage())
    dog = Watchdog(10.0)
    dog.look(100, [worker])
    for now in (161.0, 162.0):
        assert dog.longer_than(60, now, [worker]) == [Slow(worker, worker.current, now - 100)]
    worker.current = None
    assert dog.longer_than(60, 163, [worker]) == []


def test_a_slow_handler_is_logged_with_its_stack_and_without_its_payload(
    caplog: pytest.LogCaptureFixture,
) -> None:
    entered, go_on = threading.Event(), threading.Event()
    payload = "this is secret"

    def handle_for_ever(data: str) -> None:
        entered.set()
        go_on.wait(30)

    thread = threading.Thread(target=handle_for_ever, args=(payload,))
    thread.start()
    try:
        assert entered.wait(15)
        message = cast(Message, FakeMessage())
        worker = FakeWorker("dp-kafka:worker-1:t", thread.ident, message)
        report_slow(Slow(worker, message, 61.27), {"topic": "t", "group": "g"})
    finally:
        go_on.set()
        thread.join(15)
    (record,) = caplog.records
    text = record.getMessage()
    assert record.levelname == "WARNING"
    assert text.startswith(
        "handler is slow topic='t' group='g' partition=1 offset=7 worker='dp-kafka:worker-1:t'"
    )
    assert "seconds=61.3" in text
    assert "in handle_for_ever" in text
    assert payload not in text
    fields = record.__dict__["dp_kafka"]
    assert fields["event"] == "handler is slow"
    assert any(frame["function"] == "handle_for_ever" for frame in fields["stack_trace"])


def test_a_handler_that_has_just_ended_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    message = cast(Message, FakeMessage())
    report_slow(Slow(FakeWorker(ident=threading.get_ident()), message, 61), {})
    assert not caplog.records


def test_a_thread_that_moves_or_rests_is_alive() -> None:
    pulse = Pulse()
    assert pulse.problem("poll thread", 1000, 60) is None
    pulse.beat(1000)
    assert pulse.problem("poll thread", 1060, 60) is None
    pulse.rest()
    assert pulse.problem("poll thread", 5000, 60) is None


def test_a_thread_that_does_not_move_is_stuck() -> None:
    pulse = Pulse()
    pulse.beat(1000)
    assert pulse.problem("poll thread", 1061, 60) == "poll thread has been stuck for 61 seconds"
    pulse.beat(1061)
    assert pulse.problem("poll thread", 1062, 60) is None


def test_a_thread_that_died_is_dead_whatever_else() -> None:
    pulse = Pulse()
    pulse.beat(1000)
    pulse.crash = RuntimeError("secret")
    assert pulse.problem("poll thread", 1000, 60) == "poll thread died of RuntimeError"


def kafka_error(name: str, **more: Any) -> KafkaClientError:
    return KafkaClientError(f"{name}: explained", code=1, name=name, **more)


def test_trouble_is_what_waiting_does_not_solve() -> None:
    trouble = Trouble()
    trouble.note(kafka_error("_TRANSPORT"))
    assert trouble.text(of_connections=True) == ""
    trouble.note(kafka_error("GROUP_AUTHORIZATION_FAILED"))
    assert trouble.text(of_connections=False) == "GROUP_AUTHORIZATION_FAILED: explained"
    trouble.clear()
    assert trouble.text(of_connections=True) == ""


@pytest.mark.parametrize("name", ["_SSL", "_AUTHENTICATION"])
def test_trouble_of_one_connection_counts_only_where_asked_for(name: str) -> None:
    """Of three brokers one may have a bad certificate, and the thresholds of the check say what it means."""
    trouble = Trouble()
    trouble.note(kafka_error(name))
    assert trouble.text(of_connections=False) == ""
    assert trouble.text(of_connections=True) == f"{name}: explained"


def test_trouble_that_is_not_repeated_is_over_unless_it_is_fatal() -> None:
    now = 0.0
    trouble = Trouble(lambda: now)
    trouble.note(kafka_error("TOPIC_AUTHORIZATION_FAILED"))
    now = 61.0
    assert trouble.text(of_connections=True) == ""
    trouble.note(kafka_error("_FATAL", fatal=True))
    now = 1e9
    assert trouble.text(of_connections=False) == "_FATAL: explained"


def test_a_failed_part_is_trouble_and_shows_no_text_of_unknown_origin() -> None:
    trouble = Trouble()
    trouble.failed("consuming", RuntimeError("secret"))
    assert trouble.text(of_connections=False) == "consuming failed: RuntimeError"
    trouble.failed("consuming", kafka_error("_FATAL"))
    assert trouble.text(of_connections=False) == "consuming failed: _FATAL: explained"


class Client:
    def __init__(self, *problems: str) -> None:
        self._problems = list(problems)
        self.asked: list[float] = []

    def stuck_or_dead(self, stuck_after: float = 0) -> list[str]:
        self.asked.append(stuck_after)
        return self._problems


def test_liveness_is_a_check_over_all_clients() -> None:
    state, well = CheckState(), Client()
    Liveness(well, stuck_after=7)(state)
    assert (state.status, state.message) == (Status.OK, "alive")
    assert well.asked == [7]
    Liveness(well, Client("a died"), Client("b is stuck", "c is stuck"))(state)
    assert (state.status, state.message) == (Status.CRITICAL, "a died; b is stuck; c is stuck")
