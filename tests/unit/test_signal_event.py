"""The event that signals set: on top of what the main thread does, for other threads, in forked children."""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest

from dp_kafka.shutdown import SignalEvent
from tests.waiting import PATIENCE, in_thread

#: Seconds that a wait lasts which nothing ends.
LONG = 3.0


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Signals do what they did before when a test is over."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_signal_on_top_of_any_step_of_a_wait_ends_it() -> None:
    """Sent at every line that runs in wait(), one after another: none holds what the handler needs."""
    for step in range(1, 50):
        event = SignalEvent(signal.SIGUSR1)
        steps, sent = 0, 0.0

        def count(_frame: FrameType, what: str, _argument: Any, step: int = step) -> Any:
            nonlocal steps, sent
            if what == "line":
                steps += 1
                if steps == step:
                    sent = time.monotonic()
                    signal.raise_signal(signal.SIGUSR1)
            return count

        before, began = sys.gettrace(), time.monotonic()
        sys.settrace(count)
        try:
            came = event.wait(LONG)
        finally:
            sys.settrace(before)
        if sent >= began + LONG:
            assert step > 4, "no line of wait() was interrupted: the test shows nothing"
            return
        assert came
        assert time.monotonic() < began + LONG, f"the signal at step {step} did not end the wait"
    raise AssertionError("wait() goes on and on")


def test_the_first_signal_is_told_and_further_ones_do_nothing() -> None:
    event = SignalEvent(signal.SIGTERM, signal.SIGUSR1)
    assert event.number is None
    assert repr(event) == "<SignalEvent unset>"
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGUSR1)
    signal.raise_signal(signal.SIGTERM)
    assert event.is_set()
    assert event.number == signal.SIGTERM
    assert repr(event) == "<SignalEvent set>"


def test_it_wakes_all_who_wait_in_other_threads() -> None:
    event = SignalEvent()
    assert not event.wait(0.01)
    assert not event.wait(-1)
    entered = [threading.Semaphore(0) for _ in range(3)]

    def wait(mine: threading.Semaphore) -> bool:
        mine.release()
        return event.wait()

    waiting = [in_thread(lambda mine=mine: wait(mine)) for mine in entered]
    assert all(mine.acquire(timeout=PATIENCE) for mine in entered)
    event.set()
    assert all(each.result(PATIENCE) for each in waiting)
    assert event.wait(0)
    assert event.number is None, "no signal has set it"


def test_select_waits_for_it_together_with_other_input() -> None:
    event = SignalEvent(signal.SIGUSR1)
    reader, writer = os.pipe()
    try:
        assert select.select([event, reader], [], [], 0) == ([], [], [])
        os.write(writer, b"a line\n")
        assert select.select([event, reader], [], [], PATIENCE)[0] == [reader]
        signal.raise_signal(signal.SIGUSR1)
        assert select.select([event, reader], [], [], PATIENCE)[0] == [event, reader]
        assert select.select([event], [], [], 0)[0] == [event], "it stays set"
    finally:
        os.close(reader)
        os.close(writer)


def test_a_descriptor_beyond_the_limit_of_select_will_do() -> None:
    """A service with many connections has descriptors over 1023, which select() refuses."""
    with contextlib.ExitStack() as stack:
        number = -1
        while number < 1024:
            try:
                number = os.open(os.devnull, os.O_RDONLY)
            except OSError:
                pytest.skip("this process may not open as many files")
            stack.callback(os.close, number)
        event = SignalEvent(signal.SIGUSR1)
        assert event.fileno() > 1024
        assert not event.wait(0.01)
        signal.raise_signal(signal.SIGUSR1)
        assert event.wait(PATIENCE)


def test_clear_is_refused() -> None:
    event = SignalEvent()
    event.set()
    with pytest.raises(RuntimeError, match="stays set: make a new one"):
        event.clear()
    assert event.is_set()


def test_signals_are_caught_on_the_main_thread_only() -> None:
    with pytest.raises(ValueError, match="main thread"):
        in_thread(lambda: SignalEvent(signal.SIGUSR1)).result(PATIENCE)
    assert not in_thread(SignalEvent).result(PATIENCE).is_set()


def test_its_descriptors_end_with_it() -> None:
    event = SignalEvent()
    number = event.fileno()
    assert os.fstat(number)
    del event
    gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


FORKED = """
import os, select, signal
from dp_kafka.shutdown import SignalEvent

signal.alarm(30)
ended = SignalEvent(signal.SIGTERM)
reader, writer = os.pipe()

def forked(child):
    pid = os.fork()
    if pid == 0:
        os._exit(child())
    return pid

def code_of(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def readable():
    return select.select([ended], [], [], 0)[0] == [ended]

def waits():
    os.write(writer, b"%8d" % os.getpid())
    return 3 if ended.wait(20) and readable() and ended.number == signal.SIGTERM else 1

child = forked(lambda: code_of(forked(waits)) if not ended.is_set() and not readable() else 2)
os.kill(int(os.read(reader, 8)), signal.SIGTERM)
print("grandchild", code_of(child))
print("parent", ended.is_set(), readable(), ended.wait(0.01))
ended.set()
print("child of a set one", code_of(forked(lambda: 4 if ended.is_set() and readable() else 1)))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_forked_child_has_its_own() -> None:
    """A signal for a child wakes that child, and not its parents; a child of one that is set finds it set."""
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "grandchild 3",
        "parent False False False",
        "child of a set one 4",
    ]
