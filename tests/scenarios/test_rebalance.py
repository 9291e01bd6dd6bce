"""A second member comes and goes: what was finished is committed before its partitions change hands."""

from __future__ import annotations

from collections import Counter

from dp_kafka import ConsumerGroup, ConsumerGroupConfig, State
from tests.scenarios.conftest import Kafka
from tests.waiting import Collected

PARTITIONS = 6
ROUND = 60


def test_nothing_that_was_finished_is_handled_again_when_partitions_change_hands(kafka: Kafka) -> None:
    """Contract 11.9: the commit interval is an hour, so only the end of an assignment can commit it."""
    topic = kafka.create_topic(PARTITIONS)
    handled: Collected[tuple[int, int]] = Collected()
    config = ConsumerGroupConfig(
        kafka.broker_addrs, topic, topic, num_workers=2, commit_interval=3600, librdkafka=kafka.protocol
    )

    def joined(group: ConsumerGroup) -> None:
        group.register_handler(lambda _worker_id, message: handled.add((message.partition, message.offset)))
        group.start()
        assert group.state_wait(State.CONSUMING, 30)

    with kafka.group(config) as first, kafka.producer(topic) as producer:

        def send_round(number: int) -> None:
            for count in range(ROUND):
                producer.send_bytes(b"%d" % count, partition=count % PARTITIONS)
            assert producer.flush(30) == 0
            handled.wait(number * ROUND, timeout=30)

        joined(first)
        send_round(1)
        with kafka.group(config) as second:
            joined(second)
            send_round(2)
            assert second.stop_and_wait(30)
        send_round(3)
        assert first.stop_and_wait(30)
    assert len(handled.items) == 3 * ROUND
    assert max(Counter(handled.items).values()) == 1
    assert kafka.committed(topic, PARTITIONS) == kafka.ends(topic, PARTITIONS)
