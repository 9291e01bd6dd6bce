"""With durable commits that are refused, and no order, a group handled and held messages without a bound.

A worker leaves a finished message until the answer to its commit, and takes the next one. What it had left
counted for nothing, so that all of a topic could lie in memory, handled and not committed.
"""

from __future__ import annotations

from dp_kafka import ConsumerGroup, Ordering, Producer
from dp_kafka.kafkatest import EmbeddedCluster
from tests.conftest import INCREMENTAL, GroupFactory
from tests.faults.service import producer_config
from tests.looking import eventually
from tests.sending import ready
from tests.waiting import PATIENCE, Collected

MOST = 200
COUNT = 3_000


def test_messages_that_wait_for_their_durable_commit_stay_within_the_bound(
    own_cluster: EmbeddedCluster, consumer_group: GroupFactory
) -> None:
    own_cluster.create_topic("t")
    with ready(Producer(producer_config(own_cluster, "t"))) as producer:
        for _ in range(COUNT):
            producer.send_bytes(b"v")
    own_cluster.inject_errors("OffsetCommit", *["COORDINATOR_LOAD_IN_PROGRESS"] * 1_000)
    group = consumer_group(
        "t",
        broker_addrs=own_cluster.broker_addrs,
        ordering=Ordering.NONE,
        num_workers=2,
        commit_interval=0,
        max_buffered_messages=MOST,
        librdkafka=INCREMENTAL,
    )
    handled: Collected[int] = Collected()
    group.register_handler(lambda _worker, message: handled.add(message.offset))
    group.start()
    eventually(lambda: _paused(group), True)
    assert len(handled.items) <= MOST
    own_cluster.clear_errors("OffsetCommit")
    handled.wait(COUNT, 2 * PATIENCE)
    assert group.close() == 0


def _paused(group: ConsumerGroup) -> bool:
    """Whether the buffers have been full for so long that the partition was paused."""
    membership = group._poller.membership
    return membership is not None and any(lane.paused for lane in membership.session.lanes.values())
