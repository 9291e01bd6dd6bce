"""The main job: what is sent is handled once, in order, and committed; on both kinds of broker."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict

import pytest

from dp_kafka import ConsumerGroupConfig, Message, State
from tests.scenarios.conftest import Kafka

PARTITIONS = 6
MESSAGES = 100_000


def test_a_hundred_thousand_messages_are_each_handled_once_in_order_and_committed(kafka: Kafka) -> None:
    """100,000 messages, 6 partitions, 4 workers, no fault: nothing twice, nothing lost, nothing left."""
    topic = kafka.create_topic(PARTITIONS)
    seen: dict[int, list[int]] = defaultdict(list)
    numbers: Counter[int] = Counter()
    workers: set[int] = set()
    lock = threading.Lock()
    all_handled = threading.Event()
    handled = 0

    def handler(worker_id: int, message: Message) -> None:
        nonlocal handled
        number = int(message.data or b"-1")
        with lock:
            workers.add(worker_id)
            seen[message.partition].append(message.offset)
            numbers[number] += 1
            handled += 1
            if handled == MESSAGES:
                all_handled.set()

    config = ConsumerGroupConfig(kafka.broker_addrs, topic, topic, num_workers=4)
    with kafka.group(config) as group, kafka.producer(topic) as producer:
        group.register_handler(handler)
        group.start()
        for number in range(MESSAGES):
            producer.send_bytes(b"%d" % number, key=b"%d" % (number % 977))
        assert producer.flush(60) == 0
        assert all_handled.wait(60), f"{handled} of {MESSAGES} handled"
        assert group.stop_and_wait(20)
        assert not list(producer.channels.errors.queue)

    assert numbers == Counter(range(MESSAGES))
    for offsets in seen.values():
        assert offsets == sorted(offsets)
    assert workers <= {1, 2, 3, 4}
    assert kafka.committed(topic, PARTITIONS) == kafka.ends(topic, PARTITIONS)


def test_stop_and_wait_in_the_middle_of_a_handler_waits_for_it_and_start_goes_on(kafka: Kafka) -> None:
    """stop_and_wait returns after the handler has finished and its offset is on the broker."""
    topic = kafka.create_topic(1)
    entered, finish, second = threading.Event(), threading.Event(), threading.Event()
    values: list[bytes | None] = []

    def handler(_worker_id: int, message: Message) -> None:
        values.append(message.data)
        if message.data == b"first":
            entered.set()
            assert finish.wait(20)
        else:
            second.set()

    config = ConsumerGroupConfig(kafka.broker_addrs, topic, topic, message_consume_timeout=3.5)
    with kafka.group(config) as group, kafka.producer(topic) as producer:
        group.register_handler(handler)
        group.start()
        producer.send_bytes(b"first")
        producer.send_bytes(b"second")
        assert entered.wait(20)
        assert not group.stop_and_wait(timeout=0.3), "returned before the handler had finished"
        assert group.state is State.STOPPING
        finish.set()
        assert group.stop_and_wait(timeout=20)
        assert group.state is State.STOPPED
        assert kafka.committed(topic, 1) == {0: 1}
        assert values == [b"first"], "a stopped group must not begin the next message"
        group.start()
        assert second.wait(20)
    assert values == [b"first", b"second"]
    assert kafka.committed(topic, 1) == {0: 2}


def test_after_stop_and_wait_the_group_has_been_left(kafka: Kafka) -> None:
    """A second consumer gets the partitions at once, not after the first one's session timeout."""
    kafka.needs_quick_members()
    topic = kafka.create_topic(2)
    got = threading.Event()
    config = ConsumerGroupConfig(kafka.broker_addrs, topic, topic, librdkafka=kafka.protocol)
    with (
        kafka.group(config) as first,
        kafka.group(config) as second,
        kafka.producer(topic) as producer,
    ):
        first.start()
        assert first.state_wait(State.CONSUMING, 20)
        assert first.stop_and_wait(20)
        second.register_handler(lambda _worker, _message: got.set())
        second.start()
        producer.send_bytes(b"for the second", partition=0)
        # The session timeout is 10 s: whoever had not left would hold the partition that long.
        assert got.wait(6)


@pytest.mark.parametrize("commit_interval", [0.05, 0.0], ids=["group-commit", "durable"])
def test_batches_are_handled_whole_and_committed(kafka: Kafka, commit_interval: float) -> None:
    """1,000 messages in batches of at most 64: each once, in order, all committed."""
    topic = kafka.create_topic(3)
    sizes: list[int] = []
    seen: dict[int, list[int]] = defaultdict(list)
    done = threading.Event()

    def handler(batch: list[Message]) -> None:
        sizes.append(len(batch))
        for message in batch:
            seen[message.partition].append(message.offset)
        if sum(sizes) == 1_000:
            done.set()

    config = ConsumerGroupConfig(
        kafka.broker_addrs, topic, topic, batch_size=64, commit_interval=commit_interval
    )
    with kafka.group(config) as group, kafka.producer(topic) as producer:
        group.register_batch_handler(handler)
        group.start()
        for number in range(1_000):
            producer.send_bytes(b"%d" % number, partition=number % 3)
        assert done.wait(30)
    assert max(sizes) <= 64
    assert all(offsets == list(range(len(offsets))) for offsets in seen.values())
    assert kafka.committed(topic, 3) == kafka.ends(topic, 3)


def test_messages_taken_from_the_upstream_channel_are_committed_by_the_user(kafka: Kafka) -> None:
    """Direct use: without a handler, messages come on channels.upstream, one of a partition at a time."""
    topic = kafka.create_topic(1)
    config = ConsumerGroupConfig(kafka.broker_addrs, topic, topic, message_consume_timeout=5)
    with kafka.group(config) as group, kafka.producer(topic) as producer:
        group.start()
        for number in range(3):
            producer.send_bytes(b"%d" % number)
        first = group.channels.upstream.get(timeout=20)
        assert first.data == b"0"
        assert group.channels.upstream.empty()
        assert first.commit_and_release()
        second = group.channels.upstream.get(timeout=20)
        assert second.data == b"1"
        assert first.upstream_done.is_set()
        assert not second.upstream_done.is_set()
        second.commit_and_release()
        third = group.channels.upstream.get(timeout=20)
        third.release()
    assert kafka.committed(topic, 1) == {0: 2}
