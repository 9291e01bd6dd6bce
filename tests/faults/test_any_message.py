"""Any message that a broker may bring goes through handlers, retries and dead letters, and kills none."""

from __future__ import annotations

import ctypes
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import confluent_kafka
import pytest
from confluent_kafka import cimpl
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dp_kafka import ConsumerGroup, ConsumerGroupConfig, DeadLetter, Message, Ordering, RetryPolicy
from dp_kafka.kafkatest import EmbeddedCluster
from tests.looking import eventually
from tests.sending import on_broker, received
from tests.waiting import PATIENCE, Logged, fields

Headers = list[tuple[str, bytes | None]]
Sent = tuple[bytes | None, bytes | None, Headers]

#: Texts as keys of headers can be, with those that the library itself looks at.
header_keys = st.one_of(
    st.text(max_size=20).filter(lambda text: "\0" not in text),
    st.sampled_from(["request-id", "traceparent", "dead-letter.topic", "", "ü", "a" * 300]),
)
header_values = st.one_of(st.none(), st.binary(max_size=30), st.just(b"\xff\xfe\x00"))
headers = st.lists(st.tuples(header_keys, header_values), max_size=8)
contents = st.one_of(st.none(), st.just(b""), st.binary(max_size=200), st.just(b"\xc3\x28"), st.just(b"null"))
messages = st.tuples(contents, contents, headers)

BIG: Sent = (b"\xff" * 900_000, b"k" * 50_000, [])
MANY: Sent = (b"v", b"k", [(f"h{number % 7}", b"%d" % number) for number in range(1_000)])
DUPLICATE: Sent = (None, None, [("request-id", b"\xff"), ("request-id", None), ("", b""), ("", None)])
NOTHING: Sent = (None, None, [])


class Groups:
    """One topic, and a group for each way that a message may go; each handles whatever is sent."""

    def __init__(self, cluster: EmbeddedCluster) -> None:
        self.topic = f"any-{uuid.uuid4().hex[:8]}"
        cluster.create_topic(self.topic)
        cluster.create_topic(f"{self.topic}-dead")
        self._producer = confluent_kafka.Producer(
            {"bootstrap.servers": cluster.bootstrap_servers, "linger.ms": 0, "message.max.bytes": 2_000_000}
        )
        self._condition = threading.Condition()
        #: What each group was given, by its name; guarded by the condition.
        self.seen: dict[str, list[Sent]] = {}
        retry, dead = RetryPolicy(2, 0.001, 0.002), DeadLetter(f"{self.topic}-dead")
        self.groups = [
            self._group(cluster, "plain"),
            self._group(cluster, "fails", ordering=Ordering.KEY, num_workers=3, otel_enabled=True),
            self._group(cluster, "dead letters", retry=retry, dead_letter=dead),
            self._group(cluster, "batches", batch_size=5, batch_wait_time=0.01, ordering=Ordering.NONE),
        ]

    def _group(self, cluster: EmbeddedCluster, name: str, **config: object) -> ConsumerGroup:
        self.seen[name] = []
        group = ConsumerGroup(
            ConsumerGroupConfig(
                cluster.broker_addrs,
                self.topic,
                f"{self.topic}-{name}".replace(" ", "-"),
                librdkafka={"group.protocol": "consumer", "fetch.wait.max.ms": 10},
                **config,  # type: ignore[arg-type]
            )
        )

        def take(message: Message) -> None:
            # All that a handler may look at.
            message.get_header("request-id")
            repr(message), message.trace_id, message.timestamp, message.context
            with self._condition:
                self.seen[name].append((message.data, message.key, message.headers))
                self._condition.notify_all()

        def handle(_worker: int, message: Message) -> None:
            if name == "plain" or message.attempt == 1:
                take(message)
            if name != "plain":
                raise ValueError(f"cannot use {message.data!r:.20}")

        def handle_batch(batch: list[Message]) -> None:
            for message in batch:
                take(message)

        if name == "batches":
            group.register_batch_handler(handle_batch)
        else:
            group.register_handler(handle)
        group.start()
        return group

    def send(self, sent: list[Sent]) -> None:
        for value, key, sent_headers in sent:
            self._producer.produce(self.topic, value, key, headers=sent_headers, partition=0)
        assert self._producer.flush(PATIENCE) == 0

    def wait(self, count: int) -> None:
        with self._condition:
            assert self._condition.wait_for(
                lambda: all(len(seen) >= count for seen in self.seen.values()), PATIENCE
            ), {name: len(seen) for name, seen in self.seen.items()}


@pytest.fixture(scope="module")
def groups(cluster: EmbeddedCluster) -> Iterator[Groups]:
    made = Groups(cluster)
    yield made
    for group in made.groups:
        assert group.close(timeout=PATIENCE) == 0


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sent=st.lists(messages, min_size=1, max_size=10))
@example(sent=[NOTHING, DUPLICATE, MANY])
@example(sent=[BIG, NOTHING])
def test_any_message_comes_as_it_was_sent_and_kills_nothing(groups: Groups, sent: list[Sent]) -> None:
    before = len(groups.seen["plain"])
    groups.send(sent)
    groups.wait(before + len(sent))
    for name in ("plain", "dead letters"):
        # In its order; of the others each message once, in any order.
        assert [(value, key) for value, key, _ in groups.seen[name][before:]] == [
            (value, key) for value, key, _ in sent
        ]
        assert [found for _, _, found in groups.seen[name][before:]] == [had for _, _, had in sent]
    for group in groups.groups:
        assert group.stuck_or_dead() == []
        assert str(group.state) == "Consuming"


def produce_raw(
    bootstrap_servers: str, topic: str, value: bytes, raw_headers: list[tuple[bytes, bytes]]
) -> None:
    """Produce a message with header keys of any bytes, which confluent_kafka's own producer does not take."""
    library = ctypes.CDLL(cimpl.__file__)

    def function(name: str, result: Any, *arguments: Any) -> Any:
        found = library[name]
        found.restype, found.argtypes = result, arguments
        return found

    pointer, text, size, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int
    error = ctypes.create_string_buffer(512)
    conf = function("rd_kafka_conf_new", pointer)()
    function("rd_kafka_conf_set", number, pointer, text, text, text, size)(
        conf, b"bootstrap.servers", bootstrap_servers.encode(), error, 512
    )
    client = function("rd_kafka_new", pointer, number, pointer, text, size)(0, conf, error, 512)
    assert client, error.value
    made = function("rd_kafka_headers_new", pointer, size)(len(raw_headers))
    add = function("rd_kafka_header_add", number, pointer, text, ctypes.c_ssize_t, text, ctypes.c_ssize_t)
    for key, content in raw_headers:
        add(made, key, len(key), content, len(content))
    # Pairs of a tag (topic 1, partition 3, value 4, headers 10) and what it stands before; 0 ends them.
    arguments = (
        *(number(1), text(topic.encode())),
        *(number(3), ctypes.c_int32(0)),
        *(number(4), text(value), size(len(value))),
        *(number(10), pointer(made)),
        number(0),
    )
    assert function("rd_kafka_producev", number, pointer)(client, *arguments) == 0
    assert function("rd_kafka_flush", number, pointer, number)(client, int(PATIENCE * 1000)) == 0
    function("rd_kafka_destroy", None, pointer)(client)


def test_header_keys_that_are_not_utf_8_cost_the_headers_and_nothing_else(
    cluster: EmbeddedCluster, groups: Groups, logged: Logged
) -> None:
    """Any producer may write them. Also its dead letter is sent, without headers of its own."""
    before = len(groups.seen["plain"])
    produce_raw(cluster.bootstrap_servers, groups.topic, b"odd", [(b"\xff\xfe", b"x"), (b"fine", b"y")])
    groups.send([(b"next", None, [("fine", b"z")])])
    groups.wait(before + 2)
    assert groups.seen["plain"][before:] == [(b"odd", None, []), (b"next", None, [("fine", b"z")])]
    record = logged.wait("headers not read: the key of one is not UTF-8")
    assert fields(record)["topic"] == groups.topic
    eventually(lambda: dead_letters(cluster, groups.topic)[-2:], [b"odd", b"next"])


def dead_letters(cluster: EmbeddedCluster, topic: str) -> list[bytes | None]:
    """What is in the dead letter topic."""
    name = f"{topic}-dead"
    return [message.value() for message in received(cluster, name, on_broker(cluster, name))]
