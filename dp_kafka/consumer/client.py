"""The Kafka client of a consumer group: how it is made, and what its properties say of the group protocol."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from dp_kafka.clients import make_client
from dp_kafka.config.rdkafka import is_kip_848
from dp_kafka.consumer.lane import Lane

__all__ = [
    "confluent_consumer",
    "is_incremental",
    "is_static_member",
    "pause",
    "resume",
]


def confluent_consumer(properties: dict[str, Any]) -> Consumer:
    """The real client; raises ConfigError for properties that librdkafka refuses."""
    return make_client(Consumer, properties)


def is_incremental(properties: Mapping[str, Any]) -> bool:
    """Whether partitions come and go one by one, not all at once."""
    strategy = str(properties.get("partition.assignment.strategy", ""))
    return is_kip_848(properties) or "cooperative" in strategy


def is_static_member(properties: Mapping[str, Any]) -> bool:
    """Whether the member stays in its group when it stops, for its restart to cost no rebalance.

    That is group.instance.id with the classic protocol.
    """
    return "group.instance.id" in properties and not is_kip_848(properties)


def pause(client: Any, lanes: list[Lane]) -> None:
    """Fetch no more of these lanes' partitions. Poll thread."""
    client.pause([TopicPartition(lane.topic, lane.partition) for lane in lanes])
    for lane in lanes:
        lane.paused = True


def resume(client: Any, lanes: list[Lane]) -> None:
    """Fetch these lanes' partitions again. Poll thread."""
    partitions = [TopicPartition(lane.topic, lane.partition) for lane in lanes]
    client.resume(partitions)
    for lane in lanes:
        lane.paused = False
    # By itself librdkafka fetches them again when the thread of their broker next wakes up: in up to a
    # second, if it has nothing else to fetch there. To seek to where they stand wakes it.
    for position in client.position(partitions):
        if position.offset >= 0:
            with contextlib.suppress(KafkaException):
                client.seek(position)
