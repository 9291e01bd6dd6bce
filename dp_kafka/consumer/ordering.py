"""The order in which a partition's buffered messages may be handed out. Pure: no thread, no client.

`take()` gives the next message that may be handled now, or None; `done(raw)` says that one was let
go. The three orders differ only in what may be out at the same time:

- `PartitionOrder`: one message of the partition;
- `KeyOrder`: one message of each key; messages without a key are not held back by anything;
- `NoOrder`: any number.

A lane calls all of it under its lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Protocol

from dp_kafka.config import Ordering
from dp_kafka.consumer.message import RawMessage

__all__ = ["KeyOrder", "NoOrder", "Order", "PartitionOrder", "new_order"]


class Order(Protocol):
    """What a lane asks of an order."""

    def add(self, raws: Iterable[RawMessage]) -> None:
        """Buffer messages, in the order of the partition."""

    def take(self) -> RawMessage | None:
        """The next message that may be handled now, which is then out; None if there is none."""

    def done(self, raw: RawMessage) -> None:
        """A message that was out is let go."""

    def clear(self) -> list[RawMessage]:
        """Empty the buffer and give what was in it, in the order of the partition; what is out stays out."""
        ...

    def claim(self, count: int) -> list[RawMessage]:
        """Up to `count` further messages for whoever has one out and handles all of them in a row."""
        ...

    def put_first(self, raws: list[RawMessage]) -> None:
        """Give back claimed messages that were not begun, to be the next ones."""

    def __len__(self) -> int:
        """How many messages are buffered."""
        ...


class _Buffer:
    """What orders that keep no keys have in common."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer: deque[RawMessage] = deque()

    def add(self, raws: Iterable[RawMessage]) -> None:
        self._buffer.extend(raws)

    def claim(self, count: int) -> list[RawMessage]:
        buffer = self._buffer
        if count >= len(buffer):
            claimed = list(buffer)
            buffer.clear()
            return claimed
        return [buffer.popleft() for _ in range(count)]

    def put_first(self, raws: list[RawMessage]) -> None:
        self._buffer.extendleft(reversed(raws))

    def clear(self) -> list[RawMessage]:
        buffered = list(self._buffer)
        self._buffer.clear()
        return buffered

    def __len__(self) -> int:
        return len(self._buffer)


class PartitionOrder(_Buffer):
    """One message of the partition at a time."""

    __slots__ = ("_out",)

    def __init__(self) -> None:
        super().__init__()
        self._out = False

    def take(self) -> RawMessage | None:
        if self._out or not self._buffer:
            return None
        self._out = True
        return self._buffer.popleft()

    def done(self, raw: RawMessage) -> None:  # noqa: ARG002
        self._out = False


class NoOrder(_Buffer):
    """Every buffered message may be handled now."""

    __slots__ = ()

    def take(self) -> RawMessage | None:
        return self._buffer.popleft() if self._buffer else None

    def done(self, raw: RawMessage) -> None:
        """Nothing waits for anything here."""


class KeyOrder:
    """Messages with equal keys one after another, others side by side."""

    __slots__ = ("_ready", "_waiting", "_waiting_count")

    def __init__(self) -> None:
        #: May be handled now, oldest first.
        self._ready: deque[RawMessage] = deque()
        #: For each key that has a message ready or out: its later messages, oldest first.
        self._waiting: dict[bytes, deque[RawMessage]] = {}
        self._waiting_count = 0

    def add(self, raws: Iterable[RawMessage]) -> None:
        for raw in raws:
            key = raw.key()
            if key is None:
                self._ready.append(raw)
            elif key in self._waiting:
                self._waiting[key].append(raw)
                self._waiting_count += 1
            else:
                self._waiting[key] = deque()
                self._ready.append(raw)

    def take(self) -> RawMessage | None:
        return self._ready.popleft() if self._ready else None

    def done(self, raw: RawMessage) -> None:
        key = raw.key()
        if key is None:
            return
        later = self._waiting.get(key)
        if later:
            self._ready.append(later.popleft())
            self._waiting_count -= 1
        elif later is not None:
            del self._waiting[key]

    def claim(self, count: int) -> list[RawMessage]:  # noqa: ARG002
        """Nothing: keys are handed out one by one."""
        return []

    def put_first(self, raws: list[RawMessage]) -> None:
        """Nothing was claimed."""

    def clear(self) -> list[RawMessage]:
        buffered = [*self._ready, *(raw for later in self._waiting.values() for raw in later)]
        buffered.sort(key=lambda raw: raw.offset())
        for raw in self._ready:
            key = raw.key()
            if key is not None:
                del self._waiting[key]
        self._ready.clear()
        # The keys that are left have a message out, which holds back what may be added later.
        for later in self._waiting.values():
            later.clear()
        self._waiting_count = 0
        return buffered

    def __len__(self) -> int:
        return len(self._ready) + self._waiting_count


def new_order(ordering: Ordering) -> Order:
    """The order of one lane."""
    if ordering is Ordering.KEY:
        return KeyOrder()
    if ordering is Ordering.NONE:
        return NoOrder()
    return PartitionOrder()
