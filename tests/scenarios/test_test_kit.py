"""What tests with the fakes rely on, on every kind of Kafka: keys, headers, members that come and go."""

from __future__ import annotations

import threading

from dp_kafka import ConsumerGroupConfig, Message, State
from dp_kafka.kafkatest.memory.records import partition_of
from tests.scenarios.conftest import Kafka
from tests.waiting import Collected

#: Seconds; Apache Kafka takes some for the first members of a group.
LONG = 30.0


def config_of(kafka: Kafka, topic: str) -> ConsumerGroupConfig:
    return ConsumerGroupConfig(kafka.broker_addrs, topic, topic, librdkafka=kafka.protocol)


def test_a_key_decides_the_partition_and_everywhere_the_same(kafka: Kafka) -> None:
    topic = kafka.create_topic(7)
    seen: Collected[Message] = Collected()
    with kafka.producer(topic) as producer, kafka.group(config_of(kafka, topic)) as group:
        group.register_handler(lambda _worker, message: seen.add(message))
        group.start()
        for number in range(200):
            producer.send_bytes(b"", key=f"key {number}" * (number % 5 + 1))
        found = seen.wait(200, LONG)
    assert [message.partition for message in found] == [partition_of(message.key, 7) for message in found]
    assert len({message.partition for message in found}) == 7


def test_a_message_arrives_as_it_was_sent(kafka: Kafka) -> None:
    topic = kafka.create_topic(2)
    headers = [("a", b"1"), ("a", b""), ("none", None), ("text", "ü"), ("request-id", "trace")]
    seen: Collected[Message] = Collected()
    with kafka.producer(topic) as producer, kafka.group(config_of(kafka, topic)) as group:
        group.register_handler(lambda _worker, message: seen.add(message))
        group.start()
        producer.send_bytes(b"\0\xff", key=b"\xfe", headers=headers, partition=1, timestamp=1_700_000_000_000)
        producer.send_bytes(None, key="tombstone", partition=1)
        producer.send_bytes(b"", partition=1)
        first, tombstone, empty = seen.wait(3, LONG)
    assert (first.data, first.key, first.topic, first.partition) == (b"\0\xff", b"\xfe", topic, 1)
    assert first.timestamp == 1_700_000_000_000
    assert first.headers == [
        ("a", b"1"),
        ("a", b""),
        ("none", None),
        ("text", "ü".encode()),
        ("request-id", b"trace"),
    ]
    assert (tombstone.data, tombstone.key) == (None, b"tombstone")
    assert (empty.data, empty.key) == (b"", None)
    assert [first.offset, tombstone.offset, empty.offset] == [0, 1, 2]


def test_partitions_move_to_who_joins_and_back_when_it_leaves_and_nothing_is_handled_twice(
    kafka: Kafka,
) -> None:
    kafka.needs_quick_members()
    topic = kafka.create_topic(4)
    handled: Collected[tuple[str, int, int]] = Collected()
    lock = threading.Lock()
    sent = 0

    with (
        kafka.producer(topic) as producer,
        kafka.group(config_of(kafka, topic)) as first,
        kafka.group(config_of(kafka, topic)) as second,
    ):

        def send_to_each() -> None:
            nonlocal sent
            with lock:
                for partition in range(4):
                    producer.send_bytes(b"", partition=partition)
                    sent += 1
            handled.wait(sent, LONG)

        for name, group in (("first", first), ("second", second)):
            group.register_handler(
                lambda _worker, message, name=name: handled.add((name, message.partition, message.offset))
            )
        first.start()
        send_to_each()
        assert {name for name, _, _ in handled.items} == {"first"}
        second.start()
        assert second.state_wait(State.CONSUMING, LONG)
        until_both = 0
        while {name for name, _, _ in handled.items[-4:]} != {"first", "second"}:
            send_to_each()
            until_both += 1
            assert until_both < 200, "the second member got no partition"
        assert second.stop_and_wait(LONG)
        before = len(handled.items)
        send_to_each()
        assert {name for name, _, _ in handled.items[before:]} == {"first"}
    assert len(handled.items) == sent
    assert len({(partition, offset) for _, partition, offset in handled.items}) == sent
    assert kafka.committed(topic, 4) == kafka.ends(topic, 4)
