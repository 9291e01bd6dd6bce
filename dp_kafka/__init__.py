"""Kafka for synchronous, threaded Python services: a producer and a consumer group on librdkafka.

- `Producer` sends to a topic, `ConsumerGroup` hands the messages of a topic to a handler; `ProducerConfig`
  and `ConsumerGroupConfig` say how, and `KafkaSettings` makes both from environment variables.
- Every exception is a `DpKafkaError`. What goes wrong on a client's own threads comes on its
  `channels.errors`.
- `TRACE_ID_HEADER` is the header that carries the trace id, "request-id". `__version__` is that of the
  library.

Durations are seconds, as int or float. A timeout of None waits without a limit of its own, if nothing else
is said. What is not listed here, and in the other modules of the reference, is private.
"""

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
    unwrap_log_data,
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
    "unwrap_log_data",
    "use_trace_id",
]
