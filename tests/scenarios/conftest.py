"""Two kinds of real broker for the same scenarios: the embedded one, and Apache Kafka with three brokers."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from dp_kafka.kafkatest import EmbeddedCluster
from tests.kafka.conftest import apache_kafka  # noqa: F401  # the session's cluster, shared with tests/kafka

#: Seconds for a scenario that may have to start Apache Kafka first.
_APACHE_TIMEOUT = 180


@dataclass
class Kafka:
    """A cluster, and what a plain confluent-kafka client sees of it."""

    kind: str
    broker_addrs: list[str]
    _create_topic: Callable[[str, int], Any]

    def create_topic(self, partitions: int = 1) -> str:
        """A new topic; its name."""
        name = f"scenario-{uuid.uuid4().hex[:12]}"
        self._create_topic(name, partitions)
        return name

    def client(self, group: str, **properties: Any) -> Consumer:
        """A plain consumer of the group."""
        return Consumer(
            {
                "bootstrap.servers": ",".join(self.broker_addrs),
                "group.id": group,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                **properties,
            }
        )

    def committed(self, topic: str, partitions: int, group: str | None = None) -> dict[int, int]:
        """The committed offset of each partition, a negative number where there is none.

        The group's name is the topic's, unless it is given.
        """
        client = self.client(group or topic)
        try:
            found = client.committed([TopicPartition(topic, number) for number in range(partitions)], 20)
            return {partition.partition: partition.offset for partition in found}
        finally:
            client.close()

    def ends(self, topic: str, partitions: int) -> dict[int, int]:
        """The end offset of each partition."""
        client = self.client("looks-only")
        try:
            return {
                number: client.get_watermark_offsets(TopicPartition(topic, number), 20)[1]
                for number in range(partitions)
            }
        finally:
            client.close()


@pytest.fixture(scope="session")
def embedded_kafka() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(brokers=3) as cluster:
        yield cluster


@pytest.fixture(
    params=[
        "embedded",
        pytest.param("apache", marks=[pytest.mark.kafka, pytest.mark.timeout(_APACHE_TIMEOUT)]),
    ]
)
def kafka(request: pytest.FixtureRequest) -> Kafka:
    """Each scenario runs once on each kind of broker."""
    if request.param == "embedded":
        cluster = request.getfixturevalue("embedded_kafka")
        return Kafka(
            "embedded", cluster.broker_addrs, lambda name, n: cluster.create_topic(name, partitions=n)
        )
    cluster = request.getfixturevalue("apache_kafka")
    return Kafka(
        "apache", list(cluster.broker_addrs), lambda name, n: cluster.create_topic(name, partitions=n)
    )
