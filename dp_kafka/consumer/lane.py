"""A lane: one partition of one assignment, and the books of its messages.

A lane hands its messages out, and keeps the books of each: in hand, finished, released. It belongs to ONE
assignment: when its partition is revoked or lost the lane is dropped for good, and a later assignment gets
a new one. So a commit that comes too late is recognised by its lane, not by comparing generations.

What may be handed out next, its backlog decides; the quick way through a lane in the partition's order is a
run (dp_kafka.consumer.runs). The rest stands here together, and long, because one lock guards it all: a class
for a part of it would have to share the lock.
"""

from __future__ import annotations

import enum
import logging
import threading
from collections.abc import Iterable
from itertools import pairwise
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from dp_kafka.channels import LockFreeEvent, Signal
from dp_kafka.consumer.backlog import Backlog
from dp_kafka.consumer.message import AWAY, FINISHED, PARKED, RELEASED, WATCHED, Message, RawMessage
from dp_kafka.consumer.metadata import encode
from dp_kafka.consumer.offsets import OffsetTracker
from dp_kafka.consumer.ordering import Order
from dp_kafka.consumer.runs import Run
from dp_kafka.logs import log_event

if TYPE_CHECKING:
    from dp_kafka.consumer.session import Session

__all__ = ["CommitPoint", "Lane", "LanePhase"]

logger = logging.getLogger("dp_kafka.consumer")

_FLAGS = attrgetter("_flags")


class CommitPoint(NamedTuple):
    """What a lane has to commit."""

    offset: int  #: that of the next message to handle
    metadata: str  #: what is finished beyond it
    change: int  #: which change of the lane's offsets this is


class LanePhase(enum.Enum):
    """The life of a lane; it only moves down this list."""

    OPEN = "open"  #: hands out messages
    DRAINING = "draining"  #: hands out no more; what is in hand may finish and is committed
    DROPPED = "dropped"  #: the partition belongs to somebody else; commits are refused


class Lane:
    """One partition of one assignment.

    `_lock` guards all but `paused`, `committed`, `log_beyond` and `_last`, which are the poll thread's.
    It is held for a few instructions, never across I/O, a put, or user code.
    """

    __slots__ = (
        "_backlog",
        "_in_hand",
        "_last",
        "_lock",
        "_queued",
        "_skip",
        "commits",
        "committed",
        "log_beyond",
        "offsets",
        "partition",
        "paused",
        "phase",
        "run",
        "session",
        "topic",
    )

    def __init__(self, session: Session, topic: str, partition: int, order: Order) -> None:
        self.topic = topic
        self.partition = partition
        self.session = session
        self.commits = session.commits
        self.offsets = OffsetTracker()
        self._backlog = Backlog(self, order, self.offsets)
        #: The run under way. Changed under the lock; its worker looks at it without.
        self.run: Run | None = None
        self._lock = threading.Lock()
        self.phase = LanePhase.OPEN
        #: How many of its messages wait in the upstream channel: one that was offered, and those put back.
        self._queued = 0
        #: Messages taken and not released.
        self._in_hand = 0
        #: Offsets that an earlier assignment finished beyond what it committed, and that were
        #: not delivered again yet. Commits go on naming them: another rebalance may come before they do.
        self._skip: set[int] = set()
        #: Poll thread: the last offset that the broker delivered, or that lies before the first it will.
        self._last = -1
        #: Poll thread: whether the partition is paused on the client.
        self.paused = False
        #: Poll thread: which change of the offsets the broker has acknowledged. Whoever waits for a durable
        #: commit reads it once the round is answered.
        self.committed = 0
        #: Poll thread: at how many messages finished beyond an unfinished one the log is told again.
        self.log_beyond = 0

    @property
    def in_hand(self) -> int:
        """Messages that workers or users have taken and not released."""
        return self._in_hand

    def is_dropped(self) -> bool:
        """Whether the partition belongs to somebody else; any thread."""
        return self.phase is LanePhase.DROPPED

    def __repr__(self) -> str:
        return (
            f"<Lane {self.topic}[{self.partition}] {self.phase.value}, {len(self._backlog)} buffered, "
            f"{self._in_hand} in hand, {self.offsets!r}>"
        )

    # -- the poll thread ----------------------------------------------------------------------------

    def start_at(self, offset: int, finished: Iterable[int], *, committed: bool = True) -> None:
        """The partition starts at `offset`, without those beyond it that are `finished`. Before any `add`.

        One that is not `committed` is committed by the next round.
        """
        self._last = offset - 1
        with self._lock:
            self._skip = set(finished)
            if not committed:
                self.offsets.start(offset)
        if not committed:
            self.commits.wanted = True

    def add(self, raws: list[RawMessage]) -> list[RawMessage]:
        """Buffer messages that the broker delivered, in their order, and offer the first if it may go.

        What it gives back it did not take: from there on the offsets are not beyond those before.
        """
        first_offset, last_offset = raws[0].offset(), raws[-1].offset()
        if first_offset <= self._last:
            return raws
        back: list[RawMessage] = []
        offsets: Iterable[int] = range(first_offset, last_offset + 1)
        if last_offset - first_offset + 1 != len(raws):  # gaps: a compacted log, or transactions
            offsets = [raw.offset() for raw in raws]
            ascending = _ascending(offsets)
            raws, back, offsets = raws[:ascending], raws[ascending:], offsets[:ascending]
            last_offset = offsets[-1]
        self._last = last_offset
        size = sum(map(len, raws))
        with self._lock:
            if self.phase is not LanePhase.OPEN:
                return []
            self.offsets.add(offsets)
            if self._skip:
                raws = self._without_finished_locked(raws)
            if raws:
                self._backlog.add(raws, size)
            following = self._offer_locked()
        self._tell(following)
        return back

    def _without_finished_locked(self, raws: list[RawMessage]) -> list[RawMessage]:
        # A run counts as if nothing beyond it were finished.
        self._leave_run_locked()
        kept = []
        for raw in raws:
            if raw.offset() in self._skip:
                self.offsets.finish(raw.offset())
                self._skip.discard(raw.offset())
            else:
                kept.append(raw)
        return kept

    def unfinished(self) -> tuple[int | None, set[int]]:
        """The lowest offset that was delivered and is not finished, and those beyond it that are."""
        with self._lock:
            self._count_run_locked()
            return self.offsets.blocking, self.offsets.finished | self._skip

    def buffered(self) -> tuple[int, int]:
        """How many messages are held here, buffered or to come again or parked, and about how many bytes."""
        with self._lock:
            return self._backlog.size()

    def drain(self) -> None:
        """Hand out no more; forget what is buffered, as somebody will fetch it again."""
        with self._lock:
            if self.phase is LanePhase.OPEN:
                self.phase = LanePhase.DRAINING
            self._leave_run_locked()
            self._backlog.clear()

    def drop(self) -> None:
        """The partition is no longer ours: refuse what comes later."""
        with self._lock:
            self._leave_run_locked()
            self.phase = LanePhase.DROPPED
            self._backlog.clear()

    def commit_point(self, known: int = 0) -> CommitPoint | None:
        """What there is to commit now; None when nothing is finished since the change that is `known`.

        Metadata names what is finished beyond the offset, so that it is not handled again.
        """
        with self._lock:
            self._count_run_locked()
            offsets = self.offsets
            if offsets.changes == known:
                return None
            offset = offsets.blocking
            beyond = offsets.finished | self._skip if self._skip else offsets.finished
            # Nothing before the blocking message is unfinished, also when nothing before it came here.
            if offset is None or not beyond:
                offset = offsets.commit_point
            if offset is None:
                return None
            if not beyond:
                return CommitPoint(offset, "", offsets.changes)
            # What an earlier assignment has finished, and what has not come yet, may follow at once.
            while offset in beyond:
                offset += 1
            further = sorted(each for each in beyond if each > offset)
            return CommitPoint(offset, encode(offset, further), offsets.changes)

    def again(self, messages: list[Message]) -> None:
        """The time of deferred messages has come: hand them out first."""
        with self._lock:
            self._backlog.undefer(len(messages))
            if self.phase is not LanePhase.OPEN:
                return
            for message in messages:
                message.attempt += 1
            self._backlog.add_again(messages)
            following = self._offer_locked()
        self._tell(following)

    # -- whoever takes messages: workers, the batch worker, users -----------------------------------

    def set_batched(self) -> None:
        """From now on one thread takes it all, many messages at a time, so any may be out."""
        with self._lock:
            self._leave_run_locked()
            self._backlog.set_batched()
            following = self._offer_locked()
        self._tell(following)

    def taken(self, message: Message) -> tuple[bool, Message | None]:
        """A message was taken from the upstream channel: whether it is still good, and the next to offer."""
        with self._lock:
            self._queued -= 1
            if self.phase is not LanePhase.OPEN or self._backlog.hold_back(message):
                return False, None
            if message._flags & RELEASED:
                return False, self._offer_locked()
            message._flags &= ~AWAY
            self._in_hand += 1
            return True, self._offer_locked()

    def taken_row(self, first: Message, count: int) -> list[Message]:
        """A batch took `first` from the upstream channel: it, and what follows it, up to `count`; or nothing.

        In one step: a message offered to the channel in between would be overtaken by those behind it.
        """
        backlog = self._backlog
        with self._lock:
            self._queued -= 1
            if self.phase is not LanePhase.OPEN or backlog.hold_back(first):
                return []
            first._flags &= ~AWAY
            messages = [] if first._flags & RELEASED else [first]
            if backlog.is_plain and not backlog.is_at_window:
                messages += backlog.claim(count - len(messages))
            else:
                while len(messages) < count:
                    message = backlog.take()
                    if message is None:
                        break
                    message._flags &= ~AWAY
                    messages.append(message)
            self._in_hand += len(messages)
            return messages

    def put_back(self, message: Message) -> None:
        """A worker gives up its turn: a message that it took and did not begin goes to the channel."""
        with self._lock:
            if message._flags & RELEASED:
                return
            self._in_hand -= 1
            message._flags |= AWAY
            usable = self.phase is LanePhase.OPEN
            if usable:
                self._queued += 1
            idle = self._is_idle_locked()
        self._tell(message if usable else None, idle=idle)

    def defer(self, message: Message) -> bool:
        """A failed message leaves its worker's hand, to be handed out `again` later; what must, waits.

        False when it has been released meanwhile: what is behind it is under way, and it does not come again.
        """
        with self._lock:
            if message._flags & RELEASED:
                return False
            self._in_hand -= 1
            message._flags |= AWAY
            self._backlog.defer(message)
            following = self._offer_locked()
            idle = self._is_idle_locked()
        self._tell(following, idle=idle)
        return True

    # -- runs ---------------------------------------------------------------------------------------

    def begin_run(self, message: Message, count: int) -> Run | None:
        """Claim the message in the worker's hand and up to `count` that follow it, to handle in a row.

        None when something out of the ordinary is going on, and the messages go one by one.
        """
        with self._lock:
            offsets, backlog = self.offsets, self._backlog
            if (
                not backlog.in_partition_order
                or not backlog.is_plain
                or self.phase is not LanePhase.OPEN
                or self._in_hand != 1
                or message._flags
                or offsets.finished
                or offsets.blocking != message._raw.offset()
            ):
                return None
            run = self.run = Run([message, *backlog.claim(count)])
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
                run.count(self.offsets)
                messages = self._backlog.claim(count)
                upcoming = self.run = Run(messages) if messages else None
                if upcoming is None:
                    self._in_hand -= 1
                    self._backlog.done(run.messages[-1])
        self._tell(following)
        return upcoming

    def leave_run(self, run: Run) -> None:
        """End a run early; its worker goes on with the message in its hand, if any, the ordinary way."""
        with self._lock:
            if self.run is run:
                self._leave_run_locked()
            following = self._offer_locked()
        self._tell(following)

    def left_at(self, run: Run) -> int:
        """How many messages of a run that has ended early were finished when it ended; its worker asks."""
        with self._lock:
            return run.left_at

    def _count_run_locked(self) -> None:
        """Take what the worker of the run under way has done into the books."""
        if self.run is not None:
            self.run.count(self.offsets)

    def _leave_run_locked(self) -> None:
        run = self.run
        if run is None:
            return
        # First this, then the count: whatever its worker finishes after the count, it sees that it has ended.
        self.run = None
        rest = run.end(self.offsets)
        if rest:
            self._backlog.put_first(rest[1:])
        else:
            self._in_hand -= 1
            self._backlog.done(run.messages[-1])

    def _touch_locked(self, message: Message) -> None:
        """Somebody does something to a message by itself: if it is out in a run, the run ends.

        Messages that were done in a run or a row carry no flags: that they lie below the commit point, which
        passes nothing unfinished, tells that they are done.
        """
        if message._flags:
            return
        self._count_run_locked()
        if not self._is_passed_locked(message):
            self._leave_run_locked()
        # Looked at after the run has ended: its worker may have finished the message until then.
        if self._is_passed_locked(message):
            message._flags = FINISHED | RELEASED

    def _is_passed_locked(self, message: Message) -> bool:
        commit_point = self.offsets.commit_point
        return commit_point is not None and message._raw.offset() < commit_point

    # -- whoever is done with messages --------------------------------------------------------------

    def advance(self, message: Message, *, finish: bool) -> Message | None:
        """A worker is done with a message: finish it if so told, release it, and give the lane's next one.

        The next message stays in the worker's hand, without a hop through the upstream channel.
        """
        refused = False
        with self._lock:
            flags = message._flags
            if finish and not flags & FINISHED:
                refused = self.phase is LanePhase.DROPPED
                flags |= FINISHED
                if not refused:
                    self.offsets.finish(message._raw.offset())
            released = flags & RELEASED
            message._flags = flags | RELEASED
            following = None
            if not released:
                self._backlog.done(message)
                if self.phase is LanePhase.OPEN:
                    following = self._backlog.take()
                if following is None:
                    self._in_hand -= 1
                else:
                    following._flags &= ~AWAY
            idle = self._is_idle_locked()
            done = message._done
        if done is not None:
            done.set()
        if refused:
            self._refuse(message)
        if idle:
            self.session.lane_idle()
        return following

    def advance_all(self, messages: list[Message], *, finish: bool) -> None:
        """As `advance` for a batch's messages of this lane, in one go; offers the lane's next message."""
        refused: Message | None = None
        events = []
        with self._lock:
            dropped = self.phase is LanePhase.DROPPED
            if finish and messages and not dropped and self._finish_row_locked(messages):
                messages = []
            for message in messages:
                self._touch_locked(message)
                flags = message._flags
                if finish and not flags & FINISHED:
                    flags |= FINISHED
                    if dropped:
                        refused = refused or message
                    else:
                        self.offsets.finish(message._raw.offset())
                if not flags & RELEASED:
                    self._backlog.done(message)
                    self._in_hand -= 1
                    if message._done is not None:
                        events.append(message._done)
                message._flags = flags | RELEASED
            following = self._offer_locked()
            idle = self._is_idle_locked()
        for event in events:
            event.set()
        if refused is not None:
            self._refuse(refused)
        self._tell(following, idle=idle)

    def _finish_row_locked(self, messages: list[Message]) -> bool:
        """Finish and release a row of a batch's messages at once, if nothing is out of the ordinary."""
        offsets, backlog = self.offsets, self._backlog
        if not backlog.batched or offsets.finished:
            return False
        if any(map(_FLAGS, messages)):
            return False
        first, last = messages[0]._raw.offset(), messages[-1]._raw.offset()
        if not offsets.finish_row(first, last, len(messages)):
            return False
        self._in_hand -= len(messages)
        return True

    def mark(self, message: Message) -> bool:
        """Record a message as finished; False, and a warning, when the partition was revoked or lost."""
        with self._lock:
            self._touch_locked(message)
            if message._flags & FINISHED:
                return self.phase is not LanePhase.DROPPED
            dropped = self.phase is LanePhase.DROPPED
            following = None
            if not dropped:
                message._flags |= FINISHED
                held = self._backlog.is_at_window
                self.offsets.finish(message._raw.offset())
                # A lane that was held at its window may go on, and nothing else may tell it so.
                following = self._offer_locked() if held else None
        self._tell(following)
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
        if self.commits.ask(self.is_dropped) and self.committed >= change:
            return True
        if self.is_dropped():
            self._refuse(message)
        return False

    def park(self, message: Message) -> None:
        """A worker is done with a message; it is released once the broker has its commit, or refuses it."""
        if self.mark(message):
            with self._lock:
                message._flags |= PARKED
                self._backlog.park(message)
            if self.commits.park(message):
                return
        self.release(message)

    def release(self, message: Message) -> None:
        """Let a message go, and offer the lane's next one."""
        self._tell(self.let_go(message))

    def let_go(self, message: Message) -> Message | None:
        """Let a message go; the lane's next one, for whoever calls this to offer."""
        with self._lock:
            self._touch_locked(message)
            if message._flags & RELEASED:
                return None
            away = message._flags & AWAY
            message._flags |= RELEASED
            if message._flags & PARKED:
                self._backlog.unpark(message)
            self._backlog.done(message)
            if not away:
                self._in_hand -= 1
            following = self._offer_locked()
            idle = self._is_idle_locked()
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
                return self._is_passed_locked(message)
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
                    LockFreeEvent.set(message._done)
            return message._done

    # -- what all of them end with ------------------------------------------------------------------

    def _offer_locked(self) -> Message | None:
        """The next message to put into the upstream channel, if none waits there and one may go."""
        if self._queued or self.phase is not LanePhase.OPEN:
            return None
        message = self._backlog.take()
        if message is not None:
            self._queued += 1
        return message

    def _is_idle_locked(self) -> bool:
        """Whether whoever waits for the last message in hand is to be told that there is none."""
        return self._in_hand == 0 and self.phase is not LanePhase.OPEN

    def _tell(self, following: Message | None, *, idle: bool = False) -> None:
        """Outside the lock: offer the lane's next message, and say that nothing is in hand any more."""
        if following is not None:
            self.session.upstream.offer(following)
        if idle:
            self.session.lane_idle()

    def _refuse(self, message: Message) -> None:
        log_event(
            logger,
            logging.WARNING,
            "commit refused: the partition was revoked or lost, another consumer gets the message again",
            {"topic": self.topic, "partition": self.partition, "offset": message.offset},
        )


def _ascending(offsets: list[int]) -> int:
    """How many of them ascend, from the first on."""
    pairs = enumerate(pairwise(offsets), 1)
    return next((at for at, (one, following) in pairs if following <= one), len(offsets))
