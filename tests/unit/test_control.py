"""What callers want of a group, and what follows from it, before any client is involved."""

from __future__ import annotations

import threading
from concurrent.futures import Future

import pytest

from dp_kafka import State
from dp_kafka.consumer.control import Control
from tests.waiting import PATIENCE, WatchedCondition, in_thread


def initialised(*, watched: bool = False) -> Control:
    control = Control({})
    if watched:
        control.machine.condition = WatchedCondition()
    control.set_initialised()
    return control


def waiting(control: Control) -> threading.Event:
    condition = control.machine.condition
    assert isinstance(condition, WatchedCondition)
    return condition.waiting


def with_a_poll_thread_that_waits() -> tuple[Control, Future[bool]]:
    """A control, and what becomes of the thread that waits on it for a start."""
    control = initialised(watched=True)
    poll_thread = in_thread(control.wait_running)
    assert waiting(control).wait(PATIENCE)
    return control, poll_thread


def test_a_stop_right_after_a_start_is_carried_out_though_the_poll_thread_saw_neither() -> None:
    """The poll thread sleeps through both: the group must be Stopped again, not Stopping for ever."""
    control, poll_thread = with_a_poll_thread_that_waits()
    with control.machine.condition:
        control.start()
        control.stop()
    assert control.stop_and_wait(PATIENCE)
    assert control.state is State.STOPPED
    control.start()
    assert poll_thread.result(PATIENCE) is True
    assert str(control.state) == "Starting"


def test_a_start_that_follows_such_a_stop_is_followed() -> None:
    control, poll_thread = with_a_poll_thread_that_waits()
    with control.machine.condition:
        control.start()
        control.stop()
        control.start()
    assert poll_thread.result(PATIENCE) is True
    assert control.state is State.STARTING


def test_close_ends_the_wait_for_a_start() -> None:
    control = initialised()
    poll_thread = in_thread(control.wait_running)
    assert control.close()
    assert poll_thread.result(PATIENCE) is False


def test_only_the_first_close_closes() -> None:
    control = Control({})
    assert control.close()
    assert not control.close()
    assert control.state is State.CLOSING


@pytest.mark.parametrize(
    ("calls", "target"),
    [
        ([], State.STOPPED),
        (["start"], State.STARTING),
        (["start", "stop"], State.STOPPED),
        (["stop", "start", "start"], State.STARTING),
    ],
)
def test_7_13_the_last_call_before_the_initialisation_decides(calls: list[str], target: State) -> None:
    control = Control({})
    for call in calls:
        getattr(control, call)()
    assert control.state is State.INITIALISING
    control.set_initialised()
    assert control.state is target


def test_a_closed_group_is_not_initialised_any_more() -> None:
    control = Control({})
    control.close()
    control.set_initialised()
    assert control.state is State.CLOSING
    assert not control.initialised.is_set()


def test_an_assignment_that_comes_after_the_stop_changes_nothing() -> None:
    control = initialised()
    control.start()
    control.stop()
    control.set_assigned()
    assert control.state is State.STOPPING
    control.set_unassigned()
    assert control.state is State.STOPPING


def test_stopped_follows_stopping_only() -> None:
    control = initialised()
    control.start()
    control.set_stopped()
    assert control.state is State.STARTING


def test_a_stop_that_takes_too_long_is_told_and_goes_on() -> None:
    control = initialised()
    control.start()
    assert not control.stop_and_wait(0.01)
    assert control.state is State.STOPPING
    control.set_stopped()
    assert control.stop_and_wait(0)


def test_who_waits_for_the_stop_hears_of_it_even_if_a_start_follows_at_once() -> None:
    control = initialised()
    control.start()
    control.machine.condition = WatchedCondition()
    waiter = in_thread(lambda: control.stop_and_wait(PATIENCE))
    assert waiting(control).wait(PATIENCE)
    with control.machine.condition:
        control.start()  # wanted as soon as it has stopped
        control.set_stopped()
    assert waiter.result(PATIENCE)
    assert control.state is State.STARTING


@pytest.mark.parametrize("finished", [True, False])
def test_a_stop_while_it_closes_waits_for_the_word_whether_all_was_finished(finished: bool) -> None:
    """Not for the messages in hand alone, which are waited for no longer than the close has time."""
    control = initialised()
    control.start()
    assert control.close()
    control.drained.set()
    assert not control.stop_and_wait(0)
    waiter = in_thread(lambda: control.stop_and_wait(PATIENCE))
    control.settle(finished=finished)
    control.settle(finished=not finished)  # only the first word counts
    assert waiter.result(PATIENCE) is finished
    assert control.stop_and_wait(0) is finished
