"""A producer and a consumer that are made before any broker runs work once one does."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import confluent_kafka
import pytest

from dp_kafka import (
    BytesMessage,
    ConsumerGroup,
    ConsumerGroupConfig,
    NotInitialisedError,
    Producer,
    ProducerConfig,
    State,
)
from dp_kafka.kafkatest import EmbeddedCluster
from tests.kafka.apache import ApacheKafka
from tests.kafka.conftest import need_brokers
from tests.waiting import Collected

PARTITIONS = 3
TOPIC = "early"
GROUP = "early-group"


class Down(NamedTuple):
    """A broker that does not run, on which TOPIC is; `start` starts it."""

    broker_addrs: list[str]
    start: Callable[[], None]


@contextlib.contextmanager
def embedded() -> Iterator[Down]:
    with EmbeddedCluster() as cluster:
        cluster.create_topic(TOPIC, PARTITIONS)
        cluster.broker_down(1)
        yield Down(cluster.broker_addrs, lambda: cluster.broker_up(1))


@contextlib.contextmanager
def apache() -> Iterator[Down]:
    need_brokers()
    # One broker, whatever KAFKA_ADDR says: it has to be ended and started.
    with ApacheKafka(brokers=1) as cluster:
        cluster.create_topic(TOPIC, PARTITIONS)
        cluster.kill(1)
        yield Down(cluster.broker_addrs, lambda: cluster.restart(1))


@pytest.mark.parametrize(
    "brokers", [embedded, pytest.param(apache, marks=[pytest.mark.kafka, pytest.mark.timeout(180)])]
)
def test_clients_made_before_any_broker_runs_carry_messages_after_it_has_started(
    brokers: Callable[[], contextlib.AbstractContextManager[Down]],
) -> None:
    """What was put before is sent, what is sent after too; all of it is handled once, and committed."""
    handled: Collected[bytes | None] = Collected()
    wanted = {b"put %d" % number for number in range(20)} | {b"sent %d" % number for number in range(20)}
    with brokers() as down:
        config = ConsumerGroupConfig(
            down.broker_addrs, TOPIC, GROUP, num_workers=2, min_retry_period=0.05, max_retry_period=0.5
        )
        producer_config = ProducerConfig(
            down.broker_addrs, TOPIC, min_retry_period=0.05, max_retry_period=0.5
        )
        with ConsumerGroup(config) as group, Producer(producer_config) as producer:
            group.register_handler(lambda _worker_id, message: handled.add(message.data))
            group.start()
            assert group.state is State.INITIALISING
            assert not producer.is_initialised
            with pytest.raises(NotInitialisedError):
                producer.send_bytes(b"refused")
            for number in range(20):
                producer.channels.output.put(BytesMessage(b"put %d" % number))

            down.start()
            assert producer.channels.initialised.wait(30)
            assert group.channels.initialised.wait(30)
            for number in range(20):
                producer.send_bytes(b"sent %d" % number)
            assert producer.flush(30) == 0
            seen = handled.wait(40, timeout=60)
            assert group.stop_and_wait(30)
        assert set(seen) == wanted
        assert len(handled.items) == 40
        assert committed(down.broker_addrs) == 40


def committed(broker_addrs: list[str]) -> int:
    """The offsets that the group has committed, by a client that is none of ours."""
    client = confluent_kafka.Consumer({"bootstrap.servers": ",".join(broker_addrs), "group.id": GROUP})
    try:
        asked = [confluent_kafka.TopicPartition(TOPIC, number) for number in range(PARTITIONS)]
        return sum(max(0, partition.offset) for partition in client.committed(asked, timeout=20))
    finally:
        client.close()
