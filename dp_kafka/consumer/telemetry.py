"""What a consumer group is made with when OpenTelemetry is on: its channel, its wrappers, its gauge.

Imported by a group only when it is on: with it comes OpenTelemetry.
"""

from __future__ import annotations

from collections.abc import Iterator

from dp_kafka.config import ConsumerGroupConfig
from dp_kafka.consumer.lag import Lag
from dp_kafka.metrics import Attributes, Instruments, observe_lag
from dp_kafka.processing.chain import Middleware
from dp_kafka.processing.metrics import measured
from dp_kafka.processing.tracing import ProcessSpans
from dp_kafka.tracing import names
from dp_kafka.tracing.receiving import TracedUpstreamChannel

__all__ = ["Telemetry"]


class Telemetry:
    """Tracing and metrics of one consumer group."""

    def __init__(self, config: ConsumerGroupConfig) -> None:
        instruments = Instruments()
        spans = ProcessSpans(config)
        #: Where its messages come from.
        self.upstream = TracedUpstreamChannel(config, instruments)
        #: What stands outside of dead letters and retries, and what stands inside of them.
        self.outside: list[Middleware] = [spans.spans]
        self.inside: list[Middleware] = [spans.failures, measured(config, instruments)]
        #: How far it is behind; the poll thread keeps it.
        self.lag = Lag(config.topic)
        self._attributes: Attributes = {
            names.SYSTEM: names.KAFKA,
            names.DESTINATION: config.topic,
            names.GROUP: config.group_name,
        }
        observe_lag(self)

    def lags(self) -> Iterator[tuple[int, Attributes]]:
        """The lag of each partition that is owned, with its attributes; any thread."""
        for partition, messages in self.lag.messages.items():
            yield messages, {**self._attributes, names.PARTITION: str(partition)}
