"""The life cycle of a consumer group: its table, and waiting for a state."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp_kafka import State, StateTransitionError
from dp_kafka.state import TRANSITIONS, StateMachine
from tests.waiting import PATIENCE, WatchedCondition, in_thread

#: Contract 7.9, as it stands there.
TABLE = {
    ("Initialising", "Stopped"),
    ("Initialising", "Starting"),
    ("Initialising", "Closing"),
    ("Stopped", "Starting"),
    ("Stopped", "Stopped"),
    ("Stopped", "Closing"),
    ("Starting", "Consuming"),
    ("Starting", "Stopping"),
    ("Starting", "Closing"),
    ("Consuming", "Consuming"),
    ("Consuming", "Starting"),
    ("Consuming", "Stopping"),
    ("Consuming", "Closing"),
    ("Stopping", "Stopped"),
    ("Stopping", "Closing"),
}

#: A way to each state, from the beginning.
WAYS: dict[State, list[State]] = {
    State.INITIALISING: [],
    State.STOPPED: [State.STOPPED],
    State.STARTING: [State.STARTING],
    State.CONSUMING: [State.STARTING, State.CONSUMING],
    State.STOPPING: [State.STARTING, State.STOPPING],
    State.CLOSING: [State.CLOSING],
}


def machine_in(state: State) -> StateMachine:
    machine = StateMachine()
    for step in WAYS[state]:
        machine.set(step)
    assert machine.current is state
    return machine


def test_7_1_the_states_have_their_numbers_and_texts() -> None:
    assert [(state.value, str(state)) for state in State] == [
        (0, "Initialising"),
        (1, "Stopped"),
        (2, "Starting"),
        (3, "Consuming"),
        (4, "Stopping"),
        (5, "Closing"),
    ]


@pytest.mark.parametrize(("old", "new"), list(itertools.product(State, State)), ids=str)
def test_7_9_the_table_is_the_contracts_and_is_kept(old: State, new: State) -> None:
    """A transition that is not in the table raises and changes nothing."""
    assert (new in TRANSITIONS[old]) == ((str(old), str(new)) in TABLE)
    machine = machine_in(old)
    entered = machine.entries(new)
    if new in TRANSITIONS[old]:
        machine.set(new)
        assert machine.current is new
        assert machine.entries(new) == entered + 1
    else:
        with pytest.raises(StateTransitionError, match=f"from {old} to {new} is not allowed"):
            machine.set(new)
        assert machine.current is old
        assert machine.entries(new) == entered


def test_7_2_a_machine_begins_initialising() -> None:
    assert StateMachine().current is State.INITIALISING


@given(allowed=st.sets(st.sampled_from(State)), old=st.sampled_from(State), new=st.sampled_from(State))
def test_7_2_set_if_needs_the_current_state_in_the_list(allowed: set[State], old: State, new: State) -> None:
    machine = machine_in(old)
    if old in allowed and new in TRANSITIONS[old]:
        machine.set_if(allowed, new)
        assert machine.current is new
    else:
        with pytest.raises(StateTransitionError, match=f"state transition from {old} to {new}"):
            machine.set_if(allowed, new)
        assert machine.current is old


def test_set_if_takes_an_iterator_too() -> None:
    machine = StateMachine()
    machine.set_if(iter([State.INITIALISING]), State.STOPPED)
    assert machine.current is State.STOPPED


def test_7_4_waiting_for_the_current_state_returns_at_once() -> None:
    for state in State:
        assert machine_in(state).wait(state, timeout=0)


def test_a_new_machine_has_entered_its_first_state_once_and_no_other() -> None:
    machine = StateMachine()
    assert [machine.entries(state) for state in State] == [1, 0, 0, 0, 0, 0]


def test_7_4_whoever_waits_for_the_current_state_does_not_sleep() -> None:
    """Also if it was entered before the caller looked, and whatever the timeout."""
    machine = machine_in(State.CONSUMING)
    condition = machine.condition = WatchedCondition()
    assert machine.wait(State.CONSUMING, PATIENCE)
    assert machine.wait_from(State.CONSUMING, machine.entries(State.CONSUMING), PATIENCE)
    assert machine.wait_from(State.STARTING, machine.entries(State.STARTING) - 1, PATIENCE)
    assert not condition.waiting.is_set()


def test_waiting_ends_at_the_timeout() -> None:
    assert not StateMachine().wait(State.CONSUMING, timeout=0.01)


def test_a_state_that_came_and_went_is_not_missed() -> None:
    """The waiter sleeps, the state is entered and left in one go, and the waiter is told of it."""
    machine = machine_in(State.STARTING)
    condition = machine.condition = WatchedCondition()
    waiter = in_thread(lambda: machine.wait(State.CONSUMING, PATIENCE))
    assert condition.waiting.wait(PATIENCE)
    with machine.condition:
        machine.set(State.CONSUMING)
        machine.set(State.STARTING)
    assert waiter.result(PATIENCE)
    assert machine.current is State.STARTING


def test_a_state_that_passed_before_the_wait_counts_from_where_the_caller_looked() -> None:
    machine = machine_in(State.STARTING)
    seen = machine.entries(State.CONSUMING)
    machine.set(State.CONSUMING)
    machine.set(State.STOPPING)
    assert machine.wait_from(State.CONSUMING, seen, timeout=0)
    assert not machine.wait(State.CONSUMING, timeout=0)


def test_7_3_entering_the_current_state_again_counts_as_entered() -> None:
    machine = machine_in(State.CONSUMING)
    seen = machine.entries(State.CONSUMING)
    machine.set(State.CONSUMING)
    assert machine.entries(State.CONSUMING) == seen + 1


def test_waiting_for_a_state_that_cannot_come_any_more_ends() -> None:
    """Nothing follows Closing: who waits for something else is told so, instead of waiting for ever."""
    machine = StateMachine()
    condition = machine.condition = WatchedCondition()
    waiter = in_thread(lambda: machine.wait(State.CONSUMING))
    assert condition.waiting.wait(PATIENCE)
    machine.set(State.CLOSING)
    assert waiter.result(PATIENCE) is False
    assert machine.wait(State.CLOSING)
    assert not machine.wait(State.STOPPED)


def test_all_waiters_are_told() -> None:
    machine = StateMachine()
    waiters = [in_thread(lambda: machine.wait(State.STOPPED, PATIENCE)) for _ in range(5)]
    machine.set(State.STOPPED)
    assert all(waiter.result(PATIENCE) for waiter in waiters)


def test_the_repr_tells_the_state() -> None:
    assert repr(StateMachine()) == "<StateMachine Initialising>"
