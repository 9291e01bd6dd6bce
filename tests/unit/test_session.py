"""A lane's books: who has which message in hand, what is finished, and what that means for the partition."""

from __future__ import annotations

import logging
import threading
import time
from queue import Empty

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dp_kafka import ChannelClosed, Message, Ordering
from dp_kafka.consumer import backlog as backlog_module
from dp_kafka.consumer.lane import Lane, LanePhase
from dp_kafka.consumer.metadata import decode
from dp_kafka.consumer.session import Session
from tests.lanes import Raw, new_session, open_lane, raws
from tests.waiting import PATIENCE, WatchedCondition, in_thread

#: Seconds of which the clock's own are no visible part.
AGES = 1e18


def take(session: Session) -> Message:
    """The next message of the upstream channel, which is there already."""
    return session.upstream.get(block=False)


def commit_point(lane: Lane) -> int | None:
    return lane.offsets.commit_point


# -- one after another ------------------------------------------------------------------------------


def test_one_unreleased_message_of_a_partition_at_a_time() -> None:
    session = new_session()
    lane = open_lane(session)
    lane.add(raws(1, 2))
    first = take(session)
    assert lane.in_hand == 1
    with pytest.raises(Empty):
        take(session)
    first.release()
    assert lane.in_hand == 0
    assert take(session).offset == 2


def test_partitions_do_not_wait_for_each_other() -> None:
    session = new_session()
    one, two = open_lane(session, 1), open_lane(session, 2)
    one.add(raws(1, 2, partition=1))
    two.add(raws(1, 2, partition=2))
    assert {take(session).partition, take(session).partition} == {1, 2}
    assert session.in_hand() == 2
    assert session.in_hand([one]) == 1


def test_release_is_not_commit_and_commit_is_not_release() -> None:
    session = new_session()
    lane = open_lane(session)
    lane.add(raws(1, 2))
    message = take(session)
    assert message.commit()
    assert commit_point(lane) == 2
    assert lane.in_hand == 1
    message.release()
    second = take(session)
    second.release()
    assert commit_point(lane) == 2


def test_whatever_is_done_twice_counts_once() -> None:
    session = new_session()
    lane = open_lane(session)
    lane.add(raws(1, 2, 3))
    message = take(session)
    for _ in range(3):
        assert message.mark()
        assert message.commit()
        message.release()
        assert message.commit_and_release()
        message.upstream_done.set()
    assert lane.in_hand == 0
    assert take(session).offset == 2
    assert commit_point(lane) == 2


def test_setting_the_event_releases_and_releasing_sets_the_event() -> None:
    session = new_session()
    lane = open_lane(session)
    lane.add(raws(1, 2, 3))
    first = take(session)
    event = first.upstream_done
    assert not event.is_set()
    event.set()
    assert lane.in_hand == 0
    second = take(session)
    event = second.upstream_done
    second.release()
    assert event.wait(0)
    third = take(session)
    third.release()
    assert third.upstream_done.is_set()
    assert third.upstream_done is third.upstream_done


def test_a_worker_gets_the_next_message_without_the_channel() -> None:
    session = new_session()
    lane = open_lane(session)
    lane.add(raws(1, 2))
    first = take(session)
    second = lane.advance(first, finish=True)
    assert second is not None
    assert second.offset == 2
    assert lane.in_hand == 1
    assert commit_point(lane) == 2
    assert lane.advance(second, finish=False) is None
    assert lane.in_hand == 0
    assert commit_point(lane) == 2


def test_a_worker_that_gives_up_its_turn_puts_its_next_message_back() -> None:
    session = new_session()
    lane = open_lane(session)
    lane.add(raws(1, 2, 3))
    following = lane.advance(take(session), finish=True)
    assert following is not None
    lane.put_back(following)
    assert lane.in_hand == 0
    assert take(session).offset == 2


def test_a_message_that_its_handler_released_is_not_released_again() -> None:
    """The handler releases, another worker takes the next one, then the first worker is done."""
    session = new_session()
    lane = open_lane(session)
    lane.add(raws(1, 2, 3))
    first = take(session)
    first.release()
    second = take(session)
    assert lane.advance(first, finish=True) is None
    assert lane.in_hand == 1
    assert commit_point(lane) == 2
    following = lane.advance(second, finish=True)
    assert following is not None
    assert following.offset == 3


@pytest.mark.parametrize("ordering", [Ordering.KEY, Ordering.NONE])
def test_workers_that_give_up_their_turn_do_not_fill_the_channel(ordering: Ordering) -> None:
    """Invariant 9: what waits in the channel is counted nowhere, so it must stay short."""
    session = new_session(ordering)
    lane = open_lane(session)
    lane.add([Raw(offset, str(offset % 50).encode()) for offset in range(1_000)])
    workers = 4
    for _ in range(100):
        for message in [take(session) for _ in range(workers)]:
            following = lane.advance(message, finish=True)
            if following is not None:
                lane.put_back(following)
        assert session.upstream.qsize() <= workers + 1


# -- batches ----------------------------------------------------------------------------------------


def test_a_batch_takes_many_messages_of_a_partition_in_order() -> None:
    session = new_session()
    lane = open_lane(session)
    session.set_batched()
    lane.add(raws(1, 2, 3, 4, 5))
    batch = session.upstream.get_row(4)
    assert [message.offset for message in batch] == [1, 2, 3, 4]
    assert lane.in_hand == 4
    lane.advance_all(batch, finish=True)
    assert lane.in_hand == 0
    assert commit_point(lane) == 5
    assert take(session).offset == 5


def test_lanes_that_were_open_before_the_batch_handler_came_change_too() -> None:
    session = new_session(Ordering.KEY)
    lane = open_lane(session)
    lane.add(raws(1, 2, 3, key=b"same"))
    session.set_batched()
    assert [message.offset for message in session.upstream.get_row(9)] == [1, 2, 3]
    later = open_lane(session, 1)
    later.add(raws(1, 2, key=b"same", partition=1))
    assert [message.offset for message in session.upstream.get_row(9)] == [1, 2]


def test_part_of_a_batch_may_stay_unfinished() -> None:
    session = new_session()
    lane = open_lane(session)
    session.set_batched()
    lane.add(raws(1, 2, 3))
    batch = session.upstream.get_row(10)
    lane.advance_all([batch[0], batch[2]], finish=True)
    lane.advance_all(batch, finish=False)
    assert lane.in_hand == 0
    assert commit_point(lane) == 2
    assert lane.offsets.blocking == 2


def test_a_delivery_while_a_batch_is_collected_does_not_change_the_order() -> None:
    """What comes while the batch takes its messages goes behind those that were there."""
    session = new_session()
    lane = open_lane(session)
    session.set_batched()
    lane.add(raws(1, 2, 3))
    batch = session.upstream.get_row(2)
    lane.add(raws(4))
    batch += session.upstream.get_row(10)
    assert [message.offset for message in batch] == [1, 2, 3, 4]
    with pytest.raises(Empty):
        session.upstream.get_row(1)


def test_a_batch_takes_nothing_of_a_lane_that_was_given_up() -> None:
    session = new_session()
    one, two = open_lane(session, 1), open_lane(session, 2)
    session.set_batched()
    one.add(raws(1, 2, partition=1))
    two.add(raws(1, 2, partition=2))
    one.drain()
    assert {message.partition for message in session.upstream.get_row(9)} == {2}
    with pytest.raises(Empty):
        session.upstream.get_row(9)
    assert one.in_hand == 0


# -- offsets that are finished out of order -----------------------------------------------------------


def test_a_partition_with_too_much_finished_beyond_a_message_hands_out_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A message that is never finished must not let the books grow without bound."""
    monkeypatch.setattr(backlog_module, "WINDOW", 3)
    session = new_session(Ordering.NONE)
    lane = open_lane(session)
    lane.add(raws(*range(10)))
    stuck = take(session)
    for _ in range(3):
        take(session).commit_and_release()
    # One was offered before the window was full.
    take(session).commit_and_release()
    with pytest.raises(Empty):
        take(session)
    assert stuck.commit_and_release()
    assert take(session).offset == 5


@pytest.mark.parametrize("finish", ["mark", "commit"])
def test_a_partition_that_was_held_goes_on_when_the_message_is_finished_late(
    monkeypatch: pytest.MonkeyPatch, finish: str
) -> None:
    """The message was released long ago, so nothing but its finishing can tell the partition to go on."""
    monkeypatch.setattr(backlog_module, "WINDOW", 3)
    session = new_session()
    lane = open_lane(session)
    lane.add(raws(*range(10)))
    late = take(session)
    late.release()
    for _ in range(3):
        take(session).commit_and_release()
    with pytest.raises(Empty):
        take(session)
    assert getattr(late, finish)()
    assert take(session).offset == 4
    assert commit_point(lane) == 4


def test_offsets_that_were_finished_in_an_earlier_assignment_are_not_handed_out_again() -> None:
    session = new_session()
    lane = open_lane(session)
    lane.start_at(1, [2, 3, 4, 9])
    lane.add(raws(1, 2))
    lane.add(raws(3, 4))  # a fetch of which nothing is left
    assert lane.buffered() == (0, 0)
    lane.add(raws(5))
    assert take(session).offset == 1
    assert lane.buffered() == (1, 5)
    assert commit_point(lane) is None


def test_what_an_earlier_assignment_has_finished_stays_finished_before_it_is_delivered_again() -> None:
    """Two rebalances in a row: what is far ahead has not been fetched again between them."""
    session = new_session()
    lane = open_lane(session)
    lane.start_at(1, [3, 5, 9])
    lane.add(raws(1, 2))
    take(session).commit_and_release()
    point = lane.commit_point()
    assert point is not None
    assert (point.offset, decode(point.offset, point.metadata)) == (2, [3, 5, 9])
    take(session).commit_and_release()
    point = lane.commit_point()
    assert point is not None
    assert (point.offset, decode(point.offset, point.metadata)) == (4, [5, 9])
    lane.add(raws(4, 6))  # 5 is no longer in the log
    take(session).commit_and_release()
    point = lane.commit_point()
    assert point is not None
    assert (point.offset, decode(point.offset, point.metadata)) == (6, [9])
    take(session).commit_and_release()
    lane.add(raws(*range(7, 10)))
    for _ in range(2):
        take(session).commit_and_release()
    point = lane.commit_point()
    assert point is not None
    assert (point.offset, point.metadata) == (10, "")


# -- giving up --------------------------------------------------------------------------------------


def test_a_draining_lane_hands_out_no_more_but_takes_what_is_finished() -> None:
    session = new_session()
    lane = open_lane(session)
    lane.add(raws(1, 2, 3))
    message = take(session)
    lane.drain()
    assert lane.phase is LanePhase.DRAINING
    assert lane.buffered() == (0, 0)
    assert message.commit_and_release()
    assert commit_point(lane) == 2
    with pytest.raises(Empty):
        take(session)


def test_what_waits_in_the_channel_when_its_lane_drains_is_not_given_out() -> None:
    session = new_session()
    one, two = open_lane(session, 1), open_lane(session, 2)
    one.add(raws(1, partition=1))
    two.add(raws(1, partition=2))
    one.drain()
    assert take(session).partition == 2
    with pytest.raises(Empty):
        take(session)
    assert one.in_hand == 0


def test_a_draining_lane_takes_nothing_new() -> None:
    session = new_session()
    lane = open_lane(session)
    lane.drain()
    lane.add(raws(1))
    assert lane.buffered() == (0, 0)
    with pytest.raises(Empty):
        take(session)


def test_a_worker_of_a_draining_lane_gets_no_next_message() -> None:
    session = new_session()
    lane = open_lane(session)
    lane.add(raws(1, 2, 3))
    following = lane.advance(take(session), finish=True)
    assert following is not None
    lane.drain()
    assert lane.advance(following, finish=True) is None
    assert commit_point(lane) == 3


def test_a_message_put_back_into_a_draining_lane_is_gone() -> None:
    """Not even in the channel: a worker that looks whether others wait would give up its turn for nothing."""
    session = new_session()
    lane = open_lane(session)
    lane.add(raws(1, 2))
    following = lane.advance(take(session), finish=True)
    assert following is not None
    lane.drain()
    lane.put_back(following)
    assert not session.upstream.has_messages
    assert lane.in_hand == 0
    assert commit_point(lane) == 2
    with pytest.raises(Empty):
        take(session)


def test_after_the_partition_is_given_up_commits_are_refused_and_said_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Invariant 3."""
    session = new_session()
    lane = open_lane(session)
    lane.add(raws(1, 2))
    message = take(session)
    session.remove([lane])
    with caplog.at_level(logging.WARNING, "dp_kafka.consumer"):
        assert message.commit() is False
    assert message.mark() is False
    assert message.commit_and_release() is False
    message.release()
    assert commit_point(lane) is None
    assert lane.in_hand == 0
    assert not session.upstream.has_messages
    refused = [record.__dict__["dp_kafka"] for record in caplog.records]
    assert refused[0]["event"].startswith("commit refused")
    assert (refused[0]["topic"], refused[0]["partition"], refused[0]["offset"]) == ("topic", 0, 1)


def test_a_worker_hears_of_a_partition_that_was_given_up_under_its_hands(
    caplog: pytest.LogCaptureFixture,
) -> None:
    session = new_session()
    lane = open_lane(session)
    lane.add(raws(1, 2))
    message = take(session)
    lane.drop()
    assert lane.advance(message, finish=True) is None
    assert lane.in_hand == 0
    assert commit_point(lane) is None
    assert "commit refused" in caplog.text


def test_a_batch_hears_once_of_a_partition_that_was_given_up(caplog: pytest.LogCaptureFixture) -> None:
    session = new_session()
    lane = open_lane(session)
    session.set_batched()
    lane.add(raws(1, 2, 3))
    batch = session.upstream.get_row(10)
    lane.drop()
    lane.advance_all(batch, finish=True)
    assert lane.in_hand == 0
    assert caplog.text.count("commit refused") == 1


def test_a_new_assignment_of_the_same_partition_knows_nothing_of_the_old_one() -> None:
    """A commit of the old assignment must not move the new one."""
    session = new_session()
    old = open_lane(session)
    old.add(raws(1, 2))
    message = take(session)
    session.remove([old])
    new = open_lane(session)
    new.add(raws(1, 2))
    again = take(session)
    assert again.offset == 1
    assert message.commit_and_release() is False
    assert commit_point(new) is None
    assert new.in_hand == 1
    assert again.commit_and_release() is True
    assert commit_point(new) == 2


def test_removing_an_old_lane_leaves_the_new_one_of_its_partition() -> None:
    session = new_session()
    old = open_lane(session)
    new = open_lane(session)
    session.remove([old])
    assert session.lanes == {0: new}
    assert new.phase is LanePhase.OPEN


@pytest.mark.parametrize("let_go", ["release", "advance", "put_back", "advance_all", "defer", "event"])
def test_whoever_waits_for_the_last_message_in_hand_is_woken(let_go: str) -> None:
    session = new_session()
    lane = open_lane(session)
    lane.add(raws(1, 2))
    message = take(session)
    event = message.upstream_done
    lane.drain()
    assert not session.wait_idle([lane], 0)
    condition = session._idle = WatchedCondition()
    # Longer than the test waits for it: at the end of its time it would look by itself.
    waiter = in_thread(lambda: session.wait_idle([lane], 2 * PATIENCE))
    assert condition.waiting.wait(PATIENCE)
    if let_go == "release":
        message.release()
    elif let_go == "advance":
        lane.advance(message, finish=True)
    elif let_go == "put_back":
        lane.put_back(message)
    elif let_go == "advance_all":
        lane.advance_all([message], finish=True)
    elif let_go == "defer":
        session.defer(message, PATIENCE)
    else:
        event.set()
    assert waiter.result(PATIENCE)


def test_closing_the_channel_wakes_readers_and_loses_nothing_that_may_be_handled() -> None:
    session = new_session()
    lane = open_lane(session)
    lane.add(raws(1, 2))
    session.upstream.close()
    first = take(session)
    assert first.offset == 1
    first.commit_and_release()
    with pytest.raises(ChannelClosed):
        take(session)
    assert commit_point(lane) == 2


# -- any order of it all ----------------------------------------------------------------------------


class LaneModel(RuleBasedStateMachine):
    """Workers and users do anything with the messages of a partition, and the books stay right."""

    @initialize(ordering=st.sampled_from(Ordering))
    def begin(self, ordering: Ordering) -> None:
        self.ordering = ordering
        self.session = new_session(ordering)
        self.lane = open_lane(self.session)
        self.delivered: list[int] = []
        self.handed_out: list[int] = []
        self.finished: set[int] = set()
        self.hands: list[Message] = []  # taken and not released
        self.unbegun: list[Message] = []  # of those, got from advance() and not begun
        self.away: list[Message] = []  # failed, and not taken again
        self.old: list[Message] = []  # released
        self.following = 0
        self.puts_back = 0

    def hold(self, message: Message) -> None:
        assert message not in self.old, "a message that was let go is handed out"
        if message in self.away:
            self.away.remove(message)
        if message.offset not in self.handed_out:
            self.handed_out.append(message.offset)
        self.hands.append(message)
        keys = [each.key for each in self.hands]
        if self.ordering is Ordering.PARTITION:
            assert len(self.hands) == 1
        elif self.ordering is Ordering.KEY:
            assert len(keys) == len(set(keys))

    def finish(self, message: Message) -> None:
        if self.lane.phase is not LanePhase.DROPPED:
            self.finished.add(message.offset)

    def let_go(self, message: Message) -> None:
        self.hands.remove(message)
        self.old.append(message)
        if message in self.unbegun:
            self.unbegun.remove(message)

    @rule(count=st.integers(1, 4), keys=st.lists(st.sampled_from([b"a", b"b"]), min_size=4, max_size=4))
    def deliver(self, count: int, keys: list[bytes]) -> None:
        fresh = list(range(self.following, self.following + count))
        self.following += count + 1  # a gap, as a compacted partition has them
        self.lane.add([Raw(offset, key) for offset, key in zip(fresh, keys, strict=False)])
        if self.lane.phase is LanePhase.OPEN:
            self.delivered += fresh

    @rule()
    def take_one(self) -> None:
        try:
            message = take(self.session)
        except Empty:
            if self.lane.phase is LanePhase.OPEN and not self.hands and not self.session._retries:
                assert self.lane.buffered()[0] == 0, "a lane with messages that nobody is asked to take"
            return
        assert self.lane.phase is LanePhase.OPEN
        self.hold(message)

    @precondition(lambda self: self.hands)
    @rule(data=st.data(), finish=st.booleans())
    def advance(self, data: st.DataObject, finish: bool) -> None:
        message = data.draw(st.sampled_from(self.hands))
        following = self.lane.advance(message, finish=finish)
        if finish:
            self.finish(message)
        self.let_go(message)
        if following is not None:
            self.hold(following)
            self.unbegun.append(following)

    @precondition(lambda self: self.unbegun)
    @rule(data=st.data())
    def put_back(self, data: st.DataObject) -> None:
        message = data.draw(st.sampled_from(self.unbegun))
        self.unbegun.remove(message)
        self.hands.remove(message)
        self.lane.put_back(message)
        self.puts_back += 1

    @precondition(lambda self: self.hands)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        message = data.draw(st.sampled_from(self.hands))
        self.session.defer(message, AGES)
        self.hands.remove(message)
        self.away.append(message)
        if message in self.unbegun:
            self.unbegun.remove(message)

    @rule()
    def serve_retries(self) -> None:
        self.session.serve_retries(2 * AGES)

    @precondition(lambda self: self.away)
    @rule(data=st.data(), commit=st.booleans())
    def let_go_of_a_message_that_has_failed(self, data: st.DataObject, commit: bool) -> None:
        message = data.draw(st.sampled_from(self.away))
        if commit:
            message.commit()
            self.finish(message)
        message.release()
        self.away.remove(message)
        self.old.append(message)

    @precondition(lambda self: self.hands)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        message = data.draw(st.sampled_from(self.hands))
        message.release()
        self.let_go(message)

    @precondition(lambda self: self.hands)
    @rule(data=st.data())
    def set_event(self, data: st.DataObject) -> None:
        message = data.draw(st.sampled_from(self.hands))
        message.upstream_done.set()
        self.let_go(message)

    @precondition(lambda self: self.hands)
    @rule(data=st.data(), release=st.booleans())
    def commit(self, data: st.DataObject, release: bool) -> None:
        message = data.draw(st.sampled_from(self.hands))
        answer = message.commit_and_release() if release else message.commit()
        assert answer == (self.lane.phase is not LanePhase.DROPPED)
        self.finish(message)
        if release:
            self.let_go(message)
        elif message in self.unbegun:
            self.unbegun.remove(message)

    @precondition(lambda self: self.old)
    @rule(data=st.data())
    def anything_with_a_message_that_was_let_go(self, data: st.DataObject) -> None:
        message = data.draw(st.sampled_from(self.old))
        message.release()
        assert message.upstream_done.is_set()
        answer = message.mark()
        assert answer == (self.lane.phase is not LanePhase.DROPPED)
        self.finish(message)
        assert self.lane.advance(message, finish=True) is None

    @rule(dropped=st.booleans(), luck=st.integers(0, 9))
    def give_up(self, dropped: bool, luck: int) -> None:
        if luck < 9:
            return
        if dropped:
            self.session.remove([self.lane])
        else:
            self.lane.drain()

    @invariant()
    def books_are_right(self) -> None:
        if not hasattr(self, "lane"):
            return
        assert self.lane.in_hand == len(self.hands)
        expected = None
        for offset in self.delivered:
            if offset not in self.finished:
                break
            expected = offset + 1
        assert commit_point(self.lane) == expected
        assert len(self.handed_out) == len(set(self.handed_out))
        # One of the lane waits, and those that workers have put back.
        assert self.session.upstream.qsize() <= 1 + self.puts_back
        if self.lane.phase is not LanePhase.OPEN:
            assert self.lane.buffered()[0] == len(self.session._retries)

    def teardown(self) -> None:
        """Whatever happened, an open lane can be worked off: nothing is lost, nothing comes twice."""
        if not hasattr(self, "lane") or self.lane.phase is not LanePhase.OPEN:
            return
        self.session.serve_retries(2 * AGES)
        for message in list(self.hands):
            message.commit_and_release()
            self.let_go(message)
        while True:
            try:
                message = take(self.session)
            except Empty:
                break
            assert message.offset not in self.handed_out or self.puts_back or message in self.away
            self.hold(message)
            message.commit_and_release()
            self.let_go(message)
        assert sorted(self.handed_out) == self.delivered
        assert self.lane.in_hand == 0
        if self.ordering is Ordering.PARTITION:
            assert self.handed_out == self.delivered


test_any_order_of_calls_keeps_the_books_right = LaneModel.TestCase
test_any_order_of_calls_keeps_the_books_right.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None
)


# -- durable commits: a finished message waits for the broker, its worker does not -----------------------


def _park(session: Session, count: int) -> list[Message]:
    """Messages 0 of `count` partitions, each followed by message 1: handled, and waiting for the broker."""
    for partition in range(count):
        open_lane(session, partition).add(raws(0, 1, partition=partition))
    handled = [session.upstream.get(block=False) for _ in range(count)]
    for message in handled:
        message._lane.park(message)
    return handled


def test_a_parked_message_is_finished_but_in_hand_until_its_round_is_answered() -> None:
    session = new_session(commit_interval=0)
    (message,) = _park(session, 1)
    lane = message._lane
    assert commit_point(lane) == 1
    assert not message.released
    assert session.in_hand() == 1
    assert not session.upstream.has_messages
    session.commits.begin()
    assert not message.released
    session.commits.succeed()
    assert message.released
    assert session.upstream.get(block=False).offset == 1


def test_one_round_releases_all_that_were_parked_before_it_began_and_no_other() -> None:
    session = new_session(commit_interval=0)
    first, second = _park(session, 2)
    session.commits.begin()
    open_lane(session, 2).add(raws(0, partition=2))
    late = session.upstream.get(block=False)
    late._lane.park(late)
    session.commits.succeed()
    assert (first.released, second.released, late.released) == (True, True, False)
    assert session.commits.due(time.monotonic() + 1)


def test_a_failed_round_that_is_tried_again_releases_nothing() -> None:
    session = new_session(commit_interval=0)
    (message,) = _park(session, 1)
    session.commits.begin()
    session.commits.retry()
    assert not message.released


@pytest.mark.parametrize("ending", ["fail", "give_up", "end"])
def test_a_parked_message_is_released_when_there_will_be_no_answer(ending: str) -> None:
    session = new_session(commit_interval=0)
    (message,) = _park(session, 1)
    session.commits.begin()
    getattr(session.commits, ending)()
    assert message.released
    assert session.in_hand() == 0 or ending != "end"


def test_what_is_parked_after_the_end_or_after_the_partition_went_is_released_at_once() -> None:
    session = new_session(commit_interval=0)
    open_lane(session, 0).add(raws(0))
    open_lane(session, 1).add(raws(0, partition=1))
    gone, late = (session.upstream.get(block=False) for _ in range(2))
    gone._lane.drop()
    gone._lane.park(gone)
    assert gone.released
    session.commits.end()
    late._lane.park(late)
    assert late.released


class _CountedWaits(threading.Condition):
    """Counts, under the lock, the threads that begin to wait."""

    def __init__(self, lock: threading.Lock) -> None:
        super().__init__(lock)
        self.begun = threading.Semaphore(0)

    def wait(self, timeout: float | None = None) -> bool:
        self.begun.release()
        return super().wait(timeout)


def test_messages_that_are_offered_together_reach_as_many_waiting_threads() -> None:
    """One thread is woken, and wakes the next: nobody sleeps while a message waits."""
    session = new_session()
    threads = 8
    all_took = threading.Barrier(threads)

    def take_one() -> int:
        message = session.upstream.get(timeout=PATIENCE)
        all_took.wait(PATIENCE)
        return message.partition

    offered = []
    for partition in range(threads):
        lane = open_lane(session, partition)
        lane.add(raws(0, partition=partition))
        offered.append(session.upstream.queue.popleft())
    condition = session.upstream.not_empty = _CountedWaits(session.upstream.mutex)
    futures = [in_thread(take_one) for _ in range(threads)]
    assert all(condition.begun.acquire(timeout=PATIENCE) for _ in range(threads))
    session.upstream.offer_all(offered)
    assert sorted(future.result(PATIENCE) for future in futures) == list(range(threads))
