"""MemoryCluster: topics, groups and errors on purpose, in memory; it makes the clients that use them."""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeAlias, TypeVar

from confluent_kafka import KafkaError, KafkaException

from dp_kafka.config import checks
from dp_kafka.health.lookup import Found
from dp_kafka.health.probe import Answer
from dp_kafka.kafkatest._protocol import ERROR_CODES, near
from dp_kafka.kafkatest.memory.groups import Group, Member, Partition
from dp_kafka.kafkatest.memory.records import Log, Record

if TYPE_CHECKING:
    from dp_kafka.kafkatest.memory.consumer import MemoryConsumer
    from dp_kafka.kafkatest.memory.producer import MemoryProducer

__all__ = ["Failure", "MemoryCluster", "Operation", "kafka_error"]

T = TypeVar("T")

#: What can be made to fail.
Operation: TypeAlias = Literal["commit", "poll", "produce"]
#: How: an error of Kafka by name, code or object, or any exception, which is then raised as it is.
Failure: TypeAlias = str | int | KafkaError | BaseException

_DEFAULT_FAILURES: dict[str, Failure] = {
    "commit": "COORDINATOR_NOT_AVAILABLE",
    "poll": "_TRANSPORT",
    "produce": "_MSG_TIMED_OUT",
}
_RETRIABLE = frozenset(
    ERROR_CODES[name]
    for name in (
        "_TRANSPORT",
        "COORDINATOR_NOT_AVAILABLE",
        "COORDINATOR_LOAD_IN_PROGRESS",
        "LEADER_NOT_AVAILABLE",
        "NOT_COORDINATOR",
        "NOT_LEADER_FOR_PARTITION",
        "REQUEST_TIMED_OUT",
    )
)


def kafka_error(error: str | int | KafkaError, text: str | None = None) -> KafkaError:
    """The client's object for an error given by name or code; raises ValueError if there is none such."""
    if isinstance(error, KafkaError):
        return error
    code = ERROR_CODES.get(error.upper()) if isinstance(error, str) else error
    if code is None or code not in ERROR_CODES.values():
        hint = near(error, ERROR_CODES) if isinstance(error, str) else ""
        raise ValueError(
            f"{error!r} is no error of Kafka's{hint}: give a name as in 'NOT_COORDINATOR', or a code"
        )
    fatal = code == KafkaError._FATAL
    made: KafkaError = KafkaError(code, text or KafkaError(code).str(), fatal, code in _RETRIABLE)
    return made


class MemoryCluster:
    """Topics and consumer groups in memory, for `kafkatest.Consumer` and `kafkatest.Producer`.

    No socket, no thread, and nothing that depends on time: what is produced can be consumed at once. Give one
    to several fakes and they are clients of the same cluster. Any thread may call any method; none blocks but
    those named `wait…`.

    Args:
        partitions: of a topic that is used without having been created.
        first_offset: of the first record of each partition.
        is_up: whether clients reach it; see `down` and `up`.

    `outages` counts how often it went down. `changed` is a condition that guards all of it, and is notified
    of every change.

    Raises:
        ConfigError: `partitions` or `first_offset` is no such number.
    """

    def __init__(self, *, partitions: int = 1, first_offset: int = 0, is_up: bool = True) -> None:
        checks.integer("partitions", partitions, minimum=1)
        checks.integer("first_offset", first_offset, minimum=0)
        self._partitions = partitions
        self._first_offset = first_offset
        #: Guards everything below, and what groups, members and clients keep; notified of every change.
        self.changed = threading.Condition()
        self.is_up = is_up
        #: How often it went down.
        self.outages = 0 if is_up else 1
        self._topics: dict[str, list[Log]] = {}
        #: All records of each topic in the order in which they came.
        self._records: dict[str, list[Record]] = defaultdict(list)
        self._groups: dict[str, Group] = {}
        self._failures: dict[str, deque[Failure]] = defaultdict(deque)

    # -- topics -------------------------------------------------------------------------------------

    def create_topic(self, name: str, partitions: int = 1) -> None:
        """Create a topic; one that is there already is left as it is.

        Raises:
            ConfigError: no name of a topic, or fewer than one partition.
        """
        checks.topic_name("name", name)
        checks.integer("partitions", partitions, minimum=1)
        with self.changed:
            if name not in self._topics:
                self._topics[name] = [Log(self._first_offset) for _ in range(partitions)]

    def partitions_of(self, topic: str) -> list[Partition]:
        """A topic's partitions; a topic that is not there yet is created."""
        return [Partition(topic, number) for number in range(len(self.logs(topic)))]

    def logs(self, topic: str) -> list[Log]:
        """A topic's logs, one for each partition; a topic that is not there yet is created."""
        with self.changed:
            if topic not in self._topics:
                self.create_topic(topic, self._partitions)
            return self._topics[topic]

    def append(self, record: Record) -> None:
        """Store a record in its partition, and wake who waits for it."""
        with self.changed:
            self.logs(record.topic())[record.partition()].append(record)
            self._records[record.topic()].append(record)
            self.changed.notify_all()

    def records(self, topic: str) -> list[Record]:
        """All records of a topic so far, in the order in which they came."""
        with self.changed:
            return list(self._records[topic])

    def record(self, topic: str, number: int) -> Record | None:
        """The record of a topic that came as number 0, 1, …; None if it has not come."""
        with self.changed:
            records = self._records[topic]
            return records[number] if number < len(records) else None

    def metadata(self, topic: str | None = None) -> Any:
        """What `list_topics` gives: `topics`, each with its `partitions` and an `error`."""
        with self.changed:
            names = list(self._topics) if topic is None else [topic]
            topics = {
                name: SimpleNamespace(
                    topic=name,
                    partitions=dict.fromkeys(range(len(self._topics.get(name, ())))),
                    error=None if name in self._topics else kafka_error("UNKNOWN_TOPIC_OR_PART"),
                )
                for name in names
            }
        return SimpleNamespace(topics=topics, brokers={1: None}, cluster_id="memory", controller_id=1)

    # -- groups -------------------------------------------------------------------------------------

    def group(self, name: str) -> Group:
        """A consumer group; hold `changed` while using it."""
        with self.changed:
            if name not in self._groups:
                self._groups[name] = Group(self.partitions_of)
            return self._groups[name]

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """What a group has committed of a topic: the offset of each partition that has one."""
        with self.changed:
            return {
                partition.number: commit.offset
                for partition, commit in sorted(self.group(group).committed.items())
                if partition.topic == topic
            }

    def uncommitted(self, group: str, topic: str) -> dict[int, int]:
        """How many records of each partition of a topic a group has not committed; those of 0 left out."""
        with self.changed:
            offsets = self.committed(group, topic)
            left = {
                number: log.end - offsets.get(number, log.first)
                for number, log in enumerate(self.logs(topic))
            }
        return {number: count for number, count in left.items() if count}

    def rebalance(self, group: str) -> None:
        """Have every member of a group give its partitions back and get them, or others, anew."""
        with self.changed:
            self.group(group).rebalance()
            self.changed.notify_all()

    def lose(self, group: str, member: Member, partitions: list[Partition] | None) -> None:
        """Take partitions from a member that is not asked; None takes all, and its membership."""
        with self.changed:
            self.group(group).lose(member, partitions)
            self.changed.notify_all()

    # -- faults -------------------------------------------------------------------------------------

    def down(self) -> None:
        """Nobody reaches it any more: nothing is delivered, consumed or committed until `up`."""
        with self.changed:
            self.outages += self.is_up
            self.is_up = False
            self.changed.notify_all()

    def up(self) -> None:
        """It can be reached again."""
        with self.changed:
            self.is_up = True
            self.changed.notify_all()

    def fail_next(self, operation: Operation, *errors: Failure) -> None:
        """Let the next operations of a kind fail, one with each error, in order.

        - "commit": the broker answers with the error (by default COORDINATOR_NOT_AVAILABLE, a passing one);
        - "poll": the consumer hears of the error (_TRANSPORT), an exception ends its consuming, which is
          begun again;
        - "produce": the message's delivery fails (_MSG_TIMED_OUT); an exception comes from the send itself.

        Raises:
            ValueError: no such operation, or no such error.
        """
        if operation not in _DEFAULT_FAILURES:
            raise ValueError(f"operation must be one of {', '.join(_DEFAULT_FAILURES)}, found {operation!r}")
        failures = [
            error if isinstance(error, BaseException) else kafka_error(error)
            for error in errors or (_DEFAULT_FAILURES[operation],)
        ]
        with self.changed:
            self._failures[operation].extend(failures)
            self.changed.notify_all()

    def next_failure(self, operation: Operation) -> KafkaError | None:
        """The error that an operation of this kind has to meet now; one given as an exception is raised."""
        with self.changed:
            failures = self._failures[operation]
            failure = failures.popleft() if failures else None
        if isinstance(failure, BaseException):
            raise failure
        return None if failure is None else kafka_error(failure)

    # -- waiting ------------------------------------------------------------------------------------

    def wait_for(self, become: Callable[[], T], timeout: float) -> T:
        """Wait until `become()` is true, looking after every change; what it gave last. Seconds."""
        with self.changed:
            return self.changed.wait_for(become, timeout)

    def wait_up(self, timeout: float) -> bool:
        """Wait until it can be reached; whether it can."""
        return self.wait_for(lambda: self.is_up, timeout)

    # -- clients ------------------------------------------------------------------------------------

    def consumer(self, properties: dict[str, Any]) -> MemoryConsumer:
        """A client as `confluent_kafka.Consumer(properties)` is one: a client factory of ConsumerGroup."""
        from dp_kafka.kafkatest.memory.consumer import MemoryConsumer

        return MemoryConsumer(self, properties)

    def producer(self, properties: dict[str, Any]) -> MemoryProducer:
        """A client as `confluent_kafka.Producer(properties)` is one: a client factory of Producer."""
        from dp_kafka.kafkatest.memory.producer import MemoryProducer

        return MemoryProducer(self, properties)

    def probe(self, _address: str, until: float) -> Answer:
        """Whether a broker answers: a probe for BrokerCheck."""
        return Answer("" if self.wait_up(max(0.0, min(0.01, until - time.monotonic()))) else "it is down")

    def lookup(self, topic: str) -> MemoryLookup:
        """A topic lookup for BrokerCheck."""
        return MemoryLookup(self, topic)

    def unreachable(self) -> NoReturn:
        """Raise what a request to a cluster that is down ends with.

        Raises:
            KafkaException: always.
        """
        raise KafkaException(kafka_error("_TRANSPORT", "the cluster in memory is down"))

    def __repr__(self) -> str:
        return f"<MemoryCluster {'up' if self.is_up else 'down'}, topics {sorted(self._topics)}>"


class MemoryLookup:
    """Looks one topic up, creating it as the fakes do when they use it."""

    def __init__(self, cluster: MemoryCluster, topic: str) -> None:
        self._cluster = cluster
        self._topic = topic

    def __call__(self, timeout: float) -> Found:
        """Whether the topic is there."""
        return Found(self._cluster.wait_up(timeout) and bool(self._cluster.logs(self._topic)))

    def close(self) -> None:
        """There is nothing to let go."""
