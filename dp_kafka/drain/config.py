"""What a drain is told, and what it tells: its configuration and inputs, its progress and results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from dp_kafka.config import AdminConfig, ConsumerGroupConfig, SecurityConfig, checks
from dp_kafka.config.properties import Properties
from dp_kafka.errors import ConfigError, DpKafkaError

__all__ = ["DrainProgress", "DrainResult", "DrainTopicConfig", "DrainTopicInput"]

#: Seconds after which the broker counts a drain that fell silent as gone. As long as that of most groups: the
#: embedded broker gives a member up that waits longer than its session for the last one's, less a second.
_SESSION = 10.0
_ANY = "any"
#: Client properties that an admin client has no use for.
_OF_CONSUMERS = ("group.", "partition.", "heartbeat.", "max.poll.", "fetch.", "queued.")
_STRATEGY = "partition.assignment.strategy"
#: That of dp_kafka's groups, and that of most others; members must have one in common.
_STRATEGIES = "roundrobin,range"


@dataclass(frozen=True, slots=True)
class DrainTopicConfig:
    """The configuration of a drain. Durations are seconds, as int or float.

    Compulsory: `broker_addrs` (a list or tuple of distinct 'host:port'; copied).

    - `timeout` (30.0): all of it ends by then, whatever the cluster does.
    - `batch_size` (1000): checked, otherwise without effect: offsets are committed, no messages are read.
    - `kafka_version` (None): like '3.9.0'. Checked, otherwise without effect: librdkafka asks the broker.
    - `live_members` (False): drain a group that has live members too, as one more of them. What the others
      keep, they have to consume: only they can commit it for good.
    - `security` (None: plaintext): a SecurityConfig.
    - `librdkafka` ({}): raw client properties, applied last; copied. With `live_members` they must agree
      with those of the other members, as {"group.protocol": "consumer"}.

    Raises `ConfigError`, whose `field` names the first field that is wrong.
    """

    broker_addrs: tuple[str, ...] | list[str]
    _: KW_ONLY
    timeout: float = 30.0
    batch_size: int = 1_000
    kafka_version: str | None = None
    live_members: bool = False
    security: SecurityConfig | None = None
    librdkafka: Mapping[str, Any] = field(default_factory=Properties)

    def __post_init__(self) -> None:
        def keep(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        keep("broker_addrs", checks.addresses("broker_addrs", self.broker_addrs))
        keep("timeout", checks.seconds("timeout", self.timeout))
        checks.integer("batch_size", self.batch_size)
        checks.flag("live_members", self.live_members)
        # The rest is checked by the configurations that it goes into.
        if not isinstance(self.librdkafka, Mapping):
            raise ConfigError(
                f"librdkafka must be a mapping of client properties, found {type(self.librdkafka).__name__}",
                field="librdkafka",
            )
        keep("librdkafka", Properties(self.librdkafka))
        self.member(_ANY, _ANY)
        self.admin()

    def member(self, topic: str, group_name: str) -> ConsumerGroupConfig:
        """The configuration of a member of the group."""
        agrees = {} if self.librdkafka.keys() & {"group.protocol", _STRATEGY} else {_STRATEGY: _STRATEGIES}
        return ConsumerGroupConfig(
            self.broker_addrs,
            topic,
            group_name,
            kafka_version=self.kafka_version,
            message_consume_timeout=_SESSION,
            security=self.security,
            librdkafka={**agrees, **self.librdkafka},
        )

    def admin(self) -> AdminConfig:
        """The configuration of the admin client: without what is for members only."""
        return AdminConfig(
            kafka_version=self.kafka_version,
            security=self.security,
            librdkafka={
                name: value for name, value in self.librdkafka.items() if not name.startswith(_OF_CONSUMERS)
            },
        )


@dataclass(frozen=True, slots=True)
class DrainTopicInput:
    """A topic, and the group for which it is drained.

    `topic` and `group_name` are their names. Raises `ConfigError` for a name that can't be one.
    """

    topic: str
    group_name: str

    def __post_init__(self) -> None:
        checks.topic_name("topic", self.topic)
        checks.required_text("group_name", self.group_name)


@dataclass(frozen=True, slots=True)
class DrainProgress:
    """How far the drain of `topic` for `group_name` is.

    `done` and `total` count offsets, over all partitions; `total` is 0 until it is known.
    """

    topic: str
    group_name: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class DrainResult:
    """What became of `topic`, drained for `group_name`.

    `from_offsets` and `to_offsets`: where the group stood in each partition, and where it stands now.
    `count`: the offsets between them; in a compacted topic, or one with transactions, there are fewer
    messages. `seconds`: how long it took. `error`: why not all was drained; `count` was all the same.
    """

    topic: str
    group_name: str
    from_offsets: Mapping[int, int]
    to_offsets: Mapping[int, int]
    seconds: float
    error: DpKafkaError | None = None

    @property
    def ok(self) -> bool:
        """Whether everything that was there at the start is committed as consumed."""
        return self.error is None

    @property
    def count(self) -> int:
        """How many offsets were committed as consumed."""
        return sum(offset - self.from_offsets[number] for number, offset in self.to_offsets.items())
