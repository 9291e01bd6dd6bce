"""How trace context travels: into a message's headers, and out of them, by the global propagator."""

from __future__ import annotations

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import SpanContext

from dp_kafka.headers import HeaderValue, header_list
from dp_kafka.tracing.contained import contained

__all__ = ["creation_context", "extract", "inject"]

#: Baggage that a sender gives as a header of its own is its business, also where none is injected.
_BAGGAGE = "baggage"


class _Headers(Getter["list[tuple[str, bytes | None]]"]):
    """Reads a message's headers for a propagator: as text, whatever the bytes are, first ones first."""

    def get(self, carrier: list[tuple[str, bytes | None]], key: str) -> list[str] | None:
        """The values of all headers called `key`; None if there is none."""
        values = [
            value.decode("utf-8", "replace") for name, value in carrier if name == key and value is not None
        ]
        return values or None

    def keys(self, carrier: list[tuple[str, bytes | None]]) -> list[str]:
        """The names of all headers."""
        return [name for name, _ in carrier]


_HEADERS = _Headers()


def inject(headers: list[tuple[str, HeaderValue]], context: Context) -> None:
    """Put the trace context into a message's own list of headers, in place of one that is there already.

    Who forwards a message often gives the headers that came with it. Were they left, a consumer would find
    two contexts, or the wrong one.
    """
    with contained:
        carrier: dict[str, str] = {}
        propagate.inject(carrier, context=context)
        if not carrier:
            return
        added = header_list(carrier)
        replaced = (propagate.get_global_textmap().fields - {_BAGGAGE}) | carrier.keys()
        headers[:] = [pair for pair in headers if pair[0] not in replaced] + added


def extract(headers: list[tuple[str, bytes | None]]) -> Context:
    """The context that came with a message, with nothing of the calling thread's own in it."""
    with contained:
        return propagate.extract(headers, context=Context(), getter=_HEADERS)
    return Context()


def creation_context(context: Context) -> SpanContext | None:
    """The span that the message was sent in, to link to or to be the parent; None if none came with it."""
    span = trace.get_current_span(context).get_span_context()
    return span if span.is_valid else None
