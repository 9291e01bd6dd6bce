"""A backlog: what a lane has to hand out. Messages as the broker delivered them, and failed ones again.

It answers what may be handed out now, and how much is buffered. No thread, no lock: its lane calls all of it
under the lane's lock.
"""

from __future__ import annotations

from collections import deque
from operator import attrgetter
from typing import TYPE_CHECKING

from dp_kafka.consumer.message import RELEASED, Message, RawMessage
from dp_kafka.consumer.offsets import OffsetTracker
from dp_kafka.consumer.ordering import NoOrder, Order, PartitionOrder

if TYPE_CHECKING:
    from dp_kafka.consumer.lane import Lane

__all__ = ["WINDOW", "Backlog"]

_OFFSET = attrgetter("offset")

#: Finished messages beyond the commit point at which a partition hands out no more.
WINDOW = 10_000


class Backlog:
    """The messages of one lane that are not in hand."""

    __slots__ = (
        "_again",
        "_bytes",
        "_chunked",
        "_chunks",
        "_holds",
        "_lane",
        "_late_bytes",
        "_offsets",
        "_order",
        "_parked",
        "_parked_bytes",
        "batched",
        "in_partition_order",
        "waiting",
    )

    def __init__(self, lane: Lane, order: Order, offsets: OffsetTracker) -> None:
        self._lane = lane
        self._order = order
        self._offsets = offsets
        #: Whether one message of the partition goes after the other, so that a worker may claim many.
        self.in_partition_order = isinstance(order, PartitionOrder)
        #: Whether one thread takes it all, many messages at a time, so that any may be out.
        self.batched = False
        #: Whether a batch's failed messages hold up all that is behind them: unless there is no order.
        self._holds = False
        #: Messages to be handed out again now, before anything that is buffered: they have failed, or had to
        #: wait for one that has.
        self._again: deque[Message] = deque()
        #: How many failed messages wait for their time; they are in nobody's hand.
        self.waiting = 0
        #: The bytes of those, and of those whose time has come.
        self._late_bytes = 0
        #: How many finished messages wait for the answer to their durable commit, and their bytes. They are
        #: still in hand, but no worker is: nothing else bounds how many there are.
        self._parked = 0
        self._parked_bytes = 0
        #: Sizes of the chunks that were added, newest last, to know the bytes that are buffered.
        self._chunks: deque[tuple[int, int]] = deque()
        #: The messages and bytes of all of them.
        self._chunked = 0
        self._bytes = 0

    def set_batched(self) -> None:
        """One thread takes it all from now on; the order holds only for what has failed."""
        if self.batched:
            return
        self.batched = True
        self.in_partition_order = False
        self._holds = not isinstance(self._order, NoOrder)
        order = NoOrder()
        order.add(self._order.clear())
        self._order = order

    # -- what is buffered ---------------------------------------------------------------------------

    def add(self, raws: list[RawMessage], size: int) -> None:
        """Buffer messages, in the order of the partition; `size` is that of all of them, in bytes."""
        self._order.add(raws)
        self._chunks.append((len(raws), size))
        self._chunked += len(raws)
        self._bytes += size

    def size(self) -> tuple[int, int]:
        """How many messages are held here, buffered or to come again or parked, and about how many bytes.

        The poll thread asks each lane in each of its turns, so this looks at the oldest chunks alone.
        """
        count, late = len(self._order), self.waiting + len(self._again) + self._parked
        late_bytes = self._late_bytes + self._parked_bytes
        chunks = self._chunks
        # Messages leave oldest first (nearly, by key), so the newest are those still here.
        gone = self._chunked - count
        while chunks and gone >= chunks[0][0]:
            chunk_count, chunk_bytes = chunks.popleft()
            gone -= chunk_count
            self._chunked -= chunk_count
            self._bytes -= chunk_bytes
        if gone > 0:
            chunk_count, chunk_bytes = chunks[0]
            return count + late, self._bytes - chunk_bytes * gone // chunk_count + late_bytes
        return count + late, self._bytes + late_bytes

    def clear(self) -> None:
        """Forget all that can be handed out; somebody will fetch it again."""
        self._order.clear()
        self._again.clear()
        self._chunks.clear()
        self._chunked = self._bytes = self._late_bytes = 0

    def __len__(self) -> int:
        """How many messages are buffered."""
        return len(self._order)

    # -- what may be handed out ---------------------------------------------------------------------

    @property
    def is_plain(self) -> bool:
        """Whether no failed message is to come, or to be waited for, before what is buffered."""
        return not self._again and not self.waiting

    @property
    def is_at_window(self) -> bool:
        """Whether too much is finished beyond a message that is not: nothing new may be handed out."""
        return len(self._offsets.finished) >= WINDOW

    def take(self) -> Message | None:
        """The next message that may be handled now, which is then out; None if there is none."""
        if self.waiting and self._holds:
            # A batch's failed message waits, and what comes after it in the partition must not overtake it,
            # not even another failed one.
            return None
        while self._again:
            message = self._again.popleft()
            self._late_bytes -= len(message._raw)
            if not message._flags & RELEASED:
                return message
        if self.is_at_window:
            return None
        raw = self._order.take()
        return None if raw is None else Message(raw, self._lane)

    def claim(self, count: int) -> list[Message]:
        """Up to `count` messages for whoever has one out and handles all of them in a row."""
        return [Message(raw, self._lane) for raw in self._order.claim(count)]

    def put_first(self, messages: list[Message]) -> None:
        """Claimed messages that were not begun come back, to be the next ones."""
        self._order.put_first([message._raw for message in messages])

    def done(self, message: Message) -> None:
        """A message that was out is let go."""
        self._order.done(message._raw)

    # -- what waits for a durable commit -------------------------------------------------------------

    def park(self, message: Message) -> None:
        """A finished message is held until the answer to its commit."""
        self._parked += 1
        self._parked_bytes += len(message._raw)

    def unpark(self, message: Message) -> None:
        """It is let go."""
        self._parked -= 1
        self._parked_bytes -= len(message._raw)

    # -- what has failed ----------------------------------------------------------------------------

    def defer(self, message: Message) -> None:
        """A failed message is to wait for its time."""
        self.waiting += 1
        self._late_bytes += len(message._raw)

    def undefer(self, count: int) -> None:
        """The time of so many failed messages has come."""
        self.waiting -= count

    def add_again(self, messages: list[Message]) -> None:
        """The time of failed messages has come: they go before what is buffered, in their order."""
        self._again = deque(sorted([*self._again, *messages], key=_OFFSET))

    def hold_back(self, message: Message) -> bool:
        """Take back a message that has to wait after all; True if so.

        It was offered while a batch was handled, and a message before it was in that batch, and failed.
        """
        if not (self.waiting and self._holds):
            return False
        self._late_bytes += len(message._raw)
        self.add_again([message])
        return True
