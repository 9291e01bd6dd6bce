"""Process spans: wrappers that give each call of the handler a span, with the message's trace as its context.

Two of them. `spans` stands outside of retries and dead letters, so that a dead letter is sent within the span
of the attempt that failed. `failures` stands inside of them, where the handler's exception is still seen.

Guarantees:
- the span is ended and the thread's context is as before, whatever the handler raises;
- each attempt has a span of its own, a child of the span that the message was sent in; a batch's span is the
  root of a trace, with a link to the span of each of its messages;
- nothing that was current in the worker, or that an earlier handler left there, gets into it.
"""

from __future__ import annotations

from contextvars import Token
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import Link, Span, SpanKind, StatusCode

from dp_kafka._version import __version__
from dp_kafka.config import ConsumerGroupConfig
from dp_kafka.consumer.message import Message
from dp_kafka.processing.chain import AnyHandler
from dp_kafka.tracing import names
from dp_kafka.tracing.carrier import creation_context, extract
from dp_kafka.tracing.contained import contained
from dp_kafka.tracing.receiving import client_id, consumer_attributes, message_attributes

__all__ = ["ProcessSpans"]


class ProcessSpans:
    """The spans of one consumer group's handler. Any worker may call what it wraps."""

    def __init__(self, config: ConsumerGroupConfig) -> None:
        self._tracer = trace.get_tracer(names.SCOPE, __version__, schema_url=names.SCHEMA_URL)
        self._name = f"{names.PROCESS} {config.topic}"
        self._attributes = {
            **consumer_attributes(config, names.PROCESS),
            names.CLIENT_ID: client_id(config),
        }

    def spans(self, handler: AnyHandler) -> AnyHandler:
        """Wrap a handler: each call has a span, which is current meanwhile."""

        def traced(*args: Any) -> object:
            handled = args[-1]
            # Here for its dead letter alone, which could not be sent before: its handler is done.
            if isinstance(handled, Message) and handled._letter is not None:
                return handler(*args)
            span: Span = trace.INVALID_SPAN
            token: Token[Context] | None = None
            with contained:
                if isinstance(handled, list):
                    span = self._batch(handled)
                    token = attach(trace.set_span_in_context(span, Context()))
                else:
                    span, context = self._single(handled)
                    token = attach(context)
            try:
                return handler(*args)
            finally:
                if token is not None:
                    detach(token)
                with contained:
                    span.end()

        return traced

    def _single(self, message: Message) -> tuple[Span, Context]:
        came_with = extract(message.headers)
        parent = creation_context(came_with)
        span = self._tracer.start_span(
            self._name,
            context=came_with,
            kind=SpanKind.CONSUMER,
            attributes={
                **self._attributes,
                names.PARTITION: str(message.partition),
                **message_attributes(message),
            },
            links=[] if parent is None else [Link(parent)],
        )
        # With the baggage that came along.
        context = trace.set_span_in_context(span, came_with)
        message._process_context = context
        return span, context

    def _batch(self, batch: list[Message]) -> Span:
        contexts = [creation_context(extract(message.headers)) for message in batch]
        attributes = {**self._attributes, names.BATCH_COUNT: len(batch)}
        partitions = {message.partition for message in batch}
        if len(partitions) == 1:
            attributes[names.PARTITION] = str(partitions.pop())
        return self._tracer.start_span(
            self._name,
            context=Context(),
            kind=SpanKind.CONSUMER,
            attributes=attributes,
            links=[Link(context) for context in contexts if context is not None],
        )

    @staticmethod
    def failures(handler: AnyHandler) -> AnyHandler:
        """Wrap a handler: what it raises is recorded in the span that `spans` has made current."""

        def recorded(*args: Any) -> object:
            # Asked before: a handler may leave a context of its own behind.
            span = trace.get_current_span()
            try:
                return handler(*args)
            except BaseException as error:
                with contained:
                    span.record_exception(error)
                    span.set_attribute(names.ERROR_TYPE, names.error_type(error))
                    span.set_status(StatusCode.ERROR, str(error))
                raise

        return recorded
