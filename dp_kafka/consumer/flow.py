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
"""

from __future__ import annotations

from collections.abc import Iterable

from dp_kafka.consumer.lane import Lane

__all__ = ["MAX_FETCH", "Flow"]

#: The most messages taken from librdkafka at once.
MAX_FETCH = 2_000
#: Seconds for which the buffers may stay full before partitions are paused.
PATIENCE = 0.1
#: Seconds for which workers starve before it is looked at whose lanes are slow.
STARVING_SECONDS = 0.02
#: A lane is slow when what it holds takes its handlers longer than this.
SLOW_SECONDS = 0.1
#: A pause that was shorter was not worth what was thrown away.
QUICK_SECONDS = 0.03


class Flow:
    """Decides on numbers alone: which lanes hold how much, and since when the buffers have been full."""

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        # Half is for the lanes that are full, half for the others to go on meanwhile. librdkafka's own
        # queue has the other half of the bytes (dp_kafka.config.rdkafka).
        self._messages = max(1, max_messages // 2)
        self._bytes = max(1, max_bytes // 4)
        self._average = 0.0
        self._full_since: float | None = None
        #: Since when workers have starved, and the position of each full lane then.
        self._starving_since: float | None = None
        self._positions: dict[Lane, int] = {}
        #: Whether each lane is held to its share, and when those were paused that have it.
        self._sharing = False
        self._paused_at: dict[Lane, float] = {}

    def room(
        self, lanes: Iterable[Lane], now: float, *, starving: bool = False
    ) -> tuple[int, list[Lane], list[Lane]]:
        """How many messages to fetch now, which lanes to pause, and which to resume.

        `starving`: workers wait, and no lane has anything for them.
        """
        lanes = list(lanes)
        if not lanes:
            return MAX_FETCH, [], []
        share_messages = max(1, self._messages // len(lanes))
        share_bytes = max(1, self._bytes // len(lanes))
        # While sharing, a lane is full when the next fetch might take it over its share.
        chunk = max(1, share_messages // 4) if self._sharing else 0
        full_at = max(1, share_messages - chunk)
        over, resume, room, total = self._count(lanes, share_messages, share_bytes, full_at)
        self._look_at_sharing(over, resume, now, starving=starving, idle=not total)
        if self._sharing:
            full = [lane for lane, _ in over]
            self._paused_at.update(dict.fromkeys(full, now))
            return min(max(room, 0), max(1, share_messages // 4)), full, resume
        if room > 0:
            self._full_since = None
            return min(room, MAX_FETCH), [], resume
        if self._full_since is None:
            self._full_since = now
        elif now - self._full_since >= PATIENCE:
            self._full_since = now
            return 0, [lane for lane, _ in over], resume
        return 0, [], resume

    def _count(
        self, lanes: list[Lane], share_messages: int, share_bytes: int, full_at: int
    ) -> tuple[list[tuple[Lane, int]], list[Lane], int, int]:
        """Which lanes are full and what they hold, which to resume; for how many there is room; the total."""
        resume: list[Lane] = []
        total = size = 0
        free_messages = free_bytes = flowing = 0
        over: list[tuple[Lane, int]] = []
        for lane in lanes:
            count, length = lane.buffered()
            total += count
            size += length
            if lane.paused:
                if self._may_resume(count, length, share_messages, share_bytes):
                    resume.append(lane)
                continue
            if count >= full_at or length >= share_bytes:
                over.append((lane, count))
                if self._sharing:
                    continue  # as it is about to be paused
            flowing += 1
            free_messages += count
            free_bytes += length
        if total:
            self._average = size / total
        room = self._messages - total
        room_bytes = self._bytes - size
        if self._sharing or room <= 0 or room_bytes <= 0:
            # The paused lanes hold what they hold; the others have their own shares all the same. No more
            # than one share at a time, as all of it may be of one partition.
            room = min(share_messages * flowing - free_messages, share_messages)
            room_bytes = min(share_bytes * flowing - free_bytes, share_bytes)
        if self._average:
            room = min(room, int(room_bytes / self._average) if room_bytes > 0 else 0)
        if flowing and not free_messages:
            # However large messages are: those that hold nothing get one, or they would wait for ever.
            room = max(room, 1)
        return over, resume, room, total

    def _may_resume(self, count: int, length: int, share_messages: int, share_bytes: int) -> bool:
        # While sharing later, as each pause throws a fetch away.
        part = 4 if self._sharing else 2
        return count * part <= share_messages and length * part <= share_bytes

    def _look_at_sharing(
        self, over: list[tuple[Lane, int]], resumed: list[Lane], now: float, *, starving: bool, idle: bool
    ) -> None:
        """Go over to shares when workers starve before lanes that are full and slow, and back again.

        `idle`: nothing is buffered, so that there is nothing to share.
        """
        if self._sharing:
            pauses = [now - self._paused_at.pop(lane, 0.0) for lane in resumed]
            if idle or any(pause < QUICK_SECONDS for pause in pauses):
                self._sharing = False
                self._paused_at.clear()
            return
        if not (starving and over):
            self._starving_since = None
            return
        positions = {lane: lane.offsets.position or 0 for lane, _ in over}
        if self._starving_since is None:
            self._starving_since, self._positions = now, positions
            return
        seconds = now - self._starving_since
        if seconds < STARVING_SECONDS:
            return
        for lane, count in over:
            before = self._positions.get(lane)
            if before is not None and count * seconds > SLOW_SECONDS * (positions[lane] - before):
                self._sharing = True
        self._starving_since = None
