"""A lane: one partition of one assignment, its buffered messages and the books of those handed out.

A lane buffers what the broker delivered of its partition and hands it out in the configured order. It
keeps the books of each message (in hand, finished, released) and belongs to ONE assignment: when its
partition is given up the lane is dropped for good, and a later assignment gets a new one. So a commit
that comes too late is recognised by its lane, not by comparing generations.

A run is the quick way through a lane in the partition's order. One worker claims many messages at once
and handles one after another; it counts what it has done in the run, without a lock. Whatever is out of
the ordinary ends the run under the lock: what was not begun goes back to the buffer, and the message in
the worker's hand goes on the ordinary way. The worker finds out by looking, after each message, whether
the run is still the lane's. Each writes before it reads, so one of the two notices the other:

    worker: handler returns; run.done = 3; looks whether the run is still the lane's
    ender:  the run is no longer the lane's; reads run.done, once; left_at = that

So when the ender has read 2, the worker that writes 3 finds that the run has ended. Where it ended, left_at,
it asks under the lock, as the ender may still be about to write it. Both counts matter then:

    left_at 2 -> message 3 is in the worker's hand, to be finished
    left_at 3 -> message 3 is counted already, and message 4 is in its hand, not begun
"""

from __future__ import annotations

import enum
import logging
import threading
from collections import deque
from collections.abc import Iterable
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from dp_kafka.channels import Signal
from dp_kafka.consumer.message import FINISHED, RELEASED, WATCHED, Message, RawMessage
from dp_kafka.consumer.metadata import encode
from dp_kafka.consumer.offsets import OffsetTracker
from dp_kafka.consumer.ordering import NoOrder, Order, PartitionOrder
from dp_kafka.logs import log_event

if TYPE_CHECKING:
    from dp_kafka.consumer.session import Session

__all__ = ["LOG_BEYOND", "WINDOW", "CommitPoint", "Lane", "LanePhase", "Run"]

logger = logging.getLogger("dp_kafka.consumer")

_OFFSET = attrgetter("offset")

#: Finished messages beyond the committed position at which a partition hands out no more.
WINDOW = 10_000
#: As many of them are worth a line in the log, and then ten times as many, each time.
LOG_BEYOND = 100


class CommitPoint(NamedTuple):
    """What a lane has to commit."""

    position: int  #: the offset to commit: that of the next message to handle
    metadata: str  #: what is finished beyond it
    change: int  #: which change of the lane's offsets this is


class LanePhase(enum.Enum):
    """The life of a lane; it only moves down this list."""

    OPEN = "open"  #: hands out messages
    DRAINING = "draining"  #: hands out no more; what is in hand may finish and is committed
    DROPPED = "dropped"  #: the partition belongs to somebody else; commits are refused


class Run:
    """Messages that one worker handles one after another."""

    __slots__ = ("done", "left_at", "messages")

    def __init__(self, messages: list[Message]) -> None:
        self.messages = messages
        #: How many the worker has finished; written by the worker alone.
        self.done = 0
        #: How many were finished when the run ended early; written under the lane's lock.
        self.left_at = -1


class Lane:
    """One partition of one assignment.

    `_lock` guards everything but `paused` and `committed`, which are the poll thread's. It is
    held for a few instructions, never across I/O, a put, or user code.
    """

    __slots__ = (
        "_again",
        "_batched",
        "_bytes",
        "_chunked",
        "_chunks",
        "_holds",
        "_in_hand",
        "_lock",
        "_order",
        "_phase",
        "_queued",
        "_runs",
        "_skip",
        "_waiting",
        "commits",
        "committed",
        "log_beyond",
        "offsets",
        "partition",
        "paused",
        "run",
        "session",
        "topic",
    )

    def __init__(self, session: Session, topic: str, partition: int, order: Order) -> None:
        self.topic = topic
        self.partition = partition
        self.commits = session.commits
        self.offsets = OffsetTracker()
        self.session = session
        self._order = order
        #: One thread takes it all, many messages at a time, so any may be out.
        self._batched = False
        #: Whether a batch's failed messages hold up all that is behind them: unless there is no order.
        self._holds = False
        #: Whether workers may claim runs: the order is that of the partition.
        self._runs = isinstance(order, PartitionOrder)
        #: The run under way. Changed under the lock; its worker looks at it without.
        self.run: Run | None = None
        self._lock = threading.Lock()
        self._phase = LanePhase.OPEN
        #: How many of its messages wait in the upstream channel: one that was offered, and those put back.
        self._queued = 0
        #: Messages taken and not released.
        self._in_hand = 0
        #: Failed messages that are to be handed out again now, before anything that is buffered.
        self._again: deque[Message] = deque()
        #: How many failed messages wait for their time; they are in nobody's hand.
        self._waiting = 0
        #: Offsets that an earlier assignment finished beyond the position that it committed.
        self._skip: frozenset[int] = frozenset()
        #: Sizes of the batches that were added, newest last, to know the bytes that are buffered.
        self._chunks: deque[tuple[int, int]] = deque()
        #: The messages and bytes of all of them.
        self._chunked = 0
        self._bytes = 0
        #: Poll thread: whether the partition is paused on the client.
        self.paused = False
        #: Poll thread: which change of the offsets the broker has acknowledged. Whoever waits for a durable
        #: commit reads it once the round is answered.
        self.committed = 0
        #: Poll thread: how many messages finished beyond the position are logged next.
        self.log_beyond = LOG_BEYOND

    # -- the poll thread ----------------------------------------------------------------------------

    def add(self, raws: list[RawMessage]) -> None:
        """Buffer messages that the broker delivered, in their order, and offer the first if it may go."""
        size = sum(map(len, raws))
        first_offset, last_offset = raws[0].offset(), raws[-1].offset()
        offsets: Iterable[int] = range(first_offset, last_offset + 1)
        if last_offset - first_offset + 1 != len(raws):  # gaps: a compacted log, or transactions
            offsets = [raw.offset() for raw in raws]
        with self._lock:
            if self._phase is not LanePhase.OPEN:
                return
            self.offsets.add(offsets)
            if self._skip:
                raws = self._without_finished_locked(raws)
            if raws:
                self._order.add(raws)
                self._chunks.append((len(raws), size))
                self._chunked += len(raws)
                self._bytes += size
            first = self._offer_locked()
        if first is not None:
            self.session.upstream.offer(first)

    def buffered(self) -> tuple[int, int]:
        """How many messages are buffered here, and about how many bytes.

        The poll thread asks each lane in each of its turns, so this looks at the oldest chunks alone.
        """
        with self._lock:
            count = len(self._order)
            chunks = self._chunks
            # Messages leave oldest first (nearly, by key), so the newest are those still here.
            gone = self._chunked - count
            while chunks and gone >= chunks[0][0]:
                chunk_count, chunk_bytes = chunks.popleft()
                gone -= chunk_count
                self._chunked -= chunk_count
                self._bytes -= chunk_bytes
            if gone > 0 and chunks:
                chunk_count, chunk_bytes = chunks[0]
                return count, self._bytes - chunk_bytes * gone // chunk_count
            return count, self._bytes

    def drain(self) -> None:
        """Hand out no more; forget what is buffered, as somebody will fetch it again."""
        with self._lock:
            if self._phase is LanePhase.OPEN:
                self._phase = LanePhase.DRAINING
            self._leave_run_locked()
            self._forget_locked()

    def drop(self) -> None:
        """The partition is no longer ours: refuse what comes later."""
        with self._lock:
            self._leave_run_locked()
            self._phase = LanePhase.DROPPED
            self._forget_locked()

    def _forget_locked(self) -> None:
        self._order.clear()
        self._again.clear()
        self._chunks.clear()
        self._chunked = self._bytes = 0

    def skip(self, offsets: Iterable[int]) -> None:
        """Do not hand out these offsets: an earlier assignment has finished them. Before the first `add`."""
        self._skip = frozenset(offsets)

    def _without_finished_locked(self, raws: list[RawMessage]) -> list[RawMessage]:
        kept = []
        for raw in raws:
            if raw.offset() in self._skip:
                self.offsets.finish(raw.offset())
            else:
                kept.append(raw)
        return kept

    def commit_point(self, known: int = 0) -> CommitPoint | None:
        """What there is to commit now; None when nothing is finished since the change that is `known`.

        Metadata names what is finished beyond the position, so that it is not handled again.
        """
        with self._lock:
            self._count_run_locked()
            offsets = self.offsets
            if offsets.changes == known:
                return None
            blocking = offsets.blocking
            if offsets.finished and blocking is not None:
                # Nothing before the blocking message is unfinished, also when nothing before it came here.
                return CommitPoint(blocking, encode(blocking, offsets.beyond()), offsets.changes)
            if offsets.position is None:
                return None
            return CommitPoint(offsets.position, "", offsets.changes)

    @property
    def in_hand(self) -> int:
        """Messages that workers or users have taken and not released."""
        return self._in_hand

    @property
    def phase(self) -> LanePhase:
        """Where the lane is in its life."""
        return self._phase

    # -- workers and users --------------------------------------------------------------------------

    def taken(self, message: Message) -> tuple[bool, Message | None]:
        """A message was taken from the upstream channel: whether it is still good, and the next to offer."""
        with self._lock:
            self._queued -= 1
            if self._phase is not LanePhase.OPEN or self._hold_back_locked(message):
                return False, None
            self._in_hand += 1
            return True, self._offer_locked()

    def set_batched(self) -> None:
        """From now on one thread takes it all, many messages at a time, so any may be out."""
        with self._lock:
            self._leave_run_locked()
            if not self._batched:
                self._holds = not isinstance(self._order, NoOrder)
            self._batched = True
            self._runs = False
            order = NoOrder()
            order.add(self._order.clear())
            self._order = order
            following = self._offer_locked()
        if following is not None:
            self.session.upstream.offer(following)

    def begin_run(self, message: Message, count: int) -> Run | None:
        """Claim the message in the worker's hand and up to `count` that follow it, to handle in a row.

        None when something out of the ordinary is going on, and the messages go one by one.
        """
        with self._lock:
            offsets = self.offsets
            if (
                not self._runs
                or self._phase is not LanePhase.OPEN
                or self._in_hand != 1
                or self._again
                or self._waiting
                or message._flags
                or offsets.finished
                or offsets.blocking != message._raw.offset()
            ):
                return None
            run = Run([message, *(Message(raw, self) for raw in self._order.claim(count))])
            self.run = run
            return run

    def next_run(self, run: Run, count: int) -> Run | None:
        """A run is done to its end: count it, and claim the next `count` messages if there are any.

        None when there are none, or when the run has ended: the worker has nothing in hand any more.
        """
        following = upcoming = None
        with self._lock:
            if self.run is not run:
                # It ended when its last message had been counted, by somebody who offers nothing himself.
                following = self._offer_locked()
            else:
                self._count_run_locked()
                self.run = None
                raws = self._order.claim(count)
                if raws:
                    upcoming = self.run = Run([Message(raw, self) for raw in raws])
                else:
                    self._in_hand -= 1
                    self._order.done(run.messages[-1]._raw)
        if following is not None:
            self.session.upstream.offer(following)
        return upcoming

    def leave_run(self, run: Run) -> None:
        """End a run early; its worker goes on with the message in its hand, if any, the ordinary way."""
        with self._lock:
            if self.run is run:
                self._leave_run_locked()
            following = self._offer_locked()
        if following is not None:
            self.session.upstream.offer(following)

    def left_at(self, run: Run) -> int:
        """How many messages of a run that has ended early were finished when it ended; its worker asks."""
        with self._lock:
            return run.left_at

    def _count_run_locked(self) -> None:
        """Take what the worker of the run under way has done into the books."""
        if self.run is not None:
            self._count_locked(self.run)

    def _count_locked(self, run: Run) -> None:
        # Read once: its worker goes on meanwhile, and what is counted here must be what is finished.
        done = run.done
        counted = max(run.left_at, 0)
        if done > counted:
            self.offsets.finish_first(done - counted)
            run.left_at = done

    def _touch_locked(self, message: Message) -> None:
        """Somebody does something to a message by itself: if it is out in a run, the run ends.

        Messages that were done in a run or a row carry no flags: that they lie below the position, which
        passes nothing unfinished, tells that they are done.
        """
        if message._flags:
            return
        self._count_run_locked()
        if not self._passed_locked(message):
            self._leave_run_locked()
        # Looked at after the run has ended: its worker may have finished the message until then.
        if self._passed_locked(message):
            message._flags = FINISHED | RELEASED

    def _passed_locked(self, message: Message) -> bool:
        position = self.offsets.position
        return position is not None and message._raw.offset() < position

    def _leave_run_locked(self) -> None:
        run = self.run
        if run is None:
            return
        # First this, then the count: whatever its worker finishes after the count, it sees that it has ended.
        self.run = None
        self._count_locked(run)
        run.left_at = max(run.left_at, 0)
        rest = run.messages[run.left_at :]
        if rest:
            self._order.put_first([message._raw for message in rest[1:]])
        else:
            self._in_hand -= 1
            self._order.done(run.messages[-1]._raw)

    def taken_run(self, first: Message, count: int) -> list[Message]:
        """A batch took `first` from the upstream channel: it, and what follows it, up to `count`; or nothing.

        In one step: a message offered to the channel in between would be overtaken by those behind it.
        """
        with self._lock:
            self._queued -= 1
            if self._phase is not LanePhase.OPEN or self._hold_back_locked(first):
                return []
            messages = [first]
            if self._runs_locked():
                messages += [Message(raw, self) for raw in self._order.claim(count - 1)]
                self._in_hand += len(messages)
                return messages
            while len(messages) < count:
                message = self._take_locked()
                if message is None:
                    break
                messages.append(message)
            self._in_hand += len(messages)
            return messages

    def advance(self, message: Message, *, finish: bool) -> Message | None:
        """A worker is done with a message: finish it if so told, release it, and give the lane's next one.

        The next message stays in the worker's hand, without a hop through the upstream channel.
        """
        dropped = False
        with self._lock:
            flags = message._flags
            if finish and not flags & FINISHED:
                dropped = self._phase is LanePhase.DROPPED
                flags |= FINISHED
                if not dropped:
                    self.offsets.finish(message._raw.offset())
            released = flags & RELEASED
            message._flags = flags | RELEASED
            following = None
            if not released:
                self._order.done(message._raw)
                if self._phase is LanePhase.OPEN:
                    following = self._take_locked()
                if following is None:
                    self._in_hand -= 1
            idle = self._in_hand == 0 and self._phase is not LanePhase.OPEN
            done = message._done
        if done is not None:
            done.set()
        if dropped:
            self._refuse(message)
        if idle:
            self.session.lane_idle()
        return following

    def advance_all(self, messages: list[Message], *, finish: bool) -> None:
        """As `advance` for a batch's messages of this lane, in one go; offers the lane's next message."""
        first_refused: Message | None = None
        events = []
        with self._lock:
            dropped = self._phase is LanePhase.DROPPED
            if finish and messages and not dropped and self._batched and self._finish_row_locked(messages):
                messages = []
            for message in messages:
                self._touch_locked(message)
                flags = message._flags
                if finish and not flags & FINISHED:
                    flags |= FINISHED
                    if dropped:
                        first_refused = first_refused or message
                    else:
                        self.offsets.finish(message._raw.offset())
                if not flags & RELEASED:
                    self._order.done(message._raw)
                    self._in_hand -= 1
                    if message._done is not None:
                        events.append(message._done)
                message._flags = flags | RELEASED
            following = self._offer_locked()
            idle = self._in_hand == 0 and self._phase is not LanePhase.OPEN
        for event in events:
            event.set()
        if following is not None:
            self.session.upstream.offer(following)
        if first_refused is not None:
            self._refuse(first_refused)
        if idle:
            self.session.lane_idle()

    def _finish_row_locked(self, messages: list[Message]) -> bool:
        """Finish and release a row of a batch's messages at once, if nothing is out of the ordinary."""
        offsets = self.offsets
        if offsets.finished or self._waiting or any(message._flags for message in messages):
            return False
        first, last = messages[0]._raw.offset(), messages[-1]._raw.offset()
        if not offsets.finish_row(first, last, len(messages)):
            return False
        self._in_hand -= len(messages)
        return True

    def _runs_locked(self) -> bool:
        """Whether messages may be handed out in rows: nothing is out of the ordinary."""
        return not self._again and not self._waiting and len(self.offsets.finished) < WINDOW

    def put_back(self, message: Message) -> None:
        """A worker gives up its turn: a message that it took and did not begin goes to the channel."""
        with self._lock:
            self._in_hand -= 1
            usable = self._phase is LanePhase.OPEN
            if usable:
                self._queued += 1
            idle = self._in_hand == 0 and not usable
        if usable:
            self.session.upstream.offer(message)
        if idle:
            self.session.lane_idle()

    def mark(self, message: Message) -> bool:
        """Record a message as finished; False, and a warning, when the partition was given up."""
        with self._lock:
            self._touch_locked(message)
            if message._flags & FINISHED:
                return self._phase is not LanePhase.DROPPED
            dropped = self._phase is LanePhase.DROPPED
            following = None
            if not dropped:
                message._flags |= FINISHED
                held = len(self.offsets.finished) >= WINDOW
                self.offsets.finish(message._raw.offset())
                # A lane that was held at its window may go on, and nothing else may tell it so.
                following = self._offer_locked() if held else None
        if following is not None:
            self.session.upstream.offer(following)
        if dropped:
            self._refuse(message)
        return not dropped

    def commit(self, message: Message) -> bool:
        """`mark`, then ask for a commit; with a durable one, False if the broker does not have it."""
        if not self.mark(message):
            return False
        if not self.commits.durable:
            return self.commits.ask()
        # The round that answers begins after this: it sends at least this change, or goes without the lane.
        change = self.offsets.changes
        if self.commits.ask(self.given_up) and self.committed >= change:
            return True
        if self.given_up():
            self._refuse(message)
        return False

    def given_up(self) -> bool:
        """Whether the partition belongs to somebody else; any thread."""
        return self._phase is LanePhase.DROPPED

    def park(self, message: Message) -> None:
        """A worker is done with a message; it is released once the broker has its commit, or refuses it."""
        if not (self.mark(message) and self.commits.park(message)):
            self.release(message)

    def release(self, message: Message) -> None:
        """Let a message go, and offer the lane's next one."""
        following = self.let_go(message)
        if following is not None:
            self.session.upstream.offer(following)

    def let_go(self, message: Message) -> Message | None:
        """Let a message go; the lane's next one, for whoever calls this to offer."""
        with self._lock:
            self._touch_locked(message)
            if message._flags & RELEASED:
                return None
            message._flags |= RELEASED
            self._order.done(message._raw)
            self._in_hand -= 1
            following = self._offer_locked()
            idle = self._in_hand == 0 and self._phase is not LanePhase.OPEN
            done = message._done
        if done is not None:
            done.set()
        if idle:
            self.session.lane_idle()
        return following

    def is_released(self, message: Message) -> bool:
        """Whether the message has been let go."""
        with self._lock:
            if not message._flags:
                self._count_run_locked()
                return self._passed_locked(message)
            return bool(message._flags & RELEASED)

    def done_event(self, message: Message) -> threading.Event:
        """The message's event, made when somebody first asks for it: it costs more than the message."""
        with self._lock:
            # A run sets no event: from here on this message goes the ordinary way.
            self._touch_locked(message)
            if message._done is None:
                message._flags |= WATCHED
                message._done = Signal(lambda: self.release(message))
                if message._flags & RELEASED:
                    threading.Event.set(message._done)
            return message._done

    def _offer_locked(self) -> Message | None:
        """The next message to put into the upstream channel, if none waits there and one may go."""
        if self._queued or self._phase is not LanePhase.OPEN:
            return None
        message = self._take_locked()
        if message is not None:
            self._queued += 1
        return message

    def _take_locked(self) -> Message | None:
        """The next message that may be handled now."""
        if self._waiting and self._holds:
            # A batch's failed message waits, and what comes after it in the partition must not overtake it,
            # not even another failed one.
            return None
        if self._again:
            return self._again.popleft()
        if len(self.offsets.finished) >= WINDOW:
            # Too much is finished beyond a message that is not.
            return None
        raw = self._order.take()
        return None if raw is None else Message(raw, self)

    def _hold_back_locked(self, message: Message) -> bool:
        """Take back a message that has to wait after all; True if so.

        It was offered while a batch was handled, and a message before it was in that batch, and failed.
        """
        if not (self._waiting and self._holds):
            return False
        if message.attempt > 1:
            self._again = deque(sorted([message, *self._again], key=_OFFSET))
        else:
            self._order.put_first([message._raw])
        return True

    def defer(self) -> None:
        """A failed message leaves its worker's hand, to be handed out `again` later; what must, waits."""
        with self._lock:
            self._in_hand -= 1
            self._waiting += 1
            following = self._offer_locked()
            idle = self._in_hand == 0 and self._phase is not LanePhase.OPEN
        if following is not None:
            self.session.upstream.offer(following)
        if idle:
            self.session.lane_idle()

    def again(self, messages: list[Message]) -> None:
        """The time of deferred messages has come: hand them out first. Poll thread."""
        with self._lock:
            self._waiting -= len(messages)
            if self._phase is not LanePhase.OPEN:
                return
            for message in messages:
                message.attempt += 1
            self._again = deque(sorted([*self._again, *messages], key=_OFFSET))
            first = self._offer_locked()
        if first is not None:
            self.session.upstream.offer(first)

    def _refuse(self, message: Message) -> None:
        log_event(
            logger,
            logging.WARNING,
            "commit refused: the partition has been given up, another consumer gets the message again",
            {"topic": self.topic, "partition": self.partition, "offset": message.offset},
        )

    def __repr__(self) -> str:
        return (
            f"<Lane {self.topic}[{self.partition}] {self._phase.value}, {len(self._order)} buffered, "
            f"{self._in_hand} in hand, {self.offsets!r}>"
        )
