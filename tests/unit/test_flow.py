"""Invariant 9: what is read ahead stays within its bounds; invariant 7: and yet everybody goes on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp_kafka import Ordering
from dp_kafka.consumer.flow import (
    FIRST_FETCH,
    KEEPING_UP_SECONDS,
    MAX_FETCH,
    PATIENCE,
    STARVING_SECONDS,
    Flow,
)
from dp_kafka.consumer.lane import Lane
from dp_kafka.consumer.session import Session
from tests.lanes import new_session, open_lane, raws


def fill(lane: Lane, count: int, size: int = 10) -> None:
    """Buffer `count` further messages of `size` bytes; one more goes to the channel, if none waits there."""
    fill_from(lane, lane._last + 1, count, size)


def fill_from(lane: Lane, first: int, count: int, size: int = 1) -> None:
    """Buffer `count` messages of `size` bytes from an offset on."""
    lane.add(raws(*range(first, first + count), data=b"x" * size, partition=lane.partition))


def empty(session: Session) -> None:
    """Handle all that is buffered."""
    while session.upstream.has_messages:
        session.upstream.get(block=False).commit_and_release()


@pytest.mark.parametrize(("most", "room"), [(1, 1), (100, 50), (100_000, FIRST_FETCH)])
def test_nothing_assigned_leaves_room_for_what_comes_and_no_more(most: int, room: int) -> None:
    """One fetch may bring the assignment and the first messages of it; they took ten times the bound."""
    assert Flow(most, 1_000_000).room([], 0.0) == (room, [], [])


def test_half_of_the_messages_may_be_buffered_here() -> None:
    """The other half is for the other partitions, when somebody stands still."""
    session = new_session()
    lane = open_lane(session)
    flow = Flow(100, 1_000_000)
    assert flow.room([lane], 0.0) == (50, [], [])
    fill(lane, 31)
    assert flow.room([lane], 0.0) == (20, [], [])
    fill(lane, 20)
    assert flow.room([lane], 0.0) == (0, [], [])


def test_room_counts_in_bytes_by_the_average_message() -> None:
    session = new_session()
    lane = open_lane(session)
    flow = Flow(1_000_000, 4_000)
    fill(lane, 5, size=100)
    room, _, _ = flow.room([lane], 0.0)
    assert room == (1_000 - 4 * 100) // 100


def test_never_more_than_one_fetch_at_a_time() -> None:
    session = new_session()
    lane = open_lane(session)
    flow = Flow(1_000_000, 10**9)
    # As long as nobody knows how large messages are, less.
    assert flow.room([lane], 0.0)[0] == FIRST_FETCH
    fill(lane, 2)
    assert flow.room([lane], 0.0)[0] == MAX_FETCH


def test_full_buffers_pause_their_partition_only_after_a_while() -> None:
    """A pause throws away what was fetched ahead, so one of milliseconds is waited out."""
    session = new_session()
    lane = open_lane(session)
    flow = Flow(20, 1_000_000)
    fill(lane, 11)
    assert flow.room([lane], 5.0) == (0, [], [])
    assert flow.room([lane], 5.0 + PATIENCE * 0.9) == (0, [], [])
    assert flow.room([lane], 5.01 + PATIENCE) == (0, [lane], [])


def test_a_moment_of_room_begins_the_wait_anew() -> None:
    session = new_session()
    lane = open_lane(session)
    flow = Flow(20, 1_000_000)
    fill(lane, 11)
    assert flow.room([lane], 5.0) == (0, [], [])
    empty(session)
    assert flow.room([lane], 5.01)[0] == 10
    fill(lane, 11)
    assert flow.room([lane], 5.0 + PATIENCE) == (0, [], [])


def test_a_partition_is_resumed_when_three_quarters_of_its_share_are_free() -> None:
    """Late, as each pause throws a fetch away."""
    session = new_session()
    lane = open_lane(session)
    flow = Flow(20, 1_000_000)
    fill(lane, 21)
    lane.paused = True
    assert flow.room([lane], 0.0)[2] == []
    for _ in range(14):
        session.upstream.get(block=False).commit_and_release()
    assert flow.room([lane], 0.0)[2] == []
    session.upstream.get(block=False).commit_and_release()
    assert flow.room([lane], 0.0)[2] == [lane]


def test_a_partition_whose_handler_is_stuck_does_not_stop_the_others() -> None:
    session = new_session()
    stuck, other = open_lane(session, 0), open_lane(session, 1)
    flow = Flow(40, 1_000_000)
    fill(stuck, 25)
    flow.room([stuck, other], 0.0)
    assert flow.room([stuck, other], PATIENCE)[1:] == ([stuck], [])
    stuck.paused = True
    fill(other, 4)
    left = 40 - 24
    assert flow.room([stuck, other], PATIENCE) == (left // 4, [], [])
    # The other one keeps up: it is no longer held to small fetches, and has half of what the stuck one left.
    later = PATIENCE + KEEPING_UP_SECONDS
    assert flow.room([stuck, other], later) == (left // 2 - 3, [], [])


def test_partitions_that_get_stuck_one_after_another_stay_within_the_bound_together() -> None:
    """What the paused ones hold is missing for the others: their share is not there a second time."""
    session = new_session()
    lanes = [open_lane(session, partition) for partition in range(40)]
    flow = Flow(1_000_000, 40_000)
    fill(lanes[0], 2)  # so that it knows how large messages are
    now = 0.0
    for _ in range(2_000):
        now += PATIENCE / 4
        room, pause, resume = flow.room(lanes, now)
        for lane in pause:
            lane.paused = True
        for lane in resume:
            lane.paused = False
        flowing = [lane for lane in lanes if not lane.paused]
        if flowing and room:
            # All of a fetch is of one partition, until that is paused: so large an answer of a broker is.
            fill_from(flowing[0], 1_000_000 + int(now * 100_000), room, size=10)
        sizes = [lane.buffered()[1] for lane in lanes]
        assert sum(sizes) <= 20_000
    assert all(lane.buffered()[0] for lane in lanes)


@pytest.mark.parametrize("limit", [1, 100, 4_000])
def test_a_message_larger_than_the_buffer_does_not_stop_the_partition_for_ever(limit: int) -> None:
    """The average of what was handled is more than the buffer holds, and yet the next one has to come."""
    session = new_session()
    lane = open_lane(session)
    flow = Flow(1_000, limit)
    fill(lane, 2, size=10_000)
    flow.room([lane], 0.0)
    empty(session)
    assert flow.room([lane], 0.0)[0] >= 1


def test_a_large_message_that_is_stuck_does_not_stop_the_other_partitions() -> None:
    session = new_session()
    stuck, other = open_lane(session, 0), open_lane(session, 1)
    flow = Flow(1_000, 4_000)
    fill(stuck, 2, size=10_000)
    flow.room([stuck, other], 0.0)
    assert flow.room([stuck, other], PATIENCE)[1] == [stuck]
    stuck.paused = True
    assert flow.room([stuck, other], PATIENCE)[0] >= 1


def test_the_smallest_buffers_still_let_one_message_through() -> None:
    session = new_session()
    lane = open_lane(session)
    assert Flow(1, 1).room([lane], 0.0)[0] == 1


@given(
    limit=st.integers(1, 60),
    fills=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 30)), max_size=8),
    paused=st.sets(st.integers(0, 3)),
)
def test_what_is_fetched_never_exceeds_a_share_for_each_partition(
    limit: int, fills: list[tuple[int, int]], paused: set[int]
) -> None:
    """Those that flow stay within the limit, and have room when they are empty."""
    session = new_session(Ordering.NONE)
    lanes = [open_lane(session, partition) for partition in range(4)]
    for partition, count in fills:
        fill(lanes[partition], count)
    for partition in paused:
        lanes[partition].paused = True
    room, pause, resume = Flow(limit, 10**9).room(lanes, 0.0)
    flowing = [lane for lane in lanes if not lane.paused]
    buffered = sum(lane.buffered()[0] for lane in flowing)
    stuck = sum(lane.buffered()[0] for lane in lanes if lane.paused)
    assert room + buffered + stuck <= max(limit, buffered + stuck + (not buffered))
    assert room + buffered <= max(limit // 2, 1, buffered)
    assert room > 0 or buffered > 0 or not flowing
    assert not pause
    assert all(lane.paused for lane in resume)


# -- a backlog of few partitions in front of workers that starve ---------------------------------------


def _starve(flow: Flow, lanes: list[Lane], now: float = 0.0) -> tuple[int, list[Lane], list[Lane]]:
    """What the flow decides after workers have starved for long enough."""
    flow.room(lanes, now, starving=True)
    return flow.room(lanes, now + STARVING_SECONDS, starving=True)


def one_of_four_is_full() -> tuple[Session, list[Lane], Flow]:
    """Four lanes of a flow with room for 800 messages: the first holds more than half of that."""
    session = new_session()
    lanes = [open_lane(session, partition) for partition in range(4)]
    fill(lanes[0], 401)
    return session, lanes, Flow(800, 10**9)


def test_starving_workers_have_a_full_and_slow_partition_paused_at_once() -> None:
    """Its messages would be all that is fetched, while the other workers have nothing to do."""
    _, lanes, flow = one_of_four_is_full()
    _, pause, resume = _starve(flow, lanes)
    assert (pause, resume) == ([lanes[0]], [])
    lanes[0].paused = True
    room, pause, resume = flow.room(lanes, STARVING_SECONDS, starving=True)
    assert (pause, resume) == ([], [])
    assert 0 < room <= 100


def test_a_partition_that_is_handled_quickly_is_not_paused() -> None:
    """Then the others get their turn in no time, and a pause would throw away what was fetched."""
    session, lanes, flow = one_of_four_is_full()
    flow.room(lanes, 0.0, starving=True)
    empty(session)
    fill_from(lanes[0], 1_000_000, 401)
    assert flow.room(lanes, STARVING_SECONDS, starving=True)[1] == []


def test_no_partition_gets_more_than_its_share_while_sharing() -> None:
    """Whatever comes in one fetch, all of it from one partition: its share, and all shares, stay bounded."""
    _, lanes, flow = one_of_four_is_full()
    _starve(flow, lanes)
    lanes[0].paused = True
    now = STARVING_SECONDS
    for lane in lanes[1:]:
        while not lane.paused:
            now += 0.001
            room, pause, _ = flow.room(lanes, now, starving=True)
            if pause:
                assert pause == [lane]
                lane.paused = True
            else:
                assert room > 0
                stuck = sum(other.buffered()[0] for other in lanes if other.paused)
                fill_from(lane, int(1_000_000 * (lane.partition + now)), room)
                assert lane.buffered()[0] <= (800 - stuck) // sum(not other.paused for other in lanes)
    assert sum(lane.buffered()[0] for lane in lanes) <= 800


def test_sharing_ends_when_a_share_was_handled_in_no_time() -> None:
    session, lanes, flow = one_of_four_is_full()
    _starve(flow, lanes)
    lanes[0].paused = True
    empty(session)
    assert flow.room(lanes, 2 * STARVING_SECONDS)[2] == [lanes[0]]
    lanes[0].paused = False
    assert flow.room(lanes, 3 * STARVING_SECONDS)[0] == 400


def test_sharing_ends_when_there_is_nothing_to_share() -> None:
    """Else a topic that is read to its end would go on with small fetches."""
    session, lanes, flow = one_of_four_is_full()
    assert _starve(flow, lanes)[0] <= 100
    empty(session)
    flow.room(lanes, 10.0)
    assert flow.room(lanes, 10.0)[0] == 400
