"""What a check's state means at a given instant: grace before CRITICAL, and checks that do not end; pure."""

from __future__ import annotations

from dp_kafka.health import CheckState, Status
from dp_kafka.health.grace import Limits, Reading, read

LIMITS = Limits(critical_timeout=90.0, check_timeout=10.0)


class Scene:
    """A state, and a monotonic clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.state = CheckState("x", clock=lambda: self.now)

    def at(self, now: float, running_since: float | None = None) -> Reading:
        return read(
            self.state.snapshot, running_since=running_since, started_at=1000.0, now=now, limits=LIMITS
        )


def test_before_its_first_run_a_check_is_a_warning() -> None:
    assert Scene().at(1000) == Reading(Status.WARNING, Status.WARNING, "not checked yet", False, None)


def test_ok_and_warning_count_as_what_they_are() -> None:
    scene = Scene()
    for status in (Status.OK, Status.WARNING):
        scene.state.update(status, "so it is")
        assert scene.at(5000) == Reading(status, status, "so it is", True, None)


def test_critical_counts_as_warning_until_the_timeout_has_passed_since_the_last_success() -> None:
    scene = Scene()
    scene.now = 1010
    scene.state.update(Status.OK, "fine")
    scene.now = 1040
    scene.state.update(Status.CRITICAL, "broken")
    assert scene.at(1040) == Reading(Status.CRITICAL, Status.WARNING, "broken", True, 1100.0)
    assert scene.at(1099.9).counted is Status.WARNING
    assert scene.at(1100) == Reading(Status.CRITICAL, Status.CRITICAL, "broken", True, None)


def test_without_any_success_the_grace_begins_with_the_start() -> None:
    scene = Scene()
    scene.state.update(Status.CRITICAL, "broken")
    assert scene.at(1089.9).counted is Status.WARNING
    assert scene.at(1090).counted is Status.CRITICAL


def test_a_success_ends_critical_at_once_and_begins_a_new_grace() -> None:
    scene = Scene()
    scene.state.update(Status.CRITICAL, "broken")
    assert scene.at(2000).counted is Status.CRITICAL
    scene.now = 2000
    scene.state.update(Status.OK, "fine")
    assert scene.at(2000).counted is Status.OK
    scene.now = 2030
    scene.state.update(Status.CRITICAL, "broken again")
    assert scene.at(2030).counted is Status.WARNING


def test_a_check_that_does_not_end_becomes_critical_whatever_it_said_before() -> None:
    scene = Scene()
    scene.state.update(Status.OK, "fine")
    assert scene.at(1105, running_since=1100).status is Status.OK
    assert scene.at(1105, running_since=1100).changes_at == 1110
    hanging = scene.at(1112, running_since=1100)
    assert hanging == Reading(
        Status.CRITICAL, Status.CRITICAL, "the check has not ended for 12 seconds", True, None
    )


def test_a_first_run_that_does_not_end_ends_the_warming_up() -> None:
    scene = Scene()
    assert scene.at(1005, running_since=1000).has_run is False
    assert scene.at(1005, running_since=1000).changes_at == 1010
    hanging = scene.at(1010, running_since=1000)
    assert (hanging.has_run, hanging.status, hanging.counted) == (True, Status.CRITICAL, Status.WARNING)
    assert hanging.changes_at == 1090
