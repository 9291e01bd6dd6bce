"""A session's lanes together: what is given up, who is waited for, what has failed, and what is held back."""

from __future__ import annotations

import logging
import time
from queue import Empty

import pytest

from dp_kafka import Message, Ordering
from dp_kafka.codecs import JsonCodec
from dp_kafka.consumer.backlog import WINDOW
from dp_kafka.consumer.commits import GroupCommit
from dp_kafka.consumer.lane import LanePhase
from dp_kafka.consumer.session import LOG_BEYOND, Session
from dp_kafka.consumer.upstream import UpstreamChannel
from tests.lanes import new_session, open_lane, raws
from tests.waiting import PATIENCE, Logged, fields

#: Seconds of which the clock's own steps are no visible part: two deadlines so far away are the same instant.
AGES = 1e18


def take(session: Session) -> Message:
    """The next message of the upstream channel, which is there already."""
    return session.upstream.get(block=False)


def test_what_was_given_up_is_not_there_any_more() -> None:
    session = new_session()
    one, two = open_lane(session, 1), open_lane(session, 2)
    session.remove([one])
    assert session.lanes == {2: two}
    assert one.phase is LanePhase.DROPPED
    assert two.phase is LanePhase.OPEN


def test_a_session_waits_for_those_lanes_alone_that_it_is_asked_for() -> None:
    """A partition is given back while messages of the others are in hand."""
    session = new_session()
    one, two = open_lane(session, 1), open_lane(session, 2)
    one.add(raws(1, partition=1))
    message = take(session)
    assert session.wait_idle([two], 0)
    assert not session.wait_idle([one, two], 0)
    message.release()
    assert session.wait_idle([one, two], 0)


def test_events_are_made_by_the_codec_of_the_session() -> None:
    session = Session(UpstreamChannel(), GroupCommit(0.05), Ordering.PARTITION, JsonCodec())
    open_lane(session).add(raws(1, data=b'{"id": 7}'))
    assert take(session).event == {"id": 7}


def test_failed_messages_come_again_at_their_time_and_not_before() -> None:
    session = new_session(Ordering.NONE)
    open_lane(session).add(raws(1, 2))
    assert session.serve_retries(time.monotonic()) is None
    soon, late = take(session), take(session)
    began = time.monotonic()
    session.defer(late, 200.0)
    session.defer(soon, 100.0)
    assert session.in_hand() == 0
    wait = session.serve_retries(began)
    assert wait is not None
    assert 100.0 <= wait < 100.0 + PATIENCE
    with pytest.raises(Empty):
        take(session)
    due = session._retries[0][0]
    assert due == pytest.approx(began + wait)
    wait = session.serve_retries(due)
    assert wait is not None
    assert 100.0 - PATIENCE < wait < 100.0 + PATIENCE
    again = take(session)
    assert (again.offset, again.attempt) == (1, 2)
    with pytest.raises(Empty):
        take(session)
    assert session.serve_retries(due + wait + 1) is None
    assert take(session).offset == 2


def test_messages_that_failed_at_the_same_instant_come_again_in_the_order_of_their_partition() -> None:
    session = new_session(Ordering.NONE)
    open_lane(session).add(raws(1, 2, 3))
    messages = [take(session) for _ in range(3)]
    for index in (2, 0, 1):
        session.defer(messages[index], AGES)
    assert session.serve_retries(2 * AGES) is None
    assert [take(session).offset for _ in range(3)] == [1, 2, 3]


def test_partitions_that_failed_at_the_same_instant_come_again_in_the_order_of_their_failures() -> None:
    session = new_session()
    for partition in (1, 2, 3):
        open_lane(session, partition).add(raws(0, partition=partition))
    messages = {message.partition: message for message in [take(session) for _ in range(3)]}
    for partition in (2, 3, 1):
        session.defer(messages[partition], AGES)
    assert session.serve_retries(2 * AGES) is None
    assert [take(session).partition for _ in range(3)] == [2, 3, 1]


def test_what_holds_a_partition_back_is_logged_at_each_power_of_ten(logged: Logged) -> None:
    """The unfinished message is named, with how much is finished beyond it; and not in every turn again."""
    event = "partition held back: a message is unfinished, and more is finished beyond it"
    session = new_session(Ordering.NONE)
    open_lane(session, 0)
    offsets = open_lane(session, 7).offsets
    offsets.add(range(40, 20_000))

    def told(finished: range) -> list[int]:
        """How much was finished beyond the message, each time that the log said so."""
        before = len(logged.of(event))
        for offset in finished:
            assert offsets.finish(offset)
            session.log_held()
        return [fields(record)["finished_beyond"] for record in logged.of(event)[before:]]

    few, many = 41 + LOG_BEYOND, 41 + 10 * LOG_BEYOND
    assert told(range(41, few - 1)) == []
    assert told(range(few - 1, many)) == [LOG_BEYOND, 10 * LOG_BEYOND]
    first = logged.of(event)[0]
    assert (first.name, first.levelno) == ("dp_kafka.consumer", logging.WARNING)
    assert fields(first) == {
        "event": event,
        "topic": "topic",
        "partition": 7,
        "blocking_offset": 40,
        "finished_beyond": LOG_BEYOND,
        "held_at": WINDOW,
    }
    # Once it is finished, the next message that holds the partition back is told of anew.
    assert offsets.finish(40)
    session.log_held()
    assert told(range(many + 1, many + 1 + LOG_BEYOND)) == [LOG_BEYOND]


def test_a_partition_that_is_held_far_back_at_the_first_look_is_logged(logged: Logged) -> None:
    """A batch may finish many messages between two looks."""
    session = new_session()
    offsets = open_lane(session).offsets
    offsets.add(range(10 * LOG_BEYOND))
    for offset in range(1, 2 * LOG_BEYOND):
        assert offsets.finish(offset)
    session.log_held()
    session.log_held()
    event = "partition held back: a message is unfinished, and more is finished beyond it"
    assert [fields(record)["finished_beyond"] for record in logged.of(event)] == [2 * LOG_BEYOND - 1]


@pytest.mark.parametrize("ordering", [Ordering.NONE, Ordering.KEY])
def test_messages_that_wait_for_a_retry_count_as_held(ordering: Ordering) -> None:
    """Else a lane whose handler fails looks empty, is fetched for, and grows with the backlog."""
    session = new_session(ordering)
    lane = open_lane(session)
    lane.add(raws(*range(10), data=b"12345"))
    messages = [session.upstream.get(timeout=1) for _ in range(10)]
    assert lane.buffered() == (0, 0)
    for message in messages:
        session.defer(message, 60.0)
    assert lane.buffered() == (10, 50)
    session.serve_retries(time.monotonic() + 61.0)
    again = [session.upstream.get(timeout=1) for _ in range(4)]
    # One more is offered, and so in the channel.
    assert lane.buffered() == (5, 25)
    for message in again:
        message.release()
    lane.drain()
    assert lane.buffered()[0] == 0
