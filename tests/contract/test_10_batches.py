"""Contract 10: batches: when they are handled, and what becomes of their messages."""

from __future__ import annotations

import threading
import time

import pytest

from dp_kafka import ConsumerGroup, HandlerError, Message, State
from tests.conftest import CommittedFunction, GroupFactory, SendFunction, TopicFactory
from tests.looking import eventually
from tests.waiting import PATIENCE, Collected

LONG = 60.0  # a batch_wait_time that no test waits for


def values(batch: list[Message]) -> list[bytes | None]:
    return [message.data for message in batch]


def test_10_1_a_batch_is_handled_when_it_is_full(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction
) -> None:
    name = topic()
    send(name, *"abcdef")
    group = consumer_group(name, batch_size=3, batch_wait_time=LONG)
    batches: Collected[list[bytes | None]] = Collected()
    group.register_batch_handler(lambda batch: batches.add(values(batch)))
    group.start()
    assert batches.wait(2) == [[b"a", b"b", b"c"], [b"d", b"e", b"f"]]


def test_10_1_a_batch_spans_partitions_and_keeps_the_order_of_each(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction
) -> None:
    name = topic(partitions=3)
    for partition in range(3):
        send(name, *(f"{number}" for number in range(10)), partition=partition)
    group = consumer_group(name, batch_size=10, batch_wait_time=LONG)
    batches: Collected[list[tuple[int, int]]] = Collected()
    group.register_batch_handler(lambda batch: batches.add([(each.partition, each.offset) for each in batch]))
    group.start()
    everything = [each for batch in batches.wait(3) for each in batch]
    assert [len(batch) for batch in batches.items] == [10, 10, 10]
    for partition in range(3):
        assert [offset for each, offset in everything if each == partition] == list(range(10))


def test_10_2_a_handled_batch_is_committed_as_a_whole(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction, committed: CommittedFunction
) -> None:
    name = topic(partitions=2)
    send(name, "a", "b", partition=0)
    send(name, "c", "d", "e", partition=1)
    group = consumer_group(name, batch_size=5, batch_wait_time=LONG)
    handled = threading.Event()
    group.register_batch_handler(lambda batch: handled.set())
    group.start()
    assert handled.wait(PATIENCE)
    assert group.stop_and_wait(PATIENCE)
    assert [committed(group.group_name, name, partition) for partition in range(2)] == [2, 3]


def test_10_2_a_batch_with_durable_commits_is_on_the_broker_before_the_next(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction, committed: CommittedFunction
) -> None:
    name = topic()
    send(name, *"abcdef")
    group = consumer_group(name, batch_size=2, batch_wait_time=LONG, commit_interval=0)
    found: Collected[int | None] = Collected()
    group.register_batch_handler(lambda batch: found.add(committed(group.group_name, name)))
    group.start()
    assert found.wait(3) == [None, 2, 4]


def test_10_3_every_batch_is_a_list_of_its_own(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction
) -> None:
    """What the handler does with its list changes neither the next batch nor what is committed."""
    name = topic()
    send(name, *"abcd")
    group = consumer_group(name, batch_size=2, batch_wait_time=LONG)
    kept: Collected[list[Message]] = Collected()

    def handler(batch: list[Message]) -> None:
        kept.add(batch)
        if len(kept.items) == 1:
            batch.append(batch[0])
        else:
            batch.clear()

    group.register_batch_handler(handler)
    group.start()
    first, second = kept.wait(2)
    assert first is not second
    assert values(first) == [b"a", b"b", b"a"]
    assert second == []


def test_10_4_messages_are_released_after_the_batch_was_handled(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction, committed: CommittedFunction
) -> None:
    """The original releases all but the last before, so that a commit can pass unhandled messages."""
    name = topic()
    send(name, *"abc")
    group = consumer_group(name, batch_size=3, batch_wait_time=LONG, commit_interval=0)
    batches: Collected[list[Message]] = Collected()
    inside: list[tuple[list[bool], int | None]] = []

    def handler(batch: list[Message]) -> None:
        released = [message.upstream_done.is_set() for message in batch]
        inside.append((released, committed(group.group_name, name)))
        batches.add(batch)

    group.register_batch_handler(handler)
    group.start()
    (batch,) = batches.wait(1)
    assert all(message.upstream_done.wait(PATIENCE) for message in batch)
    assert inside == [([False, False, False], None)]


def test_10_5_a_partial_batch_is_handled_when_its_time_is_up(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction
) -> None:
    name = topic()
    send(name, "a", "b")
    group = consumer_group(name, batch_size=100, batch_wait_time=0.1)
    batches: Collected[list[bytes | None]] = Collected()
    group.register_batch_handler(lambda batch: batches.add(values(batch)))
    group.start()
    assert batches.wait(1) == [[b"a", b"b"]]
    send(name, "c")
    assert batches.wait(2)[1] == [b"c"]


def test_10_5_there_is_no_empty_batch(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction
) -> None:
    name = topic()
    group = consumer_group(name, batch_size=2, batch_wait_time=0.001)
    batches: Collected[list[bytes | None]] = Collected()
    group.register_batch_handler(lambda batch: batches.add(values(batch)))
    group.start()
    assert group.state_wait(State.CONSUMING, PATIENCE)
    send(name, "a", "b")
    eventually(lambda: sum(map(len, batches.items)), 2)
    group.close(timeout=PATIENCE)
    assert [] not in batches.items


@pytest.mark.parametrize("error", [ValueError("plain"), HandlerError("no", commit=False)], ids=repr)
def test_10_6_a_batch_that_failed_is_over(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction, error: Exception
) -> None:
    """Its messages are not in the next batch."""
    name = topic()
    send(name, *"abcd")
    group = consumer_group(name, batch_size=2, batch_wait_time=LONG)
    batches: Collected[list[bytes | None]] = Collected()

    def handler(batch: list[Message]) -> None:
        batches.add(values(batch))
        raise error

    group.register_batch_handler(handler)
    group.start()
    assert batches.wait(2) == [[b"a", b"b"], [b"c", b"d"]]


def partial_batch(group: ConsumerGroup) -> Collected[list[bytes | None]]:
    """Start a group whose batch handler waits for more than it will get, and has some of it in hand."""
    batches: Collected[list[bytes | None]] = Collected()
    group.register_batch_handler(lambda batch: batches.add(values(batch)))
    group.start()
    assert group.state_wait(State.CONSUMING, PATIENCE)
    until = time.monotonic() + PATIENCE
    while group._poller.in_hand() < 3:
        assert time.monotonic() < until
    return batches


@pytest.mark.parametrize("ending", ["stop", "close"])
def test_10_7_a_partial_batch_is_handled_and_committed_when_the_group_stops(
    topic: TopicFactory,
    consumer_group: GroupFactory,
    send: SendFunction,
    committed: CommittedFunction,
    ending: str,
) -> None:
    """The original drops it."""
    name = topic()
    send(name, *"abc")
    group = consumer_group(name, batch_size=100, batch_wait_time=LONG)
    batches = partial_batch(group)
    if ending == "stop":
        assert group.stop_and_wait(PATIENCE)
    else:
        assert group.close(timeout=PATIENCE) == 0
    assert batches.items == [[b"a", b"b", b"c"]]
    assert committed(group.group_name, name) == 3
