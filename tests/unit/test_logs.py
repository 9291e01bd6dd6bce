"""Log lines: what users raise, and give to be logged, can't break the thread that logs it."""

from __future__ import annotations

import logging
import threading

import pytest

from dp_kafka.errors import DpKafkaError
from dp_kafka.logs import log_error, log_event, log_still_running
from tests.waiting import Logged, fields


class NoText(Exception):
    """Its author made a mistake in __str__."""

    def __str__(self) -> str:
        raise RuntimeError("a mistake")


class NoRepr:
    def __repr__(self) -> str:
        raise ValueError("a mistake")


def test_an_error_without_a_text_is_logged_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    log_error(logging.getLogger("test"), "handling failed", NoText())
    (record,) = caplog.records
    text = "<NoText, whose str() raised RuntimeError>"
    assert text in record.getMessage()
    assert record.__dict__["dp_kafka"]["error"] == text


def test_a_filter_that_fails_ends_nobody_who_logs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would end the thread of a client; it is told as logging tells of its own handlers."""

    def fails(record: logging.LogRecord) -> bool:
        raise LookupError("a filter of the user's")

    logger = logging.getLogger("test")
    monkeypatch.setattr(logger, "filters", [fails])
    log_event(logger, logging.WARNING, "went wrong", {})
    log_error(logger, "went wrong", ValueError())
    assert capsys.readouterr().err.count("LookupError: a filter of the user's") == 2
    monkeypatch.setattr(logging, "raiseExceptions", False)
    log_event(logger, logging.WARNING, "went wrong", {})
    assert capsys.readouterr().err == ""


def test_a_field_without_a_repr_is_logged_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log_error(logging.getLogger("test"), "x", DpKafkaError("y", log_data={"mine": NoRepr()}))
    log_event(logging.getLogger("test"), logging.INFO, "z", {"mine": NoRepr()})
    for record in caplog.records:
        assert "mine=<NoRepr, whose repr() raised ValueError>" in record.getMessage()
    assert len(caplog.records) == 2


def test_a_thread_that_has_ended_meanwhile_is_not_told_as_running(logged: Logged) -> None:
    ended = threading.Thread(target=lambda: None, name="ended")
    ended.start()
    ended.join()
    log_still_running(logging.getLogger("dp_kafka.test"), [ended, threading.current_thread()], {})
    assert [fields(each)["thread"] for each in logged.of("still running")] == [
        threading.current_thread().name
    ]
