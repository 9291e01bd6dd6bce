"""Any message that a broker may bring goes through handlers, retries and dead letters, and kills none."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator

import confluent_kafka
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dp_kafka import ConsumerGroup, ConsumerGroupConfig, DeadLetter, Message, Ordering, RetryPolicy
from dp_kafka.kafkatest import EmbeddedCluster
from tests.waiting import PATIENCE

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
