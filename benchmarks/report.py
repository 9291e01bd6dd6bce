"""What the benchmarks found, as text, JSON and Markdown. Pure but for `machine`."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import confluent_kafka

from benchmarks.pairs import Row

__all__ = ["machine", "markdown", "number", "text"]

_HEAD = ("case", "the plain loop", "ours", "plain", "ours / plain", "min to max", "bar", "")


def number(value: float) -> str:
    """A figure with as many digits as mean something."""
    if abs(value) >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.2f}"


def _cells(row: Row) -> tuple[str, ...]:
    sign = "+" if row.kind == "difference" else ""
    low, high = row.spread
    if row.bar is None:
        bar, verdict = "", ""
    else:
        least = {"ratio": "at least ", "difference": "at most +", "value": "at most "}[row.kind]
        bar, verdict = f"{least}{row.bar:g}", "met" if row.met else "MISSED"
    alone = row.kind == "value"
    return (
        row.title,
        row.theirs_title,
        f"{number(row.ours)} {row.unit}",
        "" if row.theirs is None else f"{number(row.theirs)} {row.unit}",
        "" if alone else f"{row.compared:{sign}.2f}",
        "" if alone else f"{low:{sign}.2f} to {high:{sign}.2f}",
        bar,
        verdict,
    )


def text(rows: Iterable[Row]) -> str:
    """The table for a terminal."""
    lines = [_HEAD, *(_cells(row) for row in rows)]
    # What the plain loop does stands in the page; a terminal has no room for it.
    shown = [(line[0], *line[2:]) for line in lines]
    widths = [max(len(line[column]) for line in shown) for column in range(len(shown[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in shown
    )


def markdown(rows: Iterable[Row]) -> str:
    """The table for the page."""
    return _markdown_table(_HEAD, [_cells(row) for row in rows])


def _markdown_table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rule = ["---"] * len(head)
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *lines))


def machine() -> dict[str, Any]:
    """Where it was measured."""
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return {
        "python": platform.python_version(),
        "confluent_kafka": confluent_kafka.version()[0] if callable(confluent_kafka.version) else "",
        "librdkafka": confluent_kafka.libversion()[0],
        "platform": f"{platform.system()} {platform.machine()}",
        "cores": len(cores),
        "switch_interval": sys.getswitchinterval(),
    }
