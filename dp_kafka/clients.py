"""How confluent_kafka's clients are made: of librdkafka properties, with one logger for all of them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

from confluent_kafka import KafkaException

from dp_kafka.config.rdkafka import refused

__all__ = ["CLIENT_LOGGER", "ClientFactory", "make_client"]

T = TypeVar("T")

#: Where librdkafka's own log goes; without a logger it would write to stderr.
CLIENT_LOGGER = logging.getLogger("dp_kafka.librdkafka")

#: Makes a client of librdkafka properties, callbacks among them; the test kit has its own.
ClientFactory = Callable[[dict[str, Any]], Any]


def make_client(kind: Callable[..., T], properties: dict[str, Any]) -> T:
    """Make one of confluent_kafka's clients; raises ConfigError for properties that librdkafka refuses."""
    try:
        return kind(properties, logger=CLIENT_LOGGER)
    except (KafkaException, TypeError, ValueError) as error:
        raise refused(error) from error
