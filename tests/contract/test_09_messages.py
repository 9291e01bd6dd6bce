"""Contract 9: what a message carries, and what its handler can do with it."""

from __future__ import annotations

import threading
import time

import pytest

from dp_kafka import ConsumerGroup, Message, Ordering, State, current_trace_id
from tests.conftest import (
    INCREMENTAL,
    CommittedFunction,
    GroupFactory,
    ProducerFactory,
    SendFunction,
    TakeFunction,
    TopicFactory,
)
from tests.waiting import PATIENCE, in_thread


def reading(group: ConsumerGroup) -> ConsumerGroup:
    """A group without a handler: the test itself takes the messages."""
    group.start()
    assert group.state_wait(State.CONSUMING, PATIENCE)
    return group


def test_9_1_a_message_says_all_that_the_broker_delivered(
    topic: TopicFactory, consumer_group: GroupFactory, producer: ProducerFactory, take: TakeFunction
) -> None:
    name = topic(partitions=2)
    sender = producer(name)
    sender.send_bytes(
        b"\x00value",
        key=b"key",
        partition=1,
        timestamp=1_700_000_000_123,
        headers=[("request-id", "trace"), ("twice", "first"), ("twice", b"\xff"), ("none", None)],
    )
    assert sender.flush(PATIENCE) == 0
    message = take(reading(consumer_group(name)))
    assert (message.data, message.key) == (b"\x00value", b"key")
    assert (message.topic, message.partition, message.offset) == (name, 1, 0)
    assert message.timestamp == 1_700_000_000_123
    assert message.headers == [
        ("request-id", b"trace"),
        ("twice", b"first"),
        ("twice", b"\xff"),
        ("none", None),
    ]
    assert message.attempt == 1
    assert repr(message) == f"<Message {name}[1]@0 attempt=1>"
    message.headers.clear()
    assert len(message.headers) == 4


def test_9_1_the_value_of_a_header_is_the_first_one_of_exactly_that_name(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction, take: TakeFunction
) -> None:
    """Contract 5.5."""
    name = topic()
    send(name, "a", headers=[("k", b"1"), ("k", b"2"), ("K", b"3"), ("none", None), ("bytes", b"\xff!")])
    message = take(reading(consumer_group(name)))
    assert message.get_header("k") == "1"
    assert message.get_header("K") == "3"
    assert message.get_header("absent") == ""
    assert message.get_header("none") == ""
    assert message.get_header("bytes") == "\N{REPLACEMENT CHARACTER}!"


def test_9_1_a_message_may_have_nothing_in_it(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction, take: TakeFunction
) -> None:
    name = topic()
    send(name, None, "")
    group = reading(consumer_group(name))
    tombstone = take(group)
    assert (tombstone.data, tombstone.key, tombstone.headers) == (None, None, [])
    tombstone.commit_and_release()
    empty = take(group)
    assert empty.data == b""
    assert empty.commit_and_release()


def test_9_1_the_context_carries_the_trace_id_to_other_threads(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction, take: TakeFunction
) -> None:
    """Contract 5.6: a fresh context each time, and the reader's own is untouched."""
    name = topic()
    send(name, "a", headers=[("request-id", b"trace-9")])
    message = take(reading(consumer_group(name)))
    assert message.trace_id == "trace-9"
    assert current_trace_id() is None
    assert in_thread(lambda: message.context.run(current_trace_id)).result(PATIENCE) == "trace-9"
    assert message.context is not message.context


def test_9_2_mark_records_but_commits_nothing_by_itself(
    topic: TopicFactory,
    consumer_group: GroupFactory,
    send: SendFunction,
    committed: CommittedFunction,
    take: TakeFunction,
) -> None:
    """And the next commit of the partition takes it along."""
    name = topic()
    send(name, "a", "b", "c")
    group = reading(consumer_group(name, commit_interval=0))
    first = take(group)
    assert first.mark() is True
    first.release()
    assert committed(group.group_name, name) is None
    second = take(group)
    assert second.commit_and_release() is True
    assert committed(group.group_name, name) == 2


def test_9_3_commit_takes_along_what_is_marked_in_all_partitions(
    topic: TopicFactory,
    consumer_group: GroupFactory,
    send: SendFunction,
    committed: CommittedFunction,
    take: TakeFunction,
) -> None:
    name = topic(partitions=3)
    for partition in range(3):
        send(name, "a", partition=partition)
    group = reading(consumer_group(name, commit_interval=0))
    messages = [take(group) for _ in range(3)]
    for message in messages[:2]:
        assert message.mark()
    assert messages[2].commit() is True
    assert [committed(group.group_name, name, partition) for partition in range(3)] == [1, 1, 1]


def test_9_3_commit_returns_at_once_and_is_on_the_broker_within_the_interval(
    topic: TopicFactory,
    consumer_group: GroupFactory,
    send: SendFunction,
    committed: CommittedFunction,
    take: TakeFunction,
) -> None:
    name = topic()
    send(name, "a")
    group = reading(consumer_group(name, commit_interval=0.05))
    assert take(group).commit_and_release() is True
    until = time.monotonic() + PATIENCE
    while committed(group.group_name, name) != 1:
        assert time.monotonic() < until


def test_9_3_with_no_interval_commit_returns_when_the_broker_has_it(
    topic: TopicFactory,
    consumer_group: GroupFactory,
    send: SendFunction,
    committed: CommittedFunction,
    take: TakeFunction,
) -> None:
    name = topic()
    send(name, *"abcde")
    group = reading(consumer_group(name, commit_interval=0))
    for count in range(1, 6):
        assert take(group).commit_and_release() is True
        assert committed(group.group_name, name) == count


def test_9_3_many_threads_that_wait_for_the_broker_share_its_answers(
    topic: TopicFactory,
    consumer_group: GroupFactory,
    send: SendFunction,
    committed: CommittedFunction,
    take: TakeFunction,
) -> None:
    name = topic(partitions=8)
    for partition in range(8):
        send(name, "a", partition=partition)
    group = reading(consumer_group(name, commit_interval=0))
    messages = [take(group) for _ in range(8)]
    together = threading.Barrier(8)

    def commit(message: Message) -> bool:
        together.wait(PATIENCE)
        return message.commit()

    answers = [in_thread(lambda message=message: commit(message)) for message in messages]
    assert all(answer.result(PATIENCE) for answer in answers)
    assert [committed(group.group_name, name, partition) for partition in range(8)] == [1] * 8


def test_9_4_release_lets_the_next_message_go_and_may_be_repeated(
    topic: TopicFactory,
    consumer_group: GroupFactory,
    send: SendFunction,
    committed: CommittedFunction,
    take: TakeFunction,
) -> None:
    name = topic()
    send(name, "a", "b", "c")
    group = reading(consumer_group(name))
    first = take(group)
    for _ in range(3):
        first.release()
    second = take(group)
    assert second.data == b"b"
    assert group.channels.upstream.qsize() == 0
    second.commit_and_release()
    second.commit_and_release()
    assert take(group).data == b"c"


@pytest.mark.parametrize("how", ["release", "set"])
def test_9_5_upstream_done_is_set_by_release_and_setting_it_releases(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction, how: str, take: TakeFunction
) -> None:
    name = topic()
    send(name, "a", "b")
    group = reading(consumer_group(name))
    message = take(group)
    done = message.upstream_done
    assert not done.is_set()
    waiter = in_thread(lambda: done.wait(PATIENCE))
    if how == "set":
        done.set()
    else:
        message.release()
    assert waiter.result(PATIENCE)
    assert take(group).data == b"b"


def test_9_6_committing_a_later_message_does_not_commit_an_earlier_one(
    topic: TopicFactory,
    consumer_group: GroupFactory,
    send: SendFunction,
    committed: CommittedFunction,
    take: TakeFunction,
) -> None:
    """Invariant 1; in the original the later one takes the earlier along."""
    name = topic()
    send(name, "a", "b", "c")
    group = reading(consumer_group(name, commit_interval=0, ordering=Ordering.NONE))
    first, second, third = (take(group) for _ in range(3))
    assert third.commit()
    assert second.commit()
    assert committed(group.group_name, name) in (None, 0)
    assert first.commit()
    assert committed(group.group_name, name) == 3


def test_9_6_marking_what_is_committed_already_does_not_go_back(
    topic: TopicFactory,
    consumer_group: GroupFactory,
    send: SendFunction,
    committed: CommittedFunction,
    take: TakeFunction,
) -> None:
    name = topic()
    send(name, "a", "b")
    group = reading(consumer_group(name, commit_interval=0))
    first = take(group)
    first.commit_and_release()
    second = take(group)
    second.commit_and_release()
    assert first.mark()
    assert first.commit()
    assert committed(group.group_name, name) == 2


def test_a_message_may_be_finished_from_any_thread_and_after_the_stop(
    topic: TopicFactory,
    consumer_group: GroupFactory,
    send: SendFunction,
    committed: CommittedFunction,
    take: TakeFunction,
) -> None:
    """Invariant 3: after the group was left its commit is refused, and its release is harmless."""
    name = topic()
    send(name, "a", "b")
    group = reading(consumer_group(name, group_name=name, librdkafka=INCREMENTAL))
    first = take(group)
    stopper = in_thread(lambda: group.stop_and_wait(PATIENCE))
    assert group.state_wait(State.STOPPING, PATIENCE)
    # The stop waits for the message in hand: its commit still counts.
    assert in_thread(first.commit_and_release).result(PATIENCE) is True
    assert stopper.result(PATIENCE)
    assert committed(name, name) == 1
    assert first.commit() is False
    first.release()
    group.start()
    again = take(group)
    assert again.data == b"b"
    assert first.commit() is False
    assert again.commit_and_release() is True
