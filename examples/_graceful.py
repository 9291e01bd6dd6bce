"""What the examples share: a service until its signal, its way down within a limit, and its work."""

from __future__ import annotations

import logging
import time

from dp_kafka import ConsumerGroup, KafkaSettings, State
from dp_kafka.shutdown import SignalEvent, graceful

logger = logging.getLogger("example")

#: With KAFKA_START_STOP: seconds between two checks, and after how many of them a consumer is turned.
CHECK_EVERY, CHECKS_CONSUMING, CHECKS_STOPPED = 10.0, 4, 2
#: Seconds between two log lines that tell the state.
TELL_STATE_EVERY = 3.0
#: The longest that the end of a consumer goes unnoticed.
_LOOK_EVERY = 1.0


def serve(consumer: ConsumerGroup, settings: KafkaSettings, ended: SignalEvent) -> int:
    """Consume until a signal comes, then shut down; the exit code of the service."""
    consumer.log_errors()
    consumer.start()
    cycle = StartStop()
    next_state, next_check = 0.0, time.monotonic() + CHECK_EVERY
    while not ended.wait(_LOOK_EVERY):
        if consumer.channels.closed.is_set():
            logger.error("the consumer has ended by itself")
            return 1
        now = time.monotonic()
        if now >= next_state:
            next_state = now + TELL_STATE_EVERY
            logger.info("the consumer is %s", consumer.state)
        if settings.start_stop and now >= next_check:
            next_check = now + CHECK_EVERY
            cycle.check(consumer)
    return shut_down(consumer, settings.graceful_shutdown_timeout)


def work(settings: KafkaSettings) -> None:
    """Take as long as real work would (SNOOZE: 0.5 s); or longer than a shutdown waits for it (OVERSLEEP)."""
    seconds = 0.5 if settings.snooze else 0.0
    if settings.oversleep:
        seconds += settings.graceful_shutdown_timeout + 2.0
    time.sleep(seconds)


def shut_down(consumer: ConsumerGroup, timeout: float) -> int:
    """Finish and commit what is in hand, within `timeout` seconds; 0, or 1 if something had to be left."""
    logger.info("shutting down: at most %g s for the messages in hand", timeout)
    left = graceful(consumer, timeout=timeout)
    if left:
        logger.error("shut down too early: GRACEFUL_SHUTDOWN_TIMEOUT has passed, and left: %s", left)
        return 1
    logger.info("shut down: everything was finished and committed")
    return 0


class StartStop:
    """Stops a consumer that has consumed for some checks, and starts it again after some more."""

    def __init__(self) -> None:
        self._state: State | None = None
        self._checks = 0

    def check(self, consumer: ConsumerGroup) -> None:
        """Count one more check in the present state; turn the consumer when there were enough."""
        state = consumer.state
        self._checks = self._checks + 1 if state is self._state else 1
        self._state = state
        if state is State.CONSUMING and self._checks >= CHECKS_CONSUMING:
            logger.info("stopping for a while")
            consumer.stop()
        elif state is State.STOPPED and self._checks >= CHECKS_STOPPED:
            logger.info("starting again")
            consumer.start()
