"""A signal handler that closes a client on top of a wait for one of its events hung, and with it the client.

The lock of a `threading.Event` is not reentrant: the handler's own wait waited for it, and the closing thread
did, too, when it came to set the event.
"""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

from dp_kafka.channels import LockFreeEvent, Signal
from tests.conftest import GroupFactory, ProducerFactory, TopicFactory
from tests.waiting import PATIENCE, in_thread

#: Seconds that a wait takes which nothing ends: its last lines come only then.
LONG = 0.2

# The defect is a main thread that waits for ever: this ends the test with it, and not the whole run.
pytestmark = pytest.mark.timeout(4 * PATIENCE, method="signal")


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """The signal does what it did before when a test is over."""
    before = signal.getsignal(signal.SIGUSR1)
    yield
    signal.signal(signal.SIGUSR1, before)


class Interrupted:
    """Sends a signal at one line, counted from 1, of the waits for an event, and of what those call."""

    def __init__(self, event: threading.Event, step: int) -> None:
        self._objects = (event, getattr(event, "_cond", None))
        self._step = step
        self._steps = 0
        #: When the signal was sent, in seconds since the call began.
        self.after = math.inf

    @property
    def came(self) -> bool:
        """Whether there was such a line."""
        return self._steps >= self._step

    def __call__(self, call: Callable[[], Any]) -> Any:
        """Make the call that waits."""
        before, self._began = sys.gettrace(), time.monotonic()
        sys.settrace(self._trace)
        try:
            return call()
        finally:
            sys.settrace(before)

    def _trace(self, frame: FrameType, what: str, _argument: Any) -> Any:
        if not any(frame.f_locals.get("self") is each for each in self._objects):
            return None
        if what == "line" and not self.came:
            self._steps += 1
            if self.came:
                self.after = time.monotonic() - self._began
                signal.raise_signal(signal.SIGUSR1)
        return self._trace


@pytest.mark.parametrize("make", [LockFreeEvent, Signal])
@pytest.mark.parametrize("who", ["the handler", "another thread"])
def test_a_signal_handler_waits_on_top_of_any_step_of_a_wait(make: Callable[[], Any], who: str) -> None:
    """At every line of it, one after another; the event is set meanwhile, and both waits see that."""
    for step in range(1, 50):
        event, seen = make(), []

        def handler(*_: object, event: Any = event, seen: list[bool] = seen) -> None:
            seen.append(event.wait(0))
            if who == "the handler":
                event.set()
                seen.append(event.wait())
            else:
                setting = in_thread(event.set)
                seen.append(event.wait(PATIENCE))
                setting.result(PATIENCE)

        signal.signal(signal.SIGUSR1, handler)
        interrupted = Interrupted(event, step)
        found = interrupted(lambda event=event: event.wait(LONG))
        if not interrupted.came:
            assert step > 5, "no line of wait() was interrupted: the test shows nothing"
            return
        assert seen == [False, True]
        assert found or interrupted.after >= LONG, f"the wait did not see what came at line {step}"
    raise AssertionError("wait() goes on and on")


def test_an_event_that_was_taken_back_is_waited_for_again() -> None:
    event = LockFreeEvent()
    event.set()
    assert event.wait(0)
    event.clear()
    assert not event.is_set()
    assert not event.wait(0)
    assert not event.wait(-1)
    assert not event.wait(0.01)
    waiting = [in_thread(event.wait) for _ in range(3)]
    event.set()
    event.set()
    assert [each.result(PATIENCE) for each in waiting] == [True] * 3


def closes_on_a_signal(make: Callable[[], Any], wait: Callable[[Any], object]) -> None:
    """The handler of a signal closes, at each of the first lines of a wait for `closed`: a client for each.

    Those are the lines before the one that waits.
    """
    for step in range(1, 6):
        client, left, came = make(), [], LockFreeEvent()
        close = client._closer._close

        def held(close: Callable[[], None] = close, came: LockFreeEvent = came) -> None:
            # Else it may be closed before the wait for that has come so far.
            came.wait(PATIENCE)
            close()

        def handler(*_: object, client: Any = client, left: list[int] = left, came: Any = came) -> None:
            came.set()
            left.append(client.close(timeout=PATIENCE))

        client._closer._close = held
        signal.signal(signal.SIGUSR1, handler)
        Interrupted(client.channels.closed, step)(lambda client=client: wait(client))
        assert left == [0], f"line {step}"
        assert client.channels.closed.is_set()


WAITS: dict[str, Callable[[Any], object]] = {
    "the user's wait": lambda client: client.channels.closed.wait(LONG),
    "a close": lambda client: client.close(),
}


@pytest.mark.parametrize("wait", WAITS)
def test_a_signal_handler_closes_a_group_on_top_of_a_wait_for_its_end(
    topic: TopicFactory, consumer_group: GroupFactory, wait: str
) -> None:
    name = topic()
    closes_on_a_signal(lambda: consumer_group(name), WAITS[wait])


@pytest.mark.parametrize("wait", WAITS)
def test_a_signal_handler_closes_a_producer_on_top_of_a_wait_for_its_end(
    topic: TopicFactory, producer: ProducerFactory, wait: str
) -> None:
    name = topic()
    closes_on_a_signal(lambda: producer(name), WAITS[wait])
