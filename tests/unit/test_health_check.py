"""HealthCheck: checks that run by themselves, on threads of their own, and what the service says of them."""

from __future__ import annotations

import datetime
import json
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dp_kafka.errors import ForkedError, HealthCheckError
from dp_kafka.health import CheckState, HealthCheck, Status, VersionInfo
from tests.looking import eventually
from tests.waiting import PATIENCE


@pytest.fixture
def health_check() -> Iterator[Callable[..., HealthCheck]]:
    """Makes health checks that the test's end stops."""
    made: list[HealthCheck] = []

    def make(*args: Any, **options: Any) -> HealthCheck:
        health = HealthCheck(*args, **options)
        made.append(health)
        return health

    yield make
    for health in made:
        assert health.stop(PATIENCE)


class Said:
    """A check that says what the test wants, and tells how often it was asked."""

    def __init__(self, status: Status = Status.OK, message: str = "as the test says") -> None:
        self.status = status
        self.message = message
        self.runs = 0
        self._ran = threading.Condition()

    def __call__(self, state: CheckState) -> None:
        state.update(self.status, self.message)
        with self._ran:
            self.runs += 1
            self._ran.notify_all()

    def wait_runs(self, count: int) -> None:
        with self._ran:
            assert self._ran.wait_for(lambda: self.runs >= count, PATIENCE)

    def again(self) -> None:
        """Wait until it has run from beginning to end since now."""
        self.wait_runs(self.runs + 2)


def test_checks_run_at_once_and_then_again_and_again(health_check: Any) -> None:
    check = Said()
    health = health_check(interval=0.01)
    health.add_check("x", check)
    health.start()
    check.wait_runs(3)


def test_an_interval_is_kept_within_its_jitter(health_check: Any) -> None:
    for rand, wanted in ((0.0, 19.0), (0.5, 20.0), (1.0, 21.0)):
        health = health_check(interval=20.0, jitter=0.05, rand=lambda rand=rand: rand)
        assert health._pause() == pytest.approx(wanted)


def test_the_overall_status_is_the_worst(health_check: Any) -> None:
    well, shaky = Said(), Said(Status.WARNING)
    health = health_check(interval=0.01)
    health.add_check("a", well)
    assert health.status is Status.WARNING, "not checked yet"
    health.start()
    eventually(lambda: health.status, Status.OK)
    health.add_check("b", shaky)
    eventually(lambda: [check["status"] for check in health.to_dict()["checks"]], ["OK", "WARNING"])
    assert health.status is Status.WARNING


def test_without_checks_all_is_well(health_check: Any) -> None:
    health = health_check()
    health.start()
    assert health.status is Status.OK


def test_critical_shows_as_warning_until_its_grace_is_over(health_check: Any) -> None:
    now = 1000.0
    check = Said()
    health = health_check(interval=0.005, critical_timeout=90, clock=lambda: now)
    health.add_check("x", check)
    health.start()
    check.again()
    check.status = Status.CRITICAL
    check.again()
    assert health.status is Status.WARNING
    assert health.to_dict()["checks"][0]["status"] == "CRITICAL"
    now += 91
    assert health.status is Status.CRITICAL
    check.status = Status.OK
    check.again()
    assert health.status is Status.OK


def test_a_hanging_check_shows_and_stops_no_other(health_check: Any) -> None:
    go_on = threading.Event()
    entered = threading.Event()
    other = Said()

    def hang(state: CheckState) -> None:
        state.update(Status.OK, "fine so far")
        entered.set()
        go_on.wait(PATIENCE)

    health = health_check(interval=0.01, check_timeout=0.05, critical_timeout=0)
    health.add_check("hangs", hang)
    health.add_check("other", other)
    began = time.monotonic()
    try:
        health.start()
        assert entered.wait(PATIENCE)
        # Of this one, as the other may be late too.
        eventually(lambda: health.to_dict()["checks"][0]["status"], "CRITICAL")
        eventually(lambda: health.status, Status.CRITICAL)
        found = health.to_dict()["checks"][0]
        assert found["status"] == "CRITICAL"
        said = re.match(r"the check has not ended for (\d+) seconds", found["message"])
        assert said
        assert int(said[1]) <= round(time.monotonic() - began)
        other.again()
    finally:
        go_on.set()
    eventually(lambda: health.status, Status.OK)


@pytest.mark.parametrize("error", [RuntimeError("postgres://user:secret@host"), SystemExit(1)])
def test_a_check_that_raises_is_critical_and_runs_again(
    health_check: Any, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """The document names the type alone: it is open to the network, and the text may not be."""
    runs = Said()

    def fail(state: CheckState) -> None:
        runs(CheckState())
        raise error

    health = health_check(interval=0.01)
    health.add_check("x", fail)
    health.start()
    runs.again()
    (found,) = health.to_dict()["checks"]
    assert found["status"] == "CRITICAL"
    assert found["message"] == f"the check failed with {type(error).__name__}, see the log"
    assert "secret" not in json.dumps(health.to_dict())
    assert any(record.exc_info and record.exc_info[1] is error for record in caplog.records)


def test_a_check_that_says_nothing_is_a_warning(health_check: Any) -> None:
    health = health_check(interval=0.01)
    health.add_check("x", lambda state: None)
    health.start()
    eventually(lambda: health.to_dict()["checks"][0]["message"], "the check has not updated its state")
    assert health.status is Status.WARNING


def test_the_document_is_that_of_onss_dp_healthcheck(health_check: Any) -> None:
    now = 500.0
    start = datetime.datetime(2024, 5, 1, 12, 0, tzinfo=datetime.timezone.utc)
    version = VersionInfo("1.2.3", git_commit="abc", build_time=start)
    health = health_check(version, clock=lambda: now, now=lambda: start)
    health.add_check("kafka", Said(message="fine"))
    health.start()
    eventually(lambda: health.status, Status.OK)
    now += 12.3456
    document = json.loads(json.dumps(health.to_dict()))
    assert document.pop("version").pop("language_version")
    assert document == {
        "status": "OK",
        "uptime": 12345,
        "start_time": "2024-05-01T12:00:00.000000Z",
        "checks": [
            {
                "name": "kafka",
                "status": "OK",
                "message": "fine",
                "last_checked": "2024-05-01T12:00:00.000000Z",
                "last_success": "2024-05-01T12:00:00.000000Z",
                "last_failure": None,
            }
        ],
    }
    assert health.to_dict()["version"] == {
        "build_time": "2024-05-01T12:00:00.000000Z",
        "git_commit": "abc",
        "language": "python",
        "language_version": health.to_dict()["version"]["language_version"],
        "version": "1.2.3",
    }


def test_a_version_may_be_a_text(health_check: Any) -> None:
    assert health_check("2.0").to_dict()["version"]["version"] == "2.0"


def test_before_its_first_run_a_check_is_shown_as_such(health_check: Any) -> None:
    health = health_check()
    health.add_check("x", Said())
    (found,) = health.to_dict()["checks"]
    assert found["status"] == "WARNING"
    assert found["message"] == "not checked yet"
    assert found["last_checked"] is None


@pytest.mark.parametrize("check", [None, "checker", 3])
def test_what_is_no_check_is_refused(health_check: Any, check: Any) -> None:
    with pytest.raises(HealthCheckError, match="expected a checker"):
        health_check().add_check("x", check)


def test_a_name_is_given_once(health_check: Any) -> None:
    health = health_check()
    health.add_check("x", Said())
    with pytest.raises(HealthCheckError, match="named 'x' already"):
        health.add_check("x", Said())


@pytest.mark.parametrize(
    "options",
    [
        {"interval": 0},
        {"interval": -1},
        {"interval": float("nan")},
        {"interval": "30"},
        {"interval": True},
        {"check_timeout": 0},
        {"critical_timeout": -1},
        {"jitter": 1},
        {"jitter": -0.1},
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(HealthCheckError, match=next(iter(options))):
        HealthCheck(**options)


def test_starting_twice_runs_each_check_once_at_a_time(health_check: Any) -> None:
    inside = 0

    def check(state: CheckState) -> None:
        nonlocal inside
        inside += 1
        assert inside == 1
        state.update(Status.OK, "alone")
        inside -= 1

    runs = Said()
    health = health_check(interval=0.001)
    health.add_check("x", check)
    health.add_check("runs", runs)
    health.start()
    health.start()
    runs.wait_runs(20)
    assert health.to_dict()["checks"][0]["message"] == "alone"
    assert len([t for t in threading.enumerate() if t.name == "dp-kafka:health:x"]) == 1


@pytest.mark.parametrize("started", [0, 1])
def test_threads_that_could_not_be_started_are_started_by_the_next_start(
    health_check: Any, monkeypatch: pytest.MonkeyPatch, started: int
) -> None:
    start, may = threading.Thread.start, [True] * started

    def refuses(thread: threading.Thread) -> None:
        if not may:
            raise RuntimeError("can't start new thread")
        may.pop()
        start(thread)

    runs = Said()
    health = health_check(interval=0.001)
    health.add_check("x", runs)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuses)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            health.start()
    health.start()
    runs.wait_runs(2)
    assert health.stop(PATIENCE)


def test_a_ctrl_c_behind_the_start_of_a_thread_does_not_have_it_started_again(
    health_check: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        if thread.name == "dp-kafka:health:x":
            raise KeyboardInterrupt

    runs = Said()
    health = health_check(interval=0.001)
    health.add_check("x", runs)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            health.start()
    health.start()
    runs.wait_runs(2)
    assert len([t for t in threading.enumerate() if t.name == "dp-kafka:health:x"]) == 1
    assert health.stop(PATIENCE)


def test_stop_ends_the_threads_and_is_final(health_check: Any) -> None:
    health = health_check(interval=60)
    health.add_check("x", Said())
    health.start()
    assert health.stop()
    assert health.stop()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("dp-kafka:health")]
    with pytest.raises(HealthCheckError, match="make a new one"):
        health.start()
    with pytest.raises(HealthCheckError, match="make a new one"):
        health.add_check("y", Said())


def test_stop_does_not_wait_for_a_check_that_hangs(
    health_check: Any, caplog: pytest.LogCaptureFixture
) -> None:
    go_on, entered = threading.Event(), threading.Event()

    def hang_in_here(state: CheckState) -> None:
        entered.set()
        go_on.wait(PATIENCE)

    health = health_check(interval=60)
    health.add_check("x", hang_in_here)
    health.start()
    try:
        assert entered.wait(PATIENCE)
        started = time.monotonic()
        assert health.stop(0.05) is False
        assert time.monotonic() - started < 5
        (record,) = (record for record in caplog.records if record.levelno == logging.ERROR)
        assert "dp-kafka:health:x" in record.getMessage()
        assert "hang_in_here" in record.getMessage()
    finally:
        go_on.set()


def test_a_check_may_stop_the_health_check(health_check: Any) -> None:
    stopped: list[bool] = []
    done = threading.Event()
    health = health_check(interval=60)

    def check(state: CheckState) -> None:
        stopped.append(health.stop())
        done.set()

    health.add_check("x", check)
    health.start()
    assert done.wait(PATIENCE)
    assert stopped == [False]


def test_as_a_context_manager_it_starts_and_stops() -> None:
    check = Said()
    with HealthCheck(interval=0.01) as health:
        health.add_check("x", check)
        check.wait_runs(1)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("dp-kafka:health")]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_child_says_what_to_do_and_does_not_hang(health_check: Any) -> None:
    """Its threads are the parent's, so what it would say in the child would never change again."""
    check = Said()
    health = health_check(interval=0.005)
    health.add_check("x", check)
    health.start()
    check.again()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        answers = []
        for use in (health.start, health.to_dict):
            try:
                use()
                answers.append("nothing")
            except ForkedError as error:
                answers.append("forked" if "after the fork" in str(error) else str(error))
        statuses: list[str] = []
        body = b"".join(health({"REQUEST_METHOD": "GET"}, lambda status, headers: statuses.append(status)))
        answers += [statuses[0], json.loads(body)["status"]]
        os.write(writing, json.dumps(answers).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert json.loads(pipe.read()) == ["forked", "forked", "500 Internal Server Error", "CRITICAL"]
    assert os.waitpid(child, 0)[1] == 0
    check.again()
    assert health.status is Status.OK
