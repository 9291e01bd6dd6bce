"""The names that traces and metrics use: those of OpenTelemetry's semantic conventions for messaging.

Written down here because the package that has them comes with the SDK, and not with the API.
"""

from __future__ import annotations

from dp_kafka.errors import DeliveryError, KafkaClientError

__all__ = ["SCHEMA_URL", "SCOPE", "error_type"]

#: The instrumentation scope: what a tracer and a meter are asked for by.
SCOPE = "dp_kafka"
#: The version of the conventions that the names are from.
SCHEMA_URL = "https://opentelemetry.io/schemas/1.37.0"

SYSTEM = "messaging.system"
KAFKA = "kafka"
DESTINATION = "messaging.destination.name"
PARTITION = "messaging.destination.partition.id"
OPERATION_NAME = "messaging.operation.name"
OPERATION_TYPE = "messaging.operation.type"
GROUP = "messaging.consumer.group.name"
CLIENT_ID = "messaging.client.id"
BATCH_COUNT = "messaging.batch.message_count"
OFFSET = "messaging.kafka.offset"
TOMBSTONE = "messaging.kafka.message.tombstone"
ERROR_TYPE = "error.type"

#: Of dp_kafka's own: which time a message is given to its handler.
ATTEMPT = "dp_kafka.message.attempt"

#: What is done with messages: each is the name and the type of an operation.
SEND = "send"
RECEIVE = "receive"
PROCESS = "process"

OPERATION_DURATION = "messaging.client.operation.duration"
SENT_MESSAGES = "messaging.client.sent.messages"
CONSUMED_MESSAGES = "messaging.client.consumed.messages"
PROCESS_DURATION = "messaging.process.duration"
#: Of dp_kafka's own: the conventions have no name for it.
CONSUMER_LAG = "dp_kafka.consumer.lag"


def error_type(error: BaseException) -> str:
    """The class of an error for `error.type`: Kafka's name for it, else that of the exception."""
    if isinstance(error, (DeliveryError, KafkaClientError)) and error.name:
        return error.name
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
