"""Runs: a worker counts without a lock what others read under one, and every schedule of the two is right.

The worker takes its steps exactly while somebody who ends the run is looking at its count: the moments that
a switch of threads hits once in a million messages.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from dp_kafka import Message, Ordering
from dp_kafka.consumer import lane as lane_module
from dp_kafka.consumer.lane import Lane, LanePhase
from dp_kafka.consumer.runs import Run
from dp_kafka.consumer.session import Session
from dp_kafka.consumer.workers import Worker
from tests.lanes import new_session, open_lane, raws
from tests.waiting import PATIENCE

MESSAGES = 8
#: How long a step of the worker may take before the one who looks goes on: it waits for the lane's lock then.
STEP_SECONDS = 0.05


class Steps:
    """Lets a worker's handler go through its messages one at a time."""

    def __init__(self) -> None:
        self.entered: list[Message] = []
        self._allowed = 0
        self._condition = threading.Condition()
        #: At which look of another thread at the count of a run the worker takes a step; None: at none.
        self.at_look: int | None = None
        self._looks = 0
        self.worker: Worker | None = None

    def handler(self, _worker_id: int, message: Message) -> None:
        with self._condition:
            self.entered.append(message)
            number = len(self.entered)
            self._condition.notify_all()
            assert self._condition.wait_for(lambda: self._allowed >= number, PATIENCE)

    def wait_entered(self, count: int, timeout: float = PATIENCE) -> bool:
        with self._condition:
            return self._condition.wait_for(lambda: len(self.entered) >= count, timeout)

    def allow(self, count: int) -> None:
        """Let the handler return from its first `count` messages."""
        with self._condition:
            self._allowed = max(self._allowed, count)
            self._condition.notify_all()

    def looked(self) -> None:
        """Somebody has read a run's count, and goes on when the worker has taken a step, if it can."""
        if threading.current_thread() is self.worker or self.at_look is None:
            return
        self._looks += 1
        if self._looks > self.at_look:
            self.at_look = None
            entered = len(self.entered)
            self.allow(entered)
            self.wait_entered(entered + 1, STEP_SECONDS)


class LookedAt(Run):
    """A run that tells when its count is read."""

    __slots__ = ("written",)
    steps: Steps

    @property
    def done(self) -> int:
        written = self.written
        self.steps.looked()
        return written

    @done.setter
    def done(self, value: int) -> None:
        self.written = value


class Scene:
    """A lane with messages, and a worker in the middle of a run, in the hand of `steps`."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps
        self.session: Session = new_session()
        self.lane: Lane = open_lane(self.session)
        self.deaths: list[BaseException] = []
        self.worker = steps.worker = Worker(
            1,
            "topic",
            steps.handler,
            self.session.upstream,
            lambda _worker, error: self.deaths.append(error),
            durable=False,
        )
        self.worker._run_length = 5
        self.lane.add(raws(*range(MESSAGES)))
        self.worker.start()

    def offsets(self) -> list[int]:
        return [message.offset for message in self.steps.entered]


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], Scene]]:
    """Makes the scene: the worker is in its third message, and takes a step at the given look."""
    scenes: list[Scene] = []

    def make(at_look: int) -> Scene:
        steps = Steps()
        monkeypatch.setattr(LookedAt, "steps", steps, raising=False)
        monkeypatch.setattr(lane_module, "Run", LookedAt)
        made = Scene(steps)
        scenes.append(made)
        steps.allow(2)
        assert steps.wait_entered(3)
        assert made.lane.run is not None, "no run is under way: the test would show nothing"
        steps.at_look = at_look
        return made

    yield make
    for made in scenes:
        made.steps.allow(MESSAGES)
        made.session.upstream.close()
        made.worker.join(PATIENCE)
        assert not made.worker.is_alive()
        assert made.deaths == []


looks = pytest.mark.parametrize("at_look", range(5))


@contextmanager
def finished(scene: Scene) -> Iterator[None]:
    """Everything is handled once, in its order, and in the books, once the block has let the worker go on."""
    yield
    scene.steps.allow(MESSAGES)
    assert scene.steps.wait_entered(MESSAGES), f"{scene.lane} stands still after {scene.offsets()}"
    scene.session.upstream.close()
    scene.worker.join(PATIENCE)
    assert scene.offsets() == list(range(MESSAGES))
    point = scene.lane.commit_point()
    assert point is not None
    assert (point.offset, point.metadata) == (MESSAGES, "")
    assert scene.lane.in_hand == 0
    assert len(scene.lane.offsets) == 0


@looks
def test_a_commit_counts_what_is_finished_while_the_worker_goes_on(
    scene: Callable[[int], Scene], at_look: int
) -> None:
    made = scene(at_look)
    with finished(made):
        point = made.lane.commit_point()
        assert point is not None
        assert point.offset <= len(made.steps.entered), "a commit passed a message that is not finished"


@looks
def test_a_run_that_others_end_goes_on_where_it_ended(scene: Callable[[int], Scene], at_look: int) -> None:
    """As a batch handler's registration does it, and whatever else is out of the ordinary."""
    made = scene(at_look)
    with finished(made):
        with made.lane._lock:
            made.lane._leave_run_locked()
        made.steps.at_look = None


@pytest.mark.parametrize("what", ["mark", "release", "commit_and_release", "upstream_done"])
@looks
def test_a_user_may_settle_a_message_of_a_run_while_its_worker_does(
    scene: Callable[[int], Scene], at_look: int, what: str
) -> None:
    """Another thread settles the message that the handler is about to return from."""
    made = scene(at_look)
    message = made.steps.entered[2]
    with finished(made):
        if what == "upstream_done":
            message.upstream_done.set()
        else:
            getattr(message, what)()
        made.steps.at_look = None
        if what == "release":
            assert message.released


@looks
def test_a_drain_in_the_middle_of_a_run_knows_what_is_in_hand(
    scene: Callable[[int], Scene], at_look: int
) -> None:
    """What the worker has begun is finished and counted; what it has not is left, to be fetched again."""
    made = scene(at_look)
    made.lane.drain()
    made.steps.at_look = None
    assert made.lane.phase is LanePhase.DRAINING
    made.steps.allow(MESSAGES)
    assert made.session.wait_idle([made.lane], PATIENCE)
    made.session.upstream.close()
    made.worker.join(PATIENCE)
    handled = made.offsets()
    assert handled == list(range(len(handled)))
    assert len(handled) <= 5, "messages were begun after the drain"
    point = made.lane.commit_point()
    assert point is not None
    assert (point.offset, point.metadata) == (len(handled), "")
    assert made.lane.in_hand == 0


@looks
def test_what_is_finished_after_its_partition_was_given_up_is_refused(
    scene: Callable[[int], Scene], at_look: int, caplog: pytest.LogCaptureFixture
) -> None:
    made = scene(at_look)
    made.lane.drop()
    made.steps.at_look = None
    point = made.lane.commit_point()
    assert point is not None
    made.steps.allow(MESSAGES)
    made.session.upstream.close()
    made.worker.join(PATIENCE)
    assert made.lane.commit_point() == point, "a commit of a partition that has been given up was counted"
    assert made.lane.in_hand == 0
    refused = [record for record in caplog.records if record.getMessage().startswith("commit refused")]
    assert len(refused) == len(made.offsets()) - point.offset


class FinishedBetweenLooks(Run):
    """A run whose worker finishes its last message between the first look at its count and the second."""

    __slots__ = ("looks",)

    @property
    def done(self) -> int:
        self.looks += 1
        return len(self.messages) - (self.looks == 1)

    @done.setter
    def done(self, value: int) -> None:
        self.looks = 0


@pytest.mark.parametrize("then", ["next_run", "leave_run"])
@pytest.mark.parametrize("what", ["mark", "release"])
def test_a_lane_goes_on_behind_a_run_that_ended_with_its_last_message(
    monkeypatch: pytest.MonkeyPatch, what: str, then: str
) -> None:
    """A user settles the message that the worker is just done with: he offers nothing, as it is settled."""
    monkeypatch.setattr(lane_module, "Run", FinishedBetweenLooks)
    session = new_session()
    lane = open_lane(session)
    lane.add(raws(0, 1, 2))
    run = lane.begin_run(session.upstream.get(block=False), 1)
    assert run is not None
    getattr(run.messages[1], what)()
    assert lane.run is None, "the run goes on: the test shows nothing"
    if then == "next_run":
        assert lane.next_run(run, 5) is None
    else:
        lane.leave_run(run)
    assert lane.in_hand == 0
    assert session.upstream.get(block=False).offset == 2


@pytest.mark.parametrize("count", [1, 2])
def test_a_worker_that_goes_elsewhere_after_a_run_leaves_its_lane_to_others(count: int) -> None:
    """Other partitions wait, and a worker's time with this one is over."""
    session = new_session()
    lane = open_lane(session)
    lane.add(raws(0, 1, 2))
    run = lane.begin_run(session.upstream.get(block=False), count - 1)
    assert run is not None
    run.done = count
    lane.leave_run(run)
    assert lane.in_hand == 0
    assert session.upstream.get(block=False).offset == count


def test_a_look_at_a_run_that_has_done_nothing_since_the_last_moves_no_commit_point() -> None:
    lane = open_lane(new_session())
    lane.add(raws(7, 8, 9))
    run = lane.begin_run(lane.session.upstream.get(block=False), 2)
    assert run is not None
    assert lane.commit_point() is None
    run.done = 1
    point = lane.commit_point()
    assert point is not None
    assert point.offset == 8
    assert lane.commit_point(point.change) is None
    lane.leave_run(run)
    assert lane.commit_point() == point


# -- when no run begins -----------------------------------------------------------------------------


def first_of(lane: Lane) -> Message:
    """The first of a lane's three messages, in hand."""
    lane.add(raws(0, 1, 2))
    return lane.session.upstream.get(block=False)


@pytest.mark.parametrize("ordering", Ordering)
def test_runs_are_for_partitions_in_their_order_alone(ordering: Ordering) -> None:
    lane = open_lane(new_session(ordering))
    run = lane.begin_run(first_of(lane), 5)
    assert (run is not None) is (ordering is Ordering.PARTITION)


def test_no_run_begins_in_a_partition_that_is_about_to_be_given_up() -> None:
    lane = open_lane(new_session())
    message = first_of(lane)
    lane.drain()
    assert lane.begin_run(message, 5) is None
    assert lane.in_hand == 1


def test_no_run_begins_with_a_message_that_somebody_waits_for() -> None:
    """A run sets no events."""
    lane = open_lane(new_session())
    message = first_of(lane)
    assert not message.upstream_done.is_set()
    assert lane.begin_run(message, 5) is None


def test_no_run_begins_where_offsets_are_finished_already() -> None:
    """A run counts its messages as the lowest offsets of the partition, one after the other."""
    lane = open_lane(new_session())
    lane.start_at(0, [1])
    assert lane.begin_run(first_of(lane), 5) is None


def test_no_run_begins_behind_a_message_that_was_released_and_not_finished() -> None:
    lane = open_lane(new_session())
    first_of(lane).release()
    assert lane.begin_run(lane.session.upstream.get(block=False), 5) is None
    assert lane.offsets.blocking == 0
