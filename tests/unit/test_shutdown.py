"""The way down of a service: the order in which its clients end, by one deadline, and what is left."""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import Any

import pytest

from dp_kafka import ClosedError, ForkedError, HealthCheckError, Message, Producer, State
from dp_kafka.health import CheckState, HealthCheck, Status
from dp_kafka.kafkatest import EmbeddedCluster
from dp_kafka.shutdown import Left, graceful
from tests.conftest import CommittedFunction, GroupFactory, ProducerFactory, SendFunction, TopicFactory
from tests.sending import Outcomes, on_broker, quick_producer
from tests.waiting import PATIENCE, Collected, Logged, in_thread

#: Seconds beyond the deadline that a shutdown may take on a busy machine.
SLACK = 3.0


class Recorder:
    """What was called, in order, from any thread."""

    def __init__(self) -> None:
        self.calls = Collected[str]()


class FakeConsumer:
    """Tells what is called; `stop_and_wait` answers `stopped`, once `go_on` is set if there is one."""

    def __init__(
        self, name: str, recorder: Recorder, *, stopped: bool = True, in_hand: int = 0, together: Any = None
    ) -> None:
        self.name, self._recorder = name, recorder
        self._stopped, self._in_hand, self._together = stopped, in_hand, together
        self.timeouts: list[float | None] = []

    def stop_and_wait(self, timeout: float | None = None) -> bool:
        self.timeouts.append(timeout)
        self._recorder.calls.add(f"{self.name} stop_and_wait")
        if self._together is not None:
            self._together.wait(PATIENCE)
        return self._stopped

    def close(self, *, timeout: float | None = None) -> int:
        self.timeouts.append(timeout)
        self._recorder.calls.add(f"{self.name} close")
        return self._in_hand

    def __repr__(self) -> str:
        return f"<{self.name}>"


class FakeProducer:
    """Tells what is called."""

    def __init__(
        self, name: str, recorder: Recorder, *, left: int = 0, error: Exception | None = None
    ) -> None:
        self.name, self._recorder, self._left, self._error = name, recorder, left, error
        self.timeouts: list[float | None] = []

    def flush(self, timeout: float | None = None) -> int:
        self._recorder.calls.add(f"{self.name} flush")
        if self._error is not None:
            raise self._error
        return 0

    def close(self, timeout: float | None = None) -> int:
        self.timeouts.append(timeout)
        self._recorder.calls.add(f"{self.name} close")
        return self._left

    def __repr__(self) -> str:
        return f"<{self.name}>"


def test_consumers_stop_and_close_before_producers_flush_and_close() -> None:
    recorder = Recorder()
    consumer, producer = FakeConsumer("consumer", recorder), FakeProducer("producer", recorder)
    # Whatever the order in which they are given.
    assert not graceful(producer, None, consumer, timeout=5)
    assert recorder.calls.items == [
        "consumer stop_and_wait",
        "consumer close",
        "producer flush",
        "producer close",
    ]


def test_all_consumers_stop_at_the_same_time() -> None:
    """Each waits in `stop_and_wait` for all the others to be there."""
    recorder, together = Recorder(), threading.Barrier(3)
    consumers = [FakeConsumer(f"c{number}", recorder, together=together) for number in range(3)]
    producer = FakeProducer("producer", recorder)
    assert not graceful(*consumers, producer, timeout=10)
    assert sorted(recorder.calls.items[:3]) == [f"c{number} stop_and_wait" for number in range(3)]
    assert recorder.calls.items[6:] == ["producer flush", "producer close"]


def test_there_is_one_deadline_and_a_part_of_it_is_kept_for_producers() -> None:
    recorder = Recorder()
    consumer, producer = FakeConsumer("consumer", recorder), FakeProducer("producer", recorder)
    graceful(consumer, producer, timeout=5)
    stop, close = consumer.timeouts
    (last,) = producer.timeouts
    assert stop is not None
    assert close is not None
    assert last is not None
    assert close <= stop <= 4.0
    assert 4.0 < last <= 5.0


def test_without_producers_consumers_have_all_of_the_time() -> None:
    consumer = FakeConsumer("consumer", Recorder())
    graceful(consumer, timeout=5)
    assert consumer.timeouts[0] is not None
    assert consumer.timeouts[0] > 4.0


def test_what_was_left_is_summed_up_named_and_logged(logged: Logged) -> None:
    recorder = Recorder()
    left = graceful(
        FakeConsumer("orders", recorder, stopped=False, in_hand=2),
        FakeConsumer("bills", recorder, in_hand=1),
        FakeProducer("out", recorder, left=4),
        timeout=1,
    )
    assert left == Left(in_hand=3, undelivered=4, unfinished=("<orders>",))
    assert bool(left)
    assert str(left) == "3 messages in hand; 4 messages undelivered; not ended: <orders>"
    assert logged.wait("shut down with something left").levelno == logging.ERROR


def test_nothing_left_is_false_and_reads_well(logged: Logged) -> None:
    left = graceful(timeout=0)
    assert not left
    assert str(left) == "nothing"
    assert logged.wait("shut down, everything was finished").levelno == logging.INFO


def test_a_client_that_fails_is_told_and_the_others_end_all_the_same(logged: Logged) -> None:
    recorder = Recorder()
    broken = FakeProducer("broken", recorder, error=RuntimeError("broken by the test"))
    left = graceful(broken, FakeProducer("whole", recorder), timeout=1)
    assert left.unfinished == ("<broken>",)
    assert "whole close" in recorder.calls.items
    assert "broken by the test" in logged.wait("a client could not be ended").getMessage()


def test_a_client_that_is_given_twice_ends_once() -> None:
    recorder = Recorder()
    producer = FakeProducer("producer", recorder)
    graceful(producer, producer, timeout=1)
    assert recorder.calls.items == ["producer flush", "producer close"]


@pytest.mark.parametrize("timeout", [-1, float("inf"), float("nan"), True, None, "5"])
def test_a_timeout_that_is_no_number_of_seconds_is_refused_before_anything_ends(timeout: Any) -> None:
    recorder = Recorder()
    with pytest.raises(ValueError, match="timeout must be a number of seconds"):
        graceful(FakeConsumer("consumer", recorder), timeout=timeout)
    assert recorder.calls.items == []


@pytest.mark.parametrize("what", [object(), "consumer", threading.Event()])
def test_what_can_not_be_ended_is_refused_before_anything_ends(what: Any) -> None:
    recorder = Recorder()
    with pytest.raises(TypeError, match="graceful takes ConsumerGroups, Producers and HealthChecks"):
        graceful(FakeConsumer("consumer", recorder), what)
    assert recorder.calls.items == []


# -- with real clients ---------------------------------------------------------------------------------


def test_a_handler_finishes_is_committed_and_what_it_sends_then_is_delivered(
    cluster: EmbeddedCluster,
    topic: TopicFactory,
    send: SendFunction,
    consumer_group: GroupFactory,
    producer: ProducerFactory,
    committed: CommittedFunction,
) -> None:
    """The handler sends only once the shutdown is under way, so the producer must outlive the consumer."""
    incoming, outgoing = topic(), topic()
    out = producer(outgoing)
    group = consumer_group(incoming)
    in_hand = threading.Event()

    def handle(_worker_id: int, message: Message) -> None:
        in_hand.set()
        assert group.state_wait(State.STOPPING, PATIENCE)
        assert message.data is not None
        out.send_bytes(message.data)

    group.register_handler(handle)
    group.start()
    send(incoming, "order")
    assert in_hand.wait(PATIENCE)
    left = graceful(out, group, timeout=PATIENCE)
    assert left == Left()
    assert committed(group.group_name, incoming) == 1
    assert on_broker(cluster, outgoing) == 1
    assert group.channels.closed.is_set()
    assert out.channels.closed.is_set()


@pytest.mark.early
def test_a_handler_that_does_not_end_costs_neither_the_deadline_nor_what_was_sent(
    cluster: EmbeddedCluster,
    topic: TopicFactory,
    send: SendFunction,
    consumer_group: GroupFactory,
    producer: ProducerFactory,
    committed: CommittedFunction,
) -> None:
    incoming, outgoing = topic(), topic()
    out, group = producer(outgoing, librdkafka={"linger.ms": 60_000}), consumer_group(incoming)
    in_hand, go_on = threading.Event(), threading.Event()

    def handle(_worker_id: int, _message: Message) -> None:
        out.send_bytes(b"waits for others until somebody flushes")
        in_hand.set()
        go_on.wait(4 * PATIENCE)

    group.register_handler(handle)
    group.start()
    send(incoming, "order")
    try:
        assert in_hand.wait(PATIENCE)
        began = time.monotonic()
        left = graceful(group, out, timeout=10.0)
        assert time.monotonic() - began < 10.0 + SLACK
    finally:
        go_on.set()
    assert (left.in_hand, left.undelivered) == (1, 0)
    assert [name for name in left.unfinished if group.group_name in name]
    assert on_broker(cluster, outgoing) == 1
    assert committed(group.group_name, incoming) is None


def test_with_the_broker_away_it_ends_by_the_deadline_and_counts_what_was_not_delivered(
    own_cluster: EmbeddedCluster,
) -> None:
    own_cluster.create_topic("t")
    producers = [quick_producer(own_cluster) for _ in range(3)]
    outcomes = Outcomes()
    assert all(producer.channels.initialised.wait(PATIENCE) for producer in producers)
    own_cluster.broker_down(1)
    for producer in producers:
        producer.send_bytes(b"lost", on_delivery=outcomes.outcome)
    began = time.monotonic()
    left = graceful(*producers, timeout=1.0)
    assert time.monotonic() - began < 1.0 + SLACK
    assert left == Left(undelivered=3)
    assert all(error is not None for error, _ in outcomes.wait(3))


def test_what_is_closed_already_has_nothing_left(
    topic: TopicFactory, consumer_group: GroupFactory, producer: ProducerFactory
) -> None:
    name = topic()
    group, out = consumer_group(name), producer(name)
    assert not graceful(group, out, timeout=PATIENCE)
    assert not graceful(group, out, timeout=0)
    with pytest.raises(ClosedError):
        out.send_bytes(b"too late")


def test_several_threads_may_ask_at_the_same_time(
    topic: TopicFactory, consumer_group: GroupFactory, producer: ProducerFactory
) -> None:
    name = topic()
    group, out = consumer_group(name), producer(name)
    group.register_handler(lambda worker_id, message: None)
    group.start()
    asked = [in_thread(lambda: graceful(group, out, timeout=PATIENCE)) for _ in range(4)]
    assert [one.result(2 * PATIENCE) for one in asked] == [Left()] * 4


def test_a_health_check_stops_and_starts_no_consumer_again(
    topic: TopicFactory, consumer_group: GroupFactory, logged: Logged
) -> None:
    """It turns OK while the consumer stops: told of that, the consumer would start again."""
    group = consumer_group(topic())
    state: list[CheckState] = []
    checked = threading.Event()

    def check(given: CheckState) -> None:
        given.update(Status.WARNING, "at first")
        state.append(given)
        checked.set()

    health = HealthCheck(interval=3600)
    health.subscribe(group, health.add_check("x", check))
    health.start()
    assert checked.wait(PATIENCE)

    class Turning:
        """Ends while the consumer does, and has the check turn OK then."""

        def stop_and_wait(self, timeout: float | None = None) -> bool:
            state[0].update(Status.OK, "well again")
            return True

        def close(self, *, timeout: float | None = None) -> int:
            return 0

    assert not graceful(health, Turning(), group, timeout=PATIENCE)
    assert group.channels.closed.is_set()
    assert group.state is State.CLOSING
    assert not logged.of("health update not followed")
    with pytest.raises(HealthCheckError, match="stopped"):
        health.start()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_clients_of_the_parent_process_have_nothing_left(logged: Logged) -> None:
    """As in a worker of gunicorn that inherited them; see tests/unit/test_forks.py for real forks."""

    class Inherited(FakeConsumer):
        def stop_and_wait(self, timeout: float | None = None) -> bool:
            raise ForkedError("made before os.fork()")

    assert not graceful(Inherited("inherited", Recorder()), timeout=1)
    assert not logged.of("a client could not be ended")


def test_real_clients_are_what_it_takes(topic: TopicFactory, producer: ProducerFactory) -> None:
    """The types agree: mypy reads this, too."""
    out: Producer = producer(topic())
    assert graceful(out, timeout=PATIENCE) == Left()
