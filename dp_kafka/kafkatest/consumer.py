"""The fake consumer: a real ConsumerGroup whose Kafka client reads from memory what a test queues."""

from __future__ import annotations

from typing import Any

from dp_kafka.codecs.json import JsonCodec
from dp_kafka.codecs.protocol import Codec, MarshalsEvents
from dp_kafka.config import ConsumerGroupConfig, ProducerConfig
from dp_kafka.consumer.group import ConsumerGroup
from dp_kafka.errors import ClosedError, ConfigError
from dp_kafka.headers import Headers
from dp_kafka.health.checks import BrokerCheck
from dp_kafka.kafkatest.errors import KafkaTestError
from dp_kafka.kafkatest.memory.cluster import Failure, MemoryCluster, Operation
from dp_kafka.kafkatest.memory.consumer import MemoryConsumer
from dp_kafka.kafkatest.memory.groups import Partition
from dp_kafka.kafkatest.memory.records import Record, partition_of
from dp_kafka.kafkatest.producer import Producer

__all__ = ["Consumer"]

_JSON = JsonCodec()

#: Seconds that the waiting methods wait when they are not told otherwise.
PATIENCE = 5.0
#: As many partitions as the original's fake has, and its first offset.
PARTITIONS = 30
FIRST_OFFSET = 1


class Consumer(ConsumerGroup):
    """A ConsumerGroup without a broker: states, assignments, workers and offsets are the library's own.

    It can be given to a service in place of its ConsumerGroup. Messages come from `queue_message`,
    `queue_json` and `queue_bytes`; `committed` tells what the service has committed. Any thread may call it.

    Args:
        config: as for ConsumerGroup; its addresses are asked for nothing.
        codec: as for ConsumerGroup.
        partitions: of its topic.
        initialised: False leaves it uninitialised, as with a broker that is away, until `initialise`.
        cluster: the topics and groups; fakes with the same one see each other's. None makes one.

    Raises:
        ConfigError: there is no configuration, or a ConsumerGroup would refuse it.
    """

    def __init__(
        self,
        config: ConsumerGroupConfig,
        *,
        codec: Codec | None = None,
        partitions: int = PARTITIONS,
        initialised: bool = True,
        cluster: MemoryCluster | None = None,
    ) -> None:
        if config is None:
            raise ConfigError("kafka consumer config must be provided", field="config")
        if not isinstance(config, ConsumerGroupConfig):
            raise ConfigError(
                "failed to create consumer group for testing: it takes a ConsumerGroupConfig, but got "
                f"{type(config).__name__}",
                field="config",
            )
        #: The topics and groups that it works on.
        self.cluster = MemoryCluster(first_offset=FIRST_OFFSET) if cluster is None else cluster
        self.cluster.create_topic(config.topic, partitions)
        if not initialised:
            self.cluster.down()
        self._kafka_client: MemoryConsumer | None = None
        try:
            super().__init__(
                config,
                codec=codec,
                client_factory=self._new_client,
                broker_check=BrokerCheck(
                    config, probe=self.cluster.probe, lookup=self.cluster.lookup(config.topic)
                ),
                producer_factory=self._new_producer,
            )
        except ConfigError as error:
            raise ConfigError(
                f"failed to create consumer group for testing: {error}", field=error.field
            ) from error

    def _new_client(self, properties: dict[str, Any]) -> MemoryConsumer:
        # Each session has a client of its own.
        self._kafka_client = self.cluster.consumer(properties)
        return self._kafka_client

    def _new_producer(self, config: ProducerConfig) -> Producer:
        return Producer(config, cluster=self.cluster)

    def initialise(self) -> None:
        """Bring the cluster up, if it is down, and initialise. See `ConsumerGroup.initialise`."""
        self.cluster.up()
        super().initialise()

    # -- what it consumes ---------------------------------------------------------------------------

    def queue_message(
        self,
        schema: MarshalsEvents,
        event: Any,
        *,
        key: bytes | str | None = None,
        headers: Headers | None = None,
        partition: int | None = None,
        timestamp: int | None = None,
    ) -> Record:
        """Marshal an event with a schema and queue it; the rest is as for `queue_bytes`.

        Raises:
            MarshalError: the event does not fit the schema.
        """
        value = schema.marshal(event)
        return self.queue_bytes(value, key=key, headers=headers, partition=partition, timestamp=timestamp)

    def queue_json(
        self,
        event: Any,
        *,
        key: bytes | str | None = None,
        headers: Headers | None = None,
        partition: int | None = None,
        timestamp: int | None = None,
    ) -> Record:
        """Queue an event as JSON; the rest is as for `queue_bytes`.

        Raises:
            MarshalError: the event has no JSON form.
        """
        value = _JSON.encode(event)
        return self.queue_bytes(value, key=key, headers=headers, partition=partition, timestamp=timestamp)

    def queue_bytes(
        self,
        value: bytes | None,
        *,
        key: bytes | str | None = None,
        headers: Headers | None = None,
        partition: int | None = None,
        timestamp: int | None = None,
    ) -> Record:
        """Put a message into the topic, where the group gets it once it consumes; never blocks.

        Without `partition` the key decides, as for a real producer; without a key it is partition 0.
        `timestamp` is in milliseconds since the epoch, by default now. Gives the record, with its offset.

        Raises:
            ClosedError: the consumer is closing: nobody would get it.
            ValueError: there is no such partition.
            TypeError: a value that is neither bytes nor None, or a key or header of a wrong type.
        """
        if self._control.closing:
            raise ClosedError("nothing can be queued because the consumer is closing: make a new one")
        if value is not None and not isinstance(value, bytes):
            raise TypeError(
                f"queue_bytes takes bytes or None, but got {type(value).__name__}: encode it first"
            )
        count = len(self.cluster.logs(self.topic))
        record = Record(self.topic, -1 if partition is None else partition, value, key, headers, timestamp)
        if partition is None:
            record._partition = partition_of(record.key(), count)
        elif not 0 <= partition < count:
            raise ValueError(f"{self.topic} has the partitions 0 to {count - 1}, there is no {partition}")
        self.cluster.append(record)
        return record

    # -- what became of it --------------------------------------------------------------------------

    @property
    def committed(self) -> dict[int, int]:
        """What the group has committed: for each partition that has a commit, the offset to go on with."""
        return self.cluster.committed(self.group_name, self.topic)

    @property
    def uncommitted(self) -> dict[int, int]:
        """How many messages of each partition are queued and not committed; those of 0 left out."""
        return self.cluster.uncommitted(self.group_name, self.topic)

    def wait_all_committed(self, timeout: float = PATIENCE) -> None:
        """Wait until everything that was queued is committed, at most `timeout` seconds.

        Raises:
            KafkaTestError: it is not; with what is left, and the group's state.
        """
        if self.cluster.wait_for(lambda: not self.uncommitted, timeout):
            return
        raise KafkaTestError(
            f"not committed after {timeout} seconds, by partition: {self.uncommitted}; the group is "
            f"{self.state}, with {self._poller.in_hand()} messages in hand",
            log_data={"uncommitted": self.uncommitted},
        )

    # -- what may happen to it ----------------------------------------------------------------------

    def rebalance_cluster(self, timeout: float = PATIENCE) -> bool:
        """Have the group give all partitions back and get them anew, as when another member joins.

        What is in hand is waited for and committed first, for at most `message_consume_timeout`. Waits for
        the new assignment at most `timeout` seconds; from a handler, which the rebalance has to wait for, it
        returns at once. True if the new assignment is there. Does nothing in a group that doesn't consume.
        """
        before = self.cluster.group(self.group_name).generation
        client = self._kafka_client
        if client is None or client.member is None:
            return False
        self.cluster.rebalance(self.group_name)
        return self._wait_fetching(before, timeout)

    def lose_partitions(self, *partitions: int, timeout: float = PATIENCE) -> bool:
        """Take these partitions, or without any all, away at once, as from a member that was away too long.

        What is in hand can't be committed any more and comes again. Then the group gets the partitions
        anew, for which this waits at most `timeout` seconds, but not in a handler; True if it has them.

        Raises:
            ValueError: the group does not have such a partition.
        """
        client = self._kafka_client
        member = None if client is None else client.member
        if member is None:
            return False
        with self.cluster.changed:
            lost = [Partition(self.topic, number) for number in partitions]
            missing = [partition.number for partition in lost if partition not in member.owned]
            if missing:
                raise ValueError(f"the group does not have the partitions {missing}, so it can't lose them")
            self.cluster.lose(self.group_name, member, lost or None)
        return self._wait_fetching(0, timeout)

    def _wait_fetching(self, generation: int, timeout: float) -> bool:
        """Wait until the group has an assignment that is newer than this generation."""

        def fetching() -> bool:
            client = self._kafka_client
            member = None if client is None else client.member
            newer = self.cluster.group(self.group_name).generation > generation
            return newer and member is not None and member.fetching

        return self.cluster.wait_for(fetching, 0 if self._in_own_thread() else timeout)

    def fail_next(self, operation: Operation, *errors: Failure) -> None:
        """Let the next "commit", "poll" or "produce" (of a dead letter) fail: `MemoryCluster.fail_next`."""
        self.cluster.fail_next(operation, *errors)
