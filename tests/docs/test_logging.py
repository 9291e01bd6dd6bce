"""docs/logging.md lists the events that the library logs: all, and no others, with levels and fields."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

import pytest

from .logevents import Event, Source
from .pages import ROOT

PAGE = ROOT / "docs" / "logging.md"

#: What passes librdkafka's own lines on, which are its text.
PASSES_ON = {"dp_kafka/groupmember.py"}
_ROW = re.compile(r"^\| `(?P<event>[^`]+)`(?P<mark> [†‡])? \| (?P<rest>.*) \|$")
_LOGGER = re.compile(r"^## (dp_kafka\..*)$")


@dataclass(frozen=True)
class Row:
    """A line of the page's tables."""

    event: str
    loggers: tuple[str, ...]
    levels: frozenset[str]
    fields: frozenset[str]
    meaning: str
    advice: str
    mark: str


@functools.cache
def rows() -> list[Row]:
    found: list[Row] = []
    loggers: tuple[str, ...] = ()
    for line in PAGE.read_text().splitlines():
        heading = _LOGGER.match(line)
        if heading is not None:
            loggers = tuple(heading[1].split(", "))
        row = _ROW.match(line)
        if row is None:
            continue
        levels, fields, meaning, advice = (cell.strip() for cell in row["rest"].split("|"))
        found.append(
            Row(
                row["event"],
                loggers,
                frozenset(levels.split(", ")),
                frozenset(re.findall(r"`([^`]+)`", fields)),
                meaning,
                advice,
                (row["mark"] or "").strip(),
            )
        )
    return found


@functools.cache
def events() -> dict[tuple[str, str], Event]:
    return Source().events()


def row_of(event: Event) -> Row:
    found = [row for row in rows() if row.event == event.text and event.logger in row.loggers]
    where = f"{event.places[0]} logs {event.text!r} by {event.logger}"
    assert len(found) == 1, f"{where}: docs/logging.md has {len(found)} rows for it"
    return found[0]


def test_the_page_lists_every_event_of_the_library() -> None:
    for event in events().values():
        row_of(event)


def test_the_page_lists_no_event_that_there_is_not() -> None:
    listed = {(row.event, row.loggers) for row in rows()}
    logged = {(event, row.loggers) for logger, event in events() for row in rows() if logger in row.loggers}
    assert listed <= logged, f"nothing logs {sorted(event for event, _ in listed - logged)}"


# Row by row, so that to collect the tests does not cost reading the source.
@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{', '.join(row.loggers)}: {row.event}")
def test_levels_and_fields_of_an_event_are_as_the_page_says(row: Row) -> None:
    logged = [event for event in events().values() if event.text == row.event and event.logger in row.loggers]
    assert logged
    for event in logged:
        assert row.levels == event.levels
        # Those that come out of an exception's log_data cannot be told from the source; all others can.
        missing = event.fields - row.fields
        assert not missing, f"{event.places}: not on the page: {missing}"
    assert row.meaning
    assert row.advice


def test_an_event_that_logs_an_exception_is_marked() -> None:
    """† stands where log_error logs, ‡ where the stack of another thread is given."""
    by_error = {row_of(event).event for event in events().values() if event.function == "log_error"}
    by_stack = {row_of(event).event for event in events().values() if event.has_stack}
    assert {row.event for row in rows() if row.mark == "†"} == by_error
    assert {row.event for row in rows() if row.mark == "‡"} == by_stack


def test_nothing_is_logged_that_is_no_event() -> None:
    others = Source().other_lines(lambda name: name in PASSES_ON)
    assert others == [], f"use log_event or log_error of dp_kafka.logs: {others}"
