"""`ConsumerGroupConfig`, and its choices `Offset` and `Ordering`, checked when constructed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from enum import Enum, IntEnum
from typing import Any

from dp_kafka.config import checks, rdkafka
from dp_kafka.config.failures import DeadLetter, RetryPolicy
from dp_kafka.config.properties import Properties, checked_consumer
from dp_kafka.config.security import SecurityConfig, check_security
from dp_kafka.config.telemetry import check_otel
from dp_kafka.errors import ConfigError

# Kafka's usual heartbeat in seconds: a session that is not longer would end before the second one.
HEARTBEAT = 3.0
# The longest session that librdkafka allows.
_LONGEST_SESSION = 3_600.0


class Offset(IntEnum):
    """Where a group starts that has no committed offset yet (or whose offset the broker has deleted).

    - `NEWEST`: at the end: only messages that arrive from now on. The end is committed at once, so that a
      later assignment passes over nothing that came since.
    - `OLDEST`: at the beginning of what the topic still holds.
    """

    NEWEST = -1
    OLDEST = -2


class Ordering(Enum):
    """Which messages wait for each other. In each case no commit passes an unfinished message.

    - `PARTITION`: one unreleased message per partition at a time.
    - `KEY`: one unreleased message per key and partition at a time.
    - `NONE`: as many at a time as there are workers.
    """

    PARTITION = "partition"
    KEY = "key"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class ConsumerGroupConfig:
    """The configuration of one ConsumerGroup: one topic. Durations are seconds, as int or float.

    Compulsory: `broker_addrs` (a list or tuple of distinct 'host:port'; copied), `topic` and `group_name`.

    - `kafka_version` (None): like '3.9.0'. Checked, otherwise without effect: librdkafka asks the broker.
    - `keep_alive` (None, like 0: off): above zero switches TCP keep-alive on; the interval is the system's.
    - `retry_backoff` (None: 0.1 for requests, 0.5 for fetches): pause before a failed one is repeated.
    - `offset` (Offset.OLDEST): where a new group starts; -1 and -2 are accepted too.
    - `message_consume_timeout` (10.0): the session timeout: how long the group waits for a member that fell
      silent, and how long messages in hand may take to finish when their partition is taken away. Above 3 s
      (the heartbeat) and at most 3600; brokers usually allow 6 to 1800 s. With group.protocol=consumer the
      session timeout is the broker's, and only the second meaning stays.
    - `num_workers` (1): threads for a single-message handler.
    - `batch_size` (1), `batch_wait_time` (0.2): a batch is handled when it is full, or when its first message
      is this old. A batch larger than `max_buffered_messages` only ever ends by its age.
    - `min_retry_period` (0.2), `max_retry_period` (32.0): pauses between attempts to reach the cluster.
    - `min_brokers_healthy` (1): with fewer healthy brokers the health check is CRITICAL.
    - `otel_enabled` (False): OpenTelemetry: spans and measurements of handlers, in the trace that came in the
      message's headers, and the lag of each partition. Needs the extra `otel`.
    - `security` (None: plaintext): a SecurityConfig.
    - `ordering` (Ordering.PARTITION): which messages wait for each other.
    - `retry` (None), `dead_letter` (None): what happens to a message whose handler failed.
    - `commit_interval` (0.05): longest time that a commit waits for company; 0 makes `Message.commit()`
      wait for the broker's answer.
    - `max_buffered_messages` (10,000), `max_buffered_bytes` (64 MiB): most that is read ahead, half of the
      bytes in librdkafka; it has half as many messages besides. One answer of a broker (at least 1 MB) may
      come on top. Bytes are those of the values.
    - `slow_handler_seconds` (60.0; None: never): a handler that is longer than this with one message or batch
      is logged once, with its thread's stack. It goes on undisturbed.
    - `librdkafka` ({}): raw client properties, applied last; copied. Those that would break this library's
      promises are refused by name.

    Raises `ConfigError`, whose `field` names the first field that is wrong.
    """

    broker_addrs: tuple[str, ...] | list[str]
    topic: str
    group_name: str
    _: KW_ONLY
    kafka_version: str | None = None
    keep_alive: float | None = None
    retry_backoff: float | None = None
    offset: Offset = Offset.OLDEST
    message_consume_timeout: float = 10.0
    num_workers: int = 1
    batch_size: int = 1
    batch_wait_time: float = 0.2
    min_retry_period: float = 0.2
    max_retry_period: float = 32.0
    min_brokers_healthy: int = 1
    otel_enabled: bool = False
    security: SecurityConfig | None = None
    ordering: Ordering = Ordering.PARTITION
    retry: RetryPolicy | None = None
    dead_letter: DeadLetter | None = None
    commit_interval: float = 0.05
    max_buffered_messages: int = 10_000
    max_buffered_bytes: int = 64 * 1024 * 1024
    slow_handler_seconds: float | None = 60.0
    librdkafka: Mapping[str, Any] = field(default_factory=Properties)

    def __post_init__(self) -> None:
        def keep(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        checks.kafka_version("kafka_version", self.kafka_version)
        keep("offset", _offset(self.offset))
        checks.topic_name("topic", self.topic)
        checks.required_text("group_name", self.group_name)
        keep("broker_addrs", checks.addresses("broker_addrs", self.broker_addrs))
        shortest, longest = checks.retry_periods(self.min_retry_period, self.max_retry_period)
        keep("min_retry_period", shortest)
        keep("max_retry_period", longest)
        checks.brokers_healthy(self.min_brokers_healthy, len(self.broker_addrs))
        keep("keep_alive", checks.keep_alive(self.keep_alive))
        keep("retry_backoff", checks.retry_backoff(self.retry_backoff))
        keep("message_consume_timeout", _session(self.message_consume_timeout))
        for name in ("num_workers", "batch_size", "max_buffered_messages", "max_buffered_bytes"):
            checks.integer(name, getattr(self, name))
        keep("batch_wait_time", checks.seconds("batch_wait_time", self.batch_wait_time))
        keep("commit_interval", checks.seconds("commit_interval", self.commit_interval, zero=True))
        if self.slow_handler_seconds is not None:
            keep("slow_handler_seconds", checks.seconds("slow_handler_seconds", self.slow_handler_seconds))
        check_otel(checks.flag("otel_enabled", self.otel_enabled))
        if not isinstance(self.ordering, Ordering):
            raise ConfigError(
                f"ordering must be Ordering.PARTITION, KEY or NONE, found {checks.shown(self.ordering)}",
                field="ordering",
            )
        for name, kind in (("retry", RetryPolicy), ("dead_letter", DeadLetter)):
            if getattr(self, name) is not None and not isinstance(getattr(self, name), kind):
                raise ConfigError(
                    f"{name} must be a {kind.__name__} or None, found {checks.shown(getattr(self, name))}",
                    field=name,
                )
        if self.dead_letter is not None and self.dead_letter.topic == self.topic:
            raise ConfigError(
                f"dead_letter must name another topic than the one that is consumed, found {self.topic!r}",
                field="dead_letter",
            )
        check_security(self.security)
        keep("librdkafka", checked_consumer(self.librdkafka))
        # Made for its checks alone: what cannot go together shows here, not in the first client.
        rdkafka.consumer_properties(self)


def _offset(value: object) -> Offset:
    if isinstance(value, int) and not isinstance(value, bool) and value in (-1, -2):
        return Offset(value)
    raise ConfigError(
        f"offset value incorrect: it must be Offset.NEWEST or Offset.OLDEST, found {checks.shown(value)}",
        field="offset",
    )


def _session(value: object) -> float:
    timeout = checks.seconds("message_consume_timeout", value, maximum=_LONGEST_SESSION)
    if timeout <= HEARTBEAT:
        raise ConfigError(
            f"message_consume_timeout must be greater than the heartbeat interval of {HEARTBEAT:g} seconds, "
            f"found {checks.shown(value)}",
            field="message_consume_timeout",
        )
    return timeout
