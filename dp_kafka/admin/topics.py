"""Topics of a cluster: which there are, what they look like, how they are set, and making them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported without __all__
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from dp_kafka.admin.client import requests_of
from dp_kafka.admin.requests import TIMEOUT
from dp_kafka.config import checks
from dp_kafka.errors import ConfigError, KafkaClientError, UnknownTopicError

__all__ = [
    "PartitionInfo",
    "TopicInfo",
    "TopicSetting",
    "create_topic",
    "list_topics",
    "topic_info",
    "topic_settings",
]


@dataclass(frozen=True)
class PartitionInfo:
    """A partition, and the ids of the brokers that have it.

    `partition` is its number; `leader` the broker that leads it, -1 while there is none; `replicas` all
    brokers that have it, `in_sync` those of them that keep up with the leader.
    """

    partition: int
    leader: int
    replicas: tuple[int, ...]
    in_sync: tuple[int, ...]

    @property
    def under_replicated(self) -> bool:
        """Whether a replica lags behind its leader, or is away."""
        return len(self.in_sync) < len(self.replicas)


@dataclass(frozen=True)
class TopicInfo:
    """A topic: its `name`, and its `partitions` in the order of their numbers."""

    name: str
    partitions: tuple[PartitionInfo, ...]

    @property
    def internal(self) -> bool:
        """Whether Kafka or one of its tools made it for itself: the name begins with two underscores."""
        return self.name.startswith("__")

    @property
    def replication_factor(self) -> int:
        """How many replicas each partition has; the fewest, if they differ."""
        return min((len(partition.replicas) for partition in self.partitions), default=0)


@dataclass(frozen=True)
class TopicSetting:
    """A setting of a topic.

    `name` is Kafka's, as 'retention.ms'; `value` is None where the broker does not show it, because it is
    sensitive; with `default` it is the broker's, not the topic's own.
    """

    name: str
    value: str | None
    default: bool


def list_topics(admin: AdminClient, *, timeout: float = TIMEOUT) -> list[TopicInfo]:
    """All topics that one may describe, by name. Raises `KafkaClientError`. Blocks."""
    until = time.monotonic() + timeout
    # Never for one name: a client that asks for it may create the topic.
    metadata = requests_of(admin).call(lambda seconds: admin.list_topics(timeout=seconds), until)
    return [_info(name, topic.partitions) for name, topic in sorted(metadata.topics.items())]


def topic_info(admin: AdminClient, topic: str, *, timeout: float = TIMEOUT) -> TopicInfo:
    """One topic, which is not created by asking. Blocks.

    Raises:
        UnknownTopicError: there is no such topic, or one may not know of it.
        KafkaClientError: the cluster cannot be asked.
    """
    for found in list_topics(admin, timeout=timeout):
        if found.name == topic:
            return found
    raise UnknownTopicError(
        f"there is no topic {topic!r} on this cluster, or this client may not describe it",
        log_data={"topic": topic},
    )


def create_topic(
    admin: AdminClient,
    topic: str,
    *,
    partitions: int = 1,
    replication_factor: int | None = None,
    settings: Mapping[str, str] | None = None,
    validate_only: bool = False,
    timeout: float = TIMEOUT,
) -> bool:
    """Create a topic; False if one of that name is there already, whatever its shape. Blocks.

    Args:
        replication_factor: by default the cluster's (default.replication.factor).
        settings: of the topic, as {"retention.ms": "3600000"}.
        validate_only: have the cluster check it, and create nothing.

    The answer is the controller's; other brokers hear of the topic a moment later.

    Raises:
        ConfigError: a value makes no sense.
        KafkaClientError: the cluster refused, or cannot be asked.
    """
    checks.topic_name("topic", topic)
    checks.integer("partitions", partitions)
    if replication_factor is not None:
        checks.integer("replication_factor", replication_factor)
    chosen = dict(settings or {})
    for name, value in chosen.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise ConfigError(
                f"settings must be texts, found {checks.shown(name)}: {checks.shown(value)}", field="settings"
            )
    new = NewTopic(topic, partitions, replication_factor or -1, config=chosen)

    def send(seconds: float) -> Future[Any]:
        futures: dict[str, Future[Any]] = admin.create_topics(
            [new], operation_timeout=seconds, request_timeout=seconds, validate_only=validate_only
        )
        return futures[topic]

    try:
        requests_of(admin).call(send, time.monotonic() + timeout)
    except KafkaClientError as error:
        # Also when our own first request was carried out, and its answer lost.
        if error.code == KafkaError.TOPIC_ALREADY_EXISTS:
            return False
        raise
    return True


def topic_settings(admin: AdminClient, topic: str, *, timeout: float = TIMEOUT) -> list[TopicSetting]:
    """The settings of a topic, by name. Raises `KafkaClientError`. Blocks."""
    resource = ConfigResource(ResourceType.TOPIC, topic)

    def send(seconds: float) -> Future[dict[str, Any]]:
        (future,) = admin.describe_configs([resource], request_timeout=seconds).values()
        return future

    found: dict[str, Any] = requests_of(admin).call(send, time.monotonic() + timeout)
    return [
        TopicSetting(name, None if entry.is_sensitive else entry.value, bool(entry.is_default))
        for name, entry in sorted(found.items())
    ]


def _info(name: str, partitions: Mapping[int, Any]) -> TopicInfo:
    return TopicInfo(
        name,
        tuple(
            PartitionInfo(number, found.leader, tuple(found.replicas), tuple(found.isrs))
            for number, found in sorted(partitions.items())
        ),
    )
