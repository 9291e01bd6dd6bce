"""GROUP MEMBER: a client that joins a group to commit for it. One thread uses it, and no other.

Guarantees:
- it handles and fetches nothing: its partitions are paused as soon as they come, and what came before is
  dropped without being committed;
- every call is bounded by its deadline, `leave` by librdkafka's five seconds;
- what is not its own it does not commit.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, ClassVar, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from dp_kafka.clients import CLIENT_LOGGER
from dp_kafka.config import ConsumerGroupConfig
from dp_kafka.config.rdkafka import consumer_properties
from dp_kafka.errors import KafkaClientError

__all__ = ["GONE_ON", "Member"]

_M = TypeVar("_M", bound="Member")

#: The errors of a commit that say that the group has gone on without the member: a rebalance has come, and
#: its partitions may be another's now.
GONE_ON = frozenset(
    {
        "UNKNOWN_MEMBER_ID",
        "ILLEGAL_GENERATION",
        "REBALANCE_IN_PROGRESS",
        "STALE_MEMBER_EPOCH",
        "FENCED_MEMBER_EPOCH",
    }
)

#: Seconds of one poll: how soon a stop is noticed.
_POLL = 0.1
#: Seconds in which its partitions are given back, which needs no broker.
_LEAVE = 2.0
#: Seconds that a commit may take which was under way, or began, when it was stopped.
_AFTER_STOP = 5.0
#: How librdkafka's debug log tells of the other members, all of whom the leader alone hears of. A refusal,
#: which a second try follows, names no leader.
_JOINED = re.compile(r"JoinGroup response: .*LeaderId \S+?( \(me\))?, my MemberId .* count (\d+)")


class Member:
    """A member of the group of `config`, from `join` to the end of the `with` block.

    `others` says whether there are other members: None if that is not known. It is asked for with
    `watch_others`, for brokers that do not describe groups.
    """

    #: Client properties of a subclass.
    _more_properties: ClassVar[Mapping[str, Any]] = {}

    def __init__(
        self, config: ConsumerGroupConfig, stop: threading.Event, *, watch_others: bool = False
    ) -> None:
        self._topic = config.topic
        self._stop = stop
        self.others: bool | None = None
        #: The partitions that are this member's now, by number; callbacks change it, which poll() calls.
        self.assigned: set[int] = set()
        self._joined = False
        self._answered: list[tuple[KafkaError | None, list[TopicPartition]]] = []
        self._trouble: KafkaClientError | None = None
        properties = {
            **consumer_properties(config),
            **self._more_properties,
            "on_commit": self._on_commit,
            "error_cb": self._on_error,
        }
        if watch_others:
            properties |= {"debug": "cgrp", "log_level": 7}
        self._client = Consumer(properties, logger=_ClientLog(self._on_log if watch_others else None))

    def __enter__(self: _M) -> _M:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.leave()

    def join(self, until: float) -> bool:
        """Join, and wait for an assignment, empty or not; whether one came by `until` (time.monotonic()).

        Raises:
            KafkaClientError: the broker refuses the member for good.
        """
        self._client.subscribe(
            [self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
        )
        while not self._joined and self.poll(until):
            if self._trouble is not None:
                raise self._trouble
        return self._joined

    def poll(self, until: float) -> bool:
        """Stay a member for a moment; False when time is up or it was stopped."""
        return not self._stop.is_set() and self._poll(until)

    def _poll(self, until: float) -> bool:
        left = until - time.monotonic()
        if left <= 0:
            return False
        message = self._client.poll(min(_POLL, left))
        if message is not None:
            self._received(message)
        self._polled()
        return True

    def commit(self, offsets: Mapping[int, int], until: float) -> None:
        """Commit offsets of partitions of the topic, and wait for the answer; a stop shortens the wait.

        Raises:
            KafkaClientError: it was refused, or not answered.
        """
        self._answered.clear()
        self._client.commit(offsets=self._partitions(offsets), asynchronous=True)
        stopped = False
        while not self._answered:
            if self._stop.is_set() and not stopped:
                # What was consumed is to be committed all the same, if the broker answers as it should.
                stopped, until = True, min(until, time.monotonic() + _AFTER_STOP)
            if not self._poll(until):
                raise KafkaClientError(
                    "_TIMED_OUT: a commit was not answered in time",
                    code=KafkaError._TIMED_OUT,
                    name="_TIMED_OUT",
                )
        error, partitions = self._answered.pop()
        for found in (error, *(each.error for each in partitions)):
            if found is not None:
                raise KafkaClientError.from_kafka_error(found)

    def leave(self) -> None:
        """Leave the group."""
        until = time.monotonic() + _LEAVE
        try:
            # A rebalance that ended within close() could hang there: dp_kafka.consumer.membership tells how.
            self._client.unsubscribe()
            self._client.poll(0)
            while self._client.assignment() and time.monotonic() < until:
                self._client.poll(_POLL / 10)
        except KafkaException:
            # After a fatal error, such as a broker's refusal with KIP-848, it can do nothing more. The error
            # has been told, and this one would cover it.
            pass
        finally:
            self._client.close()

    def _partitions(self, offsets: Mapping[int, int]) -> list[TopicPartition]:
        return [TopicPartition(self._topic, number, offset) for number, offset in offsets.items()]

    # The rest is called within poll(), and so on the same thread.

    def _received(self, message: Any) -> None:
        """A message, or an error in the shape of one, has come."""
        error = message.error()
        if error is not None:
            self._on_error(error)

    def _polled(self) -> None:
        """No messages are wanted."""
        if self.assigned:
            self._client.pause(self._partitions(dict.fromkeys(self.assigned, 0)))

    def _on_assign(self, _client: Any, partitions: list[TopicPartition]) -> None:
        self._joined = True
        self.assigned |= {each.partition for each in partitions}

    def _on_revoke(self, _client: Any, partitions: list[TopicPartition]) -> None:
        self.assigned -= {each.partition for each in partitions}

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        self._answered.append((error, partitions))

    def _on_error(self, error: KafkaError) -> None:
        translated = KafkaClientError.from_kafka_error(error)
        if translated.permanent:
            self._trouble = translated

    def _on_log(self, text: str) -> None:
        found = _JOINED.search(text)
        if found is not None:
            me, members = found.groups()
            self.others = not me or int(members) > 1


class _ClientLog(logging.Logger):
    """Takes librdkafka's log, hands each line on, and keeps what is only for debugging to itself."""

    def __init__(self, heard: Callable[[str], object] | None) -> None:
        super().__init__(CLIENT_LOGGER.name)
        self._heard = heard

    def log(self, level: int, msg: object, *args: object, **_more: Any) -> None:
        """Called by the client, within poll()."""
        if self._heard is not None:
            self._heard(str(msg) % args if args else str(msg))
        if level > logging.DEBUG:
            CLIENT_LOGGER.log(level, msg, *args)
