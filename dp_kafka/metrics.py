"""The instruments of OpenTelemetry metrics that dp_kafka has, and what is measured with them.

Imported only with `otel_enabled=True`. The meter is that of the global provider, which may be set later.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterable, Iterator
from typing import Protocol

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Histogram, Meter, Observation
from opentelemetry.util.types import AttributeValue

from dp_kafka._version import __version__
from dp_kafka.tracing import names

__all__ = ["Attributes", "Instruments", "ObservesLag", "observe_lag"]

Attributes = dict[str, AttributeValue]

#: The boundaries that the conventions want, in seconds; the SDK's own are meant for milliseconds.
BOUNDARIES = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)


class Instruments:
    """The counters and histograms of one client. Any thread."""

    def __init__(self) -> None:
        meter = _meter()
        self.sent = meter.create_counter(
            names.SENT_MESSAGES, "{message}", "Number of messages producer attempted to send to the broker."
        )
        self.consumed = meter.create_counter(
            names.CONSUMED_MESSAGES, "{message}", "Number of messages that were delivered to the application."
        )
        self.operation_duration = _histogram(
            meter,
            names.OPERATION_DURATION,
            "Duration of messaging operation initiated by a producer or consumer client.",
        )
        self.process_duration = _histogram(meter, names.PROCESS_DURATION, "Duration of processing operation.")


def _meter() -> Meter:
    # Of the provider: metrics.get_meter() of opentelemetry-api 1.20 takes no schema.
    return metrics.get_meter_provider().get_meter(names.SCOPE, __version__, names.SCHEMA_URL)


def _histogram(meter: Meter, name: str, description: str) -> Histogram:
    try:
        return meter.create_histogram(
            name, "s", description, explicit_bucket_boundaries_advisory=list(BOUNDARIES)
        )
    except TypeError:
        # opentelemetry-api before 1.30 takes no boundaries: a view of the application has to give them.
        return meter.create_histogram(name, "s", description)


class ObservesLag(Protocol):
    """What knows how far a consumer group is behind."""

    def lags(self) -> Iterator[tuple[int, Attributes]]:
        """The lag of each partition that is owned, with its attributes; any thread."""
        ...


#: Who is asked when a reader collects, as a gauge's callback cannot be taken back. Guarded by the lock.
_observed: weakref.WeakSet[ObservesLag] = weakref.WeakSet()
_lock = threading.Lock()


def observe_lag(observed: ObservesLag) -> None:
    """Have the gauge of the consumer lag ask `observed`, for as long as somebody else keeps it."""
    with _lock:
        _observed.add(observed)
    # The same function each time: the meter of one provider takes it once.
    _meter().create_observable_gauge(
        names.CONSUMER_LAG,
        [_observe],
        "{message}",
        "Number of messages of a partition that the consumer group has not committed.",
    )


def _observe(_options: CallbackOptions) -> Iterable[Observation]:
    with _lock:
        observed = list(_observed)
    return [Observation(lag, attributes) for one in observed for lag, attributes in one.lags()]


def _after_fork_in_child() -> None:
    """The parent's consumer groups go on in the parent; and its lock may be held for ever here."""
    global _lock
    _lock = threading.Lock()
    _observed.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)
