"""Group commit: what many threads ask to have committed, coalesced into one OffsetCommit at a time.

Workers and users ask; the poll thread begins a round, sends what is finished by then, and tells the
outcome. At most one round is under way. With an interval of 0 whoever asks waits for the broker's
answer, and one round answers everybody who asked before it began: so the rate of durable commits is
not bound to the round trip.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dp_kafka.consumer.message import Message

__all__ = ["GroupCommit"]

#: A round that the broker did not accept is tried again after this many seconds.
RETRY_SECONDS = 0.5
#: The shortest and the longest time after which the poll thread looks for the answer to a durable round. In
#: between it waits a quarter of the time that the round has taken so far: so a quick answer is seen quickly,
#: and a slow one costs few looks.
LOOK_SECONDS = (0.0001, 0.005)


class GroupCommit:
    """The requests for commits of one session, and the rounds that answer them."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        #: Lets messages go that were parked; the poll thread calls it. The session sets it.
        self.release: Callable[[list[Message]], None] = lambda _messages: None
        #: Whoever asks waits for the broker's answer.
        self.durable = interval == 0
        # Guards the tickets below. The poll thread waits on it too, for somebody to ask.
        self._condition = threading.Condition()
        self._asked = 0
        self._begun = 0
        self._done = 0
        self._failed = 0
        self._over = False
        #: Finished messages that are released with the answer, and the ticket of each, which ascend.
        self._parked: deque[tuple[int, Message]] = deque()
        #: Set by whoever asks without waiting (workers set it themselves, to save the call). No lock: the
        #: poll thread clears it BEFORE it reads the commit points, so what was finished before the flag was
        #: set is either read in this round or sets off the next one.
        self.wanted = False
        # The rest is owned by the poll thread.
        self._in_flight = False
        self._begun_at = 0.0
        self._next_round = 0.0

    def ask(self, is_over: Callable[[], bool] = lambda: False) -> bool:
        """Ask for a commit; any thread. With interval 0, block until it is answered.

        False if the broker refused it for good, or if it did not answer until the session had to end, or
        until it `is_over` with what was to be committed.
        """
        if not self.durable:
            self.wanted = True
            return not self._over
        with self._condition:
            if self._over:
                return False
            self._asked += 1
            ticket = self._asked
            self._condition.notify_all()
            self._condition.wait_for(
                lambda: self._done >= ticket or self._failed >= ticket or self._over or is_over()
            )
            return self._done >= ticket

    def park(self, message: Message) -> bool:
        """Ask for a durable commit of a finished message, and leave it here until the answer; any thread.

        It is released with the answer, whatever that is. So a worker need not wait for it: each wait is a
        switch of threads there and back, and takes longer than the broker. False if the session has ended.
        """
        with self._condition:
            if self._over:
                return False
            self._asked += 1
            self._parked.append((self._asked, message))
            self._condition.notify_all()
            return True

    def _release_answered(self) -> None:
        """Release what was parked and has its answer. Not under the lock: it wakes workers."""
        answered = []
        with self._condition:
            until = self._asked if self._over else max(self._done, self._failed)
            while self._parked and self._parked[0][0] <= until:
                answered.append(self._parked.popleft()[1])
        if answered:
            self.release(answered)

    def look_again(self) -> None:
        """Partitions were revoked or lost: those who wait see whether it was theirs. Poll thread only."""
        with self._condition:
            self._condition.notify_all()

    def wait_for_asker(self, timeout: float) -> None:
        """Poll thread: wait until somebody asks, at most `timeout` seconds."""
        with self._condition:
            self._condition.wait_for(lambda: self._asked > self._begun or self._over, timeout)

    @property
    def pending(self) -> bool:
        """Whether somebody has asked for what no round has begun to answer."""
        return self.wanted or self._asked > self._begun

    @property
    def asked_for(self) -> bool:
        """Whether somebody waits for the answer to a durable commit, or has parked a message for it."""
        return self.durable and self._asked > self.answered

    @property
    def answered(self) -> int:
        """How many of those who asked for a durable commit have their answer, good or bad."""
        return max(self._done, self._failed)

    @property
    def in_flight(self) -> bool:
        """Whether a round waits for the broker's answer. Poll thread only."""
        return self._in_flight

    def seconds_to_look(self, now: float) -> float:
        """How long to wait before looking for the answer to the round in flight. Poll thread only."""
        shortest, longest = LOOK_SECONDS
        return min(max((now - self._begun_at) / 4, shortest), longest)

    def due(self, now: float) -> bool:
        """Whether a round should begin now. Poll thread only."""
        return not self._in_flight and now >= self._next_round and self.pending

    def seconds_to_round(self, now: float) -> float | None:
        """Seconds until a round is due, or None if nothing is pending. Poll thread only."""
        if self._in_flight or not self.pending:
            return None
        return max(0.0, self._next_round - now)

    def begin(self) -> None:
        """A round begins; call it before reading the commit points. Poll thread only."""
        self.wanted = False
        with self._condition:
            self._begun = self._asked
        self._in_flight = True
        self._begun_at = time.monotonic()

    def succeed(self) -> None:
        """The broker accepted the round, or there was nothing to send. Poll thread only."""
        self._in_flight = False
        self._next_round = time.monotonic() + self._interval
        with self._condition:
            self._done = self._begun
            self._condition.notify_all()
        self._release_answered()

    def retry(self) -> None:
        """The round failed and may succeed later: everybody goes on waiting. Poll thread only."""
        self._in_flight = False
        self.wanted = True
        self._next_round = time.monotonic() + max(self._interval, RETRY_SECONDS)

    def fail(self) -> None:
        """The broker refused the round for good: whoever waits is told. Poll thread only."""
        self._in_flight = False
        self._next_round = time.monotonic() + max(self._interval, RETRY_SECONDS)
        with self._condition:
            self._failed = self._begun
            self._condition.notify_all()
        self._release_answered()

    def give_up(self) -> None:
        """Tell all who wait that there is no answer; rounds go on. Poll thread only."""
        with self._condition:
            self._failed = self._asked
            self._condition.notify_all()
        self._release_answered()

    def end(self) -> None:
        """No more rounds: whoever waits is told, whoever asks later too. Poll thread only."""
        with self._condition:
            self._over = True
            self._condition.notify_all()
        self._release_answered()
