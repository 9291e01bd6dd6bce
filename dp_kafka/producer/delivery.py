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
from dp_kafka.clients import ClientFactory, make_client
from dp_kafka.config import ProducerConfig
from dp_kafka.config.rdkafka import producer_properties
from dp_kafka.errors import KafkaClientError
from dp_kafka.initialisation import Initialisation, initialise
from dp_kafka.interrupts import is_owned
from dp_kafka.logs import log_error
from dp_kafka.producer.reports import Reports
from dp_kafka.pulse import Pulse

__all__ = ["DeliveryThread", "confluent_producer"]

logger = logging.getLogger("dp_kafka.producer")

#: The longest that the thread waits for reports in one go: so long a close may take to reach it.
POLL_SECONDS = 0.05
#: The same while somebody waits in flush(): it goes round more often, for those who wait for room.
FLUSH_SECONDS = 0.02
#: How long the reports of messages that close() gave up may take.
GIVE_UP_SECONDS = 0.3


def confluent_producer(properties: dict[str, Any]) -> Producer:
    """The real client; raises ConfigError for properties that librdkafka refuses."""
    return make_client(Producer, properties)


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
        self.initialisation = Initialisation("producer", self._fields)
        #: Guards how many wait for it, and the end; notified when reports have come, and at the end.
        self._condition = threading.Condition()
        self._waiting = 0
        #: The thread has to end; close() says so, for good.
        self._ending = False
        #: Whether somebody waits in flush(): written by any thread, so it may be asked for once too often.
        self._flush_wanted = False
        properties = producer_properties(config)
        properties["error_cb"] = self.reports.on_error
        # None once it was let go. Only this thread calls more than produce() on it.
        self._client: Any = client_factory(properties)
        forks.track(self, DeliveryThread._after_fork)

    def _after_fork(self) -> None:
        forks.keep(self._client)

    # -- senders and closers ------------------------------------------------------------------------

    @property
    def initialised(self) -> LockFreeEvent:
        """Set once a broker has answered."""
        return self.initialisation.done

    @property
    def produce(self) -> Callable[..., None]:
        """librdkafka's produce(), for any thread: it queues or raises, and never waits."""
        produce: Callable[..., None] = self._client.produce
        return produce

    def left(self) -> int:
        """How many messages close() had to leave: those that were given up, and those without a report."""
        return self.reports.given_up + self.reports.missing

    def wait_for_room(self, timeout: float) -> None:
        """Wait until delivery reports may have made room, at most `timeout` seconds."""
        with self._condition:
            self._wait_locked(timeout)

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

    def interrupted(self) -> bool:
        """Whether the calling thread is a signal handler's, on top of a call that holds a condition."""
        return is_owned(self._condition) or self.initialisation.interrupted()

    def end(self) -> None:
        """End the thread; messages that are still pending are given up."""
        self.initialisation.end()
        with self._condition:
            self._ending = True
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
            if self._initialise(self._client):
                self.initialisation.tried(None)
                self.reports.trouble.clear()
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

    def _initialise(self, client: Any) -> bool:
        return initialise(
            client,
            self.initialisation,
            config=self._config,
            topic=None,
            callbacks=self.reports,
            serve=lambda: client.poll(0),
            ends=lambda raised: not isinstance(raised, KafkaException) or _fatal(raised) is not None,
            what="producer",
            report=self._report,
            pulse=self.pulse,
            logger=logger,
            fields=self._fields,
        )

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
