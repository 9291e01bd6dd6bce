"""`AdminConfig`: what an admin client needs beside the brokers' addresses, checked when constructed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dp_kafka.config import checks, rdkafka
from dp_kafka.config.properties import Properties, checked_admin
from dp_kafka.config.security import SecurityConfig, check_security

# An address that nobody connects to: the checks need one, and the real ones come with new_admin().
_ANY_ADDRESS = ("localhost:9092",)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminConfig:
    """The configuration of an admin client, every field optional. Durations are seconds, as int or float.

    - `kafka_version` (None): like '3.9.0'. Checked, otherwise without effect: librdkafka asks the broker.
    - `keep_alive` (None, like 0: off): above zero switches TCP keep-alive on; the interval is the system's.
    - `retry_backoff` (None: 0.1): first pause before a request is repeated.
    - `retry_max` (None: 5): how often an admin request is repeated that failed for a passing reason.
    - `security` (None: plaintext): a SecurityConfig.
    - `librdkafka` ({}): raw client properties, applied last; copied.

    Raises `ConfigError`, whose `field` names the first field that is wrong.
    """

    kafka_version: str | None = None
    keep_alive: float | None = None
    retry_backoff: float | None = None
    retry_max: int | None = None
    security: SecurityConfig | None = None
    librdkafka: Mapping[str, Any] = field(default_factory=Properties)

    def __post_init__(self) -> None:
        checks.kafka_version("kafka_version", self.kafka_version)
        object.__setattr__(self, "keep_alive", checks.keep_alive(self.keep_alive))
        object.__setattr__(self, "retry_backoff", checks.retry_backoff(self.retry_backoff))
        if self.retry_max is not None:
            checks.integer("retry_max", self.retry_max, minimum=0, maximum=2**31 - 1)
        check_security(self.security)
        object.__setattr__(self, "librdkafka", checked_admin(self.librdkafka))
        # Made for its checks alone: what cannot go together shows here, not in the first client.
        rdkafka.admin_properties(_ANY_ADDRESS, self)
