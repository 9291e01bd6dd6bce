"""Three kinds of Kafka for the same scenarios: the fakes' memory, the embedded broker, and Apache Kafka.

What holds on one of them and not on another is a difference that users of the test kit would fall over.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from dp_kafka import ConsumerGroup, ConsumerGroupConfig, Producer, ProducerConfig, kafkatest
from dp_kafka.kafkatest import EmbeddedCluster, MemoryCluster
from tests.kafka.conftest import apache_kafka  # noqa: F401  # the session's cluster, shared with tests/kafka
from tests.sending import ready

#: Seconds for a scenario that may have to start Apache Kafka first.
_APACHE_TIMEOUT = 180
#: The kinds that are brokers, for what asks them for more than messages:
#: `@pytest.mark.parametrize("kafka", BROKERS, indirect=True)`.
BROKERS = [
    "embedded",
    pytest.param("apache", marks=[pytest.mark.kafka, pytest.mark.timeout(_APACHE_TIMEOUT)]),
]


@dataclass
class Kafka:
    """A cluster, and what a plain confluent-kafka client sees of it."""

    kind: str
    broker_addrs: list[str]
    _create_topic: Callable[[str, int], Any]
    #: The cluster, where it is the fakes'.
    memory: MemoryCluster | None = None
    #: Client properties with which members come and go quickly: the embedded broker's classic groups make
    #: whoever joins after a leave wait for the session timeout.
    protocol: Mapping[str, str] = field(default_factory=dict)

    def needs_quick_members(self) -> None:
        """For scenarios in which members come and go."""
        if self.kind == "embedded" and not self.protocol:
            pytest.skip(
                "this librdkafka's embedded broker has classic groups only, in which whoever joins waits for "
                "a session timeout, and the commit of a member that gives its partitions back is refused"
            )

    def create_topic(self, partitions: int = 1) -> str:
        """A new topic; its name."""
        name = f"scenario-{uuid.uuid4().hex[:12]}"
        self._create_topic(name, partitions)
        return name

    def group(self, config: ConsumerGroupConfig) -> ConsumerGroup:
        """A consumer group of the library, on this Kafka."""
        if self.memory is not None:
            return kafkatest.Consumer(config, cluster=self.memory)
        return ConsumerGroup(config)

    def producer(self, topic: str, **config: Any) -> Producer:
        """A producer of the library, on this Kafka, initialised."""
        made = ProducerConfig(self.broker_addrs, topic, **config)
        if self.memory is not None:
            return kafkatest.Producer(made, cluster=self.memory)
        return ready(Producer(made))

    def client(self, group: str, **properties: Any) -> Any:
        """A plain consumer of the group."""
        conf = {
            "bootstrap.servers": ",".join(self.broker_addrs),
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            **properties,
        }
        return Consumer(conf) if self.memory is None else self.memory.consumer(conf)

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


@pytest.fixture(params=["fakes", *BROKERS])
def kafka(request: pytest.FixtureRequest) -> Kafka:
    """Each scenario runs once on each kind of Kafka."""
    if request.param == "fakes":
        memory = MemoryCluster()
        # An address of nobody: a fake that asked it would not get far.
        return Kafka("fakes", ["127.0.0.1:1"], memory.create_topic, memory)
    if request.param == "embedded":
        cluster = request.getfixturevalue("embedded_kafka")
        return Kafka(
            "embedded",
            cluster.broker_addrs,
            lambda name, n: cluster.create_topic(name, partitions=n),
            protocol={"group.protocol": "consumer"} if cluster.has_consumer_protocol else {},
        )
    cluster = request.getfixturevalue("apache_kafka")
    return Kafka(
        "apache", list(cluster.broker_addrs), lambda name, n: cluster.create_topic(name, partitions=n)
    )
