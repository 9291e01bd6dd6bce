"""What callers want of a consumer group, and the state that follows: decided together, under one condition.

Callers say start, stop or close, and by when; the poll thread carries it out and reports what has become
true. No call here does I/O, and none blocks but those named `wait_…` and `stop_and_wait`.
"""

from __future__ import annotations

import enum
import threading
import time
from collections.abc import Mapping
from typing import Any

from dp_kafka.channels import LockFreeEvent
from dp_kafka.closing import Deadline
from dp_kafka.errors import ClosedError
from dp_kafka.initialisation import Initialisation
from dp_kafka.interrupts import is_owned
from dp_kafka.state import State, StateMachine

__all__ = ["Control"]

#: The states in which the poll thread has a session, or is about to.
_RUNNING = (State.STARTING, State.CONSUMING)


class _Wanted(enum.Enum):
    STOPPED = "stopped"
    RUNNING = "running"
    CLOSED = "closed"


class Control:
    """The wishes of callers and the state machine, guarded by the machine's condition."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        """Args: `fields` are what the log data of its errors has."""
        self.machine = StateMachine()
        self.initialisation = Initialisation("consumer", fields)
        #: Set once a closing consumer hands out no more messages, and waits for those in hand no longer.
        self.drained = LockFreeEvent()
        #: Set once it is known whether a closing consumer has finished and committed all that was in hand.
        self.settled = LockFreeEvent()
        self._finished = False
        #: Whether the broker has the commit of what the last session finished that had partitions.
        self.committed = True
        #: Set once the hooks of close() have run, or there are none.
        self.may_leave = LockFreeEvent()
        self._wanted = _Wanted.STOPPED
        #: When close() gives up waiting for messages in hand.
        self.deadline = Deadline()

    @property
    def _condition(self) -> threading.Condition:
        return self.machine.condition

    @property
    def state(self) -> State:
        """The current state."""
        return self.machine.current

    @property
    def initialised(self) -> LockFreeEvent:
        """Set once a broker has answered."""
        return self.initialisation.done

    # -- callers ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Want to consume; raises ClosedError when closing."""
        with self._condition:
            if self._wanted is _Wanted.CLOSED:
                raise ClosedError("the consumer cannot be started because it is closing: make a new one")
            self._wanted = _Wanted.RUNNING
            if self.state is State.STOPPED:
                self.machine.set(State.STARTING)
            self._condition.notify_all()

    def stop(self) -> None:
        """Want to stop; nothing happens when stopped, stopping or closing."""
        with self._condition:
            self._stop_locked()

    def _stop_locked(self) -> None:
        if self._wanted is _Wanted.CLOSED:
            return
        self._wanted = _Wanted.STOPPED
        if self.state in _RUNNING:
            self.machine.set(State.STOPPING)
        self._condition.notify_all()

    def stop_and_wait(self, timeout: float | None) -> bool:
        """Want to stop, and wait until it is so; True if it is, and what was finished is committed.

        A consumer that closes is waited for until it is known whether it leaves anything in hand.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._condition:
            seen = self.machine.entries(State.STOPPED)
            self._stop_locked()
            if self.state is State.STOPPING and self.machine.wait_from(State.STOPPED, seen, timeout):
                return self.committed
            if self._wanted is not _Wanted.CLOSED:
                return self.committed and self.state in (State.STOPPED, State.INITIALISING)
        self.settled.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
        return self._finished

    def close(self) -> bool:
        """Want to close; True for the first call."""
        with self._condition:
            first = self._wanted is not _Wanted.CLOSED
            self._wanted = _Wanted.CLOSED
            # Whether or not it is the first: that may have been interrupted before it came to this.
            if self.state is not State.CLOSING:
                self.machine.set(State.CLOSING)
        self.initialisation.end()
        return first

    @property
    def closing(self) -> bool:
        """Whether close was asked for."""
        return self._wanted is _Wanted.CLOSED

    def is_over(self, patience: float | None = None) -> bool:
        """Whether the deadline of close(), or `patience`, a time of `time.monotonic()`, has passed."""
        return (patience is not None and time.monotonic() >= patience) or self.deadline.has_passed()

    def interrupted(self) -> bool:
        """Whether the calling thread is a signal handler's, on top of a call of its own that holds the lock.

        That call goes on only when the handler returns, so the handler must not wait for what needs the lock.
        """
        parts = (self.initialisation, self.deadline)
        return is_owned(self._condition) or any(part.interrupted() for part in parts)

    # -- the poll thread ----------------------------------------------------------------------------

    def settle(self, *, finished: bool) -> None:
        """Say whether a closing consumer has finished and committed what was in hand; the first call counts.

        The closing thread may be the first, if the poll thread has hung in its client beyond the deadline.
        """
        with self._condition:
            if not self.settled.is_set():
                self._finished = finished
                self.settled.set()

    def set_initialised(self) -> None:
        """A broker answered; a consumer that closes meanwhile is not initialised any more."""
        with self._condition:
            if self.state is State.INITIALISING:
                self.machine.set(State.STARTING if self._wanted is _Wanted.RUNNING else State.STOPPED)
        # Last, so that whoever has waited for it finds the state that follows.
        self.initialisation.tried(None)

    def wait_running(self) -> bool:
        """Wait until consuming is wanted (True) or closing is (False)."""
        with self._condition:
            while True:
                self._condition.wait_for(lambda: self.state not in (State.INITIALISING, State.STOPPED))
                if self.state is not State.STOPPING:
                    return self.state in _RUNNING
                # start() and stop() came before this thread woke up: there is no session to end, and
                # nobody else would carry the stop out.
                self.set_stopped()

    def wait_not_running(self, timeout: float) -> None:
        """Wait until something else than consuming is wanted, at most `timeout` seconds."""
        with self._condition:
            self._condition.wait_for(lambda: self.state not in _RUNNING, timeout)

    @property
    def running(self) -> bool:
        """Whether the session is to go on."""
        return self.machine.current in _RUNNING

    def set_assigned(self) -> None:
        """An assignment came, perhaps an empty one."""
        with self._condition:
            if self.state in _RUNNING:
                self.machine.set(State.CONSUMING)

    def set_unassigned(self) -> None:
        """The whole assignment was taken away: wait for the next one."""
        with self._condition:
            if self.state is State.CONSUMING:
                self.machine.set(State.STARTING)

    def set_committed(self, committed: bool) -> None:
        """A session has ended: whether the broker has the commit of what it finished."""
        with self._condition:
            self.committed = committed

    def set_stopped(self) -> None:
        """The session has ended and the group has been left; go on if somebody wanted a start meanwhile."""
        with self._condition:
            if self.state is not State.STOPPING:
                return
            self.machine.set(State.STOPPED)
            if self._wanted is _Wanted.RUNNING:
                self.machine.set(State.STARTING)
