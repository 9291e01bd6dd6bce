"""Contract 19, beyond the original: a consumer group with a codec, and messages that it can't decode."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from dp_kafka import (
    BatchError,
    ConfigError,
    ConsumerGroup,
    ConsumerGroupConfig,
    DeadLetter,
    HandlerError,
    Message,
    Ordering,
    RetryPolicy,
)
from dp_kafka.avro import Schema
from dp_kafka.codecs import AvroCodec, BytesCodec, JsonCodec, RegistryCodec
from dp_kafka.events.errors import UnmarshalError
from dp_kafka.kafkatest import Consumer, EmbeddedCluster
from dp_kafka.processing.decoding import UndecodedError
from tests.conftest import (
    INCREMENTAL,
    CommittedFunction,
    SendFunction,
    TopicFactory,
)
from tests.looking import eventually
from tests.registry_stub import RegistryStub
from tests.sending import received
from tests.waiting import PATIENCE, Collected, Logged, fields


@dataclass
class Pet:
    name: str
    age: int


SCHEMA = Schema(
    {
        "type": "record",
        "name": "Pet",
        "fields": [{"name": "name", "type": "string"}, {"name": "age", "type": "int"}],
    }
)
MakeGroup = Callable[..., ConsumerGroup]


@pytest.fixture
def group(cluster: EmbeddedCluster, request: pytest.FixtureRequest) -> MakeGroup:
    """Makes a group with a codec; the test's end closes it."""

    def make(topic: str, codec: Any = None, **config: Any) -> ConsumerGroup:
        config.setdefault("librdkafka", INCREMENTAL)
        made = ConsumerGroup(ConsumerGroupConfig(cluster.broker_addrs, topic, topic, **config), codec=codec)
        request.addfinalizer(lambda: made.close(timeout=PATIENCE / 3))
        return made

    return make


@pytest.mark.parametrize(
    ("codec", "value", "event"),
    [
        (JsonCodec(), b'{"name":"Rex","age":3}', {"name": "Rex", "age": 3}),
        (JsonCodec(Pet), b'{"name":"Rex","age":3}', Pet("Rex", 3)),
        (AvroCodec(SCHEMA), SCHEMA.marshal({"name": "Rex", "age": 3}), {"name": "Rex", "age": 3}),
        (AvroCodec(SCHEMA, Pet), SCHEMA.marshal(Pet("Rex", 3)), Pet("Rex", 3)),
        (BytesCodec(), b"as it is", b"as it is"),
        (JsonCodec(), None, None),
    ],
    ids=["json", "json class", "avro", "avro class", "bytes", "tombstone"],
)
def test_a_group_with_a_codec_gives_events(
    topic: TopicFactory, send: SendFunction, group: MakeGroup, codec: Any, value: bytes | None, event: Any
) -> None:
    name = topic()
    send(name, value)
    handled: Collected[Message] = Collected()
    with group(name, codec) as made:
        made.register_handler(lambda _worker, message: handled.add(message))
        made.start()
        (message,) = handled.wait(1)
        assert message.event == event
        assert message.event is message.event, "it is decoded once"
        assert message.data == value


def test_a_codec_is_checked_at_once_and_an_event_without_one_says_what_to_do(
    topic: TopicFactory, send: SendFunction, group: MakeGroup
) -> None:
    with pytest.raises(ConfigError, match="codec must have a method decode") as caught:
        group(topic(), SCHEMA)
    assert caught.value.field == "codec"
    name = topic()
    send(name, "{}")
    made = group(name)
    made.start()
    message = made.channels.upstream.get(timeout=PATIENCE)
    with pytest.raises(ConfigError, match=r"ConsumerGroup\(config, codec=…\)"):
        _ = message.event
    message.release()


def test_what_cannot_be_decoded_is_logged_without_its_payload_and_the_worker_lives(
    topic: TopicFactory, send: SendFunction, group: MakeGroup, committed: CommittedFunction, logged: Logged
) -> None:
    """As any failure without a policy: logged, committed, and the worker handles the next message."""
    name = topic()
    send(name, '{"secret": ', "[1]")
    handled: Collected[Any] = Collected()
    made = group(name, JsonCodec())
    made.register_handler(lambda _worker, message: handled.add(message.event))
    made.start()
    assert handled.wait(1) == [[1]]
    record = logged.wait("failed to handle message")
    assert fields(record)["offset"] == 0
    assert "secret" not in logged.text
    assert made.stop_and_wait(PATIENCE)
    assert committed(name, name) == 2


def test_what_cannot_be_decoded_is_retried_and_then_a_dead_letter(
    cluster: EmbeddedCluster, topic: TopicFactory, send: SendFunction, group: MakeGroup
) -> None:
    name, dead = topic(), topic()
    send(name, "no json", "2")
    handled: Collected[Any] = Collected()
    attempts: Collected[int] = Collected()

    def counting(handler: Callable[..., object]) -> Callable[..., object]:
        def counted(worker: int, message: Message) -> object:
            if message.offset == 0:
                attempts.add(message.attempt)
            return handler(worker, message)

        return counted

    made = group(
        name, JsonCodec(), retry=RetryPolicy(3, 0.01, 0.02), dead_letter=DeadLetter(dead), num_workers=2
    )
    made.use(counting)
    made.register_handler(lambda _worker, message: handled.add(message.event))
    made.start()
    assert handled.wait(1) == [2]
    (letter,) = received(cluster, dead, 1)
    headers = dict(letter.headers() or [])
    assert letter.value() == b"no json"
    assert headers["dead-letter.exception.type"] == b"dp_kafka.events.errors.UnmarshalError"
    assert headers["dead-letter.attempts"] == b"3"
    assert attempts.wait(3) == [1, 2, 3], "a middleware sees each attempt"


@pytest.mark.parametrize("batches", [False, True], ids=["single", "batch"])
def test_a_policy_can_give_up_on_what_cannot_be_decoded_at_once(
    cluster: EmbeddedCluster, topic: TopicFactory, send: SendFunction, group: MakeGroup, batches: bool
) -> None:
    name, dead = topic(), topic()
    send(name, "no json", "2")
    handled: Collected[Any] = Collected()
    made = group(
        name,
        JsonCodec(),
        retry=RetryPolicy(0, 0.01, 0.02, give_up_on=UnmarshalError),
        dead_letter=DeadLetter(dead),
        batch_size=2,
        batch_wait_time=5,
    )

    def batch_handler(batch: list[Message]) -> None:
        for message in batch:
            handled.add(message.event)

    if batches:
        made.register_batch_handler(batch_handler)
    else:
        made.register_handler(lambda _worker, message: handled.add(message.event))
    made.start()
    assert handled.wait(1) == [2]
    (letter,) = received(cluster, dead, 1)
    assert dict(letter.headers() or [])["dead-letter.attempts"] == b"1"


class Outage:
    """A codec whose registry is away for the first decodes."""

    def __init__(self, times: int) -> None:
        self.left = times

    def encode(self, event: Any) -> bytes:
        return bytes(event)

    def decode(self, data: bytes) -> Any:
        if self.left:
            self.left -= 1
            raise OSError("out of reach")
        return data.decode()


def test_a_codec_whose_registry_comes_back_decodes_on_a_later_attempt(
    topic: TopicFactory, send: SendFunction, group: MakeGroup
) -> None:
    name = topic()
    send(name, "a", "b")
    handled: Collected[Any] = Collected()
    made = group(name, Outage(2), retry=RetryPolicy(0, 0.01, 0.02))
    made.register_handler(lambda _worker, message: handled.add((message.event, message.attempt)))
    made.start()
    assert handled.wait(2) == [("a", 3), ("b", 1)]


def test_an_outage_of_the_schema_registry_is_ridden_out_and_garbage_is_a_dead_letter() -> None:
    """RegistryError is retried as long as it takes, UnmarshalError given up at once: the policy says so."""
    attempts: Collected[int] = Collected()
    handled: Collected[Any] = Collected()

    def counting(handler: Callable[..., object]) -> Callable[..., object]:
        def counted(worker: int, message: Message) -> object:
            attempts.add(message.attempt)
            return handler(worker, message)

        return counted

    with RegistryStub() as registry:
        client = {"url": registry.url, "max.retries": 0}
        with RegistryCodec(client, "in", SCHEMA) as writer:
            data = writer.encode({"name": "Rex", "age": 3})
        registry.fail_with = 503
        config = ConsumerGroupConfig(
            ["127.0.0.1:1"],
            "in",
            "group",
            retry=RetryPolicy(0, 0.001, 0.01, give_up_on=UnmarshalError),
            dead_letter=DeadLetter("dead"),
        )
        with RegistryCodec(client, "in") as codec, Consumer(config, codec=codec) as consumer:
            consumer.use(counting)
            consumer.register_handler(lambda _worker, message: handled.add(message.event))
            consumer.start()
            consumer.queue_bytes(data)
            consumer.queue_bytes(b"garbage")
            attempts.wait(3)
            assert handled.items == []
            registry.fail_with = None
            consumer.wait_all_committed(PATIENCE)
            assert handled.items == [{"name": "Rex", "age": 3}]
            assert [letter.value() for letter in consumer.cluster.records("dead")] == [b"garbage"]


@pytest.mark.parametrize("ordering", list(Ordering))
def test_of_a_batch_only_what_cannot_be_decoded_fails(
    cluster: EmbeddedCluster,
    topic: TopicFactory,
    send: SendFunction,
    group: MakeGroup,
    committed: CommittedFunction,
    ordering: Ordering,
) -> None:
    name, dead = topic(), topic()
    send(name, "1", "no json", "3", "neither", "5")
    handled: Collected[list[Any]] = Collected()
    made = group(
        name, JsonCodec(), batch_size=5, batch_wait_time=5, dead_letter=DeadLetter(dead), ordering=ordering
    )
    made.register_batch_handler(lambda batch: handled.add([message.event for message in batch]))
    made.start()
    assert handled.wait(1) == [[1, 3, 5]]
    assert [letter.value() for letter in received(cluster, dead, 2)] == [b"no json", b"neither"]
    eventually(lambda: committed(name, name), 5)


def test_of_a_batch_what_the_handler_fails_comes_on_top(
    topic: TopicFactory, send: SendFunction, group: MakeGroup, committed: CommittedFunction
) -> None:
    """The handler fails one with commit=False, another can't be decoded: neither is passed by a commit."""
    name = topic()
    send(name, "1", "2", "no json", "4")
    handled: Collected[list[int]] = Collected()

    def handler(batch: list[Message]) -> None:
        handled.add([message.offset for message in batch])
        if batch[0].offset == 0:
            raise BatchError([batch[1]]) from HandlerError(commit=False)

    made = group(name, JsonCodec(), batch_size=4, batch_wait_time=5)
    made.register_batch_handler(handler)
    made.start()
    assert handled.wait(1) == [[0, 1, 3]]
    assert made.stop_and_wait(PATIENCE)
    assert committed(name, name) == 1


def test_a_batch_of_nothing_that_can_be_decoded_never_reaches_the_handler(
    topic: TopicFactory, send: SendFunction, group: MakeGroup, committed: CommittedFunction, logged: Logged
) -> None:
    name = topic()
    send(name, "no json", "neither")
    handled: Collected[int] = Collected()
    made = group(name, JsonCodec(), batch_size=2, batch_wait_time=5)
    made.register_batch_handler(lambda batch: handled.add(len(batch)))
    made.start()
    record = logged.wait("failed to handle message batch")
    assert record.exc_info is None or record.exc_info[0] is UndecodedError
    eventually(lambda: committed(name, name), 2)
    assert handled.items == []


def test_messages_taken_from_the_channel_are_decoded_when_somebody_looks(
    topic: TopicFactory, send: SendFunction, group: MakeGroup
) -> None:
    name = topic()
    send(name, "1", "no json")
    made = group(name, JsonCodec())
    made.start()
    first = made.channels.upstream.get(timeout=PATIENCE)
    assert first.event == 1
    first.commit_and_release()
    second = made.channels.upstream.get(timeout=PATIENCE)
    with pytest.raises(UnmarshalError):
        _ = second.event
    second.release()


def test_a_batch_that_can_be_decoded_reaches_the_handler_whole(
    topic: TopicFactory, send: SendFunction, group: MakeGroup, committed: CommittedFunction
) -> None:
    name = topic()
    send(name, "1", "2", "3")
    handled: Collected[list[Any]] = Collected()
    made = group(name, JsonCodec(), batch_size=3, batch_wait_time=5)
    made.register_batch_handler(lambda batch: handled.add([message.event for message in batch]))
    made.start()
    assert handled.wait(1) == [[1, 2, 3]]
    eventually(lambda: committed(name, name), 3)
