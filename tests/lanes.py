"""Messages and sessions without a broker, for tests of what lies between poll thread and workers."""

from __future__ import annotations

from dataclasses import dataclass

from dp_kafka import Ordering
from dp_kafka.consumer.commits import GroupCommit
from dp_kafka.consumer.lane import Lane
from dp_kafka.consumer.message import RawMessage
from dp_kafka.consumer.session import Session
from dp_kafka.consumer.upstream import UpstreamChannel
from dp_kafka.kafkaerror import KafkaErrorLike


@dataclass(frozen=True)
class Raw:
    """A message as the broker delivered it: the `RawMessage` protocol, from plain values."""

    number: int
    key_bytes: bytes | None = None
    data: bytes | None = b"value"
    header_list: tuple[tuple[str, bytes | None], ...] = ()
    partition_number: int = 0

    def value(self) -> bytes | None:
        return self.data

    def key(self) -> bytes | None:
        return self.key_bytes

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        return list(self.header_list) or None

    def topic(self) -> str | None:
        return "topic"

    def partition(self) -> int:
        return self.partition_number

    def offset(self) -> int:
        return self.number

    def timestamp(self) -> tuple[int, int]:
        return (0, 0)

    def error(self) -> KafkaErrorLike | None:
        return None

    def __len__(self) -> int:
        return len(self.data or b"")


def raws(
    *offsets: int, key: bytes | None = None, partition: int = 0, data: bytes = b"value"
) -> list[RawMessage]:
    """Messages of one partition with these offsets."""
    return [Raw(offset, key, data, partition_number=partition) for offset in offsets]


def new_session(ordering: Ordering = Ordering.PARTITION, commit_interval: float = 0.05) -> Session:
    """A session with an upstream channel of its own, and nothing assigned."""
    return Session(UpstreamChannel(), GroupCommit(commit_interval), ordering)


def open_lane(session: Session, partition: int = 0) -> Lane:
    """The lane of a partition that was assigned."""
    return session.open_lane("topic", partition)
