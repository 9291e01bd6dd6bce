"""A group with `Offset.NEWEST` lost messages that it was given before its first commit.

Where nothing is committed an assignment starts at the end of the partition. So what came, and was not
committed before a stop or a rebalance, as its handler had failed, was passed over: the end was further on by
then. Now the first end is looked up and committed.
"""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from dp_kafka import Offset
from dp_kafka.consumer.starts import Start, read_starts
from tests.conftest import INCREMENTAL, CommittedFunction, GroupFactory, SendFunction, TopicFactory
from tests.looking import eventually
from tests.waiting import consuming


def test_a_group_that_starts_at_the_end_commits_it_before_anything_comes(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction, committed: CommittedFunction
) -> None:
    name = topic()
    send(name, "old", "old")
    group = consuming(consumer_group(name, offset=Offset.NEWEST, librdkafka=INCREMENTAL))
    eventually(lambda: committed(group.group_name, name), 2)


class Cluster:
    """Answers as a client does: that nothing is committed, and where some of the partitions end."""

    def __init__(self, *, refuses: bool) -> None:
        self._refuses = refuses

    def committed(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        return [TopicPartition(each.topic, each.partition, -1001) for each in partitions]

    def offsets_for_times(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        assert timeout > 0
        if self._refuses:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        assert [each.offset for each in partitions] == [-1, -1]
        return [TopicPartition("t", 0, 7), TopicPartition("t", 1, -1)]


@pytest.mark.parametrize(("refuses", "first"), [(False, (7, False)), (True, (-1, True))])
def test_where_no_end_is_found_librdkafka_looks_it_up(refuses: bool, first: tuple[int, bool]) -> None:
    assigned = [TopicPartition("t", 0), TopicPartition("t", 1)]
    found = read_starts(Cluster(refuses=refuses), assigned, initial=-1, wait=lambda _: True, fields={})
    assert found is not None
    assert [_of(start) for start in found] == [first, (-1, True)]


def _of(start: Start) -> tuple[int, bool]:
    return start.partition.offset, start.committed
