"""What happens to a message whose handler fails: `RetryPolicy` and `DeadLetter`, checked when constructed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from dp_kafka.config import checks
from dp_kafka.config.properties import Properties, checked_producer
from dp_kafka.errors import ConfigError

__all__ = ["DeadLetter", "RetryPolicy"]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Hand a message whose handler failed out again, after a pause. Durations are seconds.

    - `max_attempts` (5): how often the handler gets the message in all; 0 is without limit.
    - `min_period` (0.2), `max_period` (32.0): the pause doubles from one to the other, with jitter.
    - `retry_on` (Exception): the exception types that are tried again.
    - `give_up_on` (none): those among them that are not.

    While a message waits it occupies no worker, and what the ordering says must come after it waits too.
    It waits no longer than its partition is assigned. Raises `ConfigError`.
    """

    max_attempts: int = 5
    min_period: float = 0.2
    max_period: float = 32.0
    _: KW_ONLY
    retry_on: type[BaseException] | tuple[type[BaseException], ...] = Exception
    give_up_on: type[BaseException] | tuple[type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        checks.integer("max_attempts", self.max_attempts, minimum=0)
        shortest = checks.seconds("min_period", self.min_period)
        longest = checks.seconds("max_period", self.max_period)
        if shortest > longest:
            raise ConfigError(
                f"min_period must be smaller or equal to max_period, found {shortest} and {longest}",
                field="min_period",
            )
        object.__setattr__(self, "min_period", shortest)
        object.__setattr__(self, "max_period", longest)
        for name in ("retry_on", "give_up_on"):
            object.__setattr__(self, name, _types(name, getattr(self, name)))

    def retries(self, error: BaseException, attempt: int) -> bool:
        """Whether a message is tried again after `attempt` failed with `error`."""
        return (
            (self.max_attempts == 0 or attempt < self.max_attempts)
            and isinstance(error, self.retry_on)
            and not isinstance(error, self.give_up_on)
        )


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Send a message that was given up to a topic, and commit it once the broker has acknowledged that.

    - `topic`: where to; on the same cluster, with the same security.
    - `timeout` (10.0; at most 900): seconds to wait for the acknowledgement before the message waits and is
      sent again. Its worker waits as long, and a `close` waits for that worker.
    - `librdkafka` ({}): raw properties of the producer.

    Without a RetryPolicy a message is given up when it fails for the first time. Raises `ConfigError`.
    """

    topic: str
    _: KW_ONLY
    timeout: float = 10.0
    librdkafka: Mapping[str, Any] = field(default_factory=Properties)

    def __post_init__(self) -> None:
        checks.topic_name("topic", self.topic)
        object.__setattr__(self, "timeout", checks.seconds("timeout", self.timeout, maximum=900.0))
        object.__setattr__(self, "librdkafka", checked_producer(self.librdkafka))


def _types(name: str, value: object) -> tuple[type[BaseException], ...]:
    types = value if isinstance(value, tuple) else (value,)
    for kind in types:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise ConfigError(
                f"{name} must be an exception type or a tuple of them, found {checks.shown(kind)}", field=name
            )
    return types
