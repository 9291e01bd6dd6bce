"""Contract 4: the ways to send, what each raises, and what becomes of what was accepted."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from dp_kafka import (
    BytesMessage,
    ChannelClosed,
    ClosedError,
    DeliveryError,
    DpKafkaError,
    MarshalError,
    NotInitialisedError,
    Producer,
)
from dp_kafka.avro import Schema
from dp_kafka.kafkatest import EmbeddedCluster
from tests.conftest import ProducerFactory, TopicFactory
from tests.looking import eventually
from tests.sending import PLAIN, RECONNECT, Outcomes, on_broker, quick_producer, received, unreachable
from tests.waiting import PATIENCE, in_thread

SCHEMA = Schema({"type": "record", "name": "greeting", "fields": [{"name": "text", "type": "string"}]})

#: The three calls, each with something that it can send.
SENDS: dict[str, Callable[[Producer], None]] = {
    "send": lambda producer: producer.send(SCHEMA, {"text": "hello"}),
    "send_json": lambda producer: producer.send_json({"text": "hello"}),
    "send_bytes": lambda producer: producer.send_bytes(b"hello"),
}
each_send = pytest.mark.parametrize("how", SENDS)


def test_4_1_send_marshals_with_the_schema(
    topic: TopicFactory, producer: ProducerFactory, cluster: EmbeddedCluster
) -> None:
    name = topic()
    made = producer(name, librdkafka=PLAIN)
    made.send(SCHEMA, {"text": "hello"})
    assert made.flush(PATIENCE) == 0
    (message,) = received(cluster, name, 1)
    assert message.value() == b"\x0ahello"
    assert SCHEMA.unmarshal(message.value()) == {"text": "hello"}


def test_4_1_an_event_that_does_not_fit_the_schema_is_refused_and_not_shown(
    topic: TopicFactory, producer: ProducerFactory, cluster: EmbeddedCluster
) -> None:
    name = topic()
    made = producer(name, librdkafka=PLAIN)
    with pytest.raises(MarshalError, match="text") as caught:
        made.send(SCHEMA, {"text": 4711})
    assert "4711" not in str(caught.value)
    assert made.flush(PATIENCE) == 0
    assert on_broker(cluster, name) == 0


def test_4_2_send_json(topic: TopicFactory, producer: ProducerFactory, cluster: EmbeddedCluster) -> None:
    name = topic()
    made = producer(name, librdkafka=PLAIN)
    made.send_json({"text": "hé", "numbers": [1, 2.5, None, True]})
    assert made.flush(PATIENCE) == 0
    (message,) = received(cluster, name, 1)
    assert json.loads(message.value()) == {"text": "hé", "numbers": [1, 2.5, None, True]}


def test_4_2_an_event_without_a_json_form_is_refused(topic: TopicFactory, producer: ProducerFactory) -> None:
    made = producer(topic(), librdkafka=PLAIN)
    with pytest.raises(MarshalError):
        made.send_json({"text": object()})


@pytest.mark.parametrize(
    "value", [b"", b"\x00\xff\n", b"x" * 100_000, None], ids=["empty", "any", "long", "none"]
)
def test_4_3_send_bytes_changes_nothing(
    topic: TopicFactory, producer: ProducerFactory, cluster: EmbeddedCluster, value: bytes | None
) -> None:
    name = topic()
    made = producer(name, librdkafka=PLAIN)
    made.send_bytes(value)
    assert made.flush(PATIENCE) == 0
    assert [message.value() for message in received(cluster, name, 1)] == [value]


def test_4_4_a_message_put_on_the_output_channel_is_sent(
    topic: TopicFactory, producer: ProducerFactory, cluster: EmbeddedCluster
) -> None:
    name = topic(partitions=2)
    made = producer(name, librdkafka=PLAIN)
    made.channels.output.put(BytesMessage(b"direct", key="k", partition=1, headers={"a": "b"}))
    assert made.flush(PATIENCE) == 0
    (message,) = received(cluster, name, 1, partitions=2)
    assert (message.value(), message.key(), message.partition()) == (b"direct", b"k", 1)
    assert dict(message.headers())["a"] == b"b"


@each_send
def test_4_5_after_close_every_send_is_refused(
    topic: TopicFactory, producer: ProducerFactory, how: str
) -> None:
    made = producer(topic(), librdkafka=PLAIN)
    made.close(timeout=PATIENCE)
    with pytest.raises(ClosedError, match="make a new one") as caught:
        SENDS[how](made)
    assert caught.value.log_data == {"topic": made.topic}


def test_4_5_after_close_the_output_channel_refuses_too(
    topic: TopicFactory, producer: ProducerFactory
) -> None:
    made = producer(topic(), librdkafka=PLAIN)
    made.close(timeout=PATIENCE)
    with pytest.raises(ChannelClosed):
        made.channels.output.put(BytesMessage(b"v"))


def test_4_6_a_send_returns_before_its_message_is_delivered(own_cluster: EmbeddedCluster) -> None:
    """Changed: the original's blocks until its loop takes the message."""
    own_cluster.create_topic("t")
    outcomes = Outcomes()
    with quick_producer(own_cluster) as producer:
        assert producer.channels.initialised.wait(PATIENCE)
        own_cluster.broker_down(1)
        sending = in_thread(lambda: producer.send_bytes(b"v", on_delivery=outcomes.outcome))
        sending.result(PATIENCE)
        reported_before = list(outcomes.items)
        own_cluster.broker_up(1)
    assert reported_before == []
    assert [error for error, _ in outcomes.wait(1)] == [None]


def test_4_6_a_send_that_waits_for_room_holds_up_nobody_else(own_cluster: EmbeddedCluster) -> None:
    """Changed: the original's holds a lock meanwhile, which its other calls need."""
    own_cluster.create_topic("t")
    full = {**RECONNECT, "queue.buffering.max.messages": 1}
    producer = quick_producer(own_cluster, librdkafka=full)
    try:
        assert producer.channels.initialised.wait(PATIENCE)
        own_cluster.broker_down(1)
        producer.send_bytes(b"fills the queue")
        waiting = in_thread(lambda: producer.send_bytes(b"waits", timeout=4 * PATIENCE))
        eventually(lambda: producer._delivery._waiting, 1)

        def everything_else() -> bool:
            producer.add_header("colour", "blue")
            producer.initialise()
            producer.log_errors()
            assert producer.stuck_or_dead() == []
            assert producer.flush(timeout=0)
            return producer.is_initialised

        assert in_thread(everything_else).result(PATIENCE)
        assert not waiting.done()
        assert in_thread(lambda: producer.close(timeout=0.1)).result(PATIENCE) == 1
        with pytest.raises(ClosedError):
            waiting.result(PATIENCE)
    finally:
        producer.close(timeout=0)


@each_send
def test_4_7_a_send_that_returns_has_accepted_its_message_and_one_that_raises_has_not(how: str) -> None:
    """Changed: while uninitialised the original's returns nil, and the message is lost."""
    with unreachable(min_retry_period=60, max_retry_period=60) as producer:
        with pytest.raises(NotInitialisedError):
            SENDS[how](producer)
        assert producer.flush(timeout=0) == 0


@each_send
def test_4_7_what_was_accepted_is_delivered(
    topic: TopicFactory, producer: ProducerFactory, cluster: EmbeddedCluster, how: str
) -> None:
    name = topic()
    made = producer(name, librdkafka=PLAIN)
    for _ in range(20):
        SENDS[how](made)
    assert made.close(timeout=PATIENCE) == 0
    assert on_broker(cluster, name) == 20


def test_4_8_failures_come_on_errors_and_successes_only_to_who_asks(own_cluster: EmbeddedCluster) -> None:
    """Changed: what is on `errors` tells where and why, and the message itself goes to `on_delivery`."""
    own_cluster.create_topic("t")
    outcomes = Outcomes()
    with quick_producer(own_cluster, retry_max=0) as producer:
        producer.send_bytes(b"good", on_delivery=outcomes.outcome)
        outcomes.wait(1)
        own_cluster.inject_errors("Produce", "TOPIC_AUTHORIZATION_FAILED")
        producer.send_bytes(b"bad", key=b"k", on_delivery=outcomes.outcome)
        (success, good), (failure, bad) = outcomes.wait(2)
        errors = [producer.channels.errors.get(timeout=PATIENCE)]
        assert producer.channels.errors.qsize() == 0
    assert success is None
    assert (good.value(), bad.value()) == (b"good", b"bad")
    assert errors == [failure]
    assert isinstance(failure, DeliveryError)
    assert isinstance(failure, DpKafkaError)
    assert (failure.log_data["topic"], failure.log_data["partition"], failure.log_data["has_key"]) == (
        "t",
        0,
        True,
    )
    assert "bad" not in str(failure)


@each_send
def test_4_9_key_partition_timestamp_and_headers_of_one_message(
    topic: TopicFactory, producer: ProducerFactory, cluster: EmbeddedCluster, how: str
) -> None:
    """Changed: in the original none of them can be given."""
    name = topic(partitions=3)
    made = producer(name, librdkafka=PLAIN)
    options: dict[str, Any] = {
        "key": "k",
        "partition": 2,
        "timestamp": 1_700_000_000_123,
        "headers": [("a", "1"), ("a", b"2")],
    }
    before = time.time()
    if how == "send":
        made.send(SCHEMA, {"text": "hello"}, **options)
    else:
        getattr(made, how)({"text": "hello"} if how == "send_json" else b"hello", **options)
    SENDS[how](made)
    assert made.flush(PATIENCE) == 0
    messages = received(cluster, name, 2, partitions=3)
    (message,) = [each for each in messages if each.key() == b"k"]
    (plain,) = [each for each in messages if each.key() is None]
    assert message.partition() == 2
    assert message.timestamp()[1] == 1_700_000_000_123
    assert message.headers()[:2] == [("a", b"1"), ("a", b"2")]
    assert [key for key, _ in plain.headers()] == ["request-id"]
    assert plain.timestamp()[1] >= int(1000 * before) - 1
