"""MemoryProducer: what the library uses of `confluent_kafka.Producer`, on a cluster in memory.

As with the real one, produce() queues or raises, from any thread, and delivery reports are given within
poll(), flush() and purge(), in the thread that calls them. While the cluster is up a message is stored
before produce() returns, so a test need not wait for it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from dp_kafka.headers import Headers
from dp_kafka.kafkatest.memory.client import POLL_SECONDS, MemoryClient
from dp_kafka.kafkatest.memory.cluster import MemoryCluster, kafka_error
from dp_kafka.kafkatest.memory.records import Record, partition_of

__all__ = ["MemoryProducer"]

_Callback = Callable[[KafkaError | None, Record], object]

# librdkafka's defaults.
_QUEUE_MESSAGES = 100_000
_MESSAGE_BYTES = 1_000_000


class MemoryProducer(MemoryClient):
    """One producer; the cluster's lock guards its queues."""

    def __init__(self, cluster: MemoryCluster, properties: dict[str, Any]) -> None:
        super().__init__(cluster, properties)
        self._most = int(properties.get("queue.buffering.max.messages", _QUEUE_MESSAGES))
        self._largest = int(properties.get("message.max.bytes", _MESSAGE_BYTES))
        #: Messages that wait for the cluster to come up, oldest first.
        self._waiting: deque[tuple[Record, _Callback | None]] = deque()
        #: Delivery reports that have not been given.
        self._reports: deque[tuple[Record, _Callback | None]] = deque()

    def produce(
        self,
        topic: str,
        value: bytes | str | None = None,
        key: bytes | str | None = None,
        partition: int = -1,
        on_delivery: _Callback | None = None,
        timestamp: int = 0,
        headers: Headers | None = None,
    ) -> None:
        """Queue a message; never waits.

        Raises:
            BufferError: the queue is full.
            KafkaException: the message is too large, or there is no such partition.
        """
        cluster = self._cluster
        with cluster.changed:
            if len(self) >= self._most:
                raise BufferError("Local: Queue full")
            failure = cluster.next_failure("produce")
            count = len(cluster.logs(topic))
            record = Record(topic, partition, value, key, headers, timestamp)
            if partition < 0:
                record._partition = partition_of(record.key(), count)
            elif partition >= count:
                raise KafkaException(kafka_error("_UNKNOWN_PARTITION"))
            if len(record) + len(record.key() or b"") > self._largest:
                raise KafkaException(kafka_error("MSG_SIZE_TOO_LARGE"))
            if failure is not None:
                self._reports.append((record.refused(failure), on_delivery))
            else:
                self._waiting.append((record, on_delivery))
                self._deliver()
            cluster.changed.notify_all()

    def _deliver(self) -> None:
        """Store what waits, if the cluster is up; hold the lock."""
        while self._waiting and self._cluster.is_up:
            record, on_delivery = self._waiting.popleft()
            self._cluster.append(record)
            self._reports.append((record, on_delivery))

    def poll(self, timeout: float = 0) -> int:
        """Give the reports that there are, or wait for some, a moment at most; how many."""
        cluster = self._cluster
        with cluster.changed:
            self._deliver()
            if timeout and not self._reports:
                cluster.changed.wait_for(self._has_something, min(abs(timeout), POLL_SECONDS))
                self._deliver()
            reports, self._reports = self._reports, deque()
        told = self._tell_of_outage()
        for record, on_delivery in reports:
            if on_delivery is not None:
                on_delivery(record.error(), record)
        return len(reports) + told

    def _has_something(self) -> bool:
        return bool(self._reports or (self._waiting and self._cluster.is_up) or self._has_outage_to_tell())

    def flush(self, timeout: float = -1) -> int:
        """Give reports until every message has had one, at most `timeout` seconds; how many have not."""
        until = None if timeout < 0 else time.monotonic() + timeout
        while len(self):
            remaining = POLL_SECONDS if until is None else until - time.monotonic()
            if remaining <= 0:
                break
            self.poll(remaining)
        return len(self)

    def purge(
        self,
        in_queue: bool = True,
        in_flight: bool = True,  # noqa: ARG002  # nothing is ever in flight
        blocking: bool = True,  # noqa: ARG002
    ) -> None:
        """Give up what waits; the reports come with the next poll."""
        with self._cluster.changed:
            while self._waiting and in_queue:
                record, on_delivery = self._waiting.popleft()
                self._reports.append((record.refused(kafka_error("_PURGE_QUEUE")), on_delivery))

    def __len__(self) -> int:
        return len(self._waiting) + len(self._reports)
