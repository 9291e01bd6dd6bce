"""A poison message harms nobody: its fate is as configured, every other message is handled once."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from dp_kafka import (
    BatchError,
    ConsumerGroup,
    ConsumerGroupConfig,
    DeadLetter,
    HandlerError,
    Message,
    Ordering,
    RetryPolicy,
)
from tests.scenarios.conftest import Kafka

MESSAGES = 5
POISON = b"poison"
POSITIONS = range(MESSAGES)
QUICK = RetryPolicy(3, 0.02, 0.05)


class Recorder:
    """Records what a handler was given, and waits until enough of it has come."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, bytes | None, int]] = []
        self._condition = threading.Condition()

    def record(self, message: Message) -> None:
        with self._condition:
            self.calls.append((message.offset, message.data, message.attempt))
            self._condition.notify_all()

    def wait(self, done: Callable[[], bool], seconds: float = 30) -> bool:
        with self._condition:
            return self._condition.wait_for(done, seconds)

    def count(self, data: bytes) -> int:
        return sum(1 for call in self.calls if call[1] == data)

    @property
    def healthy(self) -> Counter[bytes | None]:
        return Counter(data for _, data, _ in self.calls if data != POISON)


def send(kafka: Kafka, topic: str, position: int, key: bytes | None = None) -> Counter[bytes | None]:
    """Messages on partition 0, a poison one at `position`; the others, counted."""
    healthy: Counter[bytes | None] = Counter()
    with kafka.producer(topic) as producer:
        for number in range(MESSAGES):
            data = POISON if number == position else b"%d" % number
            if data != POISON:
                healthy[data] += 1
            producer.send_bytes(data, partition=0, key=key, headers={"colour": "blue"})
    return healthy


def group_of(kafka: Kafka, topic: str, **options: Any) -> ConsumerGroup:
    return kafka.group(
        ConsumerGroupConfig(kafka.broker_addrs, topic, topic, librdkafka=kafka.protocol, **options)
    )


def read(kafka: Kafka, topic: str, count: int) -> list[Any]:
    """The first messages of a topic, by a plain client."""
    client = kafka.client(topic + "-reads")
    client.subscribe([topic])
    until = time.monotonic() + 20
    found: list[Any] = []
    while len(found) < count and time.monotonic() < until:
        found += [message for message in client.consume(count, 0.2) if message.error() is None]
    client.close()
    return found


@pytest.mark.parametrize("position", POSITIONS)
def test_a_plain_failure_is_logged_and_committed(kafka: Kafka, position: int) -> None:
    topic = kafka.create_topic(1)
    healthy = send(kafka, topic, position)
    seen = Recorder()

    def handler(_worker: int, message: Message) -> None:
        seen.record(message)
        if message.data == POISON:
            raise ValueError("poison")

    with group_of(kafka, topic) as group:
        group.register_handler(handler)
        group.start()
        assert seen.wait(lambda: len(seen.calls) == MESSAGES)
    assert seen.healthy == healthy
    assert seen.count(POISON) == 1
    assert kafka.committed(topic, 1) == {0: MESSAGES}


@pytest.mark.parametrize("position", POSITIONS)
def test_commit_false_holds_the_partition_and_comes_again_alone(kafka: Kafka, position: int) -> None:
    """Nothing past the poison is committed; after a restart it comes again, and only it."""
    topic = kafka.create_topic(1)
    healthy = send(kafka, topic, position)
    seen = Recorder()

    def handler(_worker: int, message: Message) -> None:
        seen.record(message)
        if message.data == POISON and seen.count(POISON) == 1:
            raise HandlerError("not yet", commit=False)

    with group_of(kafka, topic) as group:
        group.register_handler(handler)
        group.start()
        assert seen.wait(lambda: len(seen.calls) == MESSAGES)
        assert group.stop_and_wait(20)
        assert kafka.committed(topic, 1)[0] in ({position} if position else {0, -1001})
        group.start()
        assert seen.wait(lambda: seen.count(POISON) == 2)
        assert group.stop_and_wait(20)
    assert seen.healthy == healthy, "what was finished beyond the committed offset was handled again"
    assert kafka.committed(topic, 1) == {0: MESSAGES}


@pytest.mark.parametrize("ordering", list(Ordering))
def test_a_failed_message_is_retried_and_its_successors_wait_as_the_order_says(
    kafka: Kafka, ordering: Ordering
) -> None:
    topic = kafka.create_topic(1)
    healthy = send(kafka, topic, 0, key=b"same")
    seen = Recorder()

    def handler(_worker: int, message: Message) -> None:
        seen.record(message)
        if message.data == POISON and message.attempt < 3:
            raise ValueError("not yet")

    with group_of(kafka, topic, ordering=ordering, retry=QUICK, num_workers=4) as group:
        group.register_handler(handler)
        group.start()
        assert seen.wait(lambda: len(seen.calls) == MESSAGES + 2)
    assert seen.healthy == healthy
    assert [attempt for _, data, attempt in seen.calls if data == POISON] == [1, 2, 3]
    if ordering is not Ordering.NONE:
        offsets = [offset for offset, _, _ in seen.calls]
        assert offsets == sorted(offsets), "a successor overtook the message that was to be retried"
    assert kafka.committed(topic, 1) == {0: MESSAGES}


@pytest.mark.parametrize("position", POSITIONS)
def test_a_message_given_up_is_in_the_dead_letter_topic_before_it_is_committed(
    kafka: Kafka, position: int
) -> None:
    topic, dead = kafka.create_topic(1), kafka.create_topic(1)
    healthy = send(kafka, topic, position, key=b"key")
    seen = Recorder()

    def handler(_worker: int, message: Message) -> None:
        seen.record(message)
        if message.data == POISON:
            raise ValueError("cannot be read")

    with group_of(kafka, topic, retry=QUICK, dead_letter=DeadLetter(dead)) as group:
        group.register_handler(handler)
        group.start()
        assert seen.wait(lambda: len(seen.calls) == MESSAGES + 2)
    assert seen.healthy == healthy
    assert kafka.committed(topic, 1) == {0: MESSAGES}
    (letter,) = read(kafka, dead, 1)
    headers = dict(letter.headers())
    assert (letter.value(), letter.key()) == (POISON, b"key")
    assert headers["colour"] == b"blue"
    assert headers["dead-letter.topic"] == topic.encode()
    assert headers["dead-letter.partition"] == b"0"
    assert headers["dead-letter.offset"] == b"%d" % position
    assert headers["dead-letter.group"] == topic.encode()
    assert headers["dead-letter.attempts"] == b"3"
    assert headers["dead-letter.exception.type"] == b"builtins.ValueError"
    assert headers["dead-letter.exception.message"] == b"cannot be read"
    assert int(headers["dead-letter.timestamp"]) > 0


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("fate", ["commit", "hold", "retry", "dead letter"])
def test_a_batch_names_its_poison_and_the_others_are_committed(
    kafka: Kafka, position: int, fate: str
) -> None:
    topic, dead = kafka.create_topic(1), kafka.create_topic(1)
    healthy = send(kafka, topic, position)
    seen = Recorder()
    gave_up = threading.Event()

    def handler(batch: list[Message]) -> None:
        poison = [message for message in batch if message.data == POISON]
        for message in batch:
            seen.record(message)
        if poison and not (fate == "retry" and poison[0].attempt == 2):
            gave_up.set()
            error = BatchError(poison)
            error.commit = fate != "hold"  # type: ignore[attr-defined]
            raise error

    options: dict[str, Any] = {"retry": QUICK} if fate == "retry" else {}
    if fate == "dead letter":
        options["dead_letter"] = DeadLetter(dead)
    with group_of(kafka, topic, batch_size=MESSAGES, batch_wait_time=0.3, **options) as group:
        group.register_batch_handler(handler)
        group.start()
        wanted = MESSAGES + (fate == "retry")
        assert seen.wait(lambda: len(seen.calls) == wanted)
        assert gave_up.wait(10)
    assert seen.healthy == healthy
    if fate == "hold":
        assert kafka.committed(topic, 1)[0] in ({position} if position else {0, -1001})
    else:
        assert kafka.committed(topic, 1) == {0: MESSAGES}
    if fate == "dead letter":
        assert [letter.value() for letter in read(kafka, dead, 1)] == [POISON]


def test_keys_go_side_by_side_and_each_in_its_order(kafka: Kafka) -> None:
    """Ordering.KEY on one partition: eight workers, order of every key kept, more than one at a time."""
    topic = kafka.create_topic(1)
    with kafka.producer(topic) as producer:
        for number in range(2_000):
            producer.send_bytes(b"%d" % number, key=b"%d" % (number % 50))
    lock = threading.Lock()
    last: dict[bytes | None, int] = {}
    busy: set[bytes | None] = set()
    most, handled, wrong = 0, 0, 0
    done = threading.Event()
    meet = threading.Barrier(4)

    def handler(_worker: int, message: Message) -> None:
        nonlocal most, handled, wrong
        with lock:
            wrong += message.key in busy or last.get(message.key, -1) > message.offset
            busy.add(message.key)
            most = max(most, len(busy))
        if message.offset < 4:
            meet.wait(20)  # passes only when four keys of the one partition are handled side by side
        with lock:
            busy.discard(message.key)
            last[message.key] = message.offset
            handled += 1
            if handled == 2_000:
                done.set()

    with group_of(kafka, topic, ordering=Ordering.KEY, num_workers=8) as group:
        group.register_handler(handler)
        group.start()
        assert done.wait(30)
    assert wrong == 0
    assert most >= 4
    assert kafka.committed(topic, 1) == {0: 2_000}


def test_after_a_stop_what_is_finished_beyond_the_committed_offset_is_not_handled_again(
    kafka: Kafka,
) -> None:
    """Ordering.NONE: 40 messages, the first fails with commit=False: a restart brings it alone."""
    topic = kafka.create_topic(1)
    with kafka.producer(topic) as producer:
        for number in range(40):
            producer.send_bytes(b"%d" % number)
    seen = Recorder()

    def handler(_worker: int, message: Message) -> None:
        seen.record(message)
        if message.offset == 0 and seen.count(b"0") == 1:
            raise HandlerError("again please", commit=False)

    with group_of(kafka, topic, ordering=Ordering.NONE, num_workers=4) as group:
        group.register_handler(handler)
        group.start()
        assert seen.wait(lambda: len(seen.calls) == 40)
    with group_of(kafka, topic, ordering=Ordering.NONE, num_workers=4) as group:
        group.register_handler(handler)
        group.start()
        assert seen.wait(lambda: seen.count(b"0") == 2)
    assert len(seen.calls) == 41
    assert kafka.committed(topic, 1) == {0: 40}
