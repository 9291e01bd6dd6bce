"""A lane's books out of the ordinary: what was put back, released or marked by others, or has failed."""

from __future__ import annotations

import time
from concurrent.futures import Future
from queue import Empty

import pytest

from dp_kafka import Message, Ordering
from dp_kafka.consumer import backlog as backlog_module
from dp_kafka.consumer.lane import Lane
from dp_kafka.consumer.message import FINISHED
from dp_kafka.consumer.metadata import decode
from dp_kafka.consumer.session import Session
from tests.lanes import new_session, open_lane, raws
from tests.waiting import PATIENCE, WatchedCondition, in_thread

#: Seconds of which the clock's own are no visible part.
AGES = 1e18


def take(session: Session) -> Message:
    """The next message of the upstream channel, which is there already."""
    return session.upstream.get(block=False)


def commit_point(lane: Lane) -> int | None:
    return lane.offsets.commit_point


def batch_of(session: Session, *offsets: int) -> tuple[Lane, list[Message]]:
    """A lane of a batch handler, and a batch of its messages with these offsets."""
    lane = open_lane(session)
    session.set_batched()
    lane.add(raws(*offsets))
    return lane, session.upstream.get_row(len(offsets))


settled = pytest.mark.parametrize("settle", ["release", "advance", "advance_all"])


def let_go(message: Message, settle: str) -> None:
    """As a user does it, a worker, and the batch worker."""
    lane = message._lane
    if settle == "release":
        message.release()
    elif settle == "advance":
        lane.advance(message, finish=True)
    else:
        lane.advance_all([message], finish=True)


@settled
def test_whoever_lets_a_message_go_sets_its_event(settle: str) -> None:
    session = new_session()
    open_lane(session).add(raws(1, 2))
    message = take(session)
    event = message.upstream_done
    let_go(message, settle)
    assert event.is_set()


# -- a worker that gives up its turn ----------------------------------------------------------------


@pytest.mark.parametrize("ordering", Ordering)
def test_a_lane_goes_on_behind_a_message_that_was_put_back(ordering: Ordering) -> None:
    session = new_session(ordering)
    lane = open_lane(session)
    lane.add(raws(1, 2, 3, 4, 5))
    following = lane.advance(take(session), finish=True)
    assert following is not None
    lane.put_back(following)
    handled = []
    for _ in range(4):
        message = take(session)
        handled.append(message.offset)
        message.commit_and_release()
    assert sorted(handled) == [2, 3, 4, 5]
    assert commit_point(lane) == 6


# -- batches ----------------------------------------------------------------------------------------


def test_a_batch_of_one_message_is_finished() -> None:
    lane, batch = batch_of(new_session(), 1)
    lane.advance_all(batch, finish=True)
    assert commit_point(lane) == 2
    assert lane.in_hand == 0


def test_a_whole_batch_is_one_change_of_the_books() -> None:
    """It is what a batch handler's throughput rests on: nothing is done for each of its messages."""
    lane, batch = batch_of(new_session(), 1, 2, 5)
    before = lane.offsets.changes
    lane.advance_all(batch, finish=True)
    assert lane.offsets.changes == before + 1
    assert [message._flags for message in batch] == [0, 0, 0]
    assert all(message.released for message in batch)


def test_a_batch_of_which_a_message_was_marked_before_is_finished_to_its_end() -> None:
    lane, batch = batch_of(new_session(), 1, 2, 3)
    assert batch[1].mark()
    lane.advance_all(batch, finish=True)
    assert commit_point(lane) == 4
    assert lane.in_hand == 0


def test_a_message_that_its_batch_handler_released_is_not_released_again() -> None:
    lane, batch = batch_of(new_session(), 1, 2, 3)
    batch[1].release()
    assert lane.in_hand == 2
    lane.advance_all(batch, finish=True)
    assert lane.in_hand == 0
    assert commit_point(lane) == 4


@pytest.mark.parametrize("ordering", [Ordering.PARTITION, Ordering.KEY])
def test_messages_that_were_taken_one_by_one_may_be_settled_together(ordering: Ordering) -> None:
    """Their order is kept all the same: what waited for them goes on."""
    session = new_session(ordering)
    lane = open_lane(session)
    lane.add(raws(1, 2, key=b"same"))
    lane.advance_all([take(session)], finish=True)
    assert take(session).offset == 2


def test_a_batch_handler_that_comes_while_a_message_is_in_hand_gets_what_is_behind_it() -> None:
    """Nothing else would ask the lane for it before that message is released."""
    session = new_session()
    lane = open_lane(session)
    lane.add(raws(1, 2, 3))
    assert take(session).offset == 1
    session.set_batched()
    assert [message.offset for message in session.upstream.get_row(9)] == [2, 3]
    assert lane.in_hand == 3


def test_a_lane_that_a_batch_handler_takes_from_begins_no_runs() -> None:
    """A user's message may be in a worker's hand when the batch handler comes."""
    session = new_session()
    lane = open_lane(session)
    lane.add(raws(1, 2, 3))
    message = take(session)
    session.set_batched()
    assert lane.begin_run(message, 5) is None
    assert [message.offset for message in session.upstream.get_row(9)] == [2, 3]


def test_a_batch_at_its_partitions_window_ends_with_the_message_that_was_offered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backlog_module, "WINDOW", 3)
    lane, batch = batch_of(new_session(), 0, 1, 2, 3)
    lane.add(raws(4, 5, 6))
    lane.advance_all(batch[1:], finish=True)
    assert [message.offset for message in lane.session.upstream.get_row(9)] == [4]


def test_a_batch_of_messages_that_failed_before_is_no_larger_than_it_may_be() -> None:
    session = new_session()
    lane, batch = batch_of(session, 0, 1, 2, 3)
    for message in batch:
        session.defer(message, 0)
    session.serve_retries(time.monotonic() + PATIENCE)
    again = session.upstream.get_row(2)
    assert [message.offset for message in again] == [0, 1]
    lane.advance_all(again, finish=True)
    again = session.upstream.get_row(9)
    assert [message.offset for message in again] == [2, 3]
    assert lane.in_hand == 2
    for message in again:
        message.release()
    assert lane.in_hand == 0


def test_all_rows_that_a_batch_takes_of_a_lane_are_in_hand() -> None:
    """A revoke waits for them: what it takes for idle is handled a second time by the next owner."""
    lane, batch = batch_of(new_session(), 1, 2, 3)
    lane.add(raws(4, 5))
    batch += lane.session.upstream.get_row(9)
    assert lane.in_hand == len(batch) == 5


def test_where_there_is_no_order_the_next_batch_does_not_wait_for_one_that_failed_as_a_whole() -> None:
    """Nothing of it is let go, so nothing but the failure can tell the lane to go on."""
    session = new_session(Ordering.NONE)
    lane = open_lane(session)
    session.set_batched()
    lane.add(raws(0, 1, 2, 3))
    for message in session.upstream.get_row(2):
        session.defer(message, PATIENCE)
    assert [message.offset for message in session.upstream.get_row(9)] == [2, 3]


# -- messages that have failed ----------------------------------------------------------------------


def test_what_failed_in_a_batch_holds_up_who_takes_one_message_at_a_time() -> None:
    """A user who takes from the group of a batch handler: offset 2 was offered before 1 has failed."""
    session = new_session()
    lane, batch = batch_of(session, 1)
    lane.add(raws(2))
    session.defer(batch[0], AGES)
    with pytest.raises(Empty):
        take(session)
    session.serve_retries(2 * AGES)
    assert [take(session).offset for _ in range(2)] == [1, 2]


def test_somebody_who_waits_for_a_message_is_told_also_after_its_retry() -> None:
    """No run begins with it, as a run sets no events."""
    session = new_session()
    lane = open_lane(session)
    lane.add(raws(1, 2))
    failed = take(session)
    event = failed.upstream_done
    session.defer(failed, AGES)
    session.serve_retries(2 * AGES)
    assert take(session) is failed
    assert lane.begin_run(failed, 5) is None
    lane.advance(failed, finish=True)
    assert event.is_set()


def test_what_was_finished_stays_so_in_a_message_that_is_put_back(caplog: pytest.LogCaptureFixture) -> None:
    """Its handler has marked it, and failed; then a worker had it for its retry, and gave up its turn."""
    session = new_session(Ordering.NONE)
    lane = open_lane(session)
    lane.add(raws(1, 2, 3))
    failed, other = take(session), take(session)
    assert failed.mark()
    session.defer(failed, AGES)
    session.serve_retries(2 * AGES)
    following = lane.advance(other, finish=True)
    assert following is failed
    lane.put_back(failed)
    lane.drop()
    assert failed.mark() is False
    assert "commit refused" not in caplog.text


# -- what is to be committed ------------------------------------------------------------------------


@pytest.mark.parametrize("offsets", [(3, 4, 5), (3, 5), (3, 6), (3, 4, 9), (0, 1), (0, 2)])
def test_offsets_that_are_missing_in_a_delivery_hold_nothing_back(offsets: tuple[int, ...]) -> None:
    """A compacted log has gaps, and so has one with transactions."""
    session = new_session()
    lane = open_lane(session)
    lane.add(raws(*offsets))
    for offset in offsets:
        message = take(session)
        assert message.offset == offset
        message.commit_and_release()
    assert commit_point(lane) == offsets[-1] + 1
    assert len(lane.offsets) == 0


def test_what_is_finished_beyond_a_message_is_known_once_it_was_told() -> None:
    """Else each round would commit again what the broker has already."""
    session = new_session(Ordering.NONE)
    lane = open_lane(session)
    lane.add(raws(1, 2, 3))
    take(session)
    take(session).mark()
    point = lane.commit_point()
    assert point is not None
    assert (point.offset, decode(point.offset, point.metadata)) == (1, [2])
    assert lane.commit_point(point.change) is None
    take(session).mark()
    again = lane.commit_point(point.change)
    assert again is not None
    assert decode(again.offset, again.metadata) == [2, 3]


# -- an earlier assignment's offsets ----------------------------------------------------------------


def test_what_an_earlier_assignment_finished_is_forgotten_once_it_was_delivered_again() -> None:
    """A partition that lives for months must not keep a table of it, nor look at it for each delivery."""
    lane = open_lane(new_session())
    lane.start_at(0, [2, 4])
    lane.add(raws(1, 2, 3))
    assert lane._skip == {4}


def test_what_is_unfinished_counts_what_an_earlier_assignment_finished() -> None:
    session = new_session(Ordering.NONE)
    lane = open_lane(session)
    lane.start_at(1, [9])
    lane.add(raws(1, 2, 3, 4))
    for message in [take(session) for _ in range(3)][1:]:
        message.mark()
    assert lane.unfinished() == (1, {2, 3, 9})


# -- where it starts, and offsets that go back ------------------------------------------------------


def test_a_partition_gives_back_what_lies_before_its_start() -> None:
    lane = open_lane(new_session())
    lane.start_at(7, [])
    for before in (raws(5, 6), raws(6)):
        assert lane.add(before) == before
    assert len(lane.offsets) == 0
    assert lane.add(raws(7, 8)) == []
    assert len(lane.offsets) == 2


def test_a_partition_gives_back_what_it_has_had() -> None:
    lane = open_lane(new_session())
    assert lane.add(raws(0)) == []
    again = raws(0, 1)
    assert lane.add(again) == again
    assert len(lane.offsets) == 1


@pytest.mark.parametrize("offsets", [(4, 5, 7, 5, 6), (4, 6, 8, 8, 9)])
def test_offsets_that_go_back_within_a_delivery_are_given_back_from_there(
    offsets: tuple[int, ...],
) -> None:
    session = new_session()
    lane = open_lane(session)
    came = raws(*offsets)
    assert lane.add(came) == came[3:]
    assert lane.add(came[3:]) == came[3:]
    assert len(lane.offsets) == 3
    assert lane.add(raws(9, 11)) == []
    assert lane.buffered()[0] == 4  # and one in the channel


def test_where_a_partition_starts_is_committed_if_the_group_has_it_not() -> None:
    session = new_session()
    lane = open_lane(session)
    lane.start_at(5, [], committed=False)
    assert session.commits.wanted is True
    point = lane.commit_point(lane.committed)
    assert point is not None
    assert (point.offset, point.metadata) == (5, "")
    assert point.change > lane.committed
    assert lane.commit_point(point.change) is None


def test_where_a_partition_starts_is_not_committed_if_the_group_has_it() -> None:
    session = new_session()
    lane = open_lane(session)
    lane.start_at(5, [])
    assert not session.commits.wanted
    assert lane.commit_point(lane.committed) is None


# -- whether it is still ours, and durable commits --------------------------------------------------


def test_messages_that_are_parked_are_held_until_they_are_let_go() -> None:
    session = new_session(Ordering.NONE, commit_interval=0)
    lane = open_lane(session)
    lane.add([*raws(0, data=b"12345"), *raws(1, data=b"123")])
    first, second = take(session), take(session)
    assert lane.buffered() == (0, 0)
    lane.park(first)
    assert first._flags & FINISHED
    assert lane.buffered() == (1, 5)
    lane.park(second)
    assert lane.buffered() == (2, 8)
    first.release()
    assert lane.buffered() == (1, 3)
    session.commits.end()  # whatever is parked is let go, the first once more
    assert lane.buffered() == (0, 0)
    assert lane.in_hand == 0


def test_a_partition_belongs_to_somebody_else_once_it_is_dropped_and_not_while_it_drains() -> None:
    lane = open_lane(new_session())
    assert not lane.is_dropped()
    lane.drain()
    assert not lane.is_dropped()
    lane.drop()
    assert lane.is_dropped()


def committing() -> tuple[Session, Lane, Future[bool]]:
    """A lane of which a user waits for a durable commit, and the answer that he will get."""
    session = new_session(commit_interval=0)
    lane = open_lane(session)
    lane.add(raws(1, 2))
    message = take(session)
    condition = session.commits._condition = WatchedCondition()
    asker = in_thread(message.commit)
    assert condition.waiting.wait(PATIENCE)
    return session, lane, asker


@pytest.mark.parametrize("sent", [True, False])
def test_a_durable_commit_is_true_only_if_the_broker_has_the_message(sent: bool) -> None:
    """A round may be answered that went without its partition."""
    session, lane, asker = committing()
    session.commits.begin()
    point = lane.commit_point()
    assert point is not None
    if sent:
        lane.committed = point.change
    session.commits.succeed()
    assert asker.result(PATIENCE) is sent


def test_a_durable_commit_of_a_partition_that_goes_meanwhile_is_refused_and_said_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    session, lane, asker = committing()
    session.remove([lane])
    assert asker.result(PATIENCE) is False
    assert caplog.text.count("commit refused") == 1


@settled
def test_what_was_finished_in_time_is_not_warned_of_once_the_partition_is_gone(
    settle: str, caplog: pytest.LogCaptureFixture
) -> None:
    session = new_session()
    lane = open_lane(session)
    lane.add(raws(1, 2))
    message = take(session)
    assert message.mark()
    let_go(message, settle)
    lane.drop()
    assert message.mark() is False
    assert "commit refused" not in caplog.text
