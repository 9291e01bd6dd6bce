"""A consumed message: what it carries, and what its handler can do with it."""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, Protocol

from dp_kafka.errors import ConfigError
from dp_kafka.headers import TRACE_ID_HEADER, _trace, received_headers
from dp_kafka.kafkaerror import KafkaErrorLike
from dp_kafka.logs import log_event

if TYPE_CHECKING:
    from dp_kafka.consumer.lane import Lane

__all__ = ["AWAY", "FINISHED", "PARKED", "RELEASED", "WATCHED", "Message", "RawMessage"]

logger = logging.getLogger("dp_kafka.consumer")

#: Bits of `Message._flags`, changed only by its lane, under the lane's lock.
FINISHED = 1
RELEASED = 2
#: Somebody asked for the event that is set when it is released.
WATCHED = 4
#: It was in a hand, and is in nobody's until it is taken again; a user may know it, and release it meanwhile.
AWAY = 8
#: It is finished, and its worker has left it until the answer to its durable commit.
PARKED = 16

#: Stands for an event that nobody has asked for yet.
_NOT_DECODED: Final = object()

#: What librdkafka gives as the type of a timestamp that is not there.
_TIMESTAMP_NOT_AVAILABLE = 0


class RawMessage(Protocol):
    """What a message is read from: `confluent_kafka.Message`, or the test kit's own."""

    def value(self) -> bytes | None: ...
    def key(self) -> bytes | None: ...
    def headers(self) -> list[tuple[str, bytes | None]] | None: ...
    def topic(self) -> str | None: ...
    def partition(self) -> int: ...
    def offset(self) -> int: ...
    def timestamp(self) -> tuple[int, int]: ...
    def error(self) -> KafkaErrorLike | None: ...
    def __len__(self) -> int: ...


class Message:
    """One message of a partition, in the hand of one worker or user until it is released.

    The properties read what the broker delivered and never block. `mark`, `commit` and `release` may be
    called from any thread, more than once, in any order, also after the partition was revoked or lost.

    `attempt` says which time this message is handed to the handler since its partition was assigned: 1, 2, …
    """

    __slots__ = (
        "_done",
        "_event",
        "_flags",
        "_kept_context",
        "_kept_letter",
        "_lane",
        "_raw",
        "_unreadable",
        "attempt",
    )

    def __init__(self, raw: RawMessage, lane: Lane, attempt: int = 1) -> None:
        self._raw = raw
        self._lane = lane
        self._flags = 0
        self._done: threading.Event | None = None
        self.attempt = attempt

    @property
    def data(self) -> bytes | None:
        """The value; None for a tombstone."""
        return self._raw.value()

    @property
    def event(self) -> Any:
        """What the group's codec makes of the value, decoded once; None for a tombstone.

        In a handler it is decoded already. Elsewhere, the first look decodes.

        Raises:
            UnmarshalError: the value can't be decoded; or whatever else the codec raises.
            ConfigError: the group has no codec.
        """
        # Not set when the message is made: a group without a codec never needs it.
        event = getattr(self, "_event", _NOT_DECODED)
        if event is not _NOT_DECODED:
            return event
        codec = self._lane.session.codec
        if codec is None:
            raise ConfigError(
                "message.event needs a codec: give ConsumerGroup(config, codec=…) one of dp_kafka.codecs, or "
                "read message.data",
                field="codec",
            )
        value = self._raw.value()
        event = self._event = None if value is None else codec.decode(value)
        return event

    @property
    def key(self) -> bytes | None:
        """The key, or None."""
        return self._raw.key()

    @property
    def headers(self) -> list[tuple[str, bytes | None]]:
        """The headers in their order, as a fresh list.

        Empty, with a WARNING in the log, when the key of one is not UTF-8: the client can't give any then.
        """
        return list(self._read_headers())

    def _read_headers(self) -> Iterable[tuple[str, bytes | None]]:
        if getattr(self, "_unreadable", False):
            return ()
        found = received_headers(self._raw)
        if found is None:
            self._unreadable = True
            fields = {"topic": self.topic, "partition": self.partition, "offset": self.offset}
            log_event(logger, logging.WARNING, "headers not read: the key of one is not UTF-8", fields)
            return ()
        return found

    @property
    def topic(self) -> str:
        """The topic that it came from."""
        return self._raw.topic() or ""

    @property
    def partition(self) -> int:
        """The partition that it came from."""
        return self._raw.partition()

    @property
    def offset(self) -> int:
        """Its offset in the partition."""
        return self._raw.offset()

    @property
    def timestamp(self) -> int | None:
        """Milliseconds since the epoch, as the producer or the broker set it; None when there is none."""
        kind, milliseconds = self._raw.timestamp()
        return None if kind == _TIMESTAMP_NOT_AVAILABLE else milliseconds

    @property
    def context(self) -> contextvars.Context:
        """A fresh context with this message's trace id: run code of its handler in another thread with it.

        With `otel_enabled=True` it has the message's OpenTelemetry context as well: that of its process span
        once its handler was called with it, else that of the span in which the message was sent.
        """
        context = contextvars.Context()
        context.run(_trace.set, self)
        enter_trace = self._lane.session.upstream.enter_trace
        if enter_trace is not None:
            context.run(enter_trace, self)
        return context

    @property
    def trace_id(self) -> str:
        """The trace id that came with the message, else an empty string."""
        return self.get_header(TRACE_ID_HEADER)

    def get_header(self, key: str) -> str:
        """The value of the first header called `key` (case matters) as text, else an empty string.

        Bytes that are not UTF-8 are shown as replacement characters; `headers` has them as they are.
        """
        for name, value in self._read_headers():
            if name == key:
                return "" if value is None else value.decode("utf-8", "replace")
        return ""

    def mark(self) -> bool:
        """Record the message as finished; it is committed with the next commit, at a revoke, or at a stop.

        False, with a WARNING in the log, when its partition was revoked or lost: another consumer has it.
        """
        return self._lane.mark(self)

    def commit(self) -> bool:
        """Record the message as finished and ask for a commit of all that is finished.

        Returns at once, and the commit follows within `commit_interval`; with `commit_interval=0` this
        blocks until the broker has answered. Never passes an unfinished message of the partition.
        False, with a WARNING in the log, when the partition was revoked or lost, or the broker refused.
        """
        return self._lane.commit(self)

    def release(self) -> None:
        """Give the message out of hand, so that the next one of its partition, or key, can be handled.

        Commits nothing: a message that is released without `mark` or `commit` holds back what is committed of
        its partition.
        """
        self._lane.release(self)

    def commit_and_release(self) -> bool:
        """`commit`, then `release`; gives what `commit` gave."""
        committed = self._lane.commit(self)
        self._lane.release(self)
        return committed

    @property
    def released(self) -> bool:
        """Whether the message has been released."""
        return self._lane.is_released(self)

    @property
    def _letter(self) -> Any:
        """What the dead letter wrapper keeps with a message whose letter is not sent yet; else None."""
        # Not set when the message is made: hardly any message needs it.
        return getattr(self, "_kept_letter", None)

    @_letter.setter
    def _letter(self, value: Any) -> None:
        self._kept_letter = value

    @property
    def _process_context(self) -> Any:
        """What tracing keeps: OpenTelemetry's context of the process span, once there is one."""
        return getattr(self, "_kept_context", None)

    @_process_context.setter
    def _process_context(self, value: Any) -> None:
        self._kept_context = value

    @property
    def upstream_done(self) -> threading.Event:
        """An event that is set when the message is released; to set it is to release the message."""
        return self._lane.done_event(self)

    def __repr__(self) -> str:
        return f"<Message {self.topic}[{self.partition}]@{self.offset} attempt={self.attempt}>"
