"""A close that runs once, by a deadline that may be brought forward; threads that their first use starts."""

from __future__ import annotations

import threading
from collections.abc import Collection
from typing import Any

import pytest

from dp_kafka.closing import ClosingThread, Deadline
from dp_kafka.threads import OnDemandThread
from tests.waiting import PATIENCE, WatchedCondition, in_thread


class Closing(ClosingThread):
    """One that does what a test says."""

    def __init__(
        self, *, fails: BaseException | None = None, waited_for: threading.Thread | None = None
    ) -> None:
        super().__init__("topic", Deadline())
        self.fails = fails
        self.waited_for = waited_for
        self.told: list[Any] = []
        self.may_go_on = threading.Event()
        self.ended = threading.Event()

    def _waited_for(self) -> Collection[threading.Thread | None]:
        return (self.waited_for,)

    def _refuse(self) -> None:
        self.told.append("refused")

    def _close(self) -> None:
        assert self.may_go_on.wait(PATIENCE)
        if self.fails is not None:
            raise self.fails
        self.told.append("closed")

    def _failed(self, error: BaseException) -> None:
        self.told.append(error)

    def _finish(self) -> None:
        self.told.append("finished")
        self.ended.set()


def test_a_deadline_is_brought_forward_and_never_put_back() -> None:
    deadline = Deadline()
    deadline.bring_forward(None)
    assert not deadline.is_set
    assert deadline.remaining() is None
    assert not deadline.has_passed()
    deadline.bring_forward(0.0)
    deadline.bring_forward(1e9)
    assert deadline.is_set
    assert deadline.remaining() == 0
    assert deadline.has_passed()
    assert not deadline.has_passed(grace=1e9)


def test_who_waits_for_a_deadline_hears_of_an_earlier_one() -> None:
    deadline = Deadline()
    condition = deadline._condition = WatchedCondition()
    waiter = in_thread(lambda: deadline.wait(PATIENCE))
    assert condition.waiting.wait(PATIENCE)
    deadline.bring_forward(0.0)
    waiter.result(PATIENCE / 2)


def test_who_waits_for_a_deadline_waits_no_longer_than_asked() -> None:
    Deadline().wait(0.001)


def test_a_close_runs_once_and_only_its_first_call_announces_it() -> None:
    closing = Closing()
    announced = []
    assert closing.begin(None, lambda: announced.append(1))
    assert not closing.begin(None, lambda: announced.append(2))
    closing.may_go_on.set()
    closing.join(PATIENCE)
    closing.run()
    assert closing.told == ["closed", "finished"]
    assert announced == [1]
    assert closing.begun


def test_an_announcement_that_fails_leaves_the_close_to_the_next_call() -> None:
    """As a Ctrl-C in the middle of it does."""
    closing = Closing()
    closing.may_go_on.set()

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        closing.begin(None, interrupted)
    assert closing.begin(None)
    assert closing.ended.wait(PATIENCE)


@pytest.mark.parametrize("error", [ValueError("ours"), SystemExit(1)])
def test_the_end_is_told_though_the_close_fails(error: BaseException) -> None:
    closing = Closing(fails=error)
    closing.may_go_on.set()
    closing.begin(None)
    assert closing.ended.wait(PATIENCE)
    assert closing.told == [error, "finished"]


def test_where_no_thread_can_be_started_the_caller_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    closing = Closing()
    closing.may_go_on.set()
    monkeypatch.setattr(threading.Thread, "start", _refuses)
    assert closing.begin(None)
    assert closing.told == ["closed", "finished"]
    assert closing.runner is threading.current_thread()


def test_a_thread_that_the_close_waits_for_does_not_close_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would wait for its own end."""
    closing = Closing(waited_for=threading.current_thread())
    monkeypatch.setattr(threading.Thread, "start", _refuses)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        closing.begin(None)
    assert closing.told == ["refused"]
    monkeypatch.undo()
    closing.may_go_on.set()
    assert closing.begin(None), "the next call closes"
    assert closing.ended.wait(PATIENCE)


def test_a_close_that_is_begun_again_behind_its_start_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ctrl-C just behind the start of its thread; then a thread calls that it waits for."""
    closing = Closing(waited_for=threading.current_thread())
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            closing.begin(None)
    assert closing.begin(None)
    closing.may_go_on.set()
    assert closing.ended.wait(PATIENCE)
    assert closing.told == ["closed", "finished"]


def _refuses(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_a_thread_is_started_by_its_first_use_only_and_not_once_it_is_unwanted() -> None:
    made: list[threading.Thread] = []
    wanted = True

    def make() -> threading.Thread:
        made.append(threading.Thread(target=int, name="on demand"))
        return made[-1]

    on_demand = OnDemandThread(make, wanted=lambda: wanted)
    assert on_demand.thread is None
    on_demand.start()
    on_demand.start()
    assert made == [on_demand.thread]
    made[0].join(PATIENCE)
    wanted = False
    unwanted = OnDemandThread(make, wanted=lambda: wanted)
    unwanted.start()
    assert unwanted.thread is None
    assert len(made) == 1


def test_a_thread_that_could_not_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    on_demand = OnDemandThread(lambda: threading.Thread(target=int, name="on demand"), wanted=lambda: True)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", _refuses)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            on_demand.start()
    assert on_demand.thread is None
    on_demand.start()
    assert on_demand.thread is not None
    on_demand.thread.join(PATIENCE)
