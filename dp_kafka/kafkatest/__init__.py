"""What users of dp_kafka test with: fakes without a broker, and a Kafka cluster in the test's own process.

- `Consumer` and `Producer` are the library's own classes on a cluster in memory, `new_message` makes
  messages for handlers, and `consumer_group_mock`, `producer_mock` and `message_mock` know the signatures
  of what they stand for.
- `EmbeddedCluster` is brokers that any Kafka client can connect to. `DISCONNECT` is the error of its
  `inject_errors` that closes the connection instead of an answer.
- `dp_kafka.kafkatest.plugin` has the fixtures of the pytest plugin.
"""

from dp_kafka.kafkatest.consumer import Consumer
from dp_kafka.kafkatest.embedded import DISCONNECT, EmbeddedCluster, EmbeddedClusterError, LoggedRequest
from dp_kafka.kafkatest.errors import KafkaTestError
from dp_kafka.kafkatest.memory import MemoryCluster, Record
from dp_kafka.kafkatest.message import NewMessage, new_message
from dp_kafka.kafkatest.mocks import consumer_group_mock, message_mock, producer_mock
from dp_kafka.kafkatest.producer import Producer

__all__ = [
    "DISCONNECT",
    "Consumer",
    "EmbeddedCluster",
    "EmbeddedClusterError",
    "KafkaTestError",
    "LoggedRequest",
    "MemoryCluster",
    "NewMessage",
    "Producer",
    "Record",
    "consumer_group_mock",
    "message_mock",
    "new_message",
    "producer_mock",
]
