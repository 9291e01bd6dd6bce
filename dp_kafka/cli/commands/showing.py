"""What commands write: tables for people, JSON for scripts, numbers and texts that fit."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

__all__ = ["console", "counted", "notes", "table", "write_json", "write_line"]

#: Columns where nobody says how wide the output is, as in a pipe or a log.
WIDTH = 100


def console() -> Console:
    """Standard output, for people."""
    made = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    if not made.is_terminal:
        made.width = max(made.width, WIDTH)
    return made


def notes() -> Console:
    """Standard error: progress and remarks, which are no part of the result."""
    return Console(file=sys.stderr, highlight=False, markup=False, emoji=False)


def table(*columns: str, numbers: Sequence[str] = ()) -> Table:
    """A plain table; the columns of `numbers` stand right, and are whole: the first is cut, if need be."""
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for position, name in enumerate(columns):
        made.add_column(
            name,
            justify="right" if name in numbers else "left",
            no_wrap=True,
            overflow="ellipsis",
            min_width=8 if position == 0 else len(name),
            ratio=None,
        )
    return made


def counted(number: int, noun: str) -> str:
    """1 message, 1,000 messages."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def write_json(value: Any) -> None:
    """One JSON document, on one line."""
    write_line(json.dumps(value, ensure_ascii=False))


def write_line(text: str) -> None:
    """One line to standard output, at once: whoever reads a pipe shall not wait for the next."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
