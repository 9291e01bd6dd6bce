"""DELIVERY THREAD of a producer: owns its client. It initialises it, polls it, flushes it, and lets it go.

Guarantees:
- no other thread polls or flushes, so every report of librdkafka, and the user's delivery callback with it,
  runs here; only of what never was handed to librdkafka does the output thread tell the callback;
- it never blocks on a user's queue, and survives whatever a delivery callback raises;
- it lives until close() has flushed; what is left then is given up here, each message with its report;
- it lets the client go before it ends, and what ends it before its time closes the producer.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from dp_kafka import forks
from dp_kafka.channels import LockFreeEvent
from dp_kafka.config import ProducerConfig
from dp_kafka.config.rdkafka import producer_properties, refused
from dp_kafka.errors import ClosedError, KafkaClientError, NotInitialisedError
from dp_kafka.interrupts import is_owned
from dp_kafka.logs import log_error, log_event
from dp_kafka.producer.reports import Reports
from dp_kafka.pulse import Pulse
from dp_kafka.retry import get_retry_time

__all__ = ["ClientFactory", "DeliveryThread", "confluent_producer"]

logger = logging.getLogger("dp_kafka.producer")
client_logger = logging.getLogger("dp_kafka.librdkafka")

#: The longest that the thread waits for reports in one go: so long a close may take to reach it.
POLL_SECONDS = 0.05
#: The same while somebody waits in flush(): it goes round more often, for those who wait for room.
FLUSH_SECONDS = 0.02
#: How long one attempt at initialisation waits for a broker's answer, in all and at first in one go.
INIT_SECONDS = 5.0
PROBE_SECONDS = 0.1
#: How long the reports of messages that close() gave up may take.
GIVE_UP_SECONDS = 0.3

#: Makes a client of librdkafka properties, callbacks among them; the test kit has its own.
ClientFactory = Callable[[dict[str, Any]], Any]


def confluent_producer(properties: dict[str, Any]) -> Producer:
    """The real client; raises ConfigError for properties that librdkafka refuses."""
    try:
        return Producer(properties, logger=client_logger)
    except (KafkaException, TypeError, ValueError) as error:
        raise refused(error) from error


def _fatal(raised: BaseException) -> KafkaClientError | None:
    """The fatal error of librdkafka that `raised` stands for: poll() raises it, and calls back with none."""
    first = raised.args[0] if isinstance(raised, KafkaException) and raised.args else None
    if not isinstance(first, KafkaError) or not first.fatal():
        return None
    error = KafkaClientError.from_kafka_error(first)
    error.__cause__ = raised
    return error


class DeliveryThread(threading.Thread):
    """Runs one producer's client, from initialisation to close."""

    def __init__(
        self,
        config: ProducerConfig,
        client_factory: ClientFactory,
        report: Callable[[BaseException], None],
        on_death: Callable[[], None],
    ) -> None:
        """Args: `report` puts an error on the errors channel; `on_death` closes the producer.

        Raises:
            ConfigError: librdkafka refuses the properties.
        """
        super().__init__(name=f"dp-kafka:delivery:{config.topic}", daemon=True)
        self._config = config
        self._report = report
        self._on_death = on_death
        self._fields = {"topic": config.topic}
        self.reports = Reports(config.topic, report)
        self.pulse = Pulse()
        #: Set once a broker has answered.
        self.initialised = LockFreeEvent()
        #: Guards what follows; notified when reports have come, an attempt has ended, or the end is near.
        self._condition = threading.Condition()
        #: How often somebody asked for an attempt at initialisation, and how many have ended.
        self._asked = 0
        self._tried = 0
        self._init_error: Exception | None = None
        #: close() has begun: nobody waits for the initialisation any more.
        self._closing = False
        #: The thread has to end.
        self._ending = False
        #: Whether somebody waits in flush(): written by any thread, so it may be asked for once too often.
        self._flush_wanted = False
        #: How many wait for the condition.
        self._waiting = 0
        properties = producer_properties(config)
        properties["error_cb"] = self.reports.on_error
        # None once it was let go. Only this thread calls more than produce() on it.
        self._client: Any = client_factory(properties)
        forks.track(self, DeliveryThread._after_fork)

    def _after_fork(self) -> None:
        forks.keep(self._client)

    # -- senders and closers ------------------------------------------------------------------------

    @property
    def produce(self) -> Callable[..., None]:
        """librdkafka's produce(), for any thread: it queues or raises, and never waits."""
        produce: Callable[..., None] = self._client.produce
        return produce

    def left(self) -> int:
        """How many messages close() had to leave: those that were given up, and those without a report."""
        return self.reports.given_up + self.reports.missing

    @property
    def init_error(self) -> Exception | None:
        """Why the last attempt at initialisation failed."""
        return self._init_error

    def wait_for_room(self, timeout: float) -> None:
        """Wait until delivery reports may have made room, at most `timeout` seconds."""
        with self._condition:
            self._wait_locked(timeout)

    def wait_initialised(self, timeout: float) -> bool:
        """Wait for the initialisation at most `timeout` seconds, not while closing; True if it is done."""
        with self._condition:
            self._condition.wait_for(lambda: self.initialised.is_set() or self._closing, timeout)
        return self.initialised.is_set()

    def wait_first_attempt(self, timeout: float) -> None:
        """Wait until the first attempt at initialisation has ended, at most `timeout` seconds."""
        with self._condition:
            self._condition.wait_for(lambda: self._tried > 0, timeout)

    def initialise(self, timeout: float) -> None:
        """Have an attempt at initialisation made now, and wait for its outcome.

        Raises:
            NotInitialisedError: no broker answered.
            ClosedError: the producer is closing.
        """
        with self._condition:
            self._asked += 1
            tried = self._tried
            self._condition.notify_all()
            self._condition.wait_for(
                lambda: self.initialised.is_set() or self._tried > tried or self._closing, timeout
            )
            if self._closing:
                raise ClosedError("the producer cannot be initialised because it is closing: make a new one")
            if self.initialised.is_set():
                return
            error = self._init_error
        reason = "no broker has answered yet; it is tried again in the background" if error is None else error
        raise NotInitialisedError(str(reason), log_data=self._fields) from error

    def flush(self, timeout: float | None) -> int:
        """Wait until every message has its report, at most `timeout` seconds; how many have none yet.

        From a delivery callback, which runs on this thread, it only counts.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        reports = self.reports
        if threading.current_thread() is self:
            return reports.missing
        with self._condition:
            while reports.missing and self.is_alive():
                remaining = POLL_SECONDS if deadline is None else deadline - time.monotonic()
                if remaining <= 0:
                    break
                # librdkafka's own flush sends at once what linger would still hold back.
                self._flush_wanted = True
                self._wait_locked(min(POLL_SECONDS, remaining))
        return reports.missing

    def begin_close(self) -> None:
        """Wake those who wait for the initialisation, or for room: neither will come to them."""
        with self._condition:
            self._closing = True
            self._condition.notify_all()

    def interrupted(self) -> bool:
        """Whether the calling thread is a signal handler's, on top of a call that holds the condition."""
        return is_owned(self._condition)

    def end(self) -> None:
        """End the thread; messages that are still pending are given up."""
        with self._condition:
            self._closing = self._ending = True
            self._condition.notify_all()

    def _wait_locked(self, timeout: float) -> None:
        self._waiting += 1
        try:
            self._condition.wait(timeout)
        finally:
            self._waiting -= 1

    # -- the thread ---------------------------------------------------------------------------------

    def run(self) -> None:
        """Initialise, then serve delivery reports until the end."""
        try:
            self._initialise()
            self._serve()
            self.pulse.rest()
            self._give_up()
            self.let_go()
        except BaseException as raised:  # noqa: BLE001  # reported, and the producer closes
            error = _fatal(raised) or raised
            self.pulse.crash = error
            self._report(error)
            log_error(logger, "delivery thread died, the producer closes", error, self._fields)
            if error is not raised:
                # Nothing can be delivered any more: what was accepted gets its reports, as from a close.
                with contextlib.suppress(KafkaException):
                    self._give_up()
            self._on_death()
        finally:
            self.reports.log_rest(now=True)
            with self._condition:
                self._condition.notify_all()

    def let_go(self) -> None:
        """Let the client go, which ends librdkafka's threads and connections; after the last produce().

        Here, or by close() when this thread has died.
        """
        self._client = None

    def _initialise(self) -> None:
        attempt = 1
        while not self._ending:
            error = self._probe(attempt)
            with self._condition:
                # Read together with the outcome: who asks from now on has not heard of this attempt.
                asked = self._asked
                self._tried += 1
                self._init_error = error
                if error is None:
                    self.initialised.set()
                self._condition.notify_all()
            if error is None:
                self.reports.trouble.clear()
            if error is None or self._ending:
                return
            pause = get_retry_time(attempt, self._config.min_retry_period, self._config.max_retry_period)
            if attempt == 1 or not isinstance(error, NotInitialisedError):
                self._report(error)
            fields = {**self._fields, "attempt": attempt, "retry_in_seconds": round(pause, 3)}
            log_event(logger, logging.WARNING, "initialisation failed", {**fields, "error": str(error)})
            attempt += 1
            self.pulse.rest()
            with self._condition:
                self._condition.wait_for(lambda: self._ending or self._asked > asked, pause)  # noqa: B023

    def _probe(self, attempt: int) -> Exception | None:
        """Wait until a broker has answered: None, or why none did. It creates no topic.

        Waits longer from try to try, so that a slow broker gets its time and one that is away costs little.
        """
        client, reports = self._client, self.reports
        until = time.monotonic() + INIT_SECONDS
        timeout = PROBE_SECONDS * 2 ** min(attempt - 1, 4)
        errors_before = reports.errors
        while not self._ending:
            self.pulse.beat(time.monotonic())
            try:
                # Of all topics, as a producer's request for one topic would create it.
                client.list_topics(timeout=timeout)
            except KafkaException as error:
                if error.args[0].code() not in (KafkaError._TRANSPORT, KafkaError._TIMED_OUT):
                    return KafkaClientError.from_kafka_error(error.args[0])
            else:
                return None
            client.poll(0)
            # That all brokers are down librdkafka says once, until one is up. Without a new error one may be
            # up and slow.
            if (reports.all_down and reports.errors != errors_before) or time.monotonic() >= until:
                break
            timeout *= 2
        failure = NotInitialisedError(
            f"failed to create a new producer: no broker of {list(self._config.broker_addrs)} answered; "
            "it is tried again in the background",
            log_data=self._fields,
        )
        failure.__cause__ = reports.last_error
        return failure

    def _serve(self) -> None:
        client, reports = self._client, self.reports
        while not self._ending:
            self.pulse.beat(time.monotonic())
            if self._flush_wanted:
                self._flush_wanted = False
                client.flush(FLUSH_SECONDS)
                served = True
            else:
                served = client.poll(POLL_SECONDS)
            reports.settle(client.__len__)
            if served and self._waiting:
                with self._condition:
                    self._condition.notify_all()
            if reports.unlogged:
                reports.log_rest()

    def _give_up(self) -> None:
        """Take from librdkafka what close() had no time for; each message gets its report now."""
        client = self._client
        until = time.monotonic() + GIVE_UP_SECONDS
        while self.reports.missing and time.monotonic() < until:
            # Again and again: a message can be on its way from one of librdkafka's queues to another.
            client.purge(blocking=False)
            client.poll(FLUSH_SECONDS)
            self.reports.settle(client.__len__)
        # Errors of its own that came meanwhile are told, too.
        client.poll(0)
