"""Configurations: frozen, checked when constructed, never mutated, with no secret in their reprs."""

from dp_kafka.config.admin import AdminConfig
from dp_kafka.config.consumer import ConsumerGroupConfig, Offset, Ordering
from dp_kafka.config.environment import KafkaSettings
from dp_kafka.config.failures import DeadLetter, RetryPolicy
from dp_kafka.config.producer import ProducerConfig
from dp_kafka.config.security import SecurityConfig

__all__ = [
    "AdminConfig",
    "ConsumerGroupConfig",
    "DeadLetter",
    "KafkaSettings",
    "Offset",
    "Ordering",
    "ProducerConfig",
    "RetryPolicy",
    "SecurityConfig",
]
