"""What librdkafka tells a producer, on its delivery thread: reports of messages, and errors of its own.

Guarantees:
- a message that is not delivered comes on `errors`, once, whether or not it has a callback;
- whatever a user's callback raises is logged and comes on `errors`, and stops nothing;
- of many failures a second one is logged, with the number of the others; `errors` has them all.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from dp_kafka.errors import DeliveryError, KafkaClientError
from dp_kafka.kafkaerror import KafkaErrorLike
from dp_kafka.logs import log_error, log_event
from dp_kafka.producer.channels import DeliveryCallback
from dp_kafka.pulse import Trouble

__all__ = ["Reports", "ThinnedLog"]

logger = logging.getLogger("dp_kafka.producer")

#: The least time between two lines about failures of a kind, in seconds.
LOG_SECONDS = 1.0
#: How long the same error of librdkafka's own is not told again, and how many different ones are remembered.
SAME_ERROR_SECONDS = 5.0
SAME_ERRORS_KEPT = 100
#: How librdkafka calls what close() gave up: not sent, or sent and not acknowledged.
_PURGED = frozenset({"_PURGE_QUEUE", "_PURGE_INFLIGHT"})


class ThinnedLog:
    """Lets one line a second through, and counts the others. One thread alone uses it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next = 0.0
        #: How many were held back since the last line.
        self.held_back = 0

    def due(self) -> dict[str, int] | None:
        """Count one; fields for its line, which tell how many were held back before; None holds it back."""
        now = self._clock()
        if now < self._next:
            self.held_back += 1
            return None
        self._next = now + LOG_SECONDS
        fields = {"others_since_last_line": self.held_back} if self.held_back else {}
        self.held_back = 0
        return fields

    def rest(self, *, now: bool = False) -> int:
        """How many to speak of although no further one has come: at the end `now`, else when it is time."""
        if not now and self._clock() < self._next:
            return 0
        held_back, self.held_back = self.held_back, 0
        return held_back


class Reports:
    """The callbacks of a producer's client, which the delivery thread alone calls, and what they count."""

    def __init__(self, topic: str, report: Callable[[BaseException], None]) -> None:
        """Args: `report` puts an error on the errors channel."""
        self._topic = topic
        self._report = report
        self._fields = {"topic": topic}
        self._undelivered_log = ThinnedLog()
        self._callback_log = ThinnedLog()
        #: Guards the count of what was handed over, together with the hand-over itself; nothing in it blocks.
        #: Reentrant only to tell whether the thread that asks holds it, see `Sender.interrupted`.
        self.hand_over = threading.RLock()
        #: How many messages were handed over; the sender's, written under the lock. Not librdkafka's own
        #: count: to that its errors belong, too, while they wait to be served.
        self.handed_over = 0
        #: How many of these may not be in librdkafka's queue: a signal handler raised on top of their
        #: hand-over, before they were queued or after. Written under the lock.
        self.doubtful = 0
        #: How many have had their report, with all that their callbacks do.
        self._reported = 0
        #: How many messages were given up by close().
        self.given_up = 0
        #: Whether librdkafka has said that no broker can be reached.
        self.all_down = False
        #: How many errors of its own librdkafka has told of.
        self.errors = 0
        #: When each of them was last passed on, by what it says.
        self._told: dict[str, float] = {}
        #: What stands in the way of delivery, for the health check.
        self.trouble = Trouble()
        #: The last thing that librdkafka said of itself.
        self.last_error: KafkaClientError | None = None

    @property
    def missing(self) -> int:
        """How many messages have no report yet; any thread."""
        # In this order, so that it is never too low.
        reported = self._reported
        return self.handed_over - reported

    def settle(self, queued: Callable[[], int]) -> None:
        """Where some are doubtful: when librdkafka has nothing left, all that it ever had have their reports.

        Args: `queued` tells how much librdkafka has left. Called between two polls, in which reports come.
        """
        if not self.doubtful or not self.hand_over.acquire(blocking=False):
            return
        try:
            if not queued():
                self.handed_over, self.doubtful = self._reported, 0
        finally:
            self.hand_over.release()

    def delivered(self, error: KafkaErrorLike | None, message: Any) -> None:
        """The report of a message whose sender does not ask."""
        try:
            if error is not None:
                self._undelivered(error, message)
        finally:
            self._reported += 1

    def delivered_to(self, callback: DeliveryCallback) -> Callable[[KafkaErrorLike | None, Any], None]:
        """What takes the report of a message whose sender wants to know."""

        # A function of its own: called by C, it costs less than a bound method in a partial.
        def report(error: KafkaErrorLike | None, message: Any) -> None:
            try:
                callback(None if error is None else self._undelivered(error, message), message)
            except BaseException as raised:  # noqa: BLE001  # user code must not stop everybody's reports
                self._callback_failed(raised)
            finally:
                self._reported += 1

        return report

    def _callback_failed(self, raised: BaseException) -> None:
        self._report(raised)
        fields = self._callback_log.due()
        if fields is not None:
            log_error(logger, "a delivery callback failed", raised, {**self._fields, **fields})

    def _undelivered(self, error: KafkaErrorLike, message: Any) -> DeliveryError:
        failure = DeliveryError.from_kafka_error(
            error,
            topic=self._topic,
            partition=message.partition(),
            has_key=message.key() is not None,
        )
        self._report(failure)
        if failure.name.endswith("_AUTHORIZATION_FAILED"):
            self.trouble.note(KafkaClientError.from_kafka_error(error))
        if error.name() in _PURGED:
            # close() names their number in one line.
            self.given_up += 1
            return failure
        fields = self._undelivered_log.due()
        if fields is not None:
            log_event(logger, logging.ERROR, "message not delivered", {**failure.log_data, **fields})
        return failure

    def on_error(self, error: KafkaErrorLike) -> None:
        """What librdkafka has to say of itself; the same again within some seconds is only counted.

        It says the same with every attempt to reconnect, which would drive all else from the bounded errors.
        """
        self.errors += 1
        if error.name() == "_ALL_BROKERS_DOWN":
            self.all_down = True
        translated = self.last_error = KafkaClientError.from_kafka_error(error)
        self.trouble.note(translated)
        # What follows tells after how many milliseconds it happened.
        text = str(translated).partition(" (after ")[0]
        now = time.monotonic()
        if now - self._told.get(text, -SAME_ERROR_SECONDS) < SAME_ERROR_SECONDS:
            return
        if len(self._told) >= SAME_ERRORS_KEPT:
            self._told.clear()
        self._told[text] = now
        self._report(translated)
        level = logging.ERROR if translated.permanent else logging.WARNING
        fields = {"error": str(translated), **translated.log_data}
        log_event(logger, level, "kafka client error", {**self._fields, **fields})

    @property
    def unlogged(self) -> int:
        """How many failures no line in the log has told of yet."""
        return self._undelivered_log.held_back + self._callback_log.held_back

    def log_rest(self, *, now: bool = False) -> None:
        """Tell of failures that were held back, when it is time, or `now`."""
        self._log_rest(self._undelivered_log.rest(now=now), "more messages not delivered")
        self._log_rest(self._callback_log.rest(now=now), "more delivery callbacks failed")

    def _log_rest(self, count: int, event: str) -> None:
        if count:
            log_event(logger, logging.ERROR, event, {**self._fields, "count": count})
