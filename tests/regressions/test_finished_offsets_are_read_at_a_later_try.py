"""A new assignment asked once for the committed offsets, and librdkafka once more; the answer was needed.

Without the first answer, what was finished beyond the committed offset was handled again. When librdkafka got
NOT_COORDINATOR, as after a move, the partition stood still until the next rebalance.
"""

from __future__ import annotations

import pytest

from dp_kafka import ConsumerGroup, HandlerError, Message, Ordering, Producer
from dp_kafka.kafkatest import EmbeddedCluster
from tests.conftest import INCREMENTAL, GroupFactory
from tests.faults.service import producer_config
from tests.looking import eventually
from tests.sending import ready
from tests.waiting import PATIENCE, Collected


@pytest.mark.parametrize("error", ["REQUEST_TIMED_OUT", "NOT_COORDINATOR", "COORDINATOR_LOAD_IN_PROGRESS"])
def test_finished_offsets_are_read_at_a_later_try(
    own_cluster: EmbeddedCluster, consumer_group: GroupFactory, error: str
) -> None:
    """One message fails and stays unfinished, those beyond it are finished; then the group stops. When it
    starts again its coordinator refuses some requests for the committed offsets, as after a move."""
    own_cluster.create_topic("gaps")
    handled: Collected[int] = Collected()

    def handle(_worker: int, message: Message) -> None:
        handled.add(message.offset)
        if message.offset == 0 and len(handled.items) <= 4:
            raise HandlerError("not yet", commit=False)

    def member() -> ConsumerGroup:
        group = consumer_group(
            "gaps",
            broker_addrs=own_cluster.broker_addrs,
            group_name="gaps",
            ordering=Ordering.NONE,
            librdkafka=INCREMENTAL,
        )
        group.register_handler(handle)
        group.start()
        return group

    with ready(Producer(producer_config(own_cluster, "gaps"))) as producer:
        for number in range(4):
            producer.send_bytes(b"%d" % number)
        first = member()
        handled.wait(4)
        assert first.stop_and_wait(PATIENCE)
        own_cluster.inject_errors("OffsetFetch", *[error] * 7)
        member()
        producer.send_bytes(b"after")
        eventually(lambda: 4 in handled.items)
    assert sorted(handled.items[4:]) == [0, 4], "what was finished beyond the committed offset came again"
