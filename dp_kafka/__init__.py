"""Kafka for synchronous, threaded Python services: a producer and a consumer group on librdkafka."""

from dp_kafka._version import __version__
from dp_kafka.channels import Channel
from dp_kafka.config import (
    AdminConfig,
    ConsumerGroupConfig,
    DeadLetter,
    KafkaSettings,
    Offset,
    Ordering,
    ProducerConfig,
    RetryPolicy,
    SecurityConfig,
)
from dp_kafka.consumer.channels import ConsumerGroupChannels
from dp_kafka.consumer.group import ConsumerGroup
from dp_kafka.consumer.message import Message
from dp_kafka.errors import (
    BatchError,
    CACertsError,
    ChannelClosed,
    ClosedError,
    CommitError,
    ConfigError,
    DeliveryError,
    DpKafkaError,
    ForkedError,
    HandlerError,
    HandlerRegistrationError,
    HealthCheckError,
    KafkaClientError,
    MarshalError,
    MessageTooLargeError,
    NotInitialisedError,
    QueueFullError,
    StateTransitionError,
    UnknownTopicError,
)
from dp_kafka.headers import TRACE_ID_HEADER, current_trace_id, use_trace_id
from dp_kafka.logfilter import TraceIdFilter
from dp_kafka.producer.channels import BytesMessage, ProducerChannels
from dp_kafka.producer.producer import Producer
from dp_kafka.state import State

__all__ = [
    "TRACE_ID_HEADER",
    "AdminConfig",
    "BatchError",
    "BytesMessage",
    "CACertsError",
    "Channel",
    "ChannelClosed",
    "ClosedError",
    "CommitError",
    "ConfigError",
    "ConsumerGroup",
    "ConsumerGroupChannels",
    "ConsumerGroupConfig",
    "DeadLetter",
    "DeliveryError",
    "DpKafkaError",
    "ForkedError",
    "HandlerError",
    "HandlerRegistrationError",
    "HealthCheckError",
    "KafkaClientError",
    "KafkaSettings",
    "MarshalError",
    "Message",
    "MessageTooLargeError",
    "NotInitialisedError",
    "Offset",
    "Ordering",
    "Producer",
    "ProducerChannels",
    "ProducerConfig",
    "QueueFullError",
    "RetryPolicy",
    "SecurityConfig",
    "State",
    "StateTransitionError",
    "TraceIdFilter",
    "UnknownTopicError",
    "__version__",
    "current_trace_id",
    "use_trace_id",
]
