"""How far a consumer group is behind in each partition that it owns, from librdkafka's statistics.

The poll thread writes, whoever collects metrics reads; a change replaces the whole dict, so neither needs a
lock.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from dp_kafka.consumer.lane import Lane
from dp_kafka.tracing.contained import contained

__all__ = ["Lag"]


class Lag:
    """The lag of the partitions of one topic: what is in the partition and not committed by the group."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._messages: dict[int, int] = {}

    @property
    def messages(self) -> Mapping[int, int]:
        """How many messages behind, by partition; any thread."""
        return self._messages

    def take(self, statistics: str, lanes: Mapping[int, Lane]) -> None:
        """Read librdkafka's statistics, of the partitions that are owned. Poll thread."""
        with contained:
            self._messages = self._read(statistics, lanes)

    def _read(self, statistics: str, lanes: Mapping[int, Lane]) -> dict[int, int]:
        topics = json.loads(statistics).get("topics", {})
        partitions = topics.get(self._topic, {}).get("partitions", {})
        found: dict[int, int] = {}
        for number, lane in lanes.items():
            lag = _lag(partitions.get(str(number), {}), lane)
            if lag is not None:
                found[number] = lag
        return found

    def keep(self, partitions: Iterable[int]) -> None:
        """Forget all partitions but these: the others belong to somebody else now. Poll thread."""
        kept = set(partitions)
        self._messages = {number: lag for number, lag in self._messages.items() if number in kept}


def _lag(partition: Mapping[str, Any], lane: Lane) -> int | None:
    lag = partition.get("consumer_lag", -1)
    if lag >= 0:
        return int(lag)
    # The group has committed nothing yet, which is when a handler that never finishes must show: what is not
    # finished counts, else what is not fetched.
    end = partition.get("ls_offset", -1)
    if end < 0 or partition.get("fetch_state") != "active":
        return None
    begin = lane.offsets.blocking
    if begin is None:
        begin = lane.offsets.commit_point
    if begin is None:
        begin = partition.get("next_offset", 0) - partition.get("fetchq_cnt", 0)
    return max(0, int(end - begin))
