"""What the launcher asks of running brokers: an admin client, and waits for what their metadata shall say."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from .broker import BrokerProcess
from .errors import ApacheKafkaError
from .security import INTERNAL, PLAINTEXT

#: Seconds between two questions to another process, which cannot notify us.
_LOOK = 0.05


def admin_client(brokers: Iterable[BrokerProcess], properties: Mapping[str, str]) -> AdminClient:
    """A client that writes nothing to stderr: brokers that come and go are expected here."""
    return AdminClient(
        {
            "bootstrap.servers": ",".join(each.node.address(INTERNAL) for each in brokers),
            "log_level": 0,
            "socket.timeout.ms": 10_000,
            **properties,
        }
    )


def create_topic(
    admin: AdminClient,
    name: str,
    partitions: int,
    replication_factor: int,
    config: Mapping[str, str] | None,
    timeout: float,
) -> None:
    """Creates a topic, and waits until the controller has done it."""
    topic = NewTopic(name, partitions, replication_factor, config=dict(config or {}))
    try:
        admin.create_topics([topic], operation_timeout=timeout)[name].result(timeout)
    except KafkaException as error:
        raise ApacheKafkaError(f"could not create topic {name}: {error.args[0].str()}") from error


def wait_answers(
    broker: BrokerProcess, others: set[int], properties: Mapping[str, str], deadline: float
) -> None:
    """Waits until a broker accepts connections, and knows a controller and the other brokers."""
    wait(broker, lambda: broker.listens(PLAINTEXT), "accept connections", deadline)

    def complete(metadata: Any) -> bool:
        return others <= set(metadata.brokers) and metadata.controller_id > 0

    wait_metadata(broker, complete, f"know brokers {sorted(others)}", properties, deadline)


def wait_led(
    broker: BrokerProcess, topic: str, partitions: int, properties: Mapping[str, str], deadline: float
) -> None:
    """Waits until a broker knows a leader for each partition of a topic."""

    def led(metadata: Any) -> bool:
        found = metadata.topics[topic].partitions
        return len(found) == partitions and all(each.leader > 0 for each in found.values())

    wait_metadata(broker, led, f"know the leaders of {topic}", properties, deadline, topic)


def wait_leaders(
    broker: BrokerProcess,
    topic: str,
    led_by: Mapping[int, int],
    properties: Mapping[str, str],
    deadline: float,
) -> None:
    """Waits until a broker knows these leaders of a topic's partitions."""

    def moved(metadata: Any) -> bool:
        found = metadata.topics[topic].partitions
        return all(found[partition].leader == leader for partition, leader in led_by.items())

    wait_metadata(broker, moved, f"know the new leaders of {topic}", properties, deadline, topic)


def wait_in_sync(broker: BrokerProcess, topic: str, properties: Mapping[str, str], deadline: float) -> None:
    """Waits until all replicas of a topic are in sync."""

    def in_sync(metadata: Any) -> bool:
        found = metadata.topics[topic].partitions.values()
        return bool(found) and all(set(each.isrs) == set(each.replicas) for each in found)

    wait_metadata(broker, in_sync, f"have all replicas of {topic} in sync", properties, deadline, topic)


def wait_metadata(
    broker: BrokerProcess,
    condition: Callable[[Any], bool],
    what: str,
    properties: Mapping[str, str],
    deadline: float,
    topic: str | None = None,
) -> None:
    """Waits until a condition on the broker's metadata (confluent_kafka's ClusterMetadata) holds."""
    admin = admin_client([broker], properties)

    def holds() -> bool:
        try:
            return condition(admin.list_topics(topic, timeout=5.0))
        except (KafkaException, KeyError):
            return False

    wait(broker, holds, what, deadline)


def wait(broker: BrokerProcess, condition: Callable[[], bool], what: str, deadline: float) -> None:
    """Waits until a condition holds; raises ApacheKafkaError when the broker ends or time is up."""
    while not condition():
        if not broker.alive:
            raise ApacheKafkaError(f"a broker ended before it could {what}: {broker.explain()}")
        if time.monotonic() > deadline:
            raise ApacheKafkaError(f"a broker did not {what} in time: {broker.explain()}")
        time.sleep(_LOOK)
