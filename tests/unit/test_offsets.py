"""Invariant 1, where it is kept: a committed offset never passes a message that is not finished."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from dp_kafka.consumer.offsets import OffsetTracker


def ascending_with_gaps(steps: list[int]) -> list[int]:
    offsets, at = [], 100
    for step in steps:
        at += step
        offsets.append(at)
    return offsets


offset_lists = st.lists(st.integers(1, 4), min_size=1, max_size=40).map(ascending_with_gaps)


@st.composite
def orders(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """Offsets of a partition, with gaps, and an order in which they are finished."""
    offsets = draw(offset_lists)
    return offsets, draw(st.permutations(offsets))


def expected_commit_point(offsets: list[int], finished: set[int]) -> int | None:
    """One after the last of those that are finished without one unfinished before them."""
    commit_point = None
    for offset in offsets:
        if offset not in finished:
            break
        commit_point = offset + 1
    return commit_point


@given(orders())
def test_any_order_of_finishing_gives_the_highest_commit_point_that_is_safe(
    drawn: tuple[list[int], list[int]],
) -> None:
    offsets, order = drawn
    tracker = OffsetTracker()
    tracker.add(offsets)
    finished: set[int] = set()
    for offset in order:
        assert tracker.finish(offset)
        finished.add(offset)
        assert tracker.commit_point == expected_commit_point(offsets, finished)
        unfinished = [each for each in offsets if each not in finished]
        assert tracker.blocking == (unfinished[0] if unfinished else None)
        assert sorted(tracker.finished) == sorted(
            each for each in finished if tracker.commit_point is None or each >= tracker.commit_point
        )
        assert len(tracker) == len(unfinished) + len(tracker.finished)
    assert tracker.commit_point == offsets[-1] + 1
    assert len(tracker) == 0


@given(st.integers(0, 2**32))
def test_deliveries_and_finishing_may_alternate(seed: int) -> None:
    chance = random.Random(seed)
    tracker = OffsetTracker()
    delivered: list[int] = []
    finished: set[int] = set()
    following = 0
    for _ in range(20):
        unfinished = [each for each in delivered if each not in finished]
        if unfinished and chance.random() < 0.7:
            offset = chance.choice(unfinished)
            assert tracker.finish(offset)
            finished.add(offset)
        else:
            fresh = sorted(chance.sample(range(following, following + 8), chance.randint(1, 5)))
            following = fresh[-1] + 1
            tracker.add(fresh)
            delivered += fresh
        assert tracker.commit_point == expected_commit_point(delivered, finished)


@given(orders())
def test_finishing_twice_changes_nothing(drawn: tuple[list[int], list[int]]) -> None:
    offsets, order = drawn
    tracker = OffsetTracker()
    tracker.add(offsets)
    for offset in order:
        assert tracker.finish(offset)
        commit_point = tracker.commit_point
        assert not tracker.finish(offset)
        assert tracker.commit_point == commit_point


def test_nothing_finished_is_no_commit_point() -> None:
    tracker = OffsetTracker()
    assert tracker.commit_point is None
    assert tracker.blocking is None
    tracker.add([7, 8])
    assert tracker.commit_point is None
    tracker.finish(8)
    assert tracker.commit_point is None
    assert tracker.blocking == 7


def test_what_was_never_delivered_cannot_be_finished() -> None:
    tracker = OffsetTracker()
    assert not tracker.finish(1)
    tracker.add([5, 6])
    assert not tracker.finish(4)
    assert not tracker.finish(7)
    assert tracker.commit_point is None


@given(offset_lists, st.data())
def test_a_row_is_finished_at_once_only_if_it_is_the_lowest_that_was_delivered(
    offsets: list[int], data: st.DataObject
) -> None:
    """A batch is finished at once; anything else leaves the books as they were."""
    tracker = OffsetTracker()
    tracker.add(offsets)
    count = data.draw(st.integers(1, len(offsets) + 2))
    first = offsets[0] + data.draw(st.sampled_from([0, 0, -1, 1]))
    last = data.draw(st.just(offsets[min(count, len(offsets)) - 1]) | st.sampled_from(offsets))
    lowest = count <= len(offsets) and first == offsets[0] and last == offsets[count - 1]
    assert tracker.finish_row(first, last, count) == lowest
    assert tracker.commit_point == (last + 1 if lowest else None)
    assert len(tracker) == len(offsets) - (count if lowest else 0)
    assert (tracker.changes > 0) == lowest


def test_what_is_told_to_the_broker_changes_with_everything_that_is_finished() -> None:
    """Whoever commits compares `changes`: what is finished further on counts, a repetition not."""
    tracker = OffsetTracker()
    tracker.add(range(10))
    seen = [tracker.changes]
    for offset in (5, 7, 0, 1):
        assert tracker.finish(offset)
        assert tracker.changes > seen[-1]
        seen.append(tracker.changes)
    tracker.finish_first(2)
    assert tracker.changes > seen[-1]
    seen.append(tracker.changes)
    assert not tracker.finish(5)
    assert not tracker.finish(0)
    assert tracker.changes == seen[-1]


def test_the_repr_tells_what_a_stuck_partition_waits_for() -> None:
    tracker = OffsetTracker()
    tracker.add([1, 2, 3])
    tracker.finish(3)
    assert repr(tracker) == "<OffsetTracker commit_point=None pending=3 beyond=1>"
