"""The receive spans of an application that takes messages from `channels.upstream` itself.

Messages that a registered handler is given have process spans, and no receive span: what this library fetches
ahead for it is nothing that the application asked for.
"""

from __future__ import annotations

import time

from opentelemetry import trace
from opentelemetry.context import Context, attach
from opentelemetry.trace import Link, SpanKind

from dp_kafka._version import __version__
from dp_kafka.config import ConsumerGroupConfig
from dp_kafka.config.rdkafka import CLIENT_ID
from dp_kafka.consumer.message import Message
from dp_kafka.consumer.upstream import UpstreamChannel
from dp_kafka.metrics import Attributes, Instruments
from dp_kafka.tracing import names
from dp_kafka.tracing.carrier import creation_context, extract
from dp_kafka.tracing.contained import contained

__all__ = ["TracedUpstreamChannel", "consumer_attributes", "enter_trace"]


class TracedUpstreamChannel(UpstreamChannel):
    """An upstream channel with a span for each message that users take; workers use `take`, without one."""

    def __init__(self, config: ConsumerGroupConfig, instruments: Instruments) -> None:
        super().__init__()
        self._tracer = trace.get_tracer(names.SCOPE, __version__, schema_url=names.SCHEMA_URL)
        self._instruments = instruments
        self._measured = consumer_attributes(config, names.RECEIVE)
        self._attributes = {**self._measured, names.CLIENT_ID: client_id(config)}
        self._name = f"{names.RECEIVE} {config.topic}"
        self.enter_trace = enter_trace

    def get(self, block: bool = True, timeout: float | None = None) -> Message:
        """Take the next message that may be handled; as of an upstream channel."""
        begun, begun_ns = time.perf_counter(), time.time_ns()
        message = self.take(block, timeout)
        with contained:
            self._received(message, time.perf_counter() - begun, begun_ns)
        return message

    def _received(self, message: Message, seconds: float, begun_ns: int) -> None:
        partition: Attributes = {names.PARTITION: str(message.partition)}
        link = creation_context(extract(message.headers))
        self._tracer.start_span(
            self._name,
            kind=SpanKind.CLIENT,
            attributes={**self._attributes, **partition, **message_attributes(message)},
            links=[] if link is None else [Link(link)],
            start_time=begun_ns,
        ).end()
        measured = {**self._measured, **partition}
        self._instruments.operation_duration.record(seconds, measured)
        if message.attempt == 1:
            self._instruments.consumed.add(1, measured)


def consumer_attributes(config: ConsumerGroupConfig, operation: str) -> Attributes:
    """What spans and measurements of a consumer group have in common."""
    return {
        names.SYSTEM: names.KAFKA,
        names.DESTINATION: config.topic,
        names.GROUP: config.group_name,
        names.OPERATION_NAME: operation,
        names.OPERATION_TYPE: operation,
    }


def client_id(config: ConsumerGroupConfig) -> str:
    """What the client calls itself to the brokers."""
    return str(config.librdkafka.get("client.id", CLIENT_ID))


def message_attributes(message: Message) -> Attributes:
    """What a span of one message alone has besides; keys and values are left out, as they may be private."""
    attributes: Attributes = {names.OFFSET: message.offset, names.ATTEMPT: message.attempt}
    if message.data is None:
        attributes[names.TOMBSTONE] = True
    return attributes


def enter_trace(message: Message) -> None:
    """Make the current context that of a message: of its process span, else of the span it was sent in."""
    with contained:
        context: Context | None = message._process_context
        attach(extract(message.headers) if context is None else context)
