"""What callers want of a consumer group, and the state that follows: decided together, under one condition.

Callers say start, stop or close, and by when; the poll thread carries it out and reports what has become
true. No call here does I/O, and none blocks but those named `wait_…`, `stop_and_wait` and `initialise`.
"""

from __future__ import annotations

import enum
import threading
import time

from dp_kafka.channels import LockFreeEvent
from dp_kafka.errors import ClosedError
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

    def __init__(self) -> None:
        self.machine = StateMachine()
        self.initialised = LockFreeEvent()
        #: Set once a closing consumer hands out no more messages, and waits for those in hand no longer.
        self.drained = LockFreeEvent()
        #: Set once it is known whether a closing consumer has finished and committed all that was in hand.
        self.settled = LockFreeEvent()
        self._finished = False
        #: Set once the hooks of close() have run, or there are none.
        self.may_leave = LockFreeEvent()
        #: Whether what is in hand is held by workers: their handlers end by themselves, and are waited for.
        self.has_workers = False
        self._wanted = _Wanted.STOPPED
        # The deadline of close(): when to give up waiting for messages in hand; None is never.
        self._deadline: float | None = None
        # Counts requests to try the initialisation now, and the attempts that were made.
        self._init_asked = 0
        self._init_tried = 0
        self._init_error: BaseException | None = None

    @property
    def _condition(self) -> threading.Condition:
        return self.machine.condition

    @property
    def state(self) -> State:
        """The current state."""
        return self.machine.current

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
        """Want to stop, and wait until it is so; True if it is.

        Closing counts once all that was in hand is finished and committed, and never does if it was left.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._condition:
            seen = self.machine.entries(State.STOPPED)
            self._stop_locked()
            if self.state is State.STOPPING and self.machine.wait_from(State.STOPPED, seen, timeout):
                return True
            if self._wanted is not _Wanted.CLOSED:
                return self.state in (State.STOPPED, State.INITIALISING)
        self.settled.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
        return self._finished

    def bring_forward(self, deadline: float | None) -> None:
        """Close by this time of `time.monotonic()`, unless an earlier one is set; None asks for nothing."""
        if deadline is None:
            return
        with self._condition:
            self._deadline = deadline if self._deadline is None else min(self._deadline, deadline)
            self._condition.notify_all()

    def remaining(self) -> float | None:
        """How many seconds close() still has, negative when it has none; None where it has no deadline."""
        deadline = self._deadline
        return None if deadline is None else deadline - time.monotonic()

    def close(self) -> bool:
        """Want to close; True for the first call."""
        with self._condition:
            if self._wanted is _Wanted.CLOSED:
                return False
            self._wanted = _Wanted.CLOSED
            self.machine.set(State.CLOSING)
            return True

    @property
    def closing(self) -> bool:
        """Whether close was asked for."""
        return self._wanted is _Wanted.CLOSED

    def is_over(self, patience: float | None = None) -> bool:
        """Whether the deadline of close(), or `patience`, has passed; both are of `time.monotonic()`."""
        now, deadline = time.monotonic(), self._deadline
        return (patience is not None and now >= patience) or (deadline is not None and now >= deadline)

    def initialise(self, timeout: float) -> None:
        """Have the poll thread try the initialisation now, and wait for what came of it.

        Raises the error of the attempt, or ClosedError.
        """
        with self._condition:
            if self.initialised.is_set() and not self.closing:
                return
            self._init_asked += 1
            tried = self._init_tried
            self._condition.notify_all()
            self._condition.wait_for(
                lambda: self.initialised.is_set() or self._init_tried > tried or self.closing, timeout
            )
            if self.closing:
                raise ClosedError("the consumer cannot be initialised because it is closing")
            if self.initialised.is_set():
                return
            error = self._init_error
        raise error if error is not None else TimeoutError("the initialisation did not end in time")

    def wait_first_attempt(self, timeout: float) -> None:
        """Wait until the first attempt at initialisation has ended, at most `timeout` seconds."""
        with self._condition:
            self._condition.wait_for(lambda: self._init_tried > 0, timeout)

    def interrupted(self) -> bool:
        """Whether the calling thread is a signal handler's, on top of a call of its own that holds the lock.

        That call goes on only when the handler returns, so the handler must not wait for what needs the lock.
        """
        return is_owned(self._condition)

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
            self._init_tried += 1
            if not self.closing:
                self.initialised.set()
            if self.state is State.INITIALISING:
                self.machine.set(State.STARTING if self._wanted is _Wanted.RUNNING else State.STOPPED)
            self._condition.notify_all()

    def set_init_failed(self, error: BaseException) -> None:
        """No broker answered."""
        with self._condition:
            self._init_tried += 1
            self._init_error = error
            self._condition.notify_all()

    def wait_init_retry(self, timeout: float) -> None:
        """Wait until it is time to try again, or somebody asks, or close is wanted."""
        with self._condition:
            asked = self._init_asked
            self._condition.wait_for(lambda: self.closing or self._init_asked > asked, timeout)

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

    def wait_over(self, timeout: float) -> None:
        """Wait until the deadline of close() has passed, at most `timeout` seconds."""
        with self._condition:
            self._condition.wait_for(self.is_over, timeout)

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

    def set_stopped(self) -> None:
        """The session has ended and the group has been left; go on if somebody wanted a start meanwhile."""
        with self._condition:
            if self.state is not State.STOPPING:
                return
            self.machine.set(State.STOPPED)
            if self._wanted is _Wanted.RUNNING:
                self.machine.set(State.STARTING)
