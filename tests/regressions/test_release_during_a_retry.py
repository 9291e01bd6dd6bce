"""A message that somebody released while it waited for its retry was counted out of hand twice.

A handler may give its message to a thread and fail, by a timeout for instance, and the thread releases it
later. The message was in nobody's hand by then, so that the lane had one less in hand than it had: a revoke
did not wait for another message, or waited for its whole time for none. And the message was handled again
beside the one behind it, though it was finished and its partition goes in order.
"""

from __future__ import annotations

from queue import Empty

import pytest

from dp_kafka import Message, Ordering
from dp_kafka.consumer.session import Session
from tests.lanes import Raw, new_session, open_lane, raws

#: Seconds of which the clock's own are no visible part.
AGES = 1e18


def take(session: Session) -> Message:
    """The next message of the upstream channel, which is there already."""
    return session.upstream.get(block=False)


@pytest.mark.parametrize("ordering", Ordering)
def test_a_message_that_is_released_while_it_waits_for_its_retry_is_not_handled_again(
    ordering: Ordering,
) -> None:
    """What is behind it goes on, and its partition may be left."""
    session = new_session(ordering)
    lane = open_lane(session)
    lane.add(raws(1, 2, 3, key=b"same"))
    failed = take(session)
    session.defer(failed, AGES)
    assert failed.commit_and_release()
    assert lane.in_hand == 0
    assert session.serve_retries(2 * AGES) is None
    for offset in (2, 3):
        message = take(session)
        assert message.offset == offset
        assert lane.in_hand == 1
        message.commit_and_release()
    assert lane.offsets.commit_point == 4
    assert lane.buffered() == (0, 0)
    with pytest.raises(Empty):
        take(session)


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("ordering", Ordering)
def test_a_message_that_is_released_when_the_time_of_its_retry_has_come_is_not_handled_again(
    ordering: Ordering, batched: bool
) -> None:
    """One waits in the channel, and the others behind it, when a thread that still has them is done."""
    session = new_session(ordering)
    lane = open_lane(session)
    if batched:
        session.set_batched()
    messages = [Raw(offset, str(offset).encode()) for offset in range(1, 6)]
    count = 3 if batched or ordering is not Ordering.PARTITION else 1
    lane.add(messages[:count])
    failed = [take(session) for _ in range(count)]
    for message in failed:
        session.defer(message, AGES)
    session.serve_retries(2 * AGES)
    assert session.upstream.has_messages
    lane.add(messages[count:])
    for message in failed:
        assert message.commit_and_release()
    assert lane.in_hand == 0
    rest = list(range(count + 1, 6))
    handled: list[int] = []
    while len(handled) < len(rest):
        row = session.upstream.get_row(9) if batched else [take(session)]
        assert lane.in_hand == len(row)
        handled += [message.offset for message in row]
        lane.advance_all(row, finish=True)
    assert sorted(handled) == rest
    assert lane.in_hand == 0
    assert lane.offsets.commit_point == 6
    assert lane.buffered() == (0, 0)


def test_a_message_that_was_released_before_its_failure_does_not_come_again() -> None:
    """What is behind it is under way already: a thread that has it was quicker than its worker."""
    session = new_session()
    lane = open_lane(session)
    lane.add(raws(1, 2))
    failed = take(session)
    failed.release()
    session.defer(failed, AGES)
    assert lane.in_hand == 0
    assert session.serve_retries(0.0) is None, "it waits for a retry"
    assert lane.buffered() == (0, 0)
    assert take(session).offset == 2


@pytest.mark.parametrize("released", ["before", "after"])
def test_a_message_of_a_retry_that_is_released_around_being_put_back_is_not_handled_again(
    released: str,
) -> None:
    """Its worker has got it behind another one, and gives up its turn."""
    session = new_session(Ordering.NONE)
    lane = open_lane(session)
    lane.add(raws(1, 2, 3))
    failed, other = take(session), take(session)
    session.defer(failed, AGES)
    session.serve_retries(2 * AGES)
    again = lane.advance(other, finish=True)
    assert again is failed, "the test shows nothing"
    assert lane.in_hand == 1
    if released == "before":
        failed.release()
    lane.put_back(failed)
    failed.release()
    assert lane.in_hand == 0
    last = take(session)
    assert last.offset == 3
    assert lane.in_hand == 1
    with pytest.raises(Empty):
        take(session)
    last.release()
    assert lane.in_hand == 0


def test_a_partition_is_left_at_once_when_its_message_was_released_during_its_pause() -> None:
    session = new_session()
    lane = open_lane(session)
    lane.add(raws(1, 2))
    failed = take(session)
    session.defer(failed, AGES)
    lane.drain()
    failed.commit_and_release()
    assert session.wait_idle([lane], 0)
    assert lane.offsets.commit_point == 2
