"""How much to fetch now, and which partitions to pause: buffered memory stays within its bounds.

A fetch is held back while the lanes are full. Pausing a partition on the client throws away what
librdkafka has prefetched of it, to be fetched again later: dear for a pause of milliseconds, right for
one of seconds. So the poll thread first just waits a little, and pauses only those partitions whose
handlers have not made room for `PATIENCE` seconds. POLL THREAD.
"""

from __future__ import annotations

from collections.abc import Iterable

from dp_kafka.consumer.lane import Lane

__all__ = ["MAX_FETCH", "Flow"]

#: The most messages taken from librdkafka at once.
MAX_FETCH = 2_000
#: Seconds for which the buffers may stay full before partitions are paused.
PATIENCE = 0.1


class Flow:
    """Decides on numbers alone: which lanes hold how much, and since when the buffers have been full."""

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        # Half is for the lanes that are full, half for the others to go on meanwhile. librdkafka's own
        # queue has the other half of the bytes (dp_kafka.config.rdkafka).
        self._messages = max(1, max_messages // 2)
        self._bytes = max(1, max_bytes // 4)
        self._average = 0.0
        self._full_since: float | None = None

    def room(self, lanes: Iterable[Lane], now: float) -> tuple[int, list[Lane], list[Lane]]:
        """How many messages to fetch now, which lanes to pause, and which to resume."""
        lanes = list(lanes)
        if not lanes:
            return MAX_FETCH, [], []
        share_messages = max(1, self._messages // len(lanes))
        share_bytes = max(1, self._bytes // len(lanes))
        pause: list[Lane] = []
        resume: list[Lane] = []
        total = size = 0
        free_messages = free_bytes = flowing = 0
        over: list[Lane] = []
        for lane in lanes:
            count, length = lane.buffered()
            total += count
            size += length
            if lane.paused:
                if count * 2 <= share_messages and length * 2 <= share_bytes:
                    resume.append(lane)
                continue
            flowing += 1
            free_messages += count
            free_bytes += length
            if count >= share_messages or length >= share_bytes:
                over.append(lane)
        if total:
            self._average = size / total
        room = self._messages - total
        room_bytes = self._bytes - size
        if room <= 0 or room_bytes <= 0:
            # The paused lanes hold what they hold; the others have their own shares all the same.
            room = share_messages * flowing - free_messages
            room_bytes = share_bytes * flowing - free_bytes
        if self._average:
            room = min(room, int(room_bytes / self._average) if room_bytes > 0 else 0)
        if flowing and not free_messages:
            # However large messages are: those that hold nothing get one, or they would wait for ever.
            room = max(room, 1)
        if room > 0:
            self._full_since = None
            return min(room, MAX_FETCH), pause, resume
        if self._full_since is None:
            self._full_since = now
        elif now - self._full_since >= PATIENCE:
            pause = over
            self._full_since = now
        return 0, pause, resume
