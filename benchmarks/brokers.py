"""The brokers that the benchmarks run on, and the topics that are filled there before a case begins."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaError, Message, Producer

from benchmarks.job import payload
from benchmarks.place import TopicSpec
from dp_kafka.headers import TRACE_ID_HEADER
from dp_kafka.kafkatest import EmbeddedCluster

__all__ = ["Broker", "apache", "embedded"]

#: What a group waits for further members where several processes join; the first assignment is then the last.
JOIN_SECONDS = 1.5
#: With more partitions batches are small: the embedded broker answers a fetch with a batch of each partition,
#: however much that is in sum. Apache Kafka heeds fetch.max.bytes.
MANY_PARTITIONS = 100
#: Batches as of a busy producer.
_FILLING = {"linger.ms": 100, "batch.num.messages": 1_000, "queue.buffering.max.kbytes": 1_048_576}


@dataclass
class Broker:
    """A running cluster and its topics by what they were made for."""

    kind: str
    broker_addrs: list[str]
    #: The cluster itself: `EmbeddedCluster`, or what tests/kafka/apache gives.
    cluster: Any
    _topics: dict[TopicSpec, str] = field(default_factory=dict)

    def topic(self, spec: TopicSpec) -> str:
        """The topic of a specification; made and filled when it is first asked for."""
        if spec not in self._topics:
            name = f"bench-{spec.size}b-{spec.partitions}p-{uuid.uuid4().hex[:8]}"
            self.cluster.create_topic(name, partitions=spec.partitions)
            self._fill(name, spec)
            self._topics[spec] = name
        return self._topics[spec]

    def let_groups_wait(self, seconds: float) -> None:
        """How long a new group waits for further members, where that can be set here."""
        if self.kind == "embedded":
            self.cluster.set_group_rebalance_delay(seconds)

    def _fill(self, topic: str, spec: TopicSpec) -> None:
        failures: list[KafkaError] = []

        def reported(error: KafkaError | None, _message: Message) -> None:
            if error is not None:
                failures.append(error)

        settings: dict[str, Any] = {"bootstrap.servers": ",".join(self.broker_addrs), **_FILLING}
        if spec.partitions > MANY_PARTITIONS:
            settings["batch.size"] = 16_384
        producer = Producer(settings)
        value = payload(spec.size)
        headers: Any = [(TRACE_ID_HEADER, str(uuid.uuid4()))]
        for number in range(spec.messages):
            while True:
                try:
                    producer.produce(
                        topic,
                        value,
                        partition=number % spec.partitions,
                        headers=headers,
                        on_delivery=reported,
                    )
                    break
                except BufferError:
                    producer.poll(0.1)
        left = producer.flush(60)
        if left or failures:
            raise RuntimeError(f"filling {topic}: {left} messages left, failures {failures[:3]}")


@contextlib.contextmanager
def embedded() -> Iterator[Broker]:
    """The embedded cluster, with one broker."""
    with EmbeddedCluster() as cluster:
        yield Broker("embedded", list(cluster.broker_addrs), cluster)


@contextlib.contextmanager
def apache() -> Iterator[Broker]:
    """Apache Kafka: the cluster of KAFKA_ADDR, if that is set, else one broker started for this run."""
    from tests.kafka.apache import ApacheKafka, ExternalKafka

    if addresses := os.environ.get("KAFKA_ADDR"):
        external = ExternalKafka(addresses.split(","))
        yield Broker("apache", list(external.broker_addrs), external)
        return
    with ApacheKafka(brokers=1) as kafka:
        yield Broker("apache", list(kafka.broker_addrs), kafka)
