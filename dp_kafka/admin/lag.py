"""How far a group is behind: its committed offsets against the ends of the partitions."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

from dp_kafka.admin.client import new_admin
from dp_kafka.admin.offsets import GroupOffsets, Partition, ends_of, starts_of
from dp_kafka.admin.requests import TIMEOUT
from dp_kafka.admin.topics import list_topics
from dp_kafka.config import AdminConfig
from dp_kafka.errors import UnknownTopicError

__all__ = ["LagReader", "PartitionLag"]


@dataclass(frozen=True)
class PartitionLag:
    """One partition of a topic, and what a group still has to consume of it.

    `topic` and `partition` say which. `start` and `end` are the first offset that the partition has, and that
    of its next message. `committed` is None while the group has committed nothing there.
    """

    topic: str
    partition: int
    start: int
    end: int
    committed: int | None

    @property
    def lag(self) -> int:
        """Offsets from where the group would go on to the end; without a commit, from the start.

        In a compacted topic, or one with transactions, there are fewer messages than offsets.
        """
        begin = self.start if self.committed is None else max(self.committed, self.start)
        return max(0, self.end - begin)


class LagReader:
    """Reads the lag of one group, as often as it is asked. A context manager; one thread at a time.

    Args:
        broker_addrs: "host:port" each.
        group: the name of the consumer group.
        topics: whose lag is read; without any, those in which the group has committed something.
        config: of the clients; None: plaintext, and every default.

    Raises:
        ConfigError: an address is malformed, or the name of the group is empty.
    """

    def __init__(
        self,
        broker_addrs: Sequence[str],
        group: str,
        topics: Sequence[str] = (),
        config: AdminConfig | None = None,
    ) -> None:
        self._topics = tuple(topics)
        self._admin = new_admin(broker_addrs, config)
        self._offsets = GroupOffsets(broker_addrs, group, config)

    def __enter__(self) -> LagReader:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def read(self, *, timeout: float = TIMEOUT) -> list[PartitionLag]:
        """The lag of each partition, by topic and number. Blocks, at most about `timeout` seconds.

        Raises:
            UnknownTopicError: a topic that was named is not there.
            KafkaClientError: the cluster cannot be asked, or refuses to tell.
        """
        until = time.monotonic() + timeout

        def left() -> float:
            return max(0.1, until - time.monotonic())

        asked = self._partitions(left())
        # Before the ends: of a group that moves meanwhile, the lag then is rather too long than too short.
        committed = self._offsets.committed(asked, timeout=left())
        shown = [each for each in asked if self._topics or each in committed]
        ends = ends_of(self._admin, shown, timeout=left())
        starts = starts_of(self._admin, shown, timeout=left())
        return [
            PartitionLag(*each, start=starts[each], end=ends[each], committed=committed.get(each))
            for each in shown
        ]

    def _partitions(self, timeout: float) -> list[Partition]:
        there = {topic.name: topic for topic in list_topics(self._admin, timeout=timeout)}
        for name in self._topics:
            if name not in there:
                raise UnknownTopicError(
                    f"there is no topic {name!r} on this cluster, or this client may not describe it",
                    log_data={"topic": name},
                )
        chosen = self._topics or [name for name in there if not there[name].internal]
        return [(name, each.partition) for name in sorted(chosen) for each in there[name].partitions]

    def close(self) -> None:
        """Let the clients go."""
        self._offsets.close()
