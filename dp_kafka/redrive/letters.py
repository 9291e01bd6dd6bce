"""LETTER READER: the member of the redrive's group that reads dead letters, up to the ends taken before.

One thread uses it, and no other. Guarantees: a letter is given out once while its partition stays, those of
a partition in their order; what lies past the ends is neither given out nor committed.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from confluent_kafka import KafkaError, TopicPartition

from dp_kafka.config import ConsumerGroupConfig
from dp_kafka.drain.member import Member
from dp_kafka.processing.deadletter import HEADERS, PREFIX

__all__ = ["Letter", "LetterReader"]

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


class LetterReader(Member):
    """Reads until the `ends` of the partitions, by number; `finished` when all that it has are read."""

    #: A partition may end with what is no message, so its end has to be told.
    _more_properties: ClassVar[Mapping[str, Any]] = {"enable.partition.eof": True}

    def __init__(self, config: ConsumerGroupConfig, stop: threading.Event, ends: Mapping[int, int]) -> None:
        self._ends = dict(ends)
        self._read: deque[Letter] = deque()
        #: The partitions whose end has been seen, since they were assigned.
        self._ended: set[int] = set()
        super().__init__(config, stop)

    @property
    def finished(self) -> bool:
        """Whether everything of the present assignment has been given out."""
        return not self._read and self.assigned <= self._ended

    def take(self, most: int, until: float) -> list[Letter]:
        """Up to `most` letters; fewer when that is all there is now, none when finished or time is up.

        Raises:
            KafkaClientError: the broker refuses the client for good.
        """
        while not self._read and not self.finished and self.poll(until):
            pass
        if self._trouble is not None:
            raise self._trouble
        if len(self._read) < most:
            for message in self._client.consume(most - len(self._read), 0):
                self._received(message)
        return [self._read.popleft() for _ in range(min(most, len(self._read)))]

    def _received(self, message: Any) -> None:
        error, number, offset = message.error(), message.partition(), message.offset()
        if error is not None and error.code() != KafkaError._PARTITION_EOF:
            self._on_error(error)
        elif error is not None or offset >= self._ends.get(number, 0):
            # The end of the partition, or the first letter that was not there at the start.
            self._ended.add(number)
        elif number not in self._ended:
            self._read.append(_letter(message))
            if offset + 1 == self._ends[number]:
                self._ended.add(number)

    def _polled(self) -> None:
        """Messages are what this member is for."""

    def _on_assign(self, client: Any, partitions: list[TopicPartition]) -> None:
        # It begins again where the progress is committed, which for a group that lost it in between is
        # before what was read.
        self._ended -= {each.partition for each in partitions}
        super()._on_assign(client, partitions)

    def _on_revoke(self, client: Any, partitions: list[TopicPartition]) -> None:
        gone = {each.partition for each in partitions}
        self._read = deque(letter for letter in self._read if letter.partition not in gone)
        super()._on_revoke(client, partitions)


def _letter(message: Any) -> Letter:
    headers: list[tuple[str, bytes | None]] = message.headers() or []
    told = {name: value for name, value in headers if name.startswith(PREFIX) and value is not None}
    partition = told.get(_PARTITION, b"").decode(errors="replace")
    return Letter(
        message.partition(),
        message.offset(),
        told.get(_TOPIC, b"").decode(errors="replace"),
        int(partition) if partition.isascii() and partition.isdigit() else None,
        message.value(),
        message.key(),
        [(name, value) for name, value in headers if not name.startswith(PREFIX)],
    )
