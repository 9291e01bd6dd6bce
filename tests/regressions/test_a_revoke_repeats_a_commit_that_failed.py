"""A revoke tried its commit once: when it failed, what was finished came again."""

from __future__ import annotations

from collections import Counter

import pytest

from dp_kafka import ConsumerGroup, Producer
from dp_kafka.kafkatest import EmbeddedCluster
from tests.conftest import INCREMENTAL, GroupFactory, committed_offset
from tests.faults.service import producer_config
from tests.looking import eventually
from tests.waiting import Collected, Logged, fields


@pytest.mark.parametrize("times", [3, 6])
def test_a_revoke_repeats_a_commit_that_failed(
    own_cluster: EmbeddedCluster, consumer_group: GroupFactory, logged: Logged, times: int
) -> None:
    """The sequence: a member has finished messages and not committed them yet; another member joins; the
    commit that precedes the hand-over fails, although librdkafka tries three times. A later one succeeds."""
    own_cluster.create_topic("handed-over", partitions=2)
    handled: Collected[tuple[int, int]] = Collected()

    def member() -> ConsumerGroup:
        group = consumer_group(
            "handed-over",
            broker_addrs=own_cluster.broker_addrs,
            group_name="handing-over",
            commit_interval=600.0,
            librdkafka=INCREMENTAL,
        )
        group.register_handler(lambda _worker, message: handled.add((message.partition, message.offset)))
        group.start()
        return group

    with Producer(producer_config(own_cluster, "handed-over")) as producer:
        # The first commit waits for no interval; once it is there, the next is far away.
        producer.send_bytes(b"first", partition=0)
        member()
        eventually(lambda: committed_offset(own_cluster, "handing-over", "handed-over"), 1)
        for number in range(5):
            producer.send_bytes(b"%d" % number, partition=number % 2 ^ 1)
        handled.wait(6)
        own_cluster.inject_errors("OffsetCommit", *["REQUEST_TIMED_OUT"] * times)
        member()
        moved = fields(logged.wait("partitions revoked"))["partitions"][0]
        assert logged.of("commit failed, it is tried again"), "the commit met no error"
        producer.send_bytes(b"after", partition=moved)
        eventually(lambda: (moved, 3) in handled.items)
    assert max(Counter(handled.items).values()) == 1, f"handled again: {sorted(handled.items)}"
