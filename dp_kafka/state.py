"""The life cycle of a consumer group: its states, the one table of transitions, and waiting for a state."""

from __future__ import annotations

import enum
import threading
from collections.abc import Iterable

from dp_kafka.errors import StateTransitionError

__all__ = ["TRANSITIONS", "State", "StateMachine"]


class State(enum.IntEnum):
    """Where a consumer group is in its life; `str()` of one is its name as in "Consuming".

    - `INITIALISING`: no broker has answered yet; it is tried again.
    - `STOPPED`: a broker has answered, and the group is not joined.
    - `STARTING`: the group is being joined.
    - `CONSUMING`: an assignment has come, perhaps one of no partitions.
    - `STOPPING`: messages in hand are finished and committed, then the group is left.
    - `CLOSING`: it is being closed, or was: no other state follows.
    """

    INITIALISING = 0
    STOPPED = 1
    STARTING = 2
    CONSUMING = 3
    STOPPING = 4
    CLOSING = 5

    def __str__(self) -> str:
        return self.name.capitalize()


#: Every transition that there is; whatever is not here is refused. docs/architecture.md has the picture.
TRANSITIONS: dict[State, frozenset[State]] = {
    # A broker answered: stay stopped, or start if start() was called meanwhile.
    State.INITIALISING: frozenset({State.STOPPED, State.STARTING, State.CLOSING}),
    # stop() on a stopped consumer changes nothing, hence Stopped again.
    State.STOPPED: frozenset({State.STOPPED, State.STARTING, State.CLOSING}),
    # The first assignment arrives, also one of no partitions.
    State.STARTING: frozenset({State.CONSUMING, State.STOPPING, State.CLOSING}),
    # Another assignment; back to Starting when a rebalance took the whole assignment away.
    State.CONSUMING: frozenset({State.CONSUMING, State.STARTING, State.STOPPING, State.CLOSING}),
    # Messages in hand are finished and committed, and the group has been left.
    State.STOPPING: frozenset({State.STOPPED, State.CLOSING}),
    State.CLOSING: frozenset(),
}


class StateMachine:
    """The current state, changed and waited for under one condition.

    `condition` guards the state and the entry counters, and whatever its owner decides together with
    the state. It is never held across I/O or user code.
    """

    def __init__(self) -> None:
        self.condition = threading.Condition()
        self._state = State.INITIALISING
        # How often each state was entered: a waiter compares counts, so a state that came and went
        # between two looks is not missed.
        self._entries = dict.fromkeys(State, 0)
        self._entries[State.INITIALISING] = 1

    @property
    def current(self) -> State:
        """The current state; never blocks for long, from any thread."""
        return self._state

    def set(self, new: State) -> None:
        """Change the state.

        Raises:
            StateTransitionError: the table does not allow it; the state is unchanged.
        """
        with self.condition:
            if new not in TRANSITIONS[self._state]:
                raise StateTransitionError(f"state transition from {self._state} to {new} is not allowed")
            self._state = new
            self._entries[new] += 1
            self.condition.notify_all()

    def set_if(self, allowed: Iterable[State], new: State) -> None:
        """Change the state only if it is now one of `allowed`.

        Raises:
            StateTransitionError: it is not, or the table does not allow it; the state is unchanged.
        """
        with self.condition:
            if self._state not in tuple(allowed):
                raise StateTransitionError(f"state transition from {self._state} to {new} is not allowed")
            self.set(new)

    def entries(self, state: State) -> int:
        """How often `state` was entered since the machine was made."""
        with self.condition:
            return self._entries[state]

    def wait(self, state: State, timeout: float | None = None) -> bool:
        """Block until `state` is current or was entered since the call; at most `timeout` seconds.

        True when it was; False at the timeout, or when the machine is Closing and `state` can't come.
        """
        with self.condition:
            return self.wait_from(state, self._entries[state], timeout)

    def wait_from(self, state: State, seen: int, timeout: float | None = None) -> bool:
        """As `wait`, but also True when `state` was entered after its count was `seen`."""
        with self.condition:

            def settled() -> bool:
                return self._state is state or self._entries[state] > seen or self._state is State.CLOSING

            self.condition.wait_for(settled, timeout)
            return self._state is state or self._entries[state] > seen

    def __repr__(self) -> str:
        return f"<StateMachine {self._state}>"
