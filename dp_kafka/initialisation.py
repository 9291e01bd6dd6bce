"""The initialisation of a client: it is tried, and tried again, until a broker has answered.

Guarantees:
- the thread that owns the client tries; any other may wait, or ask for a try without the rest of the pause;
- who asks hears of a try that began after it asked, or of the close;
- no topic is created by it, and what a broker says against us is told, not only that it failed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from confluent_kafka import KafkaError, KafkaException

from dp_kafka.channels import LockFreeEvent
from dp_kafka.config import ConsumerGroupConfig, ProducerConfig
from dp_kafka.errors import ClosedError, KafkaClientError, NotInitialisedError
from dp_kafka.interrupts import is_owned
from dp_kafka.logs import log_event
from dp_kafka.pulse import Pulse
from dp_kafka.retry import get_retry_time

__all__ = ["INIT_SECONDS", "ClientCallbacks", "Initialisation", "initialise"]

#: How long one try waits for a broker's answer, in all, and in the first try's first question.
INIT_SECONDS = 5.0
PROBE_SECONDS = 0.1
#: By how much a later try's first question waits longer: 2 to this power times, at most.
LONGEST_PROBE = 5


class Initialisation:
    """How far the initialisation is. Its client's thread tries; the other methods are for any thread."""

    def __init__(self, client: str) -> None:
        """Args: `client` is what its errors call the client."""
        self._client = client
        #: Set once a broker has answered.
        self.done = LockFreeEvent()
        #: Guards what follows; notified by each change of it.
        self._condition = threading.Condition()
        #: How often somebody asked for a try, and how many tries have ended.
        self._asked = 0
        self._tried = 0
        self._error: Exception | None = None
        #: Nobody waits for it any more; no further try begins.
        self._closing = False
        self._ended = False

    @property
    def error(self) -> Exception | None:
        """Why the last try failed."""
        return self._error

    def wait(self, timeout: float) -> bool:
        """Wait until it is done, at most `timeout` seconds, and not once the client closes; True if it is."""
        with self._condition:
            self._condition.wait_for(lambda: self.done.is_set() or self._closing, timeout)
        return self.done.is_set()

    def wait_first_try(self, timeout: float) -> None:
        """Wait until the first try has ended, at most `timeout` seconds, and not once the client closes."""
        with self._condition:
            self._condition.wait_for(lambda: self._tried > 0 or self._closing, timeout)

    def request(self, timeout: float) -> None:
        """Have a try made now, and wait for its outcome.

        Raises:
            NotInitialisedError: no broker answered it.
            ClosedError: the client closes.
        """
        with self._condition:
            self._asked += 1
            tried = self._tried
            self._condition.notify_all()
            self._condition.wait_for(
                lambda: self.done.is_set() or self._tried > tried or self._closing, timeout
            )
            if self._closing:
                raise ClosedError(
                    f"the {self._client} cannot be initialised because it is closing: make a new one"
                )
            if self.done.is_set():
                return
            error = self._error
        reason = "no broker has answered yet; it is tried again in the background" if error is None else error
        raise NotInitialisedError(str(reason), log_data=getattr(error, "log_data", None)) from error

    def interrupted(self) -> bool:
        """Whether the calling thread is a signal handler's, on top of a call that holds the condition."""
        return is_owned(self._condition)

    def close(self) -> None:
        """The client closes: wake those who wait. Tries may go on, for what is still to be sent."""
        with self._condition:
            self._closing = True
            self._condition.notify_all()

    def end(self) -> None:
        """The client goes: try no more."""
        with self._condition:
            self._closing = self._ended = True
            self._condition.notify_all()

    # -- the client's thread ------------------------------------------------------------------------

    def is_wanted(self) -> bool:
        """Whether to try, or to try again."""
        return not self._ended

    def tried(self, error: Exception | None) -> int:
        """A try has ended, with `error`, or None if a broker answered; how many had asked for one by then."""
        with self._condition:
            self._tried += 1
            self._error = error
            if error is None:
                self.done.set()
            self._condition.notify_all()
            # Read together with the outcome: who asks from now on has not heard of this try.
            return self._asked

    def wait_retry(self, asked: int, pause: float) -> None:
        """Wait until it is time to try again, or more than `asked` have asked, or none is wanted any more."""
        with self._condition:
            self._condition.wait_for(lambda: self._ended or self._asked > asked, pause)


class ClientCallbacks(Protocol):
    """What a client has told by its callbacks."""

    @property
    def all_down(self) -> bool:
        """Whether it has said, ever, that no broker can be reached."""

    @property
    def errors(self) -> int:
        """How many errors it has told of."""

    @property
    def last_error(self) -> KafkaClientError | None:
        """The last of them."""


def initialise(
    client: Any,
    initialisation: Initialisation,
    *,
    config: ConsumerGroupConfig | ProducerConfig,
    topic: str | None,
    callbacks: ClientCallbacks,
    serve: Callable[[], object],
    what: str,
    report: Callable[[BaseException], None],
    pulse: Pulse,
    logger: logging.Logger,
    fields: Mapping[str, Any],
) -> bool:
    """Try until a broker has answered: True; or until it is not wanted any more: False. The client's thread.

    That a broker has answered is for the caller to tell, with `Initialisation.tried`. What `serve` raises is
    raised, and of what a question raises a fatal error, and all that is not Kafka's.

    Args:
        topic: the one that is asked for; None for all. A producer's question for one topic would create it.
        callbacks: what the client has told by its callbacks, which `serve` serves.
        what: what a failure calls what could not be made.
        report: puts an error on the errors channel.
    """
    attempt = 1
    while initialisation.is_wanted():
        # Longer from try to try, so that a slow broker gets its time and one that is away costs little.
        first = PROBE_SECONDS * 2 ** min(attempt - 1, LONGEST_PROBE)
        error: Exception | None = None
        try:
            if _has_answered(client, initialisation, topic, callbacks, serve, pulse, first):
                return True
        except KafkaException as raised:
            if raised.args[0].fatal():
                raise
            error = KafkaClientError.from_kafka_error(raised.args[0])
            error.__cause__ = raised
        if error is None:
            error = NotInitialisedError(
                f"failed to create a new {what}: no broker of {list(config.broker_addrs)} answered; it is "
                "tried again in the background",
                log_data=dict(fields),
            )
            error.__cause__ = callbacks.last_error
        asked = initialisation.tried(error)
        if not initialisation.is_wanted():
            break
        pause = get_retry_time(attempt, config.min_retry_period, config.max_retry_period)
        if attempt == 1 or not isinstance(error, NotInitialisedError):
            report(error)
        log_event(
            logger,
            logging.WARNING,
            "initialisation failed",
            {**fields, "attempt": attempt, "retry_in_seconds": round(pause, 3), "error": str(error)},
        )
        attempt += 1
        pulse.rest()
        initialisation.wait_retry(asked, pause)
    return False


def _has_answered(
    client: Any,
    initialisation: Initialisation,
    topic: str | None,
    callbacks: ClientCallbacks,
    serve: Callable[[], object],
    pulse: Pulse,
    timeout: float,
) -> bool:
    """Ask, for `timeout` seconds at first, until a broker has answered (True) or none seems to be there.

    Raises:
        KafkaException: a broker answered that it wants nothing of us.
    """
    until = time.monotonic() + INIT_SECONDS
    errors_before = callbacks.errors
    while initialisation.is_wanted():
        pulse.beat(time.monotonic())
        try:
            client.list_topics(topic=topic, timeout=min(timeout, INIT_SECONDS))
        except KafkaException as error:
            if error.args[0].code() not in (KafkaError._TRANSPORT, KafkaError._TIMED_OUT):
                raise
        else:
            return True
        serve()
        # That all brokers are down librdkafka says once, until one is up. Without a new error one may be up
        # and slow.
        if (callbacks.all_down and callbacks.errors != errors_before) or time.monotonic() >= until:
            break
        timeout *= 2
    return False
