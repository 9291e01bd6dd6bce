"""POLL THREAD of a consumer group: the only owner of its Kafka client.

Guarantees:
- no other thread polls, pauses, commits, joins or leaves;
- it never runs a handler, and while it consumes waits no longer than `POLL_SECONDS` in one go, but in a
  rebalance: there at most `message_consume_timeout` for the messages in hand, librdkafka's own time for the
  answer to a commit, and for that to the question where an assignment starts about a minute, or until the
  session is to end (dp_kafka.consumer.starts);
- a membership that fails is reported, ended, and begun again after a pause; what ends the thread itself is
  reported too, and the consumer closes: there is no dead thread behind a healthy-looking consumer;
- each start has a client of its own, closed before the consumer is Stopped: so Stopped means that the
  group has been left, and nothing of an old session reaches a new one.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError, TopicPartition

from dp_kafka.clients import ClientFactory
from dp_kafka.config.rdkafka import consumer_properties, is_kip_848
from dp_kafka.consumer.clienterrors import ClientErrors
from dp_kafka.consumer.context import GroupContext
from dp_kafka.consumer.membership import Membership
from dp_kafka.consumer.session import Session
from dp_kafka.initialisation import initialise
from dp_kafka.logs import log_error
from dp_kafka.retry import get_retry_time

__all__ = ["Poller"]

logger = logging.getLogger("dp_kafka.consumer")

#: How often librdkafka gives statistics where they have to tell of an empty assignment, in milliseconds.
STATISTICS_MS = 500


class Poller(threading.Thread):
    """Runs one consumer group's client, from initialisation to close."""

    def __init__(
        self, context: GroupContext, client_factory: ClientFactory, on_death: Callable[[], None]
    ) -> None:
        """Args: `on_death` closes the group.

        Raises:
            ConfigError: librdkafka refuses the properties.
        """
        super().__init__(name=f"dp-kafka:poll:{context.config.topic}", daemon=True)
        self._context = context
        self._config = context.config
        self._control = context.control
        self._factory = client_factory
        self._on_death = on_death
        self._errors = ClientErrors(context)
        #: Whether a batch handler takes all messages.
        self._batched = False
        #: How many messages were in hand when the last session ended, if the group was closing.
        self._left = 0
        #: The membership under way, if there is one; only this thread sets it.
        self.membership: Membership | None = None
        #: Since when the client's close() runs; infinite while it doesn't.
        self._closing_since = math.inf
        # Made here, so that what librdkafka refuses is raised to whoever makes the group.
        self._client: Any = self._make_client()

    @property
    def session(self) -> Session | None:
        """The session under way, if there is one; any thread."""
        membership = self.membership
        return None if membership is None else membership.session

    @property
    def client(self) -> Any:
        """The Kafka client; None between a stop and a start. No other thread may call it."""
        return self._client

    def set_batched(self) -> None:
        """A batch handler takes all messages from now on; any thread."""
        self._batched = True
        session = self.session
        if session is not None:
            session.set_batched()

    def in_hand(self) -> int:
        """How many messages are in the hand of workers or users, or were when a closing consumer gave up."""
        session = self.session
        return self._left if session is None else session.in_hand()

    def closing_for(self) -> float:
        """For how many seconds the client's close() has been running; nothing ends it. Any thread."""
        return max(0.0, time.monotonic() - self._closing_since)

    # -- the thread ---------------------------------------------------------------------------------

    def run(self) -> None:
        """Initialise, then be a member of the group from each start to its stop, until the close."""
        context = self._context
        try:
            if self._initialise(self._client):
                context.trouble.connected()
                self._control.set_initialised()
            attempt = 1
            while self._wait_running():
                try:
                    self._be_member()
                    attempt = 1
                except Exception as error:  # noqa: BLE001  # reported, and begun again
                    attempt = self._session_failed(error, attempt)
                if not self._control.running:
                    # With the session goes what stood in its way: only a new one can tell if it still does.
                    context.trouble.clear()
        except BaseException as error:  # noqa: BLE001  # reported, and the consumer closes
            context.pulse.crash = error
            context.report(error)
            log_error(logger, "poll thread died, the consumer closes", error, context.fields)
            self._on_death()
        finally:
            self._control.settle(finished=context.pulse.crash is None and self._control.committed)
            self._control.drained.set()
            self._close_client()

    def _initialise(self, client: Any) -> bool:
        context = self._context
        return initialise(
            client,
            self._control.initialisation,
            config=context.config,
            topic=context.config.topic,
            callbacks=self._errors,
            serve=lambda: self._errors.poll(client),
            ends=lambda _raised: False,
            what="consumer group",
            report=context.report,
            pulse=context.pulse,
            logger=logger,
            fields=context.fields,
        )

    def _wait_running(self) -> bool:
        self._context.pulse.rest()
        return self._control.wait_running()

    def _be_member(self) -> None:
        """Consume from a start to its stop, with a client that is closed in the end."""
        if self._client is None:
            self._client = self._make_client()
        self._errors.fatal = None
        membership = self.membership = Membership(self._context, self._client, self._errors)
        # Looked at after the membership is set: set_batched() sets it before it looks for the session.
        if self._batched:
            membership.session.set_batched()
        try:
            membership.run()
        finally:
            # Counted, and the session put away, before anything is let go: whoever asks for the number must
            # not see it vanish. close() sets its deadline before it says that the consumer closes.
            closing = self._control.closing or self._control.deadline.is_set
            self._left = membership.session.in_hand() if closing else 0
            if closing:
                self._control.settle(finished=membership.is_finished())
            self._control.set_committed(membership.is_committed())
            self.membership = None
            membership.end()
            membership.leave()
            self._close_client()
        self._control.set_stopped()

    def _session_failed(self, error: Exception, attempt: int) -> int:
        """Report a failed session and wait before the next one; the number of the next attempt."""
        context, config = self._context, self._config
        pause = get_retry_time(attempt, config.min_retry_period, config.max_retry_period)
        fields = {**context.fields, "attempt": attempt, "retry_in_seconds": round(pause, 3)}
        log_error(logger, "consuming failed, it is begun again", error, fields)
        context.report(error)
        context.trouble.failed("consuming", error)
        self._control.set_unassigned()
        context.pulse.rest()
        self._control.wait_not_running(pause)
        self._control.set_stopped()
        return attempt + 1

    # -- the client -----------------------------------------------------------------------------------

    def _make_client(self) -> Any:
        properties = consumer_properties(self._config)
        properties.update({"error_cb": self._errors.take, "on_commit": self._on_commit})
        if self._context.lag is not None:
            properties["stats_cb"] = self._on_statistics
        elif is_kip_848(properties) and not {"stats_cb", "statistics.interval.ms"} & properties.keys():
            # For an assignment of nothing (Rebalances.look_at). Some kilobytes in each half second.
            properties.update({"stats_cb": self._on_statistics, "statistics.interval.ms": STATISTICS_MS})
        return self._factory(properties)

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        membership = self.membership
        if membership is not None:
            membership.committer.answered(error, partitions)

    def _on_statistics(self, statistics: str) -> None:
        membership = self.membership
        if membership is not None:
            membership.take_statistics(statistics)

    def _close_client(self) -> None:
        client, self._client = self._client, None
        if client is None:
            return
        self._closing_since = time.monotonic()
        try:
            client.close()
        except Exception as error:  # noqa: BLE001  # reported; the consumer closes all the same
            log_error(logger, "error closing the client", error, self._context.fields)
            self._context.report(error)
        finally:
            self._closing_since = math.inf
