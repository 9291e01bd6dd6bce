"""How much to fetch now, and which partitions to pause: buffered memory stays within its bounds.

A fetch is held back while the lanes are full. Pausing a partition on the client throws away what
librdkafka has prefetched of it, to be fetched again later: dear for a pause of milliseconds, right for
one of seconds. So the poll thread first just waits a little, and pauses only those partitions whose
handlers have not made room for `PATIENCE` seconds. POLL THREAD.

Behind a backlog one answer of a broker holds thousands of messages of one partition, and the lanes are full
of few partitions while workers have nothing to do. Where handlers are quick that passes in no time. Where
they are slow, the flow goes over to shares: it fetches little at a time, and pauses each partition that has
its share, so that those behind it in librdkafka's queue get theirs. It goes back when a share was handled so
quickly that the pause was not worth it.

The bound holds for all lanes together, whatever the paused ones hold: they took more than their shares before
they were paused, and what they took is missing for the others. Without shares the flow uses half of what the
paused lanes have left, so that there is something for the next ones when these stand still too:

    200 partitions, all handlers stall -> the first five fill half of the room -> they are paused
    -> the next five may fill no more than is left, and not half of the room again, or it would never end
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from dp_kafka.consumer.lane import Lane

__all__ = ["MAX_FETCH", "Flow"]

#: The most messages taken from librdkafka at once.
MAX_FETCH = 2_000
#: The most before it is known how large messages are.
FIRST_FETCH = 100
#: Seconds for which the buffers may stay full before partitions are paused.
PATIENCE = 0.1
#: Seconds for which workers starve before it is looked at whose lanes are slow.
STARVING_SECONDS = 0.02
#: A lane is slow when what it holds takes its handlers longer than this.
SLOW_SECONDS = 0.1
#: A pause that was shorter was not worth what was thrown away.
QUICK_SECONDS = 0.03
#: Sharing is not needed where no lane had its share for so long.
KEEPING_UP_SECONDS = 1.0


#: A lane, and what it holds: messages, and bytes. Plain, as each turn makes one for each lane.
_Held: TypeAlias = tuple[Lane, int, int]


class _Count(NamedTuple):
    """What all lanes hold, and what the paused ones leave of the bounds."""

    flowing: list[_Held]  #: the lanes that are not paused
    messages: int  #: of these
    size: int  #: of these, in bytes
    messages_left: int  #: for these
    size_left: int  #: for these, in bytes
    idle: bool  #: whether no lane holds anything


class Flow:
    """Decides on numbers alone: which lanes hold how much, and since when the buffers have been full."""

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        # What all lanes may hold; while none stands still they use half of it. librdkafka's own queue has the
        # other half of the bytes, and half as many messages (dp_kafka.config.rdkafka). With a quarter of the
        # messages in use here, quick handlers run dry: at four fifths of the rate.
        self._messages = max(1, max_messages)
        self._size = max(1, max_bytes // 2)
        self._average = 0.0
        self._full_since: float | None = None
        #: Since when workers have starved, and the commit point of each full lane then.
        self._starving_since: float | None = None
        self._commit_points: dict[Lane, int] = {}
        #: Whether each lane is held to its share, when those were paused that have it, and when one last did.
        self._sharing = False
        self._paused_at: dict[Lane, float] = {}
        self._share_had_at = 0.0

    def room(
        self, lanes: Iterable[Lane], now: float, *, starving: bool = False
    ) -> tuple[int, list[Lane], list[Lane]]:
        """How many messages to fetch now, which lanes to pause, and which to resume.

        `starving`: workers wait, and no lane has anything for them.
        """
        lanes = list(lanes)
        if not lanes:
            # Within that fetch an assignment may come, and the messages behind it.
            return min(FIRST_FETCH, max(1, self._messages // 2)), [], []
        count, resume = self._count(lanes)
        if self._sharing:
            self._look_at_resumed(resume, now, idle=count.idle)
        begins = not self._sharing
        if begins:
            room = self._room(count)
            self._look_at_starving(count, now, starving=starving)
            if room > 0 and not self._sharing:
                self._full_since = None
                return min(room, MAX_FETCH), [], resume
            if not self._sharing and not self._is_full_for_long(now):
                return 0, [], resume
            self._begin_sharing(now)
        room, full = self._share(count, now, begins=begins)
        return room, full, resume

    def _count(self, lanes: list[Lane]) -> tuple[_Count, list[Lane]]:
        """What the lanes hold, and which are to be resumed."""
        flowing, resume = [], []
        messages = size = paused_messages = paused_size = 0
        few_messages, small = self._messages // (4 * len(lanes)), self._size // (4 * len(lanes))
        for lane in lanes:
            held, length = lane.buffered()
            if lane.paused:
                paused_messages += held
                paused_size += length
                # Late, as each pause throws a fetch away.
                if held <= few_messages and length <= small:
                    resume.append(lane)
            else:
                flowing.append((lane, held, length))
                messages += held
                size += length
        total = messages + paused_messages
        if total:
            self._average = (size + paused_size) / total
        left = max(1, self._messages - paused_messages), max(1, self._size - paused_size)
        return _Count(flowing, messages, size, *left, idle=not total), resume

    def _in_messages(self, messages: int, size: int) -> int:
        """How many messages go into `messages` and into `size` bytes, by the average of what is held."""
        if not self._average:
            return min(messages, FIRST_FETCH)
        return min(messages, int(size / self._average) if size > 0 else 0)

    # -- without shares -----------------------------------------------------------------------------

    def _room(self, count: _Count) -> int:
        """How many messages there is room for in the half that the lanes use without shares."""
        messages, size = max(1, count.messages_left // 2), max(1, count.size_left // 2)
        room = self._in_messages(messages - count.messages, size - count.size)
        # However large messages are: where nothing is held one may come, or all would wait for ever.
        return max(room, 1) if count.flowing and not count.messages else room

    def _is_full_for_long(self, now: float) -> bool:
        if self._full_since is None:
            self._full_since = now
        return now - self._full_since >= PATIENCE

    def _look_at_starving(self, count: _Count, now: float, *, starving: bool) -> None:
        """Go over to shares when workers starve before lanes that are full and slow."""
        over: list[_Held] = []
        if starving and count.flowing:
            messages = max(1, count.messages_left // (2 * len(count.flowing)))
            size = max(1, count.size_left // (2 * len(count.flowing)))
            over = [one for one in count.flowing if one[1] >= messages or one[2] >= size]
        if not over:
            self._starving_since = None
            return
        commit_points = {lane: lane.offsets.commit_point or 0 for lane, _, _ in over}
        if self._starving_since is None:
            self._starving_since, self._commit_points = now, commit_points
            return
        seconds = now - self._starving_since
        if seconds < STARVING_SECONDS:
            return
        self._starving_since = None
        for lane, held, _ in over:
            before = self._commit_points.get(lane)
            if before is not None and held * seconds > SLOW_SECONDS * (commit_points[lane] - before):
                self._begin_sharing(now)

    # -- shares -------------------------------------------------------------------------------------

    def _begin_sharing(self, now: float) -> None:
        self._sharing = True
        self._share_had_at = now
        self._full_since = self._starving_since = None

    def _look_at_resumed(self, resumed: list[Lane], now: float, *, idle: bool) -> None:
        """Go back when a share was handled in no time, when no lane gets so far, or when nothing is held."""
        pauses = [now - self._paused_at.pop(lane, 0.0) for lane in resumed]
        keeping_up = now - self._share_had_at >= KEEPING_UP_SECONDS
        if idle or keeping_up or any(pause < QUICK_SECONDS for pause in pauses):
            self._sharing = False
            self._paused_at.clear()

    def _share(self, count: _Count, now: float, *, begins: bool) -> tuple[int, list[Lane]]:
        """How many messages to fetch, and which lanes to pause: those that it might take over their share.

        A fetch is a quarter of a share, as all of it may be of one partition. When sharing `begins`, those
        are paused that have half of a share: it is they who fill the half that is used without shares.
        """
        flowing = count.flowing
        shares = max(1, len(flowing))
        messages, size = max(1, count.messages_left // shares), max(1, count.size_left // shares)
        chunk, chunk_size = max(1, messages // 4), max(1, size // 4)
        if begins:
            full_at, full_size = max(1, messages // 2), max(1, size // 2)
        else:
            full_at, full_size = max(1, messages - chunk), max(1, size - chunk_size)
        full = [lane for lane, held, length in flowing if held >= full_at or length >= full_size]
        if full or not flowing:
            self._share_had_at = now
        self._paused_at.update(dict.fromkeys(full, now))
        if len(full) == len(flowing):
            return 0, full
        room = self._in_messages(
            min(chunk, count.messages_left - count.messages), min(chunk_size, count.size_left - count.size)
        )
        # However large messages are: those that hold less than their share get one.
        return max(1, min(room, MAX_FETCH)), full
