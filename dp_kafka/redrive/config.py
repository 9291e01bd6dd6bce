"""What a redrive is told, and what it tells: its configuration, its progress and its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from dp_kafka.config import AdminConfig, ConsumerGroupConfig, ProducerConfig, SecurityConfig, checks
from dp_kafka.config.properties import Properties, checked_producer
from dp_kafka.errors import DpKafkaError

__all__ = ["RedriveConfig", "RedriveError", "RedriveProgress", "RedriveResult"]


@dataclass(frozen=True, slots=True)
class RedriveConfig:
    """The configuration of a redrive. Durations are seconds, as int or float.

    Compulsory: `broker_addrs` (a list or tuple of distinct 'host:port'; copied) and `topic`, where the dead
    letters are.

    - `group_name` ("": the topic's name and ".redrive"): the group in whose name the progress is committed.
    - `limit` (None: all that are there at the start): at most so many letters.
    - `skip_unknown` (False): pass over what can't go back: what is no dead letter, and letters of topics that
      are not there any more. Otherwise the redrive ends before the first of them.
    - `timeout` (30.0; at most 900): for each batch of letters to be acknowledged, and for the group to
      give an assignment.
    - `max_message_bytes` (None: librdkafka's 1,000,000): of the letters that are sent.
    - `kafka_version` (None): checked, otherwise without effect.
    - `security` (None: plaintext): a SecurityConfig.
    - `librdkafka`, `producer_librdkafka` ({}): raw properties of the consuming and the producing client.

    Raises `ConfigError`, whose `field` names the first field that is wrong.
    """

    broker_addrs: tuple[str, ...] | list[str]
    topic: str
    _: KW_ONLY
    group_name: str = ""
    limit: int | None = None
    skip_unknown: bool = False
    timeout: float = 30.0
    max_message_bytes: int | None = None
    kafka_version: str | None = None
    security: SecurityConfig | None = None
    librdkafka: Mapping[str, Any] = field(default_factory=Properties)
    producer_librdkafka: Mapping[str, Any] = field(default_factory=Properties)

    def __post_init__(self) -> None:
        def keep(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        keep("broker_addrs", checks.addresses("broker_addrs", self.broker_addrs))
        checks.topic_name("topic", self.topic)
        keep("group_name", self.group_name or f"{self.topic}.redrive")
        if self.limit is not None:
            checks.integer("limit", self.limit)
        checks.flag("skip_unknown", self.skip_unknown)
        keep("timeout", checks.seconds("timeout", self.timeout, maximum=900.0))
        keep("producer_librdkafka", checked_producer(self.producer_librdkafka))
        # The rest is checked by the configurations that it goes into.
        keep("librdkafka", self.member().librdkafka)
        self.producer(self.topic)

    def member(self) -> ConsumerGroupConfig:
        """The configuration of the client that reads the letters."""
        return ConsumerGroupConfig(
            self.broker_addrs,
            self.topic,
            self.group_name,
            kafka_version=self.kafka_version,
            security=self.security,
            librdkafka=self.librdkafka,
        )

    def producer(self, topic: str) -> ProducerConfig:
        """The configuration of a producer to one original topic."""
        limit = {"message.timeout.ms": max(1, round(self.timeout * 1000))}
        return ProducerConfig(
            self.broker_addrs,
            topic,
            kafka_version=self.kafka_version,
            max_message_bytes=self.max_message_bytes,
            min_brokers_healthy=1,
            security=self.security,
            librdkafka={**limit, **self.producer_librdkafka},
        )

    def admin(self) -> AdminConfig:
        """The configuration of the admin client."""
        return AdminConfig(kafka_version=self.kafka_version, security=self.security)


@dataclass(frozen=True, slots=True)
class RedriveProgress:
    """How far a redrive is.

    `done` counts the dead letters that were sent back or passed over, `total` those that were there at the
    start.
    """

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class RedriveResult:
    """What became of the dead letters.

    - `topic`: the dead letter topic; `group_name`: the group for which the progress is committed.
    - `by_topic`: how many went back to each original topic.
    - `skipped`: how many were passed over (`skip_unknown`).
    - `left`: how many offsets between the progress and the end that was taken at the start are left.
    - `seconds`: how long it took.
    """

    topic: str
    group_name: str
    by_topic: Mapping[str, int]
    skipped: int
    left: int
    seconds: float

    @property
    def count(self) -> int:
        """How many went back."""
        return sum(self.by_topic.values())


class RedriveError(DpKafkaError):
    """Raised when a dead letter could not go back to its topic; `result` tells what did."""

    def __init__(
        self, message: object, *, result: RedriveResult, log_data: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message, log_data=log_data)
        self.result = result
