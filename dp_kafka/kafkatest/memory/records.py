"""What a broker keeps: records, the log of a partition, and which partition a key belongs to."""

from __future__ import annotations

import time
from collections.abc import Sequence

from confluent_kafka import TIMESTAMP_CREATE_TIME, KafkaError

from dp_kafka.headers import Headers, header_list

__all__ = ["Event", "Log", "Record", "partition_of"]

_NO_OFFSET = -1001


class Record:
    """One message, with the methods of `confluent_kafka.Message`. Immutable but for where it was stored."""

    __slots__ = ("_error", "_headers", "_key", "_offset", "_partition", "_timestamp", "_topic", "_value")

    def __init__(
        self,
        topic: str,
        partition: int,
        value: bytes | str | None,
        key: bytes | str | None = None,
        headers: Headers | None = None,
        timestamp: int | None = None,
        *,
        offset: int = _NO_OFFSET,
    ) -> None:
        """Args: `timestamp` in milliseconds since the epoch, None for now."""
        self._topic = topic
        self._partition = partition
        self._value = _bytes(value)
        self._key = _bytes(key)
        self._headers = [(name, _bytes(text)) for name, text in header_list(headers)]
        # 0 is librdkafka's "now", too.
        self._timestamp = timestamp or int(time.time() * 1000)
        self._offset = offset
        self._error: KafkaError | None = None

    def value(self) -> bytes | None:
        """The value; None for a tombstone."""
        return self._value

    def key(self) -> bytes | None:
        """The key, or None."""
        return self._key

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        """The headers in a fresh list, or None if there are none."""
        return list(self._headers) or None

    def topic(self) -> str:
        """The topic."""
        return self._topic

    def partition(self) -> int:
        """The partition."""
        return self._partition

    def offset(self) -> int:
        """The offset; a negative number if it was not stored."""
        return self._offset

    def timestamp(self) -> tuple[int, int]:
        """The kind of timestamp, and milliseconds since the epoch."""
        return TIMESTAMP_CREATE_TIME, self._timestamp

    def error(self) -> KafkaError | None:
        """Why it was not stored, in a delivery report."""
        return self._error

    def refused(self, error: KafkaError) -> Record:
        """The same record, not stored because of `error`."""
        self._error = error
        return self

    def __len__(self) -> int:
        return len(self._value or b"")

    def __repr__(self) -> str:
        return f"<Record {self._topic}[{self._partition}]@{self._offset}, {len(self)} bytes>"


class Event(Record):
    """What a consumer's poll gives instead of a message to tell of an error."""

    def __init__(self, error: KafkaError) -> None:
        super().__init__("", -1, None)
        self._error = error


class Log:
    """The records of one partition; its cluster's lock guards it."""

    def __init__(self, first: int) -> None:
        self.first = first
        self._records: list[Record] = []

    @property
    def end(self) -> int:
        """The offset of the next record."""
        return self.first + len(self._records)

    def append(self, record: Record) -> None:
        """Store a record, and tell it its offset."""
        record._offset = self.end
        self._records.append(record)

    def read(self, position: int, count: int) -> Sequence[Record]:
        """At most `count` records from `position` on."""
        start = position - self.first
        return self._records[start : start + count]


def partition_of(key: bytes | None, partitions: int) -> int:
    """Where a producer puts a message that names no partition: by the key, as Java clients do; else 0.

    Kafka spreads messages without a key over all partitions as it likes; a test wants to know.
    """
    return 0 if key is None else (_murmur2(key) & 0x7FFFFFFF) % partitions


def _murmur2(data: bytes) -> int:
    """Kafka's hash of a key, as unsigned 32 bits."""
    multiplier, mask = 0x5BD1E995, 0xFFFFFFFF
    length = len(data)
    value = 0x9747B28C ^ length
    whole = length - length % 4
    for start in range(0, whole, 4):
        word = int.from_bytes(data[start : start + 4], "little") * multiplier & mask
        word = (word ^ word >> 24) * multiplier & mask
        value = (value * multiplier & mask) ^ word
    if whole != length:
        value = (value ^ int.from_bytes(data[whole:], "little")) * multiplier & mask
    value = (value ^ value >> 13) * multiplier & mask
    return value ^ value >> 15


def _bytes(text: bytes | str | None) -> bytes | None:
    return text.encode() if isinstance(text, str) else text
