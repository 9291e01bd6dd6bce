"""Reading a topic for people and tools: records as they lie there, up to an end, in a group or without one.

Services consume with a ConsumerGroup. A reader has no threads of its own and runs no handler: one thread
uses it, which is told when everything up to the ends has been read.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar, Protocol

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Consumer, KafkaError, TopicPartition

from dp_kafka.clients import CLIENT_LOGGER
from dp_kafka.config import AdminConfig, ConsumerGroupConfig
from dp_kafka.config.rdkafka import admin_properties
from dp_kafka.errors import KafkaClientError
from dp_kafka.groupmember import Member
from dp_kafka.headers import received_headers

__all__ = ["GroupReader", "Reader", "Record", "TopicReader"]

#: A partition may end with what is no message, as transactions do, so its end has to be told.
_TOLD = {"enable.partition.eof": True}
_POLL = 0.1


@dataclass(frozen=True)
class Record:
    """A message as it lies in the topic; `timestamp` in milliseconds since the epoch, None without one."""

    topic: str
    partition: int
    offset: int
    timestamp: int | None
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]

    @classmethod
    def of(cls, message: Any) -> Record:
        """That of a confluent_kafka.Message."""
        kind, timestamp = message.timestamp()
        return cls(
            message.topic(),
            message.partition(),
            message.offset(),
            None if kind == TIMESTAMP_NOT_AVAILABLE else timestamp,
            message.key(),
            message.value(),
            received_headers(message) or [],
        )


class Reader(Protocol):
    """What both readers offer. A context manager."""

    def __enter__(self) -> Reader: ...
    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None: ...

    @property
    def finished(self) -> bool:
        """Whether everything up to the ends has been given out."""
        ...

    def take(self, most: int, until: float) -> list[Record]:
        """Up to `most` records; fewer when that is all there is now, none when finished or time is up.

        Raises:
            KafkaClientError: the broker refuses the client for good.
        """
        ...


class _UpToEnds:
    """Records that have come, and which partitions have been read to their ends (None: there is no end)."""

    def __init__(self, ends: Mapping[int, int] | None) -> None:
        self._ends = ends
        self.records: deque[Record] = deque()
        #: The partitions whose end has been seen since they were assigned.
        self.ended: set[int] = set()

    def add(self, message: Any) -> None:
        """Add a message, or the event that a partition has no more."""
        number, offset = message.partition(), message.offset()
        if self._ends is None:
            if message.error() is None:
                self.records.append(Record.of(message))
        elif message.error() is not None or offset >= self._ends.get(number, 0):
            # The end of the partition, or the first message that was not there at the start.
            self.ended.add(number)
        elif number not in self.ended:
            self.records.append(Record.of(message))
            if offset + 1 == self._ends[number]:
                self.ended.add(number)

    def finished(self, assigned: set[int]) -> bool:
        """Whether all of these partitions have been read, and the records given out."""
        return self._ends is not None and not self.records and assigned <= self.ended

    def take(self, most: int) -> list[Record]:
        """Up to `most` records that have come."""
        return [self.records.popleft() for _ in range(min(most, len(self.records)))]


class GroupReader(Member):
    """Reads as a member of a group, from where it stands up to `ends` by partition (None: without end).

    A record is given out once while its partition stays, those of a partition in their order; what lies past
    the ends is not given out. Committing is the caller's business: `commit`. Two that are members of the same
    group share the partitions.
    """

    _more_properties: ClassVar[Mapping[str, Any]] = _TOLD

    def __init__(
        self, config: ConsumerGroupConfig, stop: threading.Event, ends: Mapping[int, int] | None
    ) -> None:
        self._reading = _UpToEnds(ends)
        super().__init__(config, stop)

    @property
    def finished(self) -> bool:
        """Whether everything of the present assignment has been given out."""
        return self._reading.finished(self.assigned)

    def take(self, most: int, until: float) -> list[Record]:
        """See `Reader.take`."""
        while not self._reading.records and not self.finished and self.poll(until):
            if self._trouble is not None:
                raise self._trouble
        missing = most - len(self._reading.records)
        if missing > 0 and not self.finished:
            for message in self._client.consume(missing, 0):
                self._received(message)
        return self._reading.take(most)

    def _received(self, message: Any) -> None:
        if _is_error(message):
            super()._received(message)
        else:
            self._reading.add(message)

    def _polled(self) -> None:
        """Messages are what this member is for."""

    def _on_assign(self, client: Any, partitions: list[TopicPartition]) -> None:
        # It begins again where the group stands, which for a partition that comes back is before what was
        # read and not committed.
        self._reading.ended -= {each.partition for each in partitions}
        super()._on_assign(client, partitions)

    def _on_revoke(self, client: Any, partitions: list[TopicPartition]) -> None:
        gone = {each.partition for each in partitions}
        self._reading.records = deque(each for each in self._reading.records if each.partition not in gone)
        super()._on_revoke(client, partitions)


class TopicReader:
    """Reads a topic without a group, and commits nothing. A context manager.

    Args:
        starts: the offset at which each partition begins, by number; those that are not named are not read.
        ends: where each ends; None goes on without end.
    """

    def __init__(
        self,
        broker_addrs: Sequence[str],
        topic: str,
        starts: Mapping[int, int],
        ends: Mapping[int, int] | None,
        config: AdminConfig | None = None,
    ) -> None:
        self._reading = _UpToEnds(ends)
        if ends is not None:
            # Nothing comes of what is empty, so nothing would tell that it has ended.
            self._reading.ended |= {number for number, start in starts.items() if start >= ends[number]}
        self._assigned = set(starts)
        self._trouble: KafkaClientError | None = None
        properties = {
            **admin_properties(tuple(broker_addrs), config),
            **_TOLD,
            # librdkafka wants a name though there is no group.
            "group.id": "dp-kafka-reader",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "allow.auto.create.topics": False,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 50,
            "error_cb": self._on_error,
        }
        self._client = Consumer(properties, logger=CLIENT_LOGGER)
        self._client.assign([TopicPartition(topic, number, start) for number, start in starts.items()])

    def __enter__(self) -> TopicReader:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._client.close()

    @property
    def finished(self) -> bool:
        """Whether everything up to the ends has been given out."""
        return self._reading.finished(self._assigned)

    def take(self, most: int, until: float) -> list[Record]:
        """See `Reader.take`."""
        while not self._reading.records and not self.finished:
            left = until - time.monotonic()
            if left <= 0:
                break
            self._add(self._client.poll(min(_POLL, left)))
            if self._trouble is not None:
                raise self._trouble
        missing = most - len(self._reading.records)
        if missing > 0 and not self.finished:
            for message in self._client.consume(missing, 0):
                self._add(message)
        return self._reading.take(most)

    def _add(self, message: Any) -> None:
        if message is None:
            return
        if _is_error(message):
            self._on_error(message.error())
        else:
            self._reading.add(message)

    def _on_error(self, error: KafkaError) -> None:
        translated = KafkaClientError.from_kafka_error(error)
        if translated.permanent:
            self._trouble = translated


def _is_error(message: Any) -> bool:
    error = message.error()
    return error is not None and error.code() != KafkaError._PARTITION_EOF
