"""Defects of the original's handlers, batches and offsets, which this library must not have (A28 to A39)."""

from __future__ import annotations

import threading
from typing import Any

import confluent_kafka
import pytest

from dp_kafka import (
    ConfigError,
    ConsumerGroupConfig,
    DeadLetter,
    HandlerError,
    HandlerRegistrationError,
    Message,
    RetryPolicy,
    State,
)
from dp_kafka.kafkatest import EmbeddedCluster
from tests.conftest import (
    INCREMENTAL,
    CommittedAfterFunction,
    CommittedFunction,
    GroupFactory,
    ReadingFactory,
    SendFunction,
    TakeFunction,
    TopicFactory,
)
from tests.looking import eventually
from tests.sending import received
from tests.waiting import PATIENCE, Collected, Logged, consuming, in_thread

LONG = 3_600.0  # a batch_wait_time that no test waits for


def test_a28_commit_false_is_not_undone_by_a_later_commit(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction, committed: CommittedFunction
) -> None:
    name = topic()
    send(name, "good", "poison", "good", "good")
    group = consumer_group(name)
    handled: Collected[bytes | None] = Collected()

    def handler(_worker_id: int, message: Message) -> None:
        handled.add(message.data)
        if message.data == b"poison":
            raise HandlerError("not this one", commit=False)

    group.register_handler(handler)
    group.start()
    handled.wait(4)
    assert group.stop_and_wait(PATIENCE)
    assert committed(group.group_name, name) == 1


def test_a28_a_poison_message_may_be_retried_and_then_goes_to_a_dead_letter_topic(
    topic: TopicFactory,
    consumer_group: GroupFactory,
    send: SendFunction,
    committed: CommittedFunction,
    cluster: EmbeddedCluster,
) -> None:
    name, dead = topic(), topic()
    send(name, "good", "poison", "good")
    group = consumer_group(name, retry=RetryPolicy(3, 0.01, 0.02), dead_letter=DeadLetter(dead))
    handled: Collected[tuple[bytes | None, int]] = Collected()

    def handler(_worker_id: int, message: Message) -> None:
        handled.add((message.data, message.attempt))
        if message.data == b"poison":
            raise ValueError("cannot be handled")

    group.register_handler(handler)
    group.start()
    seen = handled.wait(5)
    assert seen == [(b"good", 1), (b"poison", 1), (b"poison", 2), (b"poison", 3), (b"good", 1)]
    assert [letter.value() for letter in received(cluster, dead, 1)] == [b"poison"]
    assert group.stop_and_wait(PATIENCE)
    assert committed(group.group_name, name) == 3


class Refuses(Exception):
    """Somebody's own exception, which says that nothing is to be committed."""

    commit = False


def wrapped_twice() -> RuntimeError:
    middle, outermost = KeyError("middle"), RuntimeError("outermost")
    middle.__cause__ = Refuses("innermost")
    outermost.__cause__ = middle
    return outermost


@pytest.mark.parametrize("kind", ["single", "batch"])
def test_a29_the_answer_of_a_wrapped_error_counts(committed_after: CommittedAfterFunction, kind: str) -> None:
    assert committed_after(kind, wrapped_twice()) is None


def test_a30_what_is_released_early_is_not_committed_by_a_later_commit(reading: ReadingFactory) -> None:
    """Direct use: two messages are released, to be processed later; the third is committed before them."""
    it = reading("a", "b", "c", commit_interval=0)
    first = it.take()
    first.release()
    second = it.take()
    second.release()
    third = it.take()
    assert third.commit_and_release()
    assert it.committed() in (None, 0)
    assert second.commit()
    assert it.committed() in (None, 0)
    assert first.commit()
    assert it.committed() == 3


def test_a30_a_batch_is_released_after_it_was_handled(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction, committed: CommittedFunction
) -> None:
    """While its handler runs, nothing of it is committed, however often a commit is asked for."""
    name = topic(partitions=2)
    send(name, "a", "b", "c", partition=0)
    send(name, "d", partition=1)
    group = consumer_group(name, batch_size=4, batch_wait_time=LONG, commit_interval=0)
    inside: Collected[tuple[list[bool], bool, int | None]] = Collected()

    def handler(batch: list[Message]) -> None:
        (other,) = [message for message in batch if message.partition == 1]
        asked = other.commit()
        inside.add(([message.released for message in batch], asked, committed(group.group_name, name, 0)))

    group.register_batch_handler(handler)
    group.start()
    assert inside.wait(1) == [([False] * 4, True, None)]
    assert group.stop_and_wait(PATIENCE)
    assert [committed(group.group_name, name, partition) for partition in range(2)] == [3, 1]


def test_a31_a_mark_alone_commits_nothing(
    own_cluster: EmbeddedCluster, consumer_group: GroupFactory, take: TakeFunction
) -> None:
    """However many heartbeats go by; the end of the session takes it along."""
    own_cluster.create_topic("topic")
    group = consuming(consumer_group("topic", broker_addrs=own_cluster.broker_addrs, commit_interval=0.01))
    send_to(own_cluster, "a")
    message = take(group)
    own_cluster.track_requests()
    assert message.mark()
    message.release()
    eventually(lambda: requests(own_cluster, "Heartbeat") >= 4)  # some time passes, many times the interval
    assert requests(own_cluster, "OffsetCommit") == 0
    assert group.stop_and_wait(PATIENCE)
    assert requests(own_cluster, "OffsetCommit") > 0


def send_to(cluster: EmbeddedCluster, value: str) -> None:
    producer = confluent_kafka.Producer({"bootstrap.servers": cluster.bootstrap_servers, "linger.ms": 0})
    producer.produce("topic", value)
    assert producer.flush(PATIENCE) == 0


def requests(cluster: EmbeddedCluster, name: str) -> int:
    return sum(request.api_name == name for request in cluster.requests())


@pytest.mark.parametrize("commit_interval", [0.05, 0.0], ids=["group commit", "durable"])
def test_a32_commit_says_when_it_does_nothing(
    reading: ReadingFactory, logged: Logged, commit_interval: float
) -> None:
    """After its partition has been given up: False, and a line in the log that says where."""
    it = reading("a", "b", commit_interval=commit_interval, librdkafka=INCREMENTAL)
    message = it.take()
    assert message.commit() is True
    message.release()
    late = it.take()
    late.release()
    assert it.group.stop_and_wait(PATIENCE)
    assert late.commit() is False
    assert late.mark() is False
    assert late.commit_and_release() is False
    record = logged.wait("commit refused: the partition was revoked or lost")
    assert record.levelname == "WARNING"
    assert record.__dict__["dp_kafka"]["offset"] == 1


def test_a33_a_trickle_does_not_hold_a_batch_back(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction
) -> None:
    """Messages go on coming, each long before the batch's time is up; it is handled all the same."""
    name = topic()
    group = consumer_group(name, batch_size=100_000, batch_wait_time=0.5)
    batches: Collected[int] = Collected()
    enough = threading.Event()

    def handler(batch: list[Message]) -> None:
        batches.add(len(batch))
        # While the process stands still nothing comes, and a batch may have its first message alone.
        if len(batch) >= 10:
            enough.set()

    group.register_batch_handler(handler)
    consuming(group)

    def trickle() -> int:
        sent = 0
        while not enough.is_set() and sent < 50_000:
            send(name, "drop")  # returns when the broker has it
            sent += 1
        return sent

    sent = in_thread(trickle).result(2 * PATIENCE)
    assert enough.is_set(), f"{sent} came, and no more than {max(batches.items, default=0)} in a batch"


def test_a34_a_batch_that_the_handler_keeps_stays_as_it_is(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction
) -> None:
    name = topic()
    send(name, *"abcdefghi")
    group = consumer_group(name, batch_size=3, batch_wait_time=LONG)
    kept: Collected[list[Message]] = Collected()
    group.register_batch_handler(kept.add)
    group.start()
    batches = kept.wait(3)
    assert [[message.data for message in batch] for batch in batches] == [
        [b"a", b"b", b"c"],
        [b"d", b"e", b"f"],
        [b"g", b"h", b"i"],
    ]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_workers", 0),
        ("num_workers", -1),
        ("num_workers", 1.5),
        ("batch_size", 0),
        ("batch_size", -3),
        ("batch_wait_time", 0),
        ("batch_wait_time", -0.1),
    ],
)
def test_a35_workers_and_batches_are_checked(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=field) as caught:
        ConsumerGroupConfig(["127.0.0.1:1"], "t", "g", **{field: value})
    assert caught.value.field == field


@pytest.mark.parametrize("kind", ["single", "batch"])
@pytest.mark.parametrize(
    "raised",
    [SystemExit(1), KeyboardInterrupt(), GeneratorExit(), RecursionError(), MemoryError()],
    ids=lambda each: type(each).__name__,
)
def test_a36_whatever_a_handler_raises_the_next_message_is_handled(
    topic: TopicFactory,
    consumer_group: GroupFactory,
    send: SendFunction,
    committed: CommittedFunction,
    raised: BaseException,
    kind: str,
) -> None:
    name = topic()
    send(name, "a", "b", "c")
    group = consumer_group(name, batch_size=1)
    handled: Collected[bytes | None] = Collected()

    def single(_worker_id: int, message: Message) -> None:
        handled.add(message.data)
        if message.data == b"a":
            raise raised

    if kind == "single":
        group.register_handler(single)
    else:
        group.register_batch_handler(lambda batch: single(1, batch[0]))
    group.start()
    assert handled.wait(3) == [b"a", b"b", b"c"]
    assert group.state is State.CONSUMING
    assert group.stop_and_wait(PATIENCE)
    assert committed(group.group_name, name) == 3


def test_a37_a_handler_can_find_out_that_its_partition_is_lost(
    own_cluster: EmbeddedCluster, consumer_group: GroupFactory, logged: Logged
) -> None:
    """Where the original's context should end and does not: commit() says so, while the handler runs."""
    own_cluster.create_topic("topic")
    group = consumer_group("topic", broker_addrs=own_cluster.broker_addrs, message_consume_timeout=3.01)
    entered, lost = threading.Event(), threading.Event()
    answers: Collected[bool] = Collected()

    def handler(_worker_id: int, message: Message) -> None:
        entered.set()
        assert lost.wait(PATIENCE)
        answers.add(message.commit())

    group.register_handler(handler)
    send_to(own_cluster, "a")
    group.start()
    assert entered.wait(PATIENCE)
    own_cluster.inject_errors("Heartbeat", "UNKNOWN_MEMBER_ID")
    logged.wait("partitions lost")
    lost.set()
    assert answers.wait(1)[0] is False


@pytest.mark.parametrize("register", ["register_handler", "register_batch_handler"])
@pytest.mark.parametrize("handler", [None, "handler", 1], ids=repr)
def test_a39_what_cannot_be_called_is_no_handler(
    consumer_group: GroupFactory, register: str, handler: Any
) -> None:
    """And a handler can be registered afterwards."""
    group = consumer_group("topic", broker_addrs=["127.0.0.1:1"])
    with pytest.raises(HandlerRegistrationError, match=f"must be callable, but got {type(handler).__name__}"):
        getattr(group, register)(handler)
    getattr(group, register)(lambda *_: None)
