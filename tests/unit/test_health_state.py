"""Status and CheckState: what a check has said, as a user and as the health document see it."""

from __future__ import annotations

import datetime
import json
import threading

import pytest

from dp_kafka.health import CheckState, Status
from dp_kafka.health.status import worst

T0 = datetime.datetime(2024, 5, 1, 12, 0, 0, 123456, tzinfo=datetime.timezone.utc)


class Clock:
    """A time of day that the test moves on."""

    def __init__(self) -> None:
        self.now = T0

    def __call__(self) -> datetime.datetime:
        return self.now

    def forward(self, seconds: float) -> datetime.datetime:
        self.now += datetime.timedelta(seconds=seconds)
        return self.now


def test_a_status_is_its_text() -> None:
    assert Status.OK == "OK"
    assert [str(status) for status in Status] == ["OK", "WARNING", "CRITICAL"]
    assert json.dumps(list(Status)) == '["OK", "WARNING", "CRITICAL"]'
    assert Status("WARNING") is Status.WARNING


def test_the_worst_status_counts_and_none_is_ok() -> None:
    assert worst([]) is Status.OK
    assert worst([Status.OK, Status.WARNING]) is Status.WARNING
    assert worst([Status.CRITICAL, Status.OK, Status.WARNING]) is Status.CRITICAL


def test_a_new_state_has_said_nothing() -> None:
    state = CheckState("kafka producer")
    assert state.name == "kafka producer"
    assert state.status is None
    assert (state.message, state.status_code) == ("", 0)
    assert (state.last_checked, state.last_success, state.last_failure) == (None, None, None)
    assert "not checked yet" in repr(state)


def test_the_name_is_kafka_when_none_is_given() -> None:
    assert CheckState().name == "Kafka"


def test_an_update_records_when_it_was_checked_and_when_it_last_went_well_or_badly() -> None:
    clock = Clock()
    state = CheckState("x", now=clock)
    state.update(Status.OK, "fine")
    assert (state.status, state.message) == (Status.OK, "fine")
    assert (state.last_checked, state.last_success, state.last_failure) == (T0, T0, None)
    bad = clock.forward(30)
    state.update("CRITICAL", "broken", 503)
    assert (state.status, state.message, state.status_code) == (Status.CRITICAL, "broken", 503)
    assert (state.last_checked, state.last_success, state.last_failure) == (bad, T0, bad)
    shaky = clock.forward(30)
    state.update(Status.WARNING, "shaky")
    assert (state.last_checked, state.last_success, state.last_failure) == (shaky, T0, shaky)
    well = clock.forward(30)
    state.update(Status.OK, "fine again")
    assert (state.last_checked, state.last_success, state.last_failure) == (well, well, shaky)
    assert state.status_code == 0


@pytest.mark.parametrize("status", ["ok", "", None, 1, "BAD"])
def test_an_unknown_status_is_refused_and_changes_nothing(status: object) -> None:
    state = CheckState("x")
    state.update(Status.OK, "fine")
    before = state.snapshot
    with pytest.raises(ValueError, match="must be one of OK, WARNING, CRITICAL"):
        state.update(status, "?")  # type: ignore[arg-type]
    assert state.snapshot is before


def test_the_document_has_the_fields_of_onss_dp_healthcheck() -> None:
    clock = Clock()
    state = CheckState("kafka", now=clock)
    state.update(Status.OK, "fine")
    clock.forward(1)
    state.update(Status.WARNING, "shaky", 429)
    assert json.loads(json.dumps(state.to_dict())) == {
        "name": "kafka",
        "status": "WARNING",
        "status_code": 429,
        "message": "shaky",
        "last_checked": "2024-05-01T12:00:01.123456Z",
        "last_success": "2024-05-01T12:00:00.123456Z",
        "last_failure": "2024-05-01T12:00:01.123456Z",
    }


def test_the_document_leaves_out_a_status_code_of_zero() -> None:
    state = CheckState("kafka")
    state.update(Status.OK, "fine")
    assert "status_code" not in state.to_dict()
    assert state.to_dict()["last_failure"] is None


def test_a_reader_never_sees_half_of_an_update() -> None:
    state = CheckState("x")
    state.update(Status.OK, "OK")
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            for status in Status:
                state.update(status, status.value)

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    try:
        for _ in range(20_000):
            seen = state.snapshot
            assert seen.status == seen.message
    finally:
        stop.set()
        for writer in writers:
            writer.join(10)


def test_whoever_listens_hears_of_each_update_outside_the_lock() -> None:
    state = CheckState("x")
    heard: list[Status | None] = []

    def listen() -> None:
        heard.append(state.status)
        if len(heard) == 1:
            state.update(Status.CRITICAL, "from within")

    state.on_update = listen
    state.update(Status.OK, "fine")
    assert heard == [Status.OK, Status.CRITICAL]
