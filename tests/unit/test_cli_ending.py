"""How a command ends by a signal: whatever its main thread is in the middle of."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType
from typing import Any

import pytest

from dp_kafka.cli.commands.ending import SignalEvent, ending
from tests.waiting import PATIENCE, in_thread


def test_a_signal_on_top_of_any_step_of_a_wait_ends_it() -> None:
    """Sent at every line that runs in wait(), one after another: none holds what the handler needs."""
    for step in range(1, 50):
        with ending() as asked:
            steps = 0

            def count(_frame: FrameType, event: str, _argument: Any, step: int = step) -> Any:
                nonlocal steps
                if event == "line":
                    steps += 1
                    if steps == step:
                        signal.raise_signal(signal.SIGINT)
                return count

            before = sys.gettrace()
            sys.settrace(count)
            try:
                asked.asked.wait(0.01)
            finally:
                sys.settrace(before)
            if steps < step:
                assert step > 2, "no line of wait() was interrupted: the test shows nothing"
                return
            assert asked.asked.is_set()
            assert asked.code == 130
    raise AssertionError("wait() goes on and on")


def test_the_event_wakes_who_waits_in_another_thread() -> None:
    event = SignalEvent()
    assert not event.wait(0.01)
    entered = threading.Event()

    def wait() -> bool:
        entered.set()
        return event.wait(PATIENCE)

    waiting = in_thread(wait)
    assert entered.wait(PATIENCE)
    event.set()
    assert waiting.result(PATIENCE)
    assert event.is_set()
    assert event.wait(0)
    event.close()


def test_the_second_signal_insists() -> None:
    with ending() as asked:
        signal.raise_signal(signal.SIGTERM)
        assert asked.code == 143
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
