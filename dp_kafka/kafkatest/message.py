"""Messages for tests of a handler alone, with no consumer: each on a partition of its own."""

from __future__ import annotations

from dp_kafka.codecs.protocol import Codec
from dp_kafka.config import Ordering
from dp_kafka.consumer.commits import GroupCommit
from dp_kafka.consumer.message import FINISHED, RELEASED, Message
from dp_kafka.consumer.session import Session
from dp_kafka.consumer.upstream import UpstreamChannel
from dp_kafka.headers import Headers
from dp_kafka.kafkatest.memory.records import Record

__all__ = ["NewMessage", "new_message"]

#: So long a commit would wait for others; nobody sends it here.
_COMMIT_INTERVAL = 1.0


class NewMessage(Message):
    """A message in the hand of a test; everything about it is the library's own, and it has no broker."""

    __slots__ = ()

    @property
    def is_marked(self) -> bool:
        """Whether it was marked or committed."""
        return bool(self._flags & FINISHED)

    @property
    def is_committed(self) -> bool:
        """Whether a commit of it was asked for."""
        return self._lane.commits.pending

    @property
    def is_released(self) -> bool:
        """Whether it was released."""
        return bool(self._flags & RELEASED)


def new_message(
    data: bytes | None,
    offset: int = 0,
    *,
    headers: Headers | None = None,
    key: bytes | str | None = None,
    topic: str = "test",
    partition: int = 0,
    timestamp: int | None = None,
    attempt: int = 1,
    codec: Codec | None = None,
) -> NewMessage:
    """A message as a handler gets it, to call the handler with. Any thread.

    Args:
        data: the value; None is a tombstone.
        offset: its offset.
        headers: a mapping, or pairs.
        key, topic, partition: as they say.
        timestamp: in milliseconds since the epoch; None is now.
        attempt: which time it is handed to the handler, for tests of what retries do.
        codec: makes `message.event`, as that of a ConsumerGroup does.

    Raises:
        TypeError: data that is neither bytes nor None, or a key or header of a wrong type.
        ValueError: a negative offset or partition.
    """
    if data is not None and not isinstance(data, bytes):
        raise TypeError(f"new_message takes bytes or None, but got {type(data).__name__}: encode it first")
    if offset < 0 or partition < 0:
        raise ValueError(f"offset and partition must not be negative, found {offset} and {partition}")
    raw = Record(topic, partition, data, key, headers, timestamp, offset=offset)
    session = Session(UpstreamChannel(), GroupCommit(_COMMIT_INTERVAL), Ordering.PARTITION, codec)
    lane = session.open_lane(topic, partition)
    lane.add([raw])
    # Taken as a worker takes it, so that the lane's books have it in hand.
    session.upstream.get(block=False)
    return NewMessage(raw, lane, attempt)
