"""Dead letters: a record of the dead letter topic, and what its headers tell of where it came from."""

from __future__ import annotations

from dataclasses import dataclass

from dp_kafka.processing.deadletter import HEADERS, PREFIX
from dp_kafka.reading import Record

__all__ = ["Letter", "letter_of"]

_TOPIC, _PARTITION = HEADERS[:2]


@dataclass(frozen=True)
class Letter:
    """A dead letter: where it lies, where it came from, and the message as it was.

    `original_topic` is "" for what is no dead letter. `original_partition` is None where it is not told.
    """

    partition: int
    offset: int
    original_topic: str
    original_partition: int | None
    value: bytes | None
    key: bytes | None
    headers: list[tuple[str, bytes | None]]


def letter_of(record: Record) -> Letter:
    """The letter in a record, also in one that is none."""
    told = {name: value for name, value in record.headers if name.startswith(PREFIX) and value is not None}
    partition = told.get(_PARTITION, b"").decode(errors="replace")
    return Letter(
        record.partition,
        record.offset,
        told.get(_TOPIC, b"").decode(errors="replace"),
        int(partition) if partition.isascii() and partition.isdigit() else None,
        record.value,
        record.key,
        [(name, value) for name, value in record.headers if not name.startswith(PREFIX)],
    )
