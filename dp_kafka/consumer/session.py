"""A session: the partitions that a consumer group owns between start and stop, a lane for each."""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections.abc import Iterable

from dp_kafka.codecs.protocol import Codec
from dp_kafka.config import Ordering
from dp_kafka.consumer.backlog import WINDOW
from dp_kafka.consumer.commits import GroupCommit
from dp_kafka.consumer.lane import Lane
from dp_kafka.consumer.message import Message
from dp_kafka.consumer.ordering import new_order
from dp_kafka.consumer.upstream import UpstreamChannel
from dp_kafka.logs import log_event

__all__ = ["Session"]

logger = logging.getLogger("dp_kafka.consumer")

#: As many messages finished beyond an unfinished one are worth a line in the log, and then ten times as many.
LOG_BEYOND = 100


class Session:
    """The lanes of the partitions that are owned now.

    `lanes` is changed by the poll thread only. `_idle` is notified when a lane that hands out no more
    has nothing left in hand.
    """

    def __init__(
        self,
        upstream: UpstreamChannel,
        commits: GroupCommit,
        ordering: Ordering,
        codec: Codec | None = None,
    ) -> None:
        self.upstream = upstream
        self.commits = commits
        commits.release = self._release
        #: What makes events of its messages' values.
        self.codec = codec
        self.lanes: dict[int, Lane] = {}
        self._ordering = ordering
        self._batched = False
        self._idle = threading.Condition()
        #: Failed messages and when to hand them out again; guarded by `_retry_lock`.
        self._retries: list[tuple[float, int, Message]] = []
        self._retry_count = 0
        self._retry_lock = threading.Lock()

    def open_lane(self, topic: str, partition: int) -> Lane:
        """A new lane for a partition that was assigned. Poll thread."""
        lane = Lane(self, topic, partition, new_order(self._ordering))
        self.lanes[partition] = lane
        # Looked at after the lane is in the dict: set_batched() sets it before it goes through the dict.
        if self._batched:
            lane.set_batched()
        return lane

    def set_batched(self) -> None:
        """A batch handler takes everything from now on; any thread."""
        self._batched = True
        for lane in list(self.lanes.values()):
            lane.set_batched()

    def remove(self, lanes: Iterable[Lane]) -> None:
        """Drop lanes whose partitions were revoked or lost. Poll thread."""
        for lane in lanes:
            lane.drop()
            if self.lanes.get(lane.partition) is lane:
                del self.lanes[lane.partition]
        self.commits.look_again()

    def _release(self, messages: list[Message]) -> None:
        """Release messages whose durable commits have their answer. Poll thread."""
        following = [message._lane.let_go(message) for message in messages]
        self.upstream.offer_all([message for message in following if message is not None])

    def defer(self, message: Message, seconds: float) -> None:
        """Hand a failed message out again after `seconds`; it is in nobody's hand meanwhile. Its worker."""
        if not message._lane.defer(message):
            return
        with self._retry_lock:
            self._retry_count += 1
            due = time.monotonic() + seconds
            heapq.heappush(self._retries, (due, self._retry_count, message))

    def serve_retries(self, now: float) -> float | None:
        """Hand out the failed messages whose time has come; seconds until the next one's. Poll thread."""
        if not self._retries:
            return None
        due: dict[Lane, list[Message]] = {}
        with self._retry_lock:
            while self._retries and self._retries[0][0] <= now:
                message = heapq.heappop(self._retries)[2]
                due.setdefault(message._lane, []).append(message)
            following = self._retries[0][0] - now if self._retries else None
        for lane, messages in due.items():
            lane.again(messages)
        return following

    def log_held(self) -> None:
        """Say which partitions are held back by an unfinished message, and how far. Poll thread."""
        for lane in self.lanes.values():
            beyond = len(lane.offsets.finished)
            if beyond < LOG_BEYOND:
                lane.log_beyond = 0
            elif beyond >= lane.log_beyond:
                lane.log_beyond = 10 * max(lane.log_beyond, LOG_BEYOND)
                log_event(
                    logger,
                    logging.WARNING,
                    "partition held back: a message is unfinished, and more is finished beyond it",
                    {
                        "topic": lane.topic,
                        "partition": lane.partition,
                        "blocking_offset": lane.offsets.blocking,
                        "finished_beyond": beyond,
                        "held_at": WINDOW,
                    },
                )

    def in_hand(self, lanes: Iterable[Lane] | None = None) -> int:
        """How many messages of `lanes` (all of them, if not given) workers or users have in hand."""
        # A copy: whoever closes asks, while the poll thread may be taking lanes out.
        return sum(lane.in_hand for lane in (list(self.lanes.values()) if lanes is None else lanes))

    def wait_idle(self, lanes: list[Lane], timeout: float) -> bool:
        """Wait until nothing of `lanes` is in hand, at most `timeout` seconds; True if so. Poll thread."""
        with self._idle:
            return self._idle.wait_for(lambda: self.in_hand(lanes) == 0, timeout)

    def lane_idle(self) -> None:
        """A draining lane has nothing left in hand; any thread."""
        with self._idle:
            self._idle.notify_all()
