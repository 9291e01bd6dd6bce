"""What a lane has to hand out: failed messages first, and how much of it all is buffered."""

from __future__ import annotations

import pytest

from dp_kafka import Message, Ordering
from dp_kafka.consumer.backlog import Backlog
from dp_kafka.consumer.message import RawMessage
from dp_kafka.consumer.offsets import OffsetTracker
from dp_kafka.consumer.ordering import new_order
from tests.lanes import new_session, open_lane, raws


def new_backlog(ordering: Ordering = Ordering.NONE) -> Backlog:
    """A backlog with nothing in it."""
    return Backlog(open_lane(new_session(ordering)), new_order(ordering), OffsetTracker())


def add(backlog: Backlog, *messages: RawMessage) -> None:
    backlog.add(list(messages), sum(map(len, messages)))


def taken(backlog: Backlog) -> Message:
    """The next message, which there is."""
    message = backlog.take()
    assert message is not None
    return message


def chunks_of(*sizes: int) -> Backlog:
    """Chunks of four messages that are each that large."""
    backlog = new_backlog()
    for number, size in enumerate(sizes):
        first = 4 * number
        add(backlog, *raws(*range(first, first + 4), data=b"-" * size))
    return backlog


def test_the_bytes_that_are_buffered_are_those_of_the_chunks_that_are_left() -> None:
    backlog = chunks_of(10, 100, 1_000)
    sizes = [backlog.size()]
    for _ in range(12):
        taken(backlog)
        sizes.append(backlog.size())
    assert sizes == [
        *[(12 - gone, 4_440 - 10 * gone) for gone in range(4)],
        *[(8 - gone, 4_400 - 100 * gone) for gone in range(4)],
        *[(4 - gone, 4_000 - 1_000 * gone) for gone in range(5)],
    ]


def test_the_bytes_are_right_also_when_nobody_asked_for_long() -> None:
    backlog = chunks_of(10, 100, 1_000)
    for _ in range(9):
        taken(backlog)
    assert backlog.size() == (3, 3_000)
    add(backlog, *raws(20, 21, data=b"--"))
    assert backlog.size() == (5, 3_004)


def test_within_a_chunk_its_messages_count_as_equally_large() -> None:
    backlog = new_backlog()
    add(backlog, *raws(0, data=b"1"), *raws(1, data=b"-" * 100), *raws(2, data=b"-" * 11))
    taken(backlog)
    count, size = backlog.size()
    assert (count, size) == (2, 112 - 37)
    assert isinstance(size, int)


@pytest.mark.parametrize("ordering", Ordering)
def test_after_it_was_cleared_it_counts_from_nothing(ordering: Ordering) -> None:
    backlog = new_backlog(ordering)
    add(backlog, *raws(0, 1, 2))
    failed = taken(backlog)
    backlog.defer(failed)
    backlog.waiting -= 1
    backlog.add_again([failed])
    assert backlog.size() == (3, 15)
    backlog.clear()
    assert backlog.size() == (0, 0)
    assert backlog.is_plain
    backlog.done(failed)
    assert backlog.take() is None
    add(backlog, *raws(3, 4))
    assert backlog.size() == (2, 10)
    assert taken(backlog).offset == 3


def test_failed_messages_go_before_what_is_buffered_in_their_order() -> None:
    """Those that fail again later, between those whose time has come and that still wait to be taken."""
    backlog = new_backlog()
    add(backlog, *raws(0, 1, 2, 3))
    first, second, third = (taken(backlog) for _ in range(3))
    for message in (first, second, third):
        backlog.defer(message)
    backlog.waiting -= 3
    backlog.add_again([third, first])
    backlog.add_again([second])
    assert [taken(backlog).offset for _ in range(4)] == [0, 1, 2, 3]


def test_only_a_backlog_without_failed_messages_is_plain() -> None:
    backlog = new_backlog()
    add(backlog, *raws(0, 1))
    assert backlog.is_plain
    message = taken(backlog)
    backlog.defer(message)
    assert not backlog.is_plain
    backlog.waiting -= 1
    backlog.add_again([message])
    assert not backlog.is_plain
    assert taken(backlog) is message
    assert backlog.is_plain


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("ordering", Ordering)
def test_a_batchs_failed_message_holds_up_what_is_behind_it_unless_there_is_no_order(
    ordering: Ordering, times: int
) -> None:
    """Also with a second batch handler's registration, which changes nothing."""
    backlog = new_backlog(ordering)
    for _ in range(times):
        backlog.set_batched()
    add(backlog, *raws(0, 1, key=b"same"))
    failed = taken(backlog)
    backlog.defer(failed)
    if ordering is Ordering.NONE:
        assert taken(backlog).offset == 1
    else:
        assert backlog.take() is None


@pytest.mark.parametrize("attempt", [1, 2])
def test_a_message_that_must_wait_after_all_comes_again_in_its_order_and_counts_meanwhile(
    attempt: int,
) -> None:
    """It was offered to the batch worker before one that it must not overtake has failed."""
    backlog = new_backlog(Ordering.PARTITION)
    backlog.set_batched()
    add(backlog, *raws(0, 1, 2))
    failed, offered = taken(backlog), taken(backlog)
    offered.attempt = attempt
    assert not backlog.hold_back(offered)
    backlog.defer(failed)
    assert backlog.hold_back(offered)
    assert backlog.size() == (3, 15)
    assert backlog.take() is None
    backlog.waiting -= 1
    backlog.add_again([failed])
    again = [taken(backlog) for _ in range(3)]
    assert [(message.offset, message.attempt) for message in again] == [(0, 1), (1, attempt), (2, 1)]
    assert backlog.size() == (0, 0)


def test_a_message_that_may_be_taken_is_not_held_back_where_there_is_no_order() -> None:
    backlog = new_backlog(Ordering.NONE)
    backlog.set_batched()
    add(backlog, *raws(0, 1))
    failed, offered = taken(backlog), taken(backlog)
    backlog.defer(failed)
    assert not backlog.hold_back(offered)


@pytest.mark.parametrize("ordering", Ordering)
def test_only_a_partition_in_its_order_may_be_claimed_and_none_of_a_batch_handler(ordering: Ordering) -> None:
    backlog = new_backlog(ordering)
    assert backlog.in_partition_order is (ordering is Ordering.PARTITION)
    backlog.set_batched()
    assert not backlog.in_partition_order


def test_what_was_claimed_and_not_begun_comes_next() -> None:
    backlog = new_backlog(Ordering.PARTITION)
    add(backlog, *raws(0, 1, 2, 3))
    first = taken(backlog)
    claimed = backlog.claim(2)
    assert [message.offset for message in claimed] == [1, 2]
    assert len(backlog) == 1
    backlog.put_first(claimed[1:])
    backlog.done(first)
    assert [message.offset for message in backlog.claim(9)] == [2, 3]
