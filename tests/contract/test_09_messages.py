"""Contract 9: what a message carries, and what its handler can do with it."""

from __future__ import annotations

import threading

import pytest

from dp_kafka import Message, Ordering, State, current_trace_id
from tests.conftest import INCREMENTAL, ProducerFactory, ReadingFactory
from tests.looking import eventually
from tests.waiting import PATIENCE, in_thread


def test_9_1_a_message_says_all_that_the_broker_delivered(
    reading: ReadingFactory, producer: ProducerFactory
) -> None:
    it = reading(partitions=2)
    sender = producer(it.topic)
    sender.send_bytes(
        b"\x00value",
        key=b"key",
        partition=1,
        timestamp=1_700_000_000_123,
        headers=[("request-id", "trace"), ("twice", "first"), ("twice", b"\xff"), ("none", None)],
    )
    assert sender.flush(PATIENCE) == 0
    message = it.take()
    assert (message.data, message.key) == (b"\x00value", b"key")
    assert (message.topic, message.partition, message.offset) == (it.topic, 1, 0)
    assert message.timestamp == 1_700_000_000_123
    assert message.headers == [
        ("request-id", b"trace"),
        ("twice", b"first"),
        ("twice", b"\xff"),
        ("none", None),
    ]
    assert message.attempt == 1
    assert repr(message) == f"<Message {it.topic}[1]@0 attempt=1>"
    message.headers.clear()
    assert len(message.headers) == 4


def test_9_1_the_value_of_a_header_is_the_first_one_of_exactly_that_name(reading: ReadingFactory) -> None:
    """Contract 5.5."""
    it = reading("a", headers=[("k", b"1"), ("k", b"2"), ("K", b"3"), ("none", None), ("bytes", b"\xff!")])
    message = it.take()
    assert message.get_header("k") == "1"
    assert message.get_header("K") == "3"
    assert message.get_header("absent") == ""
    assert message.get_header("none") == ""
    assert message.get_header("bytes") == "\N{REPLACEMENT CHARACTER}!"


def test_9_1_a_message_may_have_nothing_in_it(reading: ReadingFactory) -> None:
    it = reading(None, "")
    tombstone = it.take()
    assert (tombstone.data, tombstone.key, tombstone.headers) == (None, None, [])
    tombstone.commit_and_release()
    empty = it.take()
    assert empty.data == b""
    assert empty.commit_and_release()


def test_9_1_the_context_carries_the_trace_id_to_other_threads(reading: ReadingFactory) -> None:
    """Contract 5.6: a fresh context each time, and the reader's own is untouched."""
    it = reading("a", headers=[("request-id", b"trace-9")])
    message = it.take()
    assert message.trace_id == "trace-9"
    assert current_trace_id() is None
    assert in_thread(lambda: message.context.run(current_trace_id)).result(PATIENCE) == "trace-9"
    assert message.context is not message.context


def test_9_2_mark_records_but_commits_nothing_by_itself(reading: ReadingFactory) -> None:
    """And the next commit of the partition takes it along."""
    it = reading("a", "b", "c", commit_interval=0)
    first = it.take()
    assert first.mark() is True
    first.release()
    assert it.committed() is None
    second = it.take()
    assert second.commit_and_release() is True
    assert it.committed() == 2


def test_9_3_commit_takes_along_what_is_marked_in_all_partitions(reading: ReadingFactory) -> None:
    it = reading("a", partitions=3, commit_interval=0)
    messages = [it.take() for _ in range(3)]
    for message in messages[:2]:
        assert message.mark()
    assert messages[2].commit() is True
    assert [it.committed(partition) for partition in range(3)] == [1, 1, 1]


def test_9_3_commit_returns_at_once_and_is_on_the_broker_within_the_interval(reading: ReadingFactory) -> None:
    it = reading("a", commit_interval=0.05)
    assert it.take().commit_and_release() is True
    eventually(it.committed, 1)


def test_9_3_with_no_interval_commit_returns_when_the_broker_has_it(reading: ReadingFactory) -> None:
    it = reading(*"abcde", commit_interval=0)
    for count in range(1, 6):
        assert it.take().commit_and_release() is True
        assert it.committed() == count


def test_9_3_many_threads_that_wait_for_the_broker_share_its_answers(reading: ReadingFactory) -> None:
    it = reading("a", partitions=8, commit_interval=0)
    messages = [it.take() for _ in range(8)]
    together = threading.Barrier(8)

    def commit(message: Message) -> bool:
        together.wait(PATIENCE)
        return message.commit()

    answers = [in_thread(lambda message=message: commit(message)) for message in messages]
    assert all(answer.result(PATIENCE) for answer in answers)
    assert [it.committed(partition) for partition in range(8)] == [1] * 8


def test_9_4_release_lets_the_next_message_go_and_may_be_repeated(reading: ReadingFactory) -> None:
    it = reading("a", "b", "c")
    first = it.take()
    for _ in range(3):
        first.release()
    second = it.take()
    assert second.data == b"b"
    assert it.group.channels.upstream.qsize() == 0
    second.commit_and_release()
    second.commit_and_release()
    assert it.take().data == b"c"


@pytest.mark.parametrize("how", ["release", "set"])
def test_9_5_upstream_done_is_set_by_release_and_setting_it_releases(
    reading: ReadingFactory, how: str
) -> None:
    it = reading("a", "b")
    message = it.take()
    done = message.upstream_done
    assert not done.is_set()
    waiter = in_thread(lambda: done.wait(PATIENCE))
    if how == "set":
        done.set()
    else:
        message.release()
    assert waiter.result(PATIENCE)
    assert it.take().data == b"b"


def test_9_6_committing_a_later_message_does_not_commit_an_earlier_one(reading: ReadingFactory) -> None:
    """Invariant 1; in the original the later one takes the earlier along."""
    it = reading("a", "b", "c", commit_interval=0, ordering=Ordering.NONE)
    first, second, third = (it.take() for _ in range(3))
    assert third.commit()
    assert second.commit()
    assert it.committed() in (None, 0)
    assert first.commit()
    assert it.committed() == 3


def test_9_6_marking_what_is_committed_already_does_not_go_back(reading: ReadingFactory) -> None:
    it = reading("a", "b", commit_interval=0)
    first = it.take()
    first.commit_and_release()
    second = it.take()
    second.commit_and_release()
    assert first.mark()
    assert first.commit()
    assert it.committed() == 2


def test_a_message_may_be_finished_from_any_thread_and_after_the_stop(reading: ReadingFactory) -> None:
    """Invariant 3: after the group was left its commit is refused, and its release is harmless."""
    it = reading("a", "b", librdkafka=INCREMENTAL)
    first = it.take()
    stopper = in_thread(lambda: it.group.stop_and_wait(PATIENCE))
    assert it.group.state_wait(State.STOPPING, PATIENCE)
    # The stop waits for the message in hand: its commit still counts.
    assert in_thread(first.commit_and_release).result(PATIENCE) is True
    assert stopper.result(PATIENCE)
    assert it.committed() == 1
    assert first.commit() is False
    first.release()
    it.group.start()
    again = it.take()
    assert again.data == b"b"
    assert first.commit() is False
    assert again.commit_and_release() is True
