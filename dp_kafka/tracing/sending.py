"""The span and the measurements of each send, from the call to the delivery report.

Guarantees:
- each message gets its context once, into the list of headers that is its own;
- each span is ended once: by the report, or where the message is refused;
- a message of the output channel belongs to the context in which it was put.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, StatusCode

from dp_kafka._version import __version__
from dp_kafka.config import ProducerConfig
from dp_kafka.config.rdkafka import CLIENT_ID
from dp_kafka.errors import DpKafkaError
from dp_kafka.headers import Headers, HeaderValue
from dp_kafka.metrics import Attributes, Instruments
from dp_kafka.producer.channels import BytesMessage, DeliveryCallback, OutputChannel
from dp_kafka.producer.sender import Sender
from dp_kafka.tracing import carrier, names
from dp_kafka.tracing.contained import contained

__all__ = ["SendTracing", "TracedOutputChannel"]

#: How librdkafka calls a message that close() gave up before it was sent for the first time.
_NEVER_SENT = "_PURGE_QUEUE"


class Sending:
    """One message on its way. Begun by the sender's thread, ended by the delivery thread."""

    __slots__ = ("_begun", "_callback", "_context", "_open", "_tracing")

    def __init__(self, tracing: SendTracing, span: Span, callback: DeliveryCallback | None) -> None:
        self._tracing = tracing
        self._context = trace.set_span_in_context(span)
        self._callback = callback
        self._begun = time.perf_counter()
        #: Whoever pops the span ends it.
        self._open = [span]

    def inject(self, headers: list[tuple[str, HeaderValue]]) -> None:
        """Put the context of the span into headers that nobody else has."""
        carrier.inject(headers, self._context)

    def delivered(self, error: DpKafkaError | None, message: Any) -> None:
        """The delivery report: end the span, then tell whoever else wants to know."""
        try:
            self._end(error, message)
        finally:
            if self._callback is not None:
                self._callback(error, message)

    def refused(self, error: BaseException) -> None:
        """The message never got into librdkafka's queue."""
        self._end(error, None)

    def _end(self, error: BaseException | None, message: Any) -> None:
        try:
            span = self._open.pop()
        except IndexError:
            return
        with contained:
            self._tracing.end(span, error, message, time.perf_counter() - self._begun)


class SendTracing:
    """The tracer and the instruments of one producer. Any thread."""

    def __init__(self, config: ProducerConfig) -> None:
        self._tracer = trace.get_tracer(names.SCOPE, __version__, schema_url=names.SCHEMA_URL)
        self._instruments = Instruments()
        self._name = f"{names.SEND} {config.topic}"
        self._measured: Attributes = {
            names.SYSTEM: names.KAFKA,
            names.DESTINATION: config.topic,
            names.OPERATION_NAME: names.SEND,
            names.OPERATION_TYPE: names.SEND,
        }
        client_id = config.librdkafka.get("client.id", CLIENT_ID)
        self._attributes: Attributes = {**self._measured, names.CLIENT_ID: str(client_id)}

    def begin(self, value: bytes | None, partition: int | None, callback: DeliveryCallback | None) -> Sending:
        """Start the span of a message, in the current context."""
        attributes = self._attributes.copy()
        if partition is not None:
            attributes[names.PARTITION] = str(partition)
        if value is None:
            attributes[names.TOMBSTONE] = True
        span: Span = trace.INVALID_SPAN
        with contained:
            span = self._tracer.start_span(self._name, kind=SpanKind.PRODUCER, attributes=attributes)
        return Sending(self, span, callback)

    def end(self, span: Span, error: BaseException | None, message: Any, seconds: float) -> None:
        """End a span, and measure; `message` is librdkafka's, or None where it has never had it."""
        measured = self._measured.copy()
        failure = None if error is None else names.error_type(error)
        if failure is not None:
            measured[names.ERROR_TYPE] = failure
            span.set_attribute(names.ERROR_TYPE, failure)
            span.set_status(StatusCode.ERROR, str(error))
        if message is not None:
            partition, offset = message.partition(), message.offset()
            if partition is not None and partition >= 0:
                measured[names.PARTITION] = str(partition)
                span.set_attribute(names.PARTITION, str(partition))
            if error is None and offset is not None and offset >= 0:
                span.set_attribute(names.OFFSET, offset)
        span.end()
        self._instruments.operation_duration.record(seconds, measured)
        if message is not None and failure != _NEVER_SENT:
            self._instruments.sent.add(1, measured)

    def traced(self, sender: Sender) -> Callable[..., None]:
        """`sender.send`, with a span for each message."""

        def send(
            value: Any,
            key: bytes | str | None,
            headers: Headers | None,
            partition: int | None,
            timestamp: int | None,
            on_delivery: DeliveryCallback | None,
            timeout: float | None,
        ) -> None:
            sending = self.begin(value, partition, on_delivery)
            try:
                sender.send(
                    value,
                    key,
                    headers,
                    partition,
                    timestamp,
                    sending.delivered,
                    timeout,
                    inject=sending.inject,
                )
            except BaseException as error:
                sending.refused(error)
                raise

        return send


class TracedOutputChannel(OutputChannel):
    """An output channel that starts a message's span when it is put: the output thread has no context."""

    def __init__(self, maxsize: int, start: Callable[[], None], tracing: SendTracing) -> None:
        super().__init__(maxsize, start)
        self._tracing = tracing

    def put(self, item: BytesMessage, block: bool = True, timeout: float | None = None) -> None:
        """As of an output channel; the item itself is not changed, and may be put again."""
        sending: Sending | None = None
        if isinstance(item, BytesMessage):
            sending = self._tracing.begin(item.value, item.partition, item.on_delivery)
            item = copy.copy(item)
            item.on_delivery = sending.delivered
            item.inject = sending.inject
        try:
            super().put(item, block, timeout)
        except BaseException as error:
            if sending is not None:
                sending.refused(error)
            raise
