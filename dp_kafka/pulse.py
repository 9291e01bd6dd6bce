"""Signs of life of a thread, and of trouble in its work: written by the thread, read by health checks.

No lock: each field is one reference, replaced as a whole.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from dp_kafka.errors import KafkaClientError

__all__ = ["Pulse", "Trouble"]

#: How long an error counts after it was last reported. What persists librdkafka reports again before that.
TROUBLE_SECONDS = 60.0
#: Errors of one connection: how many brokers may have them is for the probes of the addresses to say.
_OF_A_CONNECTION = frozenset({"_AUTHENTICATION", "_SSL"})


class Pulse:
    """When a thread was last seen to move, and what it died of."""

    __slots__ = ("_beat", "crash")

    def __init__(self) -> None:
        #: None while it waits for something that may take for ever, as a start.
        self._beat: float | None = None
        #: What ended the thread before its time.
        self.crash: BaseException | None = None

    def beat(self, now: float) -> None:
        """It moves; `now` is `time.monotonic()`."""
        self._beat = now

    def rest(self) -> None:
        """It is about to wait for something that may take for ever."""
        self._beat = None

    def silent_for(self, now: float) -> float:
        """Seconds since it moved; 0 while it rests."""
        beat = self._beat
        return 0.0 if beat is None else now - beat

    def problem(self, what: str, now: float, stuck_after: float) -> str | None:
        """What is wrong with the thread, which is called `what` in the answer; None if nothing is."""
        if self.crash is not None:
            return f"{what} died of {type(self.crash).__name__}"
        silent = self.silent_for(now)
        return f"{what} has been stuck for {silent:.0f} seconds" if silent > stuck_after else None


class Trouble:
    """The last error that stands in the way of a client's work and that somebody has to put right."""

    __slots__ = ("_clock", "_noted")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        #: What it is, whether it is of a connection only, and until when it counts.
        self._noted: tuple[str, bool, float] | None = None

    def note(self, error: KafkaClientError) -> None:
        """Keep the error if waiting won't solve it."""
        if error.permanent or error.name in _OF_A_CONNECTION:
            until = float("inf") if error.fatal else self._clock() + TROUBLE_SECONDS
            self._noted = str(error), error.name in _OF_A_CONNECTION, until

    def failed(self, what: str, error: BaseException) -> None:
        """A part of the work that is called `what` has failed, and is tried again."""
        text = str(error) if isinstance(error, KafkaClientError) else type(error).__name__
        self._noted = f"{what} failed: {text}", False, self._clock() + TROUBLE_SECONDS

    def clear(self) -> None:
        """The work goes on."""
        self._noted = None

    def text(self, *, of_connections: bool) -> str:
        """The error in words, or "". With `of_connections` also one that only concerns a connection."""
        noted = self._noted
        if noted is None or self._clock() > noted[2] or (noted[1] and not of_connections):
            return ""
        return noted[0]
