"""Group commit: what many ask for is one round at a time, and a durable asker is answered by the broker."""

from __future__ import annotations

import threading
import time

import pytest

from dp_kafka.consumer.commits import LOOK_SECONDS, RETRY_SECONDS, GroupCommit
from tests.waiting import PATIENCE, WatchedCondition, in_thread


def later() -> float:
    """A time at which every pause between rounds is over."""
    return time.monotonic() + 1_000


def durable_commits() -> tuple[GroupCommit, WatchedCondition]:
    commits = GroupCommit(0)
    condition = commits._condition = WatchedCondition()
    return commits, condition


def test_an_asker_does_not_wait_with_an_interval() -> None:
    commits = GroupCommit(0.05)
    assert not commits.due(later())
    assert commits.ask()
    assert commits.pending
    assert commits.due(later())


def test_the_first_round_is_due_as_soon_as_somebody_asks() -> None:
    commits = GroupCommit(10.0)
    assert commits.seconds_to_round(0.0) is None
    commits.ask()
    assert commits.seconds_to_round(0.0) == 0
    assert commits.due(0.0)


def test_one_round_is_under_way_at_a_time_and_what_is_asked_meanwhile_waits_for_the_next() -> None:
    commits = GroupCommit(0.05)
    commits.ask()
    commits.begin()
    assert commits.in_flight
    commits.ask()
    assert not commits.due(later())
    assert commits.seconds_to_round(later()) is None
    commits.succeed()
    assert commits.due(later())


def test_nothing_is_due_once_all_is_answered() -> None:
    commits = GroupCommit(0.05)
    commits.ask()
    commits.begin()
    commits.succeed()
    assert not commits.due(later())
    assert commits.seconds_to_round(later()) is None


def test_rounds_keep_the_interval() -> None:
    commits = GroupCommit(10.0)
    commits.ask()
    begun = time.monotonic()
    assert commits.seconds_to_round(begun) == 0
    commits.begin()
    commits.succeed()
    commits.ask()
    wait = commits.seconds_to_round(begun)
    assert wait is not None
    assert 10.0 <= wait < 10.0 + PATIENCE
    assert not commits.due(begun + 9.9)
    assert commits.due(begun + wait)


def test_a_round_that_failed_for_now_is_tried_again_after_a_pause() -> None:
    commits = GroupCommit(0.05)
    commits.ask()
    begun = time.monotonic()
    commits.begin()
    commits.retry()
    assert commits.pending
    assert not commits.due(begun + RETRY_SECONDS * 0.9)
    assert commits.due(later())


def test_a_round_that_failed_for_good_is_not_tried_again_by_itself() -> None:
    commits = GroupCommit(0.05)
    commits.ask()
    commits.begin()
    commits.fail()
    assert not commits.pending
    assert not commits.in_flight


def test_after_the_end_asking_says_no() -> None:
    commits = GroupCommit(0.05)
    commits.end()
    assert not commits.ask()


def test_a_durable_asker_waits_for_the_answer() -> None:
    commits, condition = durable_commits()
    asker = in_thread(commits.ask)
    assert condition.waiting.wait(PATIENCE)
    assert commits.due(later())
    commits.begin()
    assert not asker.done()
    commits.succeed()
    assert asker.result(PATIENCE) is True


def test_one_round_answers_everybody_who_asked_before_it() -> None:
    commits, _ = durable_commits()
    askers = [in_thread(commits.ask) for _ in range(10)]
    with commits._condition:
        assert commits._condition.wait_for(lambda: commits._asked == 10, PATIENCE)
    commits.begin()
    commits.succeed()
    assert all(asker.result(PATIENCE) for asker in askers)
    assert not commits.pending


def test_a_round_does_not_answer_who_asked_after_it_began() -> None:
    """What the second asker finished is not in the round that was already sent."""
    commits, condition = durable_commits()
    first = in_thread(commits.ask)
    assert condition.waiting.wait(PATIENCE)
    commits.begin()
    condition.waiting.clear()
    second = in_thread(commits.ask)
    assert condition.waiting.wait(PATIENCE)
    commits.succeed()
    assert first.result(PATIENCE) is True
    assert not second.done()
    assert commits.due(later())
    commits.begin()
    commits.succeed()
    assert second.result(PATIENCE) is True


def test_a_durable_asker_goes_on_waiting_while_the_round_is_tried_again() -> None:
    commits, condition = durable_commits()
    asker = in_thread(commits.ask)
    assert condition.waiting.wait(PATIENCE)
    commits.begin()
    commits.retry()
    assert not asker.done()
    assert commits.due(later())
    commits.begin()
    commits.succeed()
    assert asker.result(PATIENCE) is True


@pytest.mark.parametrize("ending", ["fail", "end"])
def test_a_durable_asker_is_told_when_no_answer_will_come(ending: str) -> None:
    commits, condition = durable_commits()
    asker = in_thread(commits.ask)
    assert condition.waiting.wait(PATIENCE)
    if ending == "fail":
        commits.begin()
        commits.fail()
    else:
        commits.end()
    assert asker.result(PATIENCE) is False


def test_the_poll_thread_is_woken_by_a_durable_asker() -> None:
    commits, condition = durable_commits()
    poll_thread = in_thread(lambda: commits.wait_for_asker(10 * PATIENCE))
    assert condition.waiting.wait(PATIENCE)
    asker = in_thread(commits.ask)
    poll_thread.result(PATIENCE)
    assert commits.pending
    commits.end()
    assert asker.result(PATIENCE) is False


def test_the_poll_thread_waits_for_an_asker_no_longer_than_it_wants() -> None:
    commits, _ = durable_commits()
    commits.wait_for_asker(0.01)
    assert not commits.pending


@pytest.mark.parametrize(("interval", "pause"), [(0.05, RETRY_SECONDS), (10.0, 10.0)])
@pytest.mark.parametrize("failure", ["retry", "fail"])
def test_after_a_round_that_failed_the_next_one_waits(interval: float, pause: float, failure: str) -> None:
    """A broker that refuses is not asked again at once: half a second later, or after a longer interval."""
    commits = GroupCommit(interval)
    commits.ask()
    began = time.monotonic()
    commits.begin()
    getattr(commits, failure)()
    commits.ask()
    wait = commits.seconds_to_round(began)
    assert wait is not None
    assert pause <= wait < pause + PATIENCE
    assert not commits.due(began + pause * 0.99)
    assert commits.due(began + wait)


def test_a_round_that_has_nobody_to_answer_may_be_given_up() -> None:
    """The asker before goes away with False, and the next one gets an answer of its own."""
    commits, condition = durable_commits()
    asker = in_thread(commits.ask)
    assert condition.waiting.wait(PATIENCE)
    commits.give_up()
    assert asker.result(PATIENCE) is False
    condition.waiting.clear()
    later_asker = in_thread(commits.ask)
    assert condition.waiting.wait(PATIENCE)
    assert commits.due(later())
    commits.begin()
    commits.succeed()
    assert later_asker.result(PATIENCE) is True


def test_after_the_end_a_durable_asker_is_told_at_once() -> None:
    commits, condition = durable_commits()
    commits.end()
    assert commits.ask() is False
    assert not condition.waiting.is_set()
    assert not commits.pending


def test_an_asker_whose_partition_was_given_up_goes_away() -> None:
    """The broker will never answer for it; whoever waits for another partition goes on waiting."""
    commits, _ = durable_commits()
    gone = threading.Event()
    mine, others = in_thread(lambda: commits.ask(gone.is_set)), in_thread(commits.ask)
    with commits._condition:
        assert commits._condition.wait_for(lambda: commits._asked == 2, PATIENCE)
    gone.set()
    commits.look_again()
    assert mine.result(PATIENCE) is False
    assert not others.done()
    commits.begin()
    commits.succeed()
    assert others.result(PATIENCE) is True


def test_a_quick_answer_is_looked_for_soon_and_a_slow_one_seldom() -> None:
    """Between the shortest and the longest time, a quarter of what the round has taken so far."""
    commits = GroupCommit(0)
    shortest, longest = LOOK_SECONDS
    before = time.monotonic()
    commits.begin()
    after = time.monotonic()
    assert commits.seconds_to_look(before) == shortest
    assert commits.seconds_to_look(after + 1) == longest
    while_it_lasts = 2 * (shortest + longest)
    assert commits.seconds_to_look(after + while_it_lasts) >= while_it_lasts / 4
    assert commits.seconds_to_look(before + while_it_lasts) <= while_it_lasts / 4


def test_the_poll_thread_is_woken_at_the_end() -> None:
    commits, condition = durable_commits()
    poll_thread = in_thread(lambda: commits.wait_for_asker(10 * PATIENCE))
    assert condition.waiting.wait(PATIENCE)
    commits.end()
    poll_thread.result(PATIENCE)
