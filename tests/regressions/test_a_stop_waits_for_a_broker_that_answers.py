"""A stop gave up its last commit although the broker had just answered: there was no time for a next try."""

from __future__ import annotations

import pytest

from dp_kafka import Producer
from dp_kafka.kafkatest import EmbeddedCluster
from tests.conftest import GroupFactory, committed_offset
from tests.faults.service import producer_config
from tests.looking import eventually
from tests.sending import ready
from tests.waiting import PATIENCE, Collected, Logged


@pytest.mark.early
def test_a_stop_waits_for_a_broker_that_answers(
    own_cluster: EmbeddedCluster, consumer_group: GroupFactory, logged: Logged
) -> None:
    """The broker hangs, refuses the commit, hangs again, refuses again, and takes the third: it takes longer
    than `message_consume_timeout`, but at no time was the broker silent for so long."""
    own_cluster.create_topic("slow")
    handled: Collected[int] = Collected()
    group = consumer_group(
        "slow",
        broker_addrs=own_cluster.broker_addrs,
        group_name="slow",
        commit_interval=600.0,
        message_consume_timeout=6.5,
        librdkafka={"fetch.wait.max.ms": 10},
    )
    group.register_handler(lambda _worker, message: handled.add(message.offset))
    group.start()
    with ready(Producer(producer_config(own_cluster, "slow"))) as producer:
        # The first commit waits for no interval; once it is there, the next is far away.
        producer.send_bytes(b"first")
        eventually(lambda: committed_offset(own_cluster, "slow", "slow"), 1)
        producer.send_bytes(b"second")
        handled.wait(2)
    own_cluster.inject_errors("OffsetCommit", *[("REBALANCE_IN_PROGRESS", 3.5)] * 2, broker=1)
    assert group.stop_and_wait(PATIENCE)
    assert logged.of("commit failed, it is tried again"), "the commit met no error"
    assert committed_offset(own_cluster, "slow", "slow") == 2
