"""Journals: the append-only files into which each process of a run writes what it does, an event a line."""

from __future__ import annotations

import gzip
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["Event", "Journal", "read", "read_all"]

#: One line: when it was written ("at", `time.monotonic()`, the same clock for all processes of a machine),
#: "what" happened, and its fields.
Event = dict[str, Any]

_SUFFIX = ".jsonl"


class Journal:
    """Writes one process's journal. Any thread may write; a line is one write, so lines never mix.

    What was written outlives the process, however it ends: the operating system has it.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def write(self, what: str, **fields: Any) -> None:
        """Append one event."""
        event: Event = {"at": round(time.monotonic(), 6), "what": what, **fields}
        os.write(self._file, json.dumps(event, separators=(",", ":")).encode() + b"\n")


def read(path: Path) -> Iterator[Event]:
    """The events of a journal in their order; a last line that was cut off by a kill is left out."""
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield json.loads(line)


def read_all(directory: Path) -> dict[str, list[Event]]:
    """All journals of a run, by the name of the process; they may be compressed by gzip."""
    found = sorted([*directory.glob(f"*{_SUFFIX}"), *directory.glob(f"*{_SUFFIX}.gz")])
    return {path.name.split(".")[0]: list(read(path)) for path in found}
