"""`ProducerConfig`: what a Producer needs to know, checked when constructed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, cast

from dp_kafka.config import checks, rdkafka
from dp_kafka.config.properties import Properties, checked_producer
from dp_kafka.config.security import SecurityConfig, check_security
from dp_kafka.config.telemetry import check_otel

# The range that librdkafka allows for message.max.bytes.
_SMALLEST_LIMIT, _LARGEST_LIMIT = 1_000, 1_000_000_000


@dataclass(frozen=True, slots=True)
class ProducerConfig:
    """The configuration of one Producer: one topic. Durations are seconds, as int or float.

    Compulsory: `broker_addrs` (a list or tuple of distinct 'host:port'; copied) and `topic`.

    - `kafka_version` (None): like '3.9.0'. Checked, otherwise without effect: librdkafka asks the broker.
    - `max_message_bytes` (None: 1,000,000): largest message, 1,000 to 1,000,000,000 bytes. The topic's own
      max.message.bytes has to allow it too.
    - `keep_alive` (None, like 0: off): above zero switches TCP keep-alive on; the interval is the system's.
    - `retry_max` (None: no limit but librdkafka's delivery.timeout.ms, 5 minutes): how often a message is
      sent again. 0 also switches the idempotent producer off, which cannot do without retries.
    - `retry_backoff` (None: 0.1): first pause before a request is repeated; it doubles, up to 1 s or
      `retry_backoff`, whichever is longer.
    - `min_retry_period` (0.2), `max_retry_period` (32.0): pauses between attempts to reach the cluster.
    - `min_brokers_healthy` (1 for one address, else 2): with fewer healthy brokers the health check is
      CRITICAL.
    - `otel_enabled` (False): OpenTelemetry: a span and measurements for each message, whose headers get the
      trace context. Needs the extra `otel`.
    - `security` (None: plaintext): a SecurityConfig.
    - `librdkafka` ({}): raw client properties, applied last; copied. Those that would break this library's
      promises are refused by name.

    Raises `ConfigError`, whose `field` names the first field that is wrong.
    """

    broker_addrs: tuple[str, ...] | list[str]
    topic: str
    _: KW_ONLY
    kafka_version: str | None = None
    max_message_bytes: int | None = None
    keep_alive: float | None = None
    retry_max: int | None = None
    retry_backoff: float | None = None
    min_retry_period: float = 0.2
    max_retry_period: float = 32.0
    min_brokers_healthy: int = cast(int, None)  # decided in __post_init__, by the number of addresses
    otel_enabled: bool = False
    security: SecurityConfig | None = None
    librdkafka: Mapping[str, Any] = field(default_factory=Properties)

    def __post_init__(self) -> None:
        def keep(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        checks.kafka_version("kafka_version", self.kafka_version)
        checks.topic_name("topic", self.topic)
        keep("broker_addrs", checks.addresses("broker_addrs", self.broker_addrs))
        shortest, longest = checks.retry_periods(self.min_retry_period, self.max_retry_period)
        keep("min_retry_period", shortest)
        keep("max_retry_period", longest)
        addresses = len(self.broker_addrs)
        if cast(Any, self.min_brokers_healthy) is None:
            keep("min_brokers_healthy", min(2, addresses))
        checks.brokers_healthy(self.min_brokers_healthy, addresses)
        if self.max_message_bytes is not None:
            checks.integer("max_message_bytes", self.max_message_bytes)
            checks.integer(
                "max_message_bytes", self.max_message_bytes, minimum=_SMALLEST_LIMIT, maximum=_LARGEST_LIMIT
            )
        keep("keep_alive", checks.keep_alive(self.keep_alive))
        if self.retry_max is not None:
            checks.integer("retry_max", self.retry_max, minimum=0, maximum=2**31 - 1)
        keep("retry_backoff", checks.retry_backoff(self.retry_backoff))
        check_otel(checks.flag("otel_enabled", self.otel_enabled))
        check_security(self.security)
        keep("librdkafka", checked_producer(self.librdkafka))
        # Made for its checks alone: what cannot go together shows here, not in the first client.
        rdkafka.producer_properties(self)
