"""The SDK of OpenTelemetry with its in-memory exporters, as the global providers of a test process."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.metrics import _internal as _metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.util._once import Once

from dp_kafka.tracing import names
from tests.waiting import PATIENCE


class _WaitableExporter(InMemorySpanExporter):
    """Keeps spans in memory, and wakes whoever waits for one."""

    def __init__(self) -> None:
        super().__init__()
        self.came = threading.Condition()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = super().export(spans)
        with self.came:
            self.came.notify_all()
        return result


class Telemetry:
    """What was recorded. Global providers can be set once, so there is one of it in a process."""

    def __init__(self) -> None:
        self._exporter = _WaitableExporter()
        self._reader = InMemoryMetricReader()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        trace.set_tracer_provider(provider)
        metrics.set_meter_provider(MeterProvider([self._reader]))
        self.provider = provider
        #: For spans that tests make themselves.
        self.tracer = trace.get_tracer("tests")

    @staticmethod
    @functools.cache
    def of_this_process() -> Telemetry:
        """The only one."""
        return Telemetry()

    def clear(self) -> None:
        """Forget the spans; metrics go on counting, but each test has a topic of its own."""
        self._exporter.clear()

    @property
    def ended(self) -> list[ReadableSpan]:
        """All spans that have ended, in that order."""
        return list(self._exporter.get_finished_spans())

    def of(self, topic: str, operation: str) -> list[ReadableSpan]:
        """The spans of an operation on a topic that have ended."""
        return [span for span in self.ended if span.name == f"{operation} {topic}"]

    def spans(self, topic: str, operation: str, count: int = 1) -> list[ReadableSpan]:
        """Wait for as many spans of an operation on a topic; fails if other than so many come."""
        with self._exporter.came:
            came = self._exporter.came.wait_for(lambda: len(self.of(topic, operation)) >= count, PATIENCE)
        found = self.of(topic, operation)
        assert came, f"{count} spans of {operation} were expected, found {found}"
        assert len(found) == count, f"{count} spans of {operation} were expected, found {len(found)}: {found}"
        return found

    def span(self, name: str) -> ReadableSpan:
        """The one span of a name that has ended."""
        (found,) = [span for span in self.ended if span.name == name]
        return found

    def measured(self, name: str, topic: str) -> list[Any]:
        """The data points of a metric for a topic."""
        data = self._reader.get_metrics_data()
        return [
            point
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
            if (point.attributes or {}).get(names.DESTINATION) == topic
        ]

    def total(self, name: str, topic: str) -> int:
        """What a counter has counted for a topic."""
        return sum(point.value for point in self.measured(name, topic))


def parent_of(span: ReadableSpan) -> int | None:
    """The id of a span's parent."""
    return None if span.parent is None else span.parent.span_id


def id_of(span: ReadableSpan) -> int:
    """The id of a span."""
    context = span.get_span_context()
    assert context is not None
    return context.span_id


def trace_of(span: ReadableSpan) -> int:
    """The id of a span's trace."""
    context = span.get_span_context()
    assert context is not None
    return context.trace_id


def linked(span: ReadableSpan) -> list[int]:
    """The ids of the spans that a span links to, in order."""
    return [link.context.span_id for link in span.links]


def attributes(span: ReadableSpan) -> dict[str, Any]:
    """A span's attributes."""
    return dict(span.attributes or {})


class OwnProviders:
    """No global providers, for code that sets its own; `restore` brings back those that were there."""

    def __init__(self) -> None:
        self._before = (
            trace._TRACER_PROVIDER,
            trace._TRACER_PROVIDER_SET_ONCE,
            _metrics._METER_PROVIDER,
            _metrics._METER_PROVIDER_SET_ONCE,
        )
        self._set(None, Once(), None, Once())

    def restore(self) -> None:
        """Set what was set before."""
        self._set(*self._before)

    @staticmethod
    def _set(tracers: Any, tracers_once: Once, meters: Any, meters_once: Once) -> None:
        # The API has no way to replace a provider: it is meant to be set once in a process.
        trace._TRACER_PROVIDER, trace._TRACER_PROVIDER_SET_ONCE = tracers, tracers_once
        _metrics._METER_PROVIDER, _metrics._METER_PROVIDER_SET_ONCE = meters, meters_once
