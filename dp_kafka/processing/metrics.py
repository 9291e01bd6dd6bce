"""Measurements of the handler: a wrapper that counts messages and measures how long the handler takes.

It stands inside of retries and dead letters: it sees each attempt, and the exception of each that fails.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from dp_kafka.config import ConsumerGroupConfig
from dp_kafka.metrics import Attributes, Instruments
from dp_kafka.processing.chain import AnyHandler, Middleware, handled_messages
from dp_kafka.tracing import names
from dp_kafka.tracing.contained import contained
from dp_kafka.tracing.receiving import consumer_attributes

__all__ = ["measured"]


def measured(config: ConsumerGroupConfig, instruments: Instruments) -> Middleware:
    """A middleware that measures the handler of a group. Any worker may call what it wraps."""
    common = consumer_attributes(config, names.PROCESS)

    def middleware(handler: AnyHandler) -> AnyHandler:
        def timed(*args: Any) -> object:
            partitions: Counter[int] = Counter()
            with contained:
                for message in handled_messages(args):
                    # Counted once, however often it is tried.
                    partitions[message.partition] += message.attempt == 1
                for partition, count in partitions.items():
                    if count:
                        instruments.consumed.add(count, {**common, names.PARTITION: str(partition)})
            failure: str | None = None
            begun = time.perf_counter()
            try:
                return handler(*args)
            except BaseException as error:
                failure = names.error_type(error)
                raise
            finally:
                seconds = time.perf_counter() - begun
                with contained:
                    attributes: Attributes = common.copy()
                    if len(partitions) == 1:
                        attributes[names.PARTITION] = str(next(iter(partitions)))
                    if failure is not None:
                        attributes[names.ERROR_TYPE] = failure
                    instruments.process_duration.record(seconds, attributes)

        return timed

    return middleware
