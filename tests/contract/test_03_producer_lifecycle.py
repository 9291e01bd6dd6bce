"""Contract 3: the life of a producer, on a broker."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import pytest

from dp_kafka import (
    BytesMessage,
    ChannelClosed,
    ClosedError,
    ConfigError,
    NotInitialisedError,
    Producer,
    ProducerConfig,
)
from dp_kafka.health import CheckState, Status
from dp_kafka.health.checks import BrokerCheck
from dp_kafka.kafkatest import EmbeddedCluster
from dp_kafka.producer.delivery import confluent_producer
from tests.conftest import ProducerFactory, TopicFactory
from tests.looking import eventually
from tests.sending import (
    PLAIN,
    RECONNECT,
    Breakable,
    Outcomes,
    Wrapped,
    quick_producer,
    received,
    unreachable,
)
from tests.waiting import PATIENCE, Logged, fields, in_thread


def test_3_1_the_interface() -> None:
    """Each method of the original's producer has its counterpart."""
    for name in (
        "add_header",
        "checker",
        "close",
        "initialise",
        "log_errors",
        "send",
        "send_bytes",
        "send_json",
    ):
        assert callable(getattr(Producer, name)), name
    for name in ("channels", "is_initialised", "topic"):
        assert isinstance(getattr(Producer, name), property), name


def test_3_2_client_and_broker_check_may_be_given(topic: TopicFactory, cluster: EmbeddedCluster) -> None:
    """The seams of the test kit: where the original takes generators of clients and of brokers."""
    made: list[dict[str, Any]] = []

    def factory(properties: dict[str, Any]) -> Any:
        made.append(properties)
        return confluent_producer(properties)

    class Answering(BrokerCheck):
        def verdict(self) -> tuple[Status, str]:
            return Status.OK, "from the seam"

    config = ProducerConfig(cluster.broker_addrs, topic(), librdkafka=PLAIN)
    with Producer(config, client_factory=factory, broker_check=Answering(config)) as producer:
        assert producer.channels.initialised.wait(PATIENCE)
        state = CheckState("Kafka")
        producer.checker(state)
        assert (state.status, state.message) == (Status.OK, "from the seam")
    assert len(made) == 1
    assert made[0]["bootstrap.servers"] == ",".join(cluster.broker_addrs)


def test_3_3_making_a_producer_fails_because_of_its_configuration() -> None:
    with pytest.raises(ConfigError, match="takes a ProducerConfig, but got dict"):
        Producer({"topic": "t"})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="librdkafka refused the configuration"):
        Producer(ProducerConfig(["127.0.0.1:1"], "t", librdkafka={"no.such.property": 1}))


def test_3_3_making_a_producer_never_fails_because_of_the_cluster() -> None:
    """It is tried once by the constructor, and then in the background; the first failure is on `errors`."""
    with unreachable(min_retry_period=60, max_retry_period=60) as producer:
        assert not producer.is_initialised
        assert not producer.channels.initialised.is_set()
        assert isinstance(producer.channels.errors.get(timeout=PATIENCE), Exception)


def test_3_3_a_context_manager_closes_at_its_end(topic: TopicFactory, producer: ProducerFactory) -> None:
    """Where the original closes when its context is done."""
    with producer(topic(), librdkafka=PLAIN) as made:
        assert not made.channels.closed.is_set()
    assert made.channels.closed.is_set()
    with pytest.raises(ZeroDivisionError), producer(topic(), librdkafka=PLAIN) as made:
        raise ZeroDivisionError
    assert made.channels.closed.is_set()


def test_3_4_initialise_says_why_it_failed_and_does_nothing_once_initialised(
    own_cluster: EmbeddedCluster,
) -> None:
    own_cluster.broker_down(1)
    made: list[dict[str, Any]] = []

    def factory(properties: dict[str, Any]) -> Any:
        made.append(properties)
        return confluent_producer(properties)

    config = ProducerConfig(
        own_cluster.broker_addrs, "t", min_retry_period=0.02, max_retry_period=0.05, librdkafka=RECONNECT
    )
    with Producer(config, client_factory=factory) as producer:
        with pytest.raises(NotInitialisedError, match="failed to create a new producer"):
            producer.initialise()
        own_cluster.broker_up(1)
        assert producer.channels.initialised.wait(PATIENCE)
        assert producer.is_initialised
        for _ in range(3):
            producer.initialise()
    assert len(made) == 1


def test_3_5_what_ends_the_delivery_thread_before_its_time_closes_the_producer(
    topic: TopicFactory, producer: ProducerFactory
) -> None:
    """The original's loop begins with the initialisation, and may fail to; here it is the producer's life."""
    clients: list[Breakable] = []

    def factory(properties: dict[str, Any]) -> Breakable:
        clients.append(Breakable(properties))
        return clients[0]

    made = producer(topic(), client_factory=factory, librdkafka=PLAIN)
    assert made.channels.initialised.wait(PATIENCE)
    clients[0].broken.set()
    assert made.channels.closed.wait(PATIENCE)
    assert isinstance(made.channels.errors.get(timeout=1), MemoryError)
    state = CheckState("Kafka")
    made.checker(state)
    assert state.status == Status.CRITICAL


def test_3_6_is_initialised_until_it_closes(topic: TopicFactory, producer: ProducerFactory) -> None:
    """Changed: the original's stays true after close."""
    made = producer(topic(), librdkafka=PLAIN)
    assert made.channels.initialised.wait(PATIENCE)
    assert made.is_initialised
    made.close(timeout=PATIENCE)
    assert not made.is_initialised


def test_3_7_before_the_initialisation_sends_are_refused_and_the_output_channel_keeps_its_messages(
    own_cluster: EmbeddedCluster, logged: Logged
) -> None:
    """Changed: the original logs the payload and drops the message. Attempts are counted as there."""
    own_cluster.create_topic("t")
    own_cluster.broker_down(1)
    with quick_producer(own_cluster) as producer:
        with pytest.raises(NotInitialisedError, match="is not initialised"):
            producer.send_bytes(b"refused")
        for number in range(3):
            producer.channels.output.put(BytesMessage(b"kept %d" % number))
        logged.wait("initialisation failed")
        with pytest.raises(NotInitialisedError):
            producer.initialise()
        # Who waits in initialise() hears of an attempt before the log does.
        eventually(lambda: len(logged.of("initialisation failed")) > 1)
        attempts = [fields(record)["attempt"] for record in logged.of("initialisation failed")]
        assert attempts == list(range(1, len(attempts) + 1))
        own_cluster.broker_up(1)
        values = [message.value() for message in received(own_cluster, "t", 3)]
    assert values == [b"kept 0", b"kept 1", b"kept 2"]
    assert "kept" not in logged.text


def test_3_7_closer_ends_the_attempts() -> None:
    with unreachable(min_retry_period=60, max_retry_period=60) as producer:
        producer.channels.closer.set()
        assert producer.channels.closed.wait(PATIENCE)
        assert not producer.channels.initialised.is_set()


def test_3_8_errors_come_on_errors_and_output_is_sent_with_the_headers(own_cluster: EmbeddedCluster) -> None:
    own_cluster.create_topic("t")
    with quick_producer(own_cluster, retry_max=0) as producer:
        producer.add_header("colour", "blue")
        outcomes = Outcomes()
        producer.channels.output.put(BytesMessage(b"goes"))
        (message,) = received(own_cluster, "t", 1)
        own_cluster.inject_errors("Produce", "TOPIC_AUTHORIZATION_FAILED")
        producer.channels.output.put(BytesMessage(b"fails", on_delivery=outcomes.outcome))
        ((failure, _),) = outcomes.wait(1)
        assert producer.channels.errors.get(timeout=PATIENCE) is failure
    assert message.value() == b"goes"
    assert dict(message.headers())["colour"] == b"blue"


def test_3_9_close_may_be_called_without_a_time_limit(topic: TopicFactory, producer: ProducerFactory) -> None:
    """Where the original refuses to close without a context."""
    made = producer(topic(), librdkafka=PLAIN)
    assert in_thread(made.close).result(PATIENCE) == 0
    assert made.channels.closed.is_set()


def test_3_10_close_delivers_then_ends_the_channels_and_then_says_closed(
    topic: TopicFactory, cluster: EmbeddedCluster, producer: ProducerFactory
) -> None:
    """Changed: `errors` closes last, so that whoever reads it sees the errors of the shutdown."""
    name = topic()
    made = producer(name, librdkafka={**PLAIN, "linger.ms": 2_000})
    for number in range(50):
        made.send_bytes(b"%d" % number)
        made.channels.output.put(BytesMessage(b"%d" % (100 + number)))
    channels = made.channels
    waiter = in_thread(
        lambda: channels.closed.wait(PATIENCE) and (channels.closer.is_set(), channels.errors.closed)
    )
    assert made.close(timeout=PATIENCE) == 0
    assert waiter.result(PATIENCE) == (True, True)
    assert channels.output.closed
    with pytest.raises(ChannelClosed):
        channels.errors.get(timeout=PATIENCE)
    assert len(received(cluster, name, 100)) == 100


def test_3_11_a_client_that_fails_while_it_closes_is_reported_and_the_producer_closes_all_the_same(
    own_cluster: EmbeddedCluster, logged: Logged
) -> None:
    """Changed: in the original the later steps are skipped, and `closed` never comes."""

    class FailsToPurge(Wrapped):
        def purge(self, *_args: object, **_kwargs: object) -> None:
            raise RuntimeError("purge failed")

    own_cluster.create_topic("t")
    config = ProducerConfig(own_cluster.broker_addrs, "t", librdkafka=RECONNECT)
    producer = Producer(config, client_factory=FailsToPurge)
    assert producer.channels.initialised.wait(PATIENCE)
    own_cluster.broker_down(1)
    producer.send_bytes(b"stays")
    # What librdkafka still had to say of itself may count, too: nobody serves it any more.
    assert producer.close(timeout=0.1) >= 1
    assert producer.channels.closed.wait(PATIENCE)
    assert "purge failed" in [str(error) for error in producer.channels.errors]
    assert fields(logged.wait("delivery thread died"))["topic"] == "t"


def test_3_12_close_waits_for_every_thread(topic: TopicFactory, producer: ProducerFactory) -> None:
    """Changed: the original counts them and never waits."""
    name = topic()
    made = producer(name, librdkafka=PLAIN)
    made.log_errors()
    made.channels.output.put(BytesMessage(b"v"))
    running = {thread.name for thread in threading.enumerate() if thread.name.endswith(f":{name}")}
    assert running == {f"dp-kafka:{role}:{name}" for role in ("delivery", "output", "errors")}
    assert made.close(timeout=PATIENCE) == 0
    left = {thread.name for thread in threading.enumerate() if thread.name.endswith(f":{name}")}
    assert left <= {f"dp-kafka:close:{name}"}  # which has told of the end, and is about to


def test_3_13_log_errors_logs_what_comes_with_the_topic_until_the_producer_closes(
    topic: TopicFactory, producer: ProducerFactory, logged: Logged
) -> None:
    made = producer(topic(), librdkafka=PLAIN)
    made.log_errors()
    made.log_errors()  # a second call changes nothing
    made.channels.errors.put(NotInitialisedError("one", log_data={"attempt": 7}))
    made.close(timeout=PATIENCE)
    (record,) = logged.of("kafka producer error")
    assert record.levelno == logging.ERROR
    found = fields(record)
    assert (found["attempt"], found["topic"]) == (7, made.topic)
    assert found["error"] == "one"
    assert isinstance(found["stack_trace"], list)


def test_3_13_the_stack_is_that_of_the_error(
    topic: TopicFactory, producer: ProducerFactory, logged: Logged
) -> None:
    made = producer(topic(), librdkafka=PLAIN)
    made.log_errors()
    with pytest.raises(ClosedError) as caught:
        raise ClosedError("raised here")
    made.channels.errors.put(caught.value)
    made.close(timeout=PATIENCE)
    (record,) = logged.of("kafka producer error")
    last = fields(record)["stack_trace"][-1]
    assert Path(last["file"]) == Path(__file__)
    assert last["function"] == "test_3_13_the_stack_is_that_of_the_error"
