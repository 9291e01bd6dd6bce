"""The fake producer: a real Producer whose Kafka client keeps in memory what it sends, for a test to see."""

from __future__ import annotations

import time
from typing import Any

from dp_kafka.avro import Schema
from dp_kafka.codecs.json import JsonCodec
from dp_kafka.config import ProducerConfig
from dp_kafka.errors import ConfigError, MarshalError
from dp_kafka.health.checks import BrokerCheck
from dp_kafka.kafkatest.errors import KafkaTestError
from dp_kafka.kafkatest.memory.cluster import Failure, MemoryCluster, Operation
from dp_kafka.kafkatest.memory.records import Record
from dp_kafka.producer import producer

__all__ = ["Producer"]

#: Seconds that the waiting methods wait when they are not told otherwise.
PATIENCE = 5.0
#: The longest wait before it looks whether the producer has closed.
_LOOK_SECONDS = 0.01


class Producer(producer.Producer):
    """A Producer without a broker: marshalling, headers, delivery and closing are the library's own.

    It can be given to a service in place of its Producer. The `wait_for_…` methods take one message after
    another, in the order of sending; `sent` has them all. Any thread may call it.

    Args:
        config: as for Producer; its addresses are asked for nothing.
        partitions: of its topic.
        initialised: False leaves it uninitialised, as with a broker that is away, until `initialise`.
        cluster: the topics; fakes with the same one see each other's. None makes one.

    Raises:
        ConfigError: there is no configuration, or a Producer would refuse it.
    """

    def __init__(
        self,
        config: ProducerConfig,
        *,
        partitions: int = 1,
        initialised: bool = True,
        cluster: MemoryCluster | None = None,
    ) -> None:
        if config is None:
            raise ConfigError("kafka producer config must be provided", field="config")
        if not isinstance(config, ProducerConfig):
            raise ConfigError(
                "failed to create producer for testing: it takes a ProducerConfig, but got "
                f"{type(config).__name__}",
                field="config",
            )
        #: The topics that it works on.
        self.cluster = MemoryCluster() if cluster is None else cluster
        self.cluster.create_topic(config.topic, partitions)
        if not initialised:
            self.cluster.down()
        #: How many messages the waiting methods have taken; guarded by the cluster's lock.
        self._taken = 0
        try:
            super().__init__(
                config,
                client_factory=self.cluster.producer,
                broker_check=BrokerCheck(
                    config, probe=self.cluster.probe, lookup=self.cluster.lookup(config.topic)
                ),
            )
        except ConfigError as error:
            raise ConfigError(f"failed to create producer for testing: {error}", field=error.field) from error

    def initialise(self) -> None:
        """Bring the cluster up, if it is down, and initialise. See `Producer.initialise`."""
        self.cluster.up()
        super().initialise()

    # -- what was sent ------------------------------------------------------------------------------

    @property
    def sent(self) -> list[Record]:
        """All messages of the topic so far, in the order of sending, waited for or not."""
        return self.cluster.records(self.topic)

    def wait_for_sent(self, timeout: float = PATIENCE) -> Record:
        """Wait for the next message, at most `timeout` seconds: its value, key, headers and partition.

        Raises:
            KafkaTestError: none came, or the producer closed before.
        """
        until = time.monotonic() + timeout
        with self.cluster.changed:
            while True:
                record = self.cluster.record(self.topic, self._taken)
                if record is not None:
                    self._taken += 1
                    return record
                if self.channels.closed.is_set():
                    raise KafkaTestError("no message was sent: the producer is closed")
                remaining = until - time.monotonic()
                if remaining <= 0:
                    raise KafkaTestError(f"no message was sent within {timeout} seconds")
                self.cluster.changed.wait(min(_LOOK_SECONDS, remaining))

    def wait_for_message_sent(self, schema: Schema, cls: Any = None, *, timeout: float = PATIENCE) -> Any:
        """Wait for the next message, and unmarshal it with a schema; the class, or None for a dict.

        Raises:
            KafkaTestError: none came, the producer closed before, or it is not what the schema says.
        """
        record = self.wait_for_sent(timeout)
        try:
            return schema.unmarshal(_value(record), cls)
        except MarshalError as error:
            raise KafkaTestError(f"a message was sent, but {error}") from error

    def wait_for_json_message_sent(self, cls: Any = None, *, timeout: float = PATIENCE) -> Any:
        """Wait for the next message, and decode it as JSON; the class, or None for what JSON gives.

        Raises:
            KafkaTestError: none came, the producer closed before, or it does not fit JSON or the class.
        """
        record = self.wait_for_sent(timeout)
        try:
            return JsonCodec(cls).decode(_value(record))
        except MarshalError as error:
            raise KafkaTestError(f"a message was sent, but {error}") from error

    def wait_no_message_sent(self, window: float = 0.1) -> None:
        """Wait for the whole window, in seconds, in which nothing must be sent.

        Raises:
            KafkaTestError: a message was sent, or the producer closed, before its end.
        """
        until = time.monotonic() + window
        with self.cluster.changed:
            while True:
                if self.cluster.record(self.topic, self._taken) is not None:
                    raise KafkaTestError("a message was sent that was not expected")
                remaining = until - time.monotonic()
                if remaining <= 0:
                    return
                if self.channels.closed.is_set():
                    raise KafkaTestError("the producer closed while no message was expected")
                self.cluster.changed.wait(min(_LOOK_SECONDS, remaining))

    # -- what may happen to it ----------------------------------------------------------------------

    def fail_next(self, operation: Operation, *errors: Failure) -> None:
        """Let the delivery of the next messages fail: "produce"; see `MemoryCluster.fail_next`."""
        self.cluster.fail_next(operation, *errors)


def _value(record: Record) -> bytes:
    value = record.value()
    if value is None:
        raise KafkaTestError("a message was sent, but it is a tombstone: it has no value")
    return value
