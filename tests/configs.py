"""Configurations for tests, and what tests ask of all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from dp_kafka.config import AdminConfig, ConsumerGroupConfig, ProducerConfig
from dp_kafka.config.rdkafka import admin_properties, consumer_properties, producer_properties
from dp_kafka.errors import ConfigError, DpKafkaError

ONE = ["localhost:1"]
THREE = ["localhost:1", "localhost:2", "localhost:3"]


def producer(**fields: Any) -> ProducerConfig:
    return ProducerConfig(**{"broker_addrs": ONE, "topic": "t", **fields})


def consumer(**fields: Any) -> ConsumerGroupConfig:
    return ConsumerGroupConfig(**{"broker_addrs": ONE, "topic": "t", "group_name": "g", **fields})


both = pytest.mark.parametrize("make", [producer, consumer])


def refused(make: Callable[..., object], **fields: Any) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        make(**fields)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, DpKafkaError)
    return caught.value


def accept(config: ProducerConfig | ConsumerGroupConfig | AdminConfig) -> dict[str, Any]:
    """The properties of `config`, after a real client took them (which does not connect)."""
    if isinstance(config, ProducerConfig):
        properties = producer_properties(config)
        Producer({**properties, "log_level": 0})
    elif isinstance(config, ConsumerGroupConfig):
        properties = consumer_properties(config)
        Consumer({**properties, "log_level": 0}).close()
    else:
        properties = admin_properties(ONE, config)
        AdminClient({**properties, "log_level": 0})
    return properties
