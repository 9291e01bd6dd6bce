"""The initialisation of a client: it is tried, and tried again, until a broker has answered.

Guarantees:
- the thread that owns the client tries; any other may wait, or ask for a try without the rest of the pause;
- who asks hears of a try that began after that, or of the close;
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
from dp_kafka.logs import error_text, log_event
from dp_kafka.pulse import Pulse
from dp_kafka.retry import get_retry_time

__all__ = [
    "CONSTRUCTOR_SECONDS",
    "INIT_SECONDS",
    "REQUEST_SECONDS",
    "ClientCallbacks",
    "Initialisation",
    "initialise",
]

#: How long the constructor of a client waits for the first try; it goes on in the background.
CONSTRUCTOR_SECONDS = 2.0
#: How long one try lasts at most.
INIT_SECONDS = 5.0
#: How long `initialise()` of a client waits: for the try that is under way, and for the next one.
REQUEST_SECONDS = 2 * INIT_SECONDS + 1.0
#: How long the first question of the first try waits for a broker's answer, and how much longer the next one.
PROBE_SECONDS, LONGER = 0.1, 4
#: How long the first question of a later try waits, at most, where the last one heard of an error, as of a
#: connection that is refused. Else it waits as long as the try lasts: a broker is slow, or says nothing.
HEARD_SECONDS = 1.6
#: How long a try lasts at least where no broker could be reached before, and the client says nothing new.
DOWN_SECONDS = 1.0


class Initialisation:
    """How far the initialisation is. Its client's thread tries; the other methods are for any thread."""

    def __init__(self, client: str, fields: Mapping[str, Any]) -> None:
        """Args: `client` is what its errors call the client, `fields` what their log data has of it."""
        self._client = client
        self._fields = fields
        #: Set once a broker has answered.
        self.done = LockFreeEvent()
        #: Guards what follows; notified by each change of it.
        self._condition = threading.Condition()
        #: How often somebody asked for a try, how many tries have begun, and how many have ended.
        self._asked = 0
        self._begun = 0
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
        """Have a try made, at once or behind the one that is under way, and wait for its outcome.

        Raises:
            NotInitialisedError: no broker answered it.
            ClosedError: the client closes.
        """
        with self._condition:
            self._asked += 1
            begun = self._begun
            self._condition.notify_all()
            self._condition.wait_for(
                lambda: self.done.is_set() or self._tried > begun or self._closing, timeout
            )
            if self._closing:
                raise ClosedError(
                    f"the {self._client} cannot be initialised because it is closing: make a new one",
                    log_data=dict(self._fields),
                )
            if self.done.is_set():
                return
            error = self._error
        reason = "no broker has answered yet; it is tried again in the background" if error is None else error
        more = getattr(error, "log_data", {})
        raise NotInitialisedError(str(reason), log_data={**self._fields, **more}) from error

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
        """Whether to try, or to go on with it."""
        return not self._ended

    def begin(self) -> int:
        """A try begins; how many have asked for one by then: those who ask later want another."""
        with self._condition:
            self._begun += 1
            return self._asked

    def tried(self, error: Exception | None) -> None:
        """A try has ended, with `error`, or None if a broker answered; that counts unless the client goes."""
        with self._condition:
            self._tried += 1
            self._error = error
            if error is None and not self._ended:
                self.done.set()
            self._condition.notify_all()

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
    ends: Callable[[Exception], bool],
    what: str,
    report: Callable[[BaseException], None],
    pulse: Pulse,
    logger: logging.Logger,
    fields: Mapping[str, Any],
) -> bool:
    """Try until a broker has answered: True; or until it is not wanted any more: False. The client's thread.

    That a broker has answered is for the caller to tell, with `Initialisation.tried`.

    Args:
        topic: the one that is asked for; None for all. A producer's question for one topic would create it.
        callbacks: what the client has told by its callbacks, which `serve` serves.
        ends: whether an exception of the client, or of `serve`, is raised, instead of ending only the try.
        what: what a failure calls what could not be made.
        report: puts an error on the errors channel.
    """
    attempt, first = 1, PROBE_SECONDS
    while initialisation.is_wanted():
        asked, errors_before = initialisation.begin(), callbacks.errors
        try:
            if _has_answered(client, initialisation, topic, callbacks, serve, pulse, first):
                return True
            error: Exception = NotInitialisedError(
                f"failed to create a new {what}: no broker of {list(config.broker_addrs)} answered; it is "
                "tried again in the background",
                log_data=dict(fields),
            )
            error.__cause__ = callbacks.last_error
        except Exception as raised:
            if ends(raised):
                raise
            error = _told(raised)
        first = min(LONGER * first, HEARD_SECONDS) if callbacks.errors != errors_before else INIT_SECONDS
        initialisation.tried(error)
        if not initialisation.is_wanted():
            break
        pause = get_retry_time(attempt, config.min_retry_period, config.max_retry_period)
        if attempt == 1 or not isinstance(error, NotInitialisedError):
            report(error)
        log_event(
            logger,
            logging.WARNING,
            "initialisation failed",
            {
                **fields,
                "attempt": attempt,
                "retry_in_seconds": round(pause, 3),
                "error": error_text(error),
                "error_type": type(error).__name__,
            },
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
    began = now = time.monotonic()
    errors_before = callbacks.errors
    while initialisation.is_wanted():
        pulse.beat(now)
        # All that is left where it is not much more, so that there are few questions: a slow broker answers
        # one after another, also those for whose answers nobody waits any more.
        left = began + INIT_SECONDS - now
        is_last = left < 3 * timeout
        try:
            client.list_topics(topic=topic, timeout=left if is_last else timeout)
        except KafkaException as error:
            cause = _kafka_error(error)
            if cause is None or cause.code() not in (KafkaError._TRANSPORT, KafkaError._TIMED_OUT):
                raise
        else:
            return True
        serve()
        now = time.monotonic()
        # That all brokers are down librdkafka says once, until one is up. Without a new error one may be up
        # and slow.
        is_down = callbacks.all_down and (callbacks.errors != errors_before or now >= began + DOWN_SECONDS)
        if is_last or is_down:
            break
        timeout *= LONGER
    return False


def _told(raised: Exception) -> Exception:
    """What is told of an exception of the client."""
    cause = _kafka_error(raised)
    if cause is None:
        return raised
    error = KafkaClientError.from_kafka_error(cause)
    # Its stack tells nothing, and would keep the client alive as long as somebody keeps the error.
    error.__cause__ = raised.with_traceback(None)
    return error


def _kafka_error(raised: Exception) -> KafkaError | None:
    first = raised.args[0] if isinstance(raised, KafkaException) and raised.args else None
    return first if isinstance(first, KafkaError) else None
