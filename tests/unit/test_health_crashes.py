"""Threads of real clients that die or get stuck: seen in errors, in the log, in checker and in liveness."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaError

from dp_kafka import BatchError, ClosedError, ConsumerGroup, Message, Producer, State
from dp_kafka.consumer import batch as batch_module
from dp_kafka.consumer import workers as workers_module
from dp_kafka.consumer.client import confluent_consumer
from dp_kafka.errors import KafkaClientError
from dp_kafka.health import CheckState, Status
from dp_kafka.producer.delivery import confluent_producer
from tests.conftest import (
    INCREMENTAL,
    PATIENCE,
    CommittedFunction,
    GroupFactory,
    ProducerFactory,
    SendFunction,
    TopicFactory,
)
from tests.looking import eventually
from tests.sending import ready


class Mishap(BaseException):
    """Nothing that a handler, or the library, would catch by accident."""


class Wrapped:
    """A real client, of which one call does what the test wants once it is armed."""

    def __init__(self, client: Any, call: str, armed: threading.Event, instead: Callable[[], Any]) -> None:
        self._client = client
        self._call = call
        self._armed = armed
        self._instead = instead

    def __getattr__(self, name: str) -> Any:
        if name == self._call and self._armed.is_set():
            return lambda *args, **kwargs: self._instead()
        return getattr(self._client, name)

    def __len__(self) -> int:
        return len(self._client)


def fail(error: BaseException) -> Callable[[], Any]:
    def raise_it() -> Any:
        raise error

    return raise_it


def checked(client: ConsumerGroup | Producer) -> tuple[Status | None, str]:
    state = CheckState()
    client.checker(state)
    return state.status, state.message


def taken(client: ConsumerGroup | Producer) -> list[BaseException]:
    """What is on errors."""
    with client.channels.errors.mutex:
        return list(client.channels.errors.queue)


def logged(caplog: pytest.LogCaptureFixture, event: str) -> logging.LogRecord:
    (record,) = [record for record in caplog.records if record.getMessage().startswith(event)]
    return record


@pytest.fixture
def armed() -> threading.Event:
    return threading.Event()


def test_a_poll_thread_that_dies_is_seen_and_closes_the_group(
    topic: TopicFactory,
    consumer_group: GroupFactory,
    armed: threading.Event,
    caplog: pytest.LogCaptureFixture,
) -> None:
    mishap = Mishap("in the middle of a poll")
    group = consumer_group(
        topic(), client_factory=lambda p: Wrapped(confluent_consumer(p), "consume", armed, fail(mishap))
    )
    group.register_handler(lambda worker_id, message: None)
    group.start()
    assert group.state_wait(State.CONSUMING, PATIENCE)
    assert group.stuck_or_dead() == []
    armed.set()
    assert group.state_wait(State.CLOSING, PATIENCE), "never Consuming with nobody consuming"
    assert group.channels.closed.wait(PATIENCE)
    assert checked(group) == (Status.CRITICAL, "kafka consumer-group is broken: poll thread died of Mishap")
    assert group.stuck_or_dead() == ["poll thread died of Mishap"]
    assert mishap in taken(group)
    record = logged(caplog, "poll thread died")
    assert record.exc_info is not None
    assert record.exc_info[1] is mishap


def test_a_session_that_fails_is_critical_until_one_succeeds(
    topic: TopicFactory, consumer_group: GroupFactory, armed: threading.Event, send: SendFunction
) -> None:
    """It is begun again by itself; but nothing is consumed meanwhile, and the state says so too."""
    name = topic()
    error = RuntimeError("secret")
    handled = threading.Event()
    group = consumer_group(
        name,
        min_retry_period=0.05,
        max_retry_period=0.1,
        librdkafka=INCREMENTAL,
        client_factory=lambda p: Wrapped(confluent_consumer(p), "consume", armed, fail(error)),
    )
    group.register_handler(lambda worker_id, message: handled.set())
    group.start()
    assert group.state_wait(State.CONSUMING, PATIENCE)
    armed.set()
    eventually(lambda: error in taken(group))
    eventually(lambda: checked(group)[0] is Status.CRITICAL)
    assert checked(group)[1] == "kafka consumer-group is refused (consuming failed: RuntimeError)"
    armed.clear()
    send(name, "x")
    assert handled.wait(PATIENCE)
    assert checked(group) == (Status.OK, "kafka consumer group is healthy")
    assert group.state is State.CONSUMING


def test_a_worker_that_dies_lets_go_of_its_message_unfinished_and_the_group_closes(
    topic: TopicFactory,
    consumer_group: GroupFactory,
    send: SendFunction,
    committed: CommittedFunction,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The next member of the group gets the message; one that was in another worker's hand is committed."""
    name = topic(partitions=2)
    mishap = Mishap("while a failure was looked at")
    entered, go_on = threading.Event(), threading.Event()

    def handler(worker_id: int, message: Message) -> None:
        if message.data == b"kills":
            assert entered.wait(PATIENCE)
            raise RuntimeError("what the worker fails to deal with")
        entered.set()
        go_on.wait(PATIENCE)

    group = consumer_group(name, num_workers=2, librdkafka=INCREMENTAL)
    with monkeypatch.context() as patch:
        patch.setattr(workers_module, "commit_wanted", lambda error: fail(mishap)())
        group.register_handler(handler)
        group.start()
        send(name, "kills", partition=0)
        send(name, "other", partition=1)
        assert group.state_wait(State.CLOSING, PATIENCE)
        status, message = checked(group)
        assert status is Status.CRITICAL
        assert message.startswith("kafka consumer-group is broken: dp-kafka:worker-")
        assert message.endswith("died of Mishap")
        assert not group.channels.closed.is_set(), "the other worker is not done"
        go_on.set()
        assert group.channels.closed.wait(PATIENCE)
    assert mishap in taken(group)
    record = logged(caplog, "worker thread died")
    assert record.exc_info is not None
    assert record.exc_info[1] is mishap
    assert committed(group.group_name, name, 0) is None
    assert committed(group.group_name, name, 1) == 1

    again = threading.Event()
    successor = consumer_group(name, group_name=group.group_name, librdkafka=INCREMENTAL)
    successor.register_handler(lambda worker_id, message: again.set() if message.data == b"kills" else None)
    successor.start()
    assert again.wait(PATIENCE)


def test_a_batch_worker_that_dies_lets_go_of_its_batch_unfinished(
    topic: TopicFactory,
    consumer_group: GroupFactory,
    send: SendFunction,
    committed: CommittedFunction,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = topic(partitions=2)
    send(name, "a", "b", partition=0)
    send(name, "c", "d", partition=1)
    mishap = Mishap()
    monkeypatch.setattr(batch_module, "commit_wanted", lambda error: fail(mishap)())

    def handler(messages: list[Message]) -> None:
        raise BatchError(messages[:1])

    # So short a wait for what is in hand shows that nothing is: the close does not have to give up on it.
    group = consumer_group(name, batch_size=4, message_consume_timeout=30)
    group.register_batch_handler(handler)
    group.start()
    assert group.state_wait(State.CLOSING, PATIENCE)
    assert group.channels.closed.wait(PATIENCE)
    assert checked(group)[1].endswith("died of Mishap")
    assert mishap in taken(group)
    assert committed(group.group_name, name, 0) is None
    assert committed(group.group_name, name, 1) is None


def test_a_worker_that_dies_at_once_does_not_hold_up_the_close(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = topic()
    group = consumer_group(name, message_consume_timeout=30)
    monkeypatch.setattr(workers_module.Worker, "_handle_lane", lambda self, message: fail(Mishap())())
    group.register_handler(lambda worker_id, message: None)
    group.start()
    send(name, "x")
    assert group.channels.closed.wait(PATIENCE)
    assert checked(group)[0] is Status.CRITICAL


def test_a_handler_that_raises_anything_kills_no_worker(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction
) -> None:
    """Not even an error whose text can't be had."""

    class NoText(Exception):
        def __str__(self) -> str:
            raise RuntimeError("a mistake")

    name = topic()
    errors: list[BaseException] = [SystemExit(1), KeyboardInterrupt(), GeneratorExit(), NoText(), Mishap()]
    done = threading.Event()

    def handler(worker_id: int, message: Message) -> None:
        if errors:
            raise errors.pop()
        done.set()

    group = consumer_group(name)
    group.register_handler(handler)
    group.start()
    send(name, *"abcdef")
    assert done.wait(PATIENCE)
    assert checked(group)[0] is Status.OK
    assert group.stuck_or_dead() == []


def test_a_delivery_thread_that_dies_is_seen_and_closes_the_producer(
    topic: TopicFactory, producer: ProducerFactory, armed: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    mishap = Mishap()
    made = ready(
        producer(
            topic(), client_factory=lambda p: Wrapped(confluent_producer(p), "poll", armed, fail(mishap))
        )
    )
    assert checked(made) == (Status.OK, "kafka producer is healthy")
    assert made.stuck_or_dead() == []
    armed.set()
    assert made.channels.closed.wait(PATIENCE)
    assert checked(made) == (Status.CRITICAL, "kafka producer is broken: delivery thread died of Mishap")
    assert made.stuck_or_dead() == ["delivery thread died of Mishap"]
    with pytest.raises(ClosedError):
        made.send_bytes(b"x")
    record = logged(caplog, "delivery thread died")
    assert record.exc_info is not None
    assert record.exc_info[1] is mishap


@pytest.fixture
def blocked() -> Iterator[tuple[threading.Event, Callable[[], Any]]]:
    """Told when somebody is inside; lets everybody go at the test's end."""
    inside, go_on = threading.Event(), threading.Event()

    def block() -> Any:
        inside.set()
        go_on.wait(PATIENCE)
        return []

    yield inside, block
    go_on.set()


def test_a_poll_thread_that_is_stuck_is_not_alive(
    topic: TopicFactory,
    consumer_group: GroupFactory,
    armed: threading.Event,
    blocked: tuple[threading.Event, Callable[[], Any]],
) -> None:
    inside, block = blocked
    group = consumer_group(
        topic(), client_factory=lambda p: Wrapped(confluent_consumer(p), "consume", armed, block)
    )
    group.start()
    assert group.state_wait(State.CONSUMING, PATIENCE)
    armed.set()
    assert inside.wait(PATIENCE)
    eventually(lambda: bool(group.stuck_or_dead(0.2)))
    assert group.stuck_or_dead(0.2)[0].startswith("poll thread has been stuck for")
    assert group.stuck_or_dead() == [], "that is not long"
    armed.clear()


def test_a_delivery_thread_that_a_callback_holds_is_not_alive(
    topic: TopicFactory, producer: ProducerFactory
) -> None:
    made = producer(topic())
    inside, go_on = threading.Event(), threading.Event()

    def hold(error: Any, message: Any) -> None:
        inside.set()
        go_on.wait(PATIENCE)

    try:
        made.send_bytes(b"x", on_delivery=hold)
        assert inside.wait(PATIENCE)
        eventually(lambda: made.stuck_or_dead(0.2) != [])
        assert made.stuck_or_dead(0.2)[0].startswith("delivery thread has been stuck for")
        assert made.stuck_or_dead() == []
    finally:
        go_on.set()
    eventually(lambda: made.stuck_or_dead(0.2) == [])


@pytest.mark.parametrize("batch", [False, True])
def test_a_slow_handler_is_logged_once_with_its_stack(
    batch: bool,
    topic: TopicFactory,
    consumer_group: GroupFactory,
    send: SendFunction,
    caplog: pytest.LogCaptureFixture,
) -> None:
    name = topic()
    go_on, entered = threading.Event(), threading.Event()

    def hang_in_here(*args: object) -> None:
        entered.set()
        go_on.wait(2 * PATIENCE)

    group = consumer_group(name, slow_handler_seconds=0.1)
    if batch:
        group.register_batch_handler(hang_in_here)
    else:
        group.register_handler(hang_in_here)
    group.start()
    send(name, "this is secret")
    try:
        assert entered.wait(PATIENCE)
        eventually(lambda: "handler is slow" in caplog.text)
        eventually(lambda: group.stuck_or_dead(0.5) != [])
        (problem,) = group.stuck_or_dead(0.5)
        assert f" has been with {name}[0]@0 for " in problem
        assert group.stuck_or_dead() == []
        # Also while the group stops and waits for it, it is looked at, and not told of again.
        group.stop()
        assert group.state_wait(State.STOPPING, PATIENCE)
        membership = group._poller.membership
        assert membership is not None
        looked = membership._watch_due
        eventually(lambda: membership._watch_due > looked)
    finally:
        go_on.set()
    assert group.state_wait(State.STOPPED, PATIENCE)
    record = logged(caplog, "handler is slow")
    assert record.levelname == "WARNING"
    assert "hang_in_here" in record.getMessage()
    assert "this is secret" not in caplog.text
    assert group.stuck_or_dead(0.1) == []


def test_a_handler_that_becomes_slow_while_the_group_stops_is_logged_too(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction, caplog: pytest.LogCaptureFixture
) -> None:
    name = topic()
    go_on, entered = threading.Event(), threading.Event()

    def handler(worker_id: int, message: Message) -> None:
        entered.set()
        go_on.wait(2 * PATIENCE)

    group = consumer_group(name, slow_handler_seconds=1.5)
    group.register_handler(handler)
    group.start()
    send(name, "x")
    try:
        assert entered.wait(PATIENCE)
        group.stop()
        eventually(lambda: "handler is slow" in caplog.text)
    finally:
        go_on.set()
    assert group.state_wait(State.STOPPED, PATIENCE)


def test_a_permanent_refusal_is_critical_and_named_until_the_group_stops(
    topic: TopicFactory, consumer_group: GroupFactory
) -> None:
    """Brokers and topic are well, but the group may not be joined: nothing is consumed.

    After a stop it is over: only the next start can tell whether it still is so. Else a group that its own
    health stops would never be started again.
    """
    group = consumer_group(topic())
    group.start()
    assert group.state_wait(State.CONSUMING, PATIENCE)
    error = KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED)
    group._poller._errors.take(error)
    expected = str(KafkaClientError.from_kafka_error(error))
    assert checked(group) == (Status.CRITICAL, f"kafka consumer-group is refused ({expected})")
    assert group.stop_and_wait(PATIENCE)
    eventually(lambda: checked(group)[0] is Status.OK)
