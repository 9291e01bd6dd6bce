"""MemoryConsumer: what the library uses of `confluent_kafka.Consumer`, on a cluster in memory.

As with the real one, callbacks run within poll() and consume(), in the thread that calls them, and nothing
is delivered from a partition before the callback that tells of its assignment has returned.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    OFFSET_INVALID,
    KafkaError,
    KafkaException,
    TopicPartition,
)

from dp_kafka.kafkatest.memory.client import POLL_SECONDS, MemoryClient
from dp_kafka.kafkatest.memory.cluster import MemoryCluster, kafka_error
from dp_kafka.kafkatest.memory.groups import Change, Commit, Group, Member, Partition
from dp_kafka.kafkatest.memory.records import Event, Record

__all__ = ["MemoryConsumer"]

_Callback = Callable[[Any, list[TopicPartition]], object]


class Answered(NamedTuple):
    """A partition of an answer, as `confluent_kafka.TopicPartition`, whose error can't be set."""

    topic: str
    partition: int
    offset: int
    metadata: str | None = None
    error: KafkaError | None = None
    leader_epoch: int | None = None


class MemoryConsumer(MemoryClient):
    """One consumer; its owner alone calls it, from one thread at a time.

    `_position` and `_paused` hold what it fetches; the cluster's lock guards its place in the group.
    """

    def __init__(self, cluster: MemoryCluster, properties: dict[str, Any]) -> None:
        super().__init__(cluster, properties)
        self._group_name = str(properties["group.id"])
        self._latest = str(properties.get("auto.offset.reset", "latest")) in ("latest", "largest", "end")
        self._stats_cb: Callable[[str], object] | None = properties.get("stats_cb")
        self._stats_seconds = int(properties.get("statistics.interval.ms", 0)) / 1000
        self._stats_due = time.monotonic() + self._stats_seconds
        self._on_commit: Callable[[Any, Any], object] | None = properties.get("on_commit")
        self._callbacks: dict[Change, _Callback | None] = {}
        self._member: Member | None = None
        self._position: dict[Partition, int] = {}
        self._paused: set[Partition] = set()
        #: Whether the callback for an assignment has made the assignment itself.
        self._assigned = False
        #: Answers to asynchronous commits, told by the next poll.
        self._answers: deque[tuple[KafkaError | None, list[Answered]]] = deque()
        self._closed = False

    # -- the group ----------------------------------------------------------------------------------

    def subscribe(
        self,
        topics: Sequence[str],
        on_assign: _Callback | None = None,
        on_revoke: _Callback | None = None,
        on_lost: _Callback | None = None,
    ) -> None:
        """Join the group; partitions come with a later poll."""
        self._check_open()
        self._callbacks = {
            Change.ASSIGN: on_assign,
            Change.REVOKE: on_revoke,
            Change.LOST: on_lost or on_revoke,
        }
        with self._cluster.changed:
            self._leave_group()
            self._member = Member(topics)
            self._group.join(self._member)
            self._cluster.changed.notify_all()

    @property
    def _group(self) -> Group:
        return self._cluster.group(self._group_name)

    @property
    def member(self) -> Member | None:
        """Its place in the group; None before `subscribe` and after `close`."""
        return self._member

    def assignment(self) -> list[TopicPartition]:
        """The partitions that it fetches from."""
        return [TopicPartition(*partition) for partition in self._position]

    def unsubscribe(self) -> None:
        """Give the partitions back and leave the group."""
        self._check_open()
        self._give_back()

    def close(self) -> None:
        """Give the partitions back and leave the group."""
        self._check_open()
        self._closed = True
        self._give_back()

    def _give_back(self) -> None:
        if self._member is not None:
            if self._position:
                self._tell(Change.REVOKE, list(self._position))
            with self._cluster.changed:
                self._leave_group()
                self._cluster.changed.notify_all()

    def _leave_group(self) -> None:
        if self._member is not None:
            self._group.leave(self._member)
            self._member = None
        self._position.clear()
        self._paused.clear()

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("Consumer closed")

    # -- fetching -----------------------------------------------------------------------------------

    def poll(self, timeout: float = -1) -> Record | None:
        """Serve callbacks, and give the next message; None if none comes for a moment, or `timeout`."""
        found = self.consume(1, timeout)
        return found[0] if found else None

    def consume(self, num_messages: int = 1, timeout: float = -1) -> list[Record]:
        """Serve callbacks, and give at most this many messages; does not wait for more than one."""
        self._check_open()
        self._serve()
        cluster = self._cluster
        failure = cluster.next_failure("poll") if self._position else None
        if failure is not None:
            return [Event(failure)]
        wait = POLL_SECONDS if timeout < 0 else min(timeout, POLL_SECONDS)
        with cluster.changed:
            found = self._fetch(num_messages)
            if not found and wait > 0:
                cluster.changed.wait_for(self._has_something, wait)
                found = self._fetch(num_messages)
        if not found and wait > 0:
            self._serve()
        return found

    def _has_something(self) -> bool:
        """Whether there is anything to fetch or to serve; hold the lock."""
        member = self._member
        if (member is not None and member.changes) or self._answers or self._has_outage_to_tell():
            return True
        return self._cluster.is_up and any(
            self._cluster.logs(partition.topic)[partition.number].end > position
            for partition, position in self._position.items()
            if partition not in self._paused
        )

    def _fetch(self, count: int) -> list[Record]:
        found: list[Record] = []
        member = self._member
        if not self._cluster.is_up or member is None:
            return found
        for partition in list(self._position):
            # What was lost, and not told of yet, is fetched by somebody else now.
            if partition in self._paused or partition not in member.owned:
                continue
            position = self._position[partition]
            records = self._cluster.logs(partition.topic)[partition.number].read(position, count - len(found))
            if records:
                found += records
                # To the end of the row, so that the others have their turn first next time.
                del self._position[partition]
                self._position[partition] = position + len(records)
            if len(found) >= count:
                break
        return found

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Fetch no more from these partitions."""
        self._paused.update(Partition(one.topic, one.partition) for one in partitions)

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Go on with these partitions."""
        self._paused.difference_update(Partition(one.topic, one.partition) for one in partitions)

    def seek(self, partition: TopicPartition) -> None:
        """Go on with this offset in an assigned partition."""
        self._position[Partition(partition.topic, partition.partition)] = partition.offset

    def position(self, partitions: Iterable[TopicPartition]) -> list[TopicPartition]:
        """The offset that is fetched next in each partition."""
        return [
            TopicPartition(
                one.topic,
                one.partition,
                self._position.get(Partition(one.topic, one.partition), OFFSET_INVALID),
            )
            for one in partitions
        ]

    # -- callbacks ----------------------------------------------------------------------------------

    def _serve(self) -> None:
        self._tell_of_outage()
        while self._answers:
            answer = self._answers.popleft()
            if self._on_commit is not None:
                self._on_commit(*answer)
        while self._serve_change():
            pass
        if self._stats_cb is not None and self._stats_seconds and time.monotonic() >= self._stats_due:
            self._stats_due = time.monotonic() + self._stats_seconds
            self._stats_cb(json.dumps(self._statistics()))

    def _statistics(self) -> dict[str, Any]:
        """Those of librdkafka's statistics that tell how far it is behind."""
        topics: dict[str, Any] = defaultdict(lambda: {"partitions": {}})
        with self._cluster.changed:
            for partition, position in self._position.items():
                end = self._cluster.logs(partition.topic)[partition.number].end
                commit = self._group.committed.get(partition)
                topics[partition.topic]["partitions"][str(partition.number)] = {
                    "consumer_lag": -1 if commit is None else end - commit.offset,
                    "ls_offset": end,
                    "next_offset": position,
                    "fetchq_cnt": 0,
                    "fetch_state": "active",
                }
        return {"topics": topics}

    def _serve_change(self) -> bool:
        """Tell of one change in the group, and carry it out; False if there is none."""
        member = self._member
        if member is None:
            return False
        with self._cluster.changed:
            if not member.changes:
                return False
            change, partitions = member.changes.popleft()
            if change is Change.ASSIGN:
                member.assigned = True
                member.owned += partitions
        if change is Change.ASSIGN:
            self._assigned = False
            self._tell(change, partitions)
            if not self._assigned:
                self.assign([TopicPartition(*partition) for partition in partitions])
            self._begin(member)
            return True
        if partitions:
            self._tell(change, partitions)
        for partition in partitions:
            self._position.pop(partition, None)
            self._paused.discard(partition)
        with self._cluster.changed:
            if change is Change.REVOKE:
                self._group.given_back(member)
            else:
                self._group.told_of_loss(member, partitions)
            self._cluster.changed.notify_all()
        return True

    def _tell(self, change: Change, partitions: list[Partition]) -> None:
        callback = self._callbacks.get(change)
        if callback is not None:
            callback(self, [TopicPartition(*partition) for partition in partitions])

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """Fetch these from their offsets: where there is none, from where the group is, or from where the
        configuration says. For the callback for an assignment; without it, it is done afterwards."""
        self._assigned = True
        with self._cluster.changed:
            for one in partitions:
                partition = Partition(one.topic, one.partition)
                log = self._cluster.logs(partition.topic)[partition.number]
                starts = {OFFSET_BEGINNING: log.first, OFFSET_END: log.end}
                commit = self._group.committed.get(partition)
                if one.offset >= 0:
                    start = one.offset
                elif one.offset in starts or commit is None:
                    start = starts.get(one.offset, log.end if self._latest else log.first)
                else:
                    start = commit.offset
                self._position[partition] = start

    incremental_assign = assign

    def _begin(self, member: Member) -> None:
        """The assignment has been told of, and made."""
        with self._cluster.changed:
            member.fetching = member.assigned and not member.changes
            self._cluster.changed.notify_all()

    # -- offsets ------------------------------------------------------------------------------------

    def commit(
        self, message: Any = None, offsets: Sequence[TopicPartition] = (), asynchronous: bool = True
    ) -> list[Answered] | None:
        """Commit offsets. The answer comes with a later poll, or, when not asynchronous, from here.

        Raises:
            KafkaException: not asynchronous, and nothing was committed.
        """
        self._check_open()
        if message is not None:
            raise NotImplementedError("the client in memory commits offsets=[…] only")
        cluster = self._cluster
        failure = kafka_error("_TRANSPORT") if not cluster.is_up else cluster.next_failure("commit")
        answers: list[Answered] = []
        with cluster.changed:
            member = self._member
            group = self._group
            if failure is None and (member is None or member not in group.members):
                failure = kafka_error("UNKNOWN_MEMBER_ID")
            for one in offsets:
                partition = Partition(one.topic, one.partition)
                error = failure
                if error is None and member is not None and partition not in member.owned:
                    error = kafka_error("UNKNOWN_MEMBER_ID")
                if error is None:
                    group.committed[partition] = Commit(one.offset, one.metadata or "")
                answers.append(Answered(one.topic, one.partition, one.offset, one.metadata, error))
            cluster.changed.notify_all()
        if asynchronous:
            self._answers.append((failure, answers))
            return None
        if failure is not None:
            raise KafkaException(failure)
        return answers

    def committed(self, partitions: Iterable[TopicPartition], timeout: float = -1) -> list[Answered]:
        """What the group has committed of each partition; a negative offset for nothing."""
        if not self._cluster.wait_up(POLL_SECONDS if timeout < 0 else timeout):
            self._cluster.unreachable()
        nothing = Commit(OFFSET_INVALID, "")
        with self._cluster.changed:
            committed = self._group.committed
            return [
                Answered(
                    one.topic,
                    one.partition,
                    *committed.get(Partition(one.topic, one.partition), nothing),
                )
                for one in partitions
            ]

    def offsets_for_times(
        self,
        partitions: Iterable[TopicPartition],
        timeout: float = -1,  # noqa: ARG002  # it is there at once
    ) -> list[TopicPartition]:
        """The end of each partition: no other time is asked for."""
        with self._cluster.changed:
            return [
                TopicPartition(one.topic, one.partition, self._cluster.logs(one.topic)[one.partition].end)
                for one in partitions
            ]

    def get_watermark_offsets(
        self,
        partition: TopicPartition,
        timeout: float = -1,  # noqa: ARG002  # it is there at once
        cached: bool = False,  # noqa: ARG002
    ) -> tuple[int, int]:
        """The first offset of a partition, and that of its next record."""
        with self._cluster.changed:
            log = self._cluster.logs(partition.topic)[partition.partition]
            return log.first, log.end
