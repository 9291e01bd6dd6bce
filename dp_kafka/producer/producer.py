"""Producer: the public class. It marshals what is sent, and owns the threads that deliver and report."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, cast

from dp_kafka import forks
from dp_kafka.channels import ErrorsChannel, Signal
from dp_kafka.clients import ClientFactory
from dp_kafka.codecs.protocol import Codec, MarshalsEvents
from dp_kafka.config import ProducerConfig
from dp_kafka.errorlog import ErrorLog
from dp_kafka.errors import ConfigError, MarshalError
from dp_kafka.headers import Headers, HeaderValue
from dp_kafka.health.checks import BrokerCheck
from dp_kafka.health.explain import Explainer
from dp_kafka.health.liveness import STUCK_SECONDS
from dp_kafka.health.state import CheckState
from dp_kafka.initialisation import CONSTRUCTOR_SECONDS, INIT_SECONDS, REQUEST_SECONDS
from dp_kafka.interrupts import in_a_log_handler
from dp_kafka.logs import log_error
from dp_kafka.producer.channels import DeliveryCallback, OutputChannel, ProducerChannels
from dp_kafka.producer.closing import GRACE_SECONDS, CloseThread
from dp_kafka.producer.delivery import DeliveryThread, confluent_producer
from dp_kafka.producer.exit import close_at_exit
from dp_kafka.producer.output import OutputThread
from dp_kafka.producer.sender import Sender
from dp_kafka.producer.vitals import Vitals
from dp_kafka.threads import OnDemandThread

__all__ = ["Producer"]

logger = logging.getLogger("dp_kafka.producer")

#: How many messages the output channel holds before `put` waits.
OUTPUT_KEPT = 10_000


@functools.cache
def _json_codec() -> Codec:
    # Imported by the first event that is sent as JSON.
    from dp_kafka.codecs.json import JsonCodec

    return JsonCodec()


class Producer:
    """Sends events to one topic: marshalled, with headers and a trace id, delivered or reported.

    The defaults are the safe ones: acks=all and an idempotent producer, so what is acknowledged is on all
    in-sync replicas, once and in order. What a send call accepted is delivered, or its `DeliveryError` comes
    on `channels.errors`, or `close()` says how many were left.

    Making one starts its delivery thread and tries to reach a broker; when none answers at once (two
    seconds at most) it is tried again in the background, and `is_initialised` tells. Every method may be
    called from any thread. As a context manager it closes at the end. In a child that was forked after it was
    made, each use but `close` raises `ForkedError`.

    Args:
        config: where to send, and how.
        client_factory: makes the Kafka client from librdkafka properties; the test kit gives its own.
        broker_check: what `checker` asks of the brokers; the test kit gives its own.

    Raises:
        ConfigError: librdkafka refuses the configuration. A broker that is away raises nothing.
    """

    def __init__(
        self,
        config: ProducerConfig,
        *,
        client_factory: ClientFactory = confluent_producer,
        broker_check: BrokerCheck | None = None,
    ) -> None:
        if not isinstance(config, ProducerConfig):
            raise ConfigError(f"a Producer takes a ProducerConfig, but got {type(config).__name__}")
        self._topic = config.topic
        self._forked = False
        errors = ErrorsChannel()
        self._error_log = ErrorLog(
            errors,
            config.topic,
            lambda error: log_error(logger, "kafka producer error", error, {"topic": config.topic}),
        )
        brokers = broker_check or BrokerCheck(config)
        report = Explainer(errors.put, brokers, config.topic)
        self._delivery = DeliveryThread(config, client_factory, report, self._close_soon)
        self._sender = Sender(config, self._delivery)
        # Not once the channel is closed: put() will say so, and the closing thread may have looked for it.
        self._output = OnDemandThread(self._output_thread, wanted=lambda: not self._channels.output.closed)
        output = OutputChannel(OUTPUT_KEPT, self._output.start)
        self._send: Callable[..., None] = self._sender.send
        if config.otel_enabled:
            # Imported here, so that OpenTelemetry costs nothing where it is off.
            from dp_kafka.tracing.sending import SendTracing, TracedOutputChannel

            tracing = SendTracing(config)
            output = TracedOutputChannel(OUTPUT_KEPT, self._output.start, tracing)
            self._send = tracing.traced(self._sender)
        self._channels = ProducerChannels(
            output=output,
            errors=errors,
            initialised=self._delivery.initialised,
            closer=Signal(self._close_soon),
            closed=Signal(),
        )
        self._vitals = Vitals(self._delivery, self._output, lambda: self._closer.begun, brokers)
        self._closer = CloseThread(
            self._topic,
            self._channels,
            self._delivery,
            self._sender,
            self._output,
            self._error_log,
            brokers,
        )
        forks.track(self, Producer._after_fork)
        close_at_exit(self)
        self._delivery.start()
        self._delivery.initialisation.wait_first_try(CONSTRUCTOR_SECONDS)

    # -- what it is ---------------------------------------------------------------------------------

    @property
    def topic(self) -> str:
        """The topic that it sends to."""
        return self._topic

    @property
    def channels(self) -> ProducerChannels:
        """Its channels and signals."""
        return self._channels

    @property
    def is_initialised(self) -> bool:
        """Whether a broker has answered, and the producer is not closing."""
        return self._delivery.initialised.is_set() and not self._closer.begun

    def __repr__(self) -> str:
        if self._forked:
            state = "of the parent process"
        elif self._channels.closed.is_set():
            state = "closed"
        else:
            state = "closing" if self._closer.begun else "open"
        return f"<Producer of {self._topic}, {state}>"

    # -- sending ------------------------------------------------------------------------------------

    def send(
        self,
        schema: MarshalsEvents,
        event: Any,
        *,
        key: bytes | str | None = None,
        headers: Headers | None = None,
        partition: int | None = None,
        timestamp: int | None = None,
        on_delivery: DeliveryCallback | None = None,
        timeout: float | None = None,
    ) -> None:
        """Marshal an event with a schema and send it; the rest is as for `send_bytes`.

        Raises:
            MarshalError: the event doesn't fit the schema (it names the field, not the value), or what is
                given as a schema makes no bytes.
        """
        if not hasattr(schema, "marshal"):
            raise MarshalError(
                f"send takes a dp_kafka.avro.Schema and an event, but got {type(schema).__name__} as schema"
            )
        value = schema.marshal(event)
        if not isinstance(value, bytes):
            raise MarshalError(
                f"{type(schema).__name__}.marshal has to give bytes, but gave {type(value).__name__}"
            )
        self._send(value, key, headers, partition, timestamp, on_delivery, timeout)

    def send_json(
        self,
        event: Any,
        *,
        key: bytes | str | None = None,
        headers: Headers | None = None,
        partition: int | None = None,
        timestamp: int | None = None,
        on_delivery: DeliveryCallback | None = None,
        timeout: float | None = None,
    ) -> None:
        """Send an event as JSON; the rest is as for `send_bytes`.

        Raises:
            MarshalError: the event has no JSON form.
        """
        value = _json_codec().encode(event)
        self._send(value, key, headers, partition, timestamp, on_delivery, timeout)

    def send_bytes(
        self,
        value: bytes | None,
        *,
        key: bytes | str | None = None,
        headers: Headers | None = None,
        partition: int | None = None,
        timestamp: int | None = None,
        on_delivery: DeliveryCallback | None = None,
        timeout: float | None = None,
    ) -> None:
        """Queue a message for sending; returns before it is delivered.

        Args:
            value: the payload, unchanged; None is a tombstone.
            key: decides the partition, unless `partition` does; a str is sent as UTF-8.
            headers: added to those of `add_header`; a mapping, or pairs.
            partition: send to this partition.
            timestamp: milliseconds since the epoch; None takes the time of sending.
            on_delivery: called once with (error, message) on the producer's delivery thread, which serves
                all reports: it should be quick. The error is None, or the `DeliveryError`. It may send, but
                not wait for room. That of a `BytesMessage` may run on the output thread.
            timeout: seconds to wait for room in librdkafka's queue (None: 10), and, if it is given, for the
                initialisation too; without it an uninitialised producer refuses at once.

        The trace id of the current context goes with it as the header `request-id`, or else a new one, unless
        `headers` has one.

        Raises:
            NotInitialisedError: no broker has answered yet. Nothing was queued.
            ClosedError: the producer is closing or closed.
            QueueFullError: no room within `timeout`.
            MessageTooLargeError: larger than `max_message_bytes`.
            DeliveryError: librdkafka refuses the message at once: no such partition, say, or a fatal error.
            ForkedError: the producer was made before the process was forked.
            TypeError: a value that is not bytes, or a key or header of a wrong type.
            ValueError: a key or header that UTF-8 can't encode.
        """
        if value is not None and not isinstance(value, bytes):
            raise TypeError(
                f"send_bytes takes bytes or None, but got {type(value).__name__}: encode it first"
            )
        self._send(value, key, headers, partition, timestamp, on_delivery, timeout)

    def add_header(self, key: str, value: HeaderValue) -> None:
        """Send a header with every later message, after those added before; an empty key is ignored.

        Raises:
            TypeError: a key or value of a wrong type.
        """
        self._sender.add_header(key, value)

    # -- life ---------------------------------------------------------------------------------------

    def initialise(self) -> None:
        """Try now to reach a broker, and wait for the outcome, eleven seconds at most.

        Returns at once when one has answered before.

        Raises:
            NotInitialisedError: none answered; it is tried again in the background all the same.
            ClosedError: the producer is closing.
        """
        self._delivery.initialisation.request(REQUEST_SECONDS)

    def flush(self, timeout: float | None = None) -> int:
        """Wait until every message sent so far is delivered or reported; how many are not.

        Messages in the output channel count, too. Blocks at most `timeout` seconds (None: until librdkafka
        has given each up, `delivery.timeout.ms`, and ten seconds for the initialisation). What other threads
        send meanwhile is waited for as well. From a delivery callback it only counts.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        output = self._channels.output
        if threading.current_thread() not in (self._delivery, self._output.thread):
            if timeout is None and output.unfinished_tasks:
                # Else nothing bounds the wait for what the output channel holds.
                self._delivery.initialisation.wait(2 * INIT_SECONDS)
            if self._delivery.initialised.is_set() or timeout is not None:
                output.wait_sent(timeout)
        remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
        return self._delivery.flush(remaining) + output.unfinished_tasks

    def close(self, timeout: float | None = None) -> int:
        """Deliver what was accepted, refuse what comes after, and end every thread; how many had to be left.

        Blocks at most `timeout` seconds (None: until librdkafka has delivered or given up each), and a little
        more to give up the rest: each such message comes on `errors` and to its `on_delivery` with an error,
        and the log has their number. While another thread closes it waits for that one, and the earlier
        deadline counts. From a delivery callback or a log handler it asks for the close and returns 0 at
        once; from a signal handler, too, if the signal came on top of a send: that has to go on first.
        """
        if self._forked:
            return 0
        self._closer.begin(None if timeout is None else time.monotonic() + timeout)
        current = threading.current_thread()
        if current in (self._delivery, self._output.thread, self._closer) or self._interrupted():
            return 0
        if current is self._error_log.thread:
            return 0
        # The closing thread keeps the deadline itself; the little more lets it tell what it had to leave.
        if self._channels.closed.wait(None if timeout is None else timeout + GRACE_SECONDS + 0.2):
            return self._closer.left
        return self._delivery.left() + self._channels.output.left()

    def __enter__(self) -> Producer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None
    ) -> None:
        self.close()

    def log_errors(self) -> None:
        """Log everything that comes on `errors`, on a thread of its own, until the producer closes."""
        if not self._closer.begun:
            self._error_log.start()

    # -- health -------------------------------------------------------------------------------------

    def checker(self, state: CheckState) -> None:
        """Check producer, brokers and topic, and update `state`: for `dp_kafka.health.HealthCheck`.

        WARNING until initialised; CRITICAL when closed, when one of its threads has died or is stuck, when
        the broker refuses what it needs, and with fewer than `min_brokers_healthy` healthy brokers; else OK.
        Asks all brokers at once and blocks five seconds at most. It creates no topic, opens nothing again.

        Raises:
            TypeError: `state` is no CheckState.
            HealthCheckError: `state` refused the update.
        """
        self._vitals.check(state)

    def stuck_or_dead(self, stuck_after: float = STUCK_SECONDS) -> list[str]:
        """What of its threads is dead or stuck, one sentence each; never blocks. Nothing once closed."""
        return self._vitals.stuck_or_dead(stuck_after)

    # -- threads ------------------------------------------------------------------------------------

    def _output_thread(self) -> OutputThread:
        channels = self._channels
        return OutputThread(
            self._topic,
            channels.output,
            channels.initialised,
            self._sender,
            channels.errors.put,
            self._close_soon,
        )

    def _close_soon(self) -> None:
        self._closer.begin(None)

    def _when_closed(self, tell: Callable[[BaseException | None], None]) -> None:
        """Call `tell` once it is closed, with what ended it before its time; None if somebody closed it."""
        cast(Signal, self._channels.closed)._then(lambda: tell(self._vitals.crash))

    def _interrupted(self) -> bool:
        """Whether the calling thread is a signal or log handler's, on top of what has to go on first."""
        channels = self._channels
        own = (self._closer, self._sender, self._delivery, self._error_log, self._output)
        parts = (*own, channels.output, channels.errors)
        return in_a_log_handler() or any(part.interrupted() for part in parts)

    def _after_fork(self) -> None:
        """Switch this producer off, in a forked child. Takes no lock: its owner may not exist here."""
        self._forked = True
        channels = self._channels
        self._sender.after_fork(lambda: forks.forked_error("Producer"))
        # Not initialised, so that no send gets past that; closed for whoever reads. These have no lock: a
        # wait of this thread, on top of which a signal handler forked, ends in the child.
        channels.initialised.clear()
        for signal in (channels.closer, channels.closed):
            cast(Signal, signal)._forget()
        channels.closed.set()
        # Made anew, as their locks may be held for ever; a put is refused by what would start its thread.
        ErrorsChannel.__init__(channels.errors)
        channels.errors.close()
        OutputChannel.__init__(channels.output, OUTPUT_KEPT, forks.refuser("Producer"))
        forks.refuse(self, "Producer", but=("close",))
