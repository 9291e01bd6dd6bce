"""What commands write: tables for people, JSON for scripts, numbers and texts that fit."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, JustifyMethod
from rich.table import Table
from rich.text import Text

__all__ = ["Rows", "console", "counted", "notes", "write_json", "write_line"]

#: Columns where nobody says how wide the output is, as in a pipe or a log.
WIDTH = 100
#: Blanks between columns, and the fewest characters that are left of a name.
_GAP, _SHORTEST = 2, 10


def console() -> Console:
    """Standard output, for people."""
    made = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    if not made.is_terminal:
        made.width = max(made.width, WIDTH)
    return made


def notes() -> Console:
    """Standard error: progress and remarks, which are no part of the result."""
    return Console(file=sys.stderr, highlight=False, markup=False, emoji=False)


class Rows:
    """A plain table that fits into the width there is: names are cut for it, numbers never are.

    The columns of `numbers` stand right. Rendered by rich.
    """

    def __init__(self, *columns: str, numbers: Sequence[str] = ()) -> None:
        self._columns = columns
        self._numbers = set(numbers)
        self._rows: list[tuple[list[Text], str]] = []

    def add(self, *cells: str | Text, style: str = "") -> None:
        """Add a row."""
        self._rows.append(([Text(cell) if isinstance(cell, str) else cell for cell in cells], style))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, _GAP, 0, 0))
        for name, width in zip(self._columns, self._widths(options.max_width), strict=True):
            justify: JustifyMethod = "right" if name in self._numbers else "left"
            table.add_column(name, justify=justify, no_wrap=True, overflow="ellipsis", width=width)
        for cells, style in self._rows:
            table.add_row(*cells, style=style)
        yield table

    def _widths(self, available: int) -> list[int]:
        widths = [
            max([len(name), *(cells[index].cell_len for cells, _ in self._rows)])
            for index, name in enumerate(self._columns)
        ]
        excess = sum(widths) + _GAP * (len(widths) - 1) - available
        names = [index for index, name in enumerate(self._columns) if name not in self._numbers]
        for index in sorted(names, key=lambda index: -widths[index]):
            cut = max(0, min(excess, widths[index] - _SHORTEST))
            widths[index] -= cut
            excess -= cut
        return widths


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
