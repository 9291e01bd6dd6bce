"""Signs of life of a thread, and of trouble in its work: written by the thread, read by health checks.

No lock: each field is one reference, replaced as a whole.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import NamedTuple

from dp_kafka.errors import KafkaClientError

__all__ = ["Pulse", "Trouble", "is_about_tls"]

#: How long an error counts after it was last reported. What persists librdkafka reports again before that.
TROUBLE_SECONDS = 60.0


class _Noted(NamedTuple):
    """An error: its words and name, whether it is of a connection only, and until when it counts."""

    text: str
    name: str
    of_a_connection: bool
    until: float


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
            # What librdkafka says names no payload and no secret; what anything else says may.
            fatal = isinstance(self.crash, KafkaClientError)
            return f"{what} died of {self.crash if fatal else type(self.crash).__name__}"
        silent = self.silent_for(now)
        return f"{what} has been stuck for {silent:.0f} seconds" if silent > stuck_after else None


class Trouble:
    """The last error that stands in the way of a client's work and that somebody has to put right."""

    __slots__ = ("_clock", "_noted")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._noted: _Noted | None = None

    def note(self, error: KafkaClientError, *, lasting: bool = False) -> None:
        """Keep the error if waiting won't solve it; a `lasting` one until the work is seen to go on."""
        of_a_connection = error.name == "_AUTHENTICATION" or is_about_tls(error)
        if error.permanent or of_a_connection:
            until = math.inf if error.fatal or lasting else self._clock() + TROUBLE_SECONDS
            self._noted = _Noted(str(error), error.name, of_a_connection, until)

    def failed(self, what: str, error: BaseException) -> None:
        """A part of the work that is called `what` has failed, and is tried again."""
        name = error.name if isinstance(error, KafkaClientError) else type(error).__name__
        text = str(error) if isinstance(error, KafkaClientError) else name
        self._noted = _Noted(f"{what} failed: {text}", name, False, self._clock() + TROUBLE_SECONDS)

    def clear(self) -> None:
        """The work goes on."""
        self._noted = None

    def connected(self) -> None:
        """A broker has answered. What lasts is not over with that."""
        noted = self._noted
        if noted is not None and noted.until < math.inf:
            self._noted = None

    def consumed(self) -> None:
        """Messages have come, so the topic may be read."""
        noted = self._noted
        if noted is not None and noted.name == "TOPIC_AUTHORIZATION_FAILED":
            self._noted = None

    def text(self, *, of_connections: bool) -> str:
        """The error in words, or "". With `of_connections` also one that only concerns a connection."""
        noted = self._noted
        if noted is None or self._clock() > noted.until or (noted.of_a_connection and not of_connections):
            return ""
        return noted.text

    @property
    def is_of_a_connection(self) -> bool:
        """Whether the error concerns a connection, so that asking the brokers may say more."""
        noted = self._noted
        return noted is not None and noted.of_a_connection and self._clock() <= noted.until


def is_about_tls(error: KafkaClientError) -> bool:
    """Whether it is of a TLS handshake, or of a certificate that the other side refuses.

    A broker that refuses the client's says so when the handshake is done already, by an alert.
    """
    if error.name == "_SSL":
        return True
    return error.name == "_TRANSPORT" and ("SSL alert number" in str(error) or "SSL handshake" in str(error))
