"""Offsets: where partitions begin and end, and what a group has committed, read and set from outside it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Generic, TypeAlias, TypeVar

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from dp_kafka import forks
from dp_kafka.admin.client import ask_coordinator, requests_of
from dp_kafka.admin.requests import TIMEOUT, Requests
from dp_kafka.clients import CLIENT_LOGGER
from dp_kafka.config import AdminConfig, checks
from dp_kafka.config.rdkafka import admin_properties
from dp_kafka.errors import KafkaClientError

__all__ = ["GroupOffsets", "Partition", "commit_offsets", "ends_of", "starts_of"]

T = TypeVar("T")
#: A topic and the number of a partition of it.
Partition: TypeAlias = tuple[str, int]

#: Partitions in one request; a broker's answer to it stays far below a megabyte.
_AT_ONCE = 2_000


def starts_of(
    admin: AdminClient, partitions: Iterable[Partition], *, timeout: float = TIMEOUT
) -> dict[Partition, int]:
    """The first offset that each partition still has. Raises `KafkaClientError`. Blocks."""
    earliest: OffsetSpec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
    return _offsets(admin, partitions, earliest, timeout)


def ends_of(
    admin: AdminClient, partitions: Iterable[Partition], *, timeout: float = TIMEOUT
) -> dict[Partition, int]:
    """The offset that the next message of each partition will get. Raises `KafkaClientError`. Blocks."""
    latest: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    return _offsets(admin, partitions, latest, timeout)


def _offsets(
    admin: AdminClient, partitions: Iterable[Partition], which: OffsetSpec, timeout: float
) -> dict[Partition, int]:
    def send(keys: list[Partition], seconds: float) -> dict[Partition, Future[int]]:
        answers = admin.list_offsets({TopicPartition(*key): which for key in keys}, request_timeout=seconds)
        return {(each.topic, each.partition): _Read(answer, _offset) for each, answer in answers.items()}

    asked = list(partitions)
    answers = requests_of(admin).each(send, asked, time.monotonic() + timeout) if asked else {}
    found: dict[Partition, int] = {}
    for (topic, number), answer in answers.items():
        if isinstance(answer, KafkaClientError):
            raise KafkaClientError(
                f"no offset of topic {topic!r}, partition {number}: {answer}",
                code=answer.code,
                name=answer.name,
                retriable=answer.retriable,
                permanent=answer.permanent,
                log_data={"topic": topic, "partition": number},
            ) from answer
        found[topic, number] = answer
    return found


def _offset(answer: Any) -> int:
    offset: int = answer.offset
    if offset < 0:
        # librdkafka gives neither an offset nor an error where the connection broke.
        raise KafkaException(KafkaError(KafkaError._TRANSPORT))
    return offset


def commit_offsets(
    admin: AdminClient, group: str, offsets: Mapping[Partition, int], *, timeout: float = TIMEOUT
) -> None:
    """Commit offsets for a group from outside it, which Kafka allows while the group has no member. Blocks.

    Raises:
        KafkaClientError: it was refused, or not answered; some may be committed all the same. `name` is
            "UNKNOWN_MEMBER_ID" when the group has members.
    """
    until = time.monotonic() + timeout
    wanted = [TopicPartition(*partition, offset) for partition, offset in offsets.items()]
    for first in range(0, len(wanted), _AT_ONCE):
        _commit(admin, ConsumerGroupTopicPartitions(group, wanted[first : first + _AT_ONCE]), until)


def _commit(admin: AdminClient, request: ConsumerGroupTopicPartitions, until: float) -> None:
    def send(client: AdminClient, seconds: float) -> Future[Any]:
        answers = client.alter_consumer_group_offsets([request], request_timeout=seconds)
        return _Read(answers[request.group_id], _no_error)

    ask_coordinator(admin, send, until)


def _no_error(answer: ConsumerGroupTopicPartitions) -> bool:
    for each in answer.topic_partitions or ():
        if each.error is not None:
            raise KafkaException(each.error)
    return True


class _Read(Future[T], Generic[T]):
    """What `read` makes of the answer that another future brings."""

    def __init__(self, answer: Future[Any], read: Callable[[Any], T]) -> None:
        super().__init__()
        self._answer = answer
        self._read = read

    def result(self, timeout: float | None = None) -> T:
        """Wait for the answer, and read it."""
        return self._read(self._answer.result(timeout))


class GroupOffsets:
    """Reads the committed offsets of a group, without being a member of it. A context manager.

    Used by one thread at a time; all of it blocks. In a forked child each use but `close` raises
    `ForkedError`. It owns a consumer that never subscribes. The admin client has a request for this too,
    but confluent-kafka 2.16 ends the process by a segmentation fault when the group's coordinator has just
    moved.

    Raises:
        ConfigError: an address is malformed, or the name of the group is empty.
    """

    def __init__(self, broker_addrs: Sequence[str], group: str, config: AdminConfig | None = None) -> None:
        checks.required_text("group", group)
        properties = admin_properties(tuple(broker_addrs), config)
        # Some of the user's properties may be for the admin client alone; none is about groups.
        properties |= {"group.id": group, "enable.auto.commit": False, "allow.auto.create.topics": False}
        properties["error_cb"] = self._on_error
        self._client = Consumer(properties, logger=CLIENT_LOGGER)
        self._requests = Requests(self._client)
        #: Whether this is a forked child, and the client of no use in it.
        self._is_parents = False
        forks.track(self, GroupOffsets._after_fork)

    def _on_error(self, error: KafkaError) -> None:
        self._requests.on_error(error)

    def _after_fork(self) -> None:
        forks.keep(self._client)
        forks.refuse(self, "GroupOffsets", but=("close",))
        self._is_parents = True

    def __enter__(self) -> GroupOffsets:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def committed(self, partitions: Iterable[Partition], *, timeout: float = TIMEOUT) -> dict[Partition, int]:
        """The committed offset of each partition that has one.

        Raises:
            KafkaClientError: the cluster cannot be asked, or refuses to tell.
        """
        until = time.monotonic() + timeout
        found: dict[Partition, int] = {}
        asked = [TopicPartition(*partition) for partition in partitions]
        for first in range(0, len(asked), _AT_ONCE):
            some = asked[first : first + _AT_ONCE]

            def ask(seconds: float, some: list[TopicPartition] = some) -> list[TopicPartition]:
                answers = self._client.committed(some, timeout=seconds)
                for each in answers:
                    if each.error is not None:
                        raise KafkaException(each.error)
                return answers

            for answer in self._requests.call(ask, until):
                if answer.offset >= 0:
                    found[answer.topic, answer.partition] = answer.offset
        return found

    def close(self) -> None:
        """Let the client go."""
        if not self._is_parents:
            self._client.close()
