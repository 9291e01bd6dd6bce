"""What tests of producers share: messages as the broker has them, addresses of nobody, odd clients."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any, TypeVar

import confluent_kafka

from dp_kafka import ConsumerGroup, Producer, ProducerConfig
from dp_kafka.kafkatest import EmbeddedCluster
from dp_kafka.producer.delivery import confluent_producer
from tests.waiting import PATIENCE

Client = TypeVar("Client", bound=Producer | ConsumerGroup)

#: Without it the first message of a producer may wait half a second for librdkafka to get a producer id.
PLAIN = {"enable.idempotence": False}
#: For clients that have to notice quickly that a broker is there again.
RECONNECT = {
    **PLAIN,
    "reconnect.backoff.ms": 20,
    "reconnect.backoff.max.ms": 50,
    "retry.backoff.ms": 20,
    "topic.metadata.refresh.fast.interval.ms": 20,
    "topic.metadata.refresh.interval.ms": 50,
}


def received(
    cluster: EmbeddedCluster, topic: str, count: int, partitions: int = 1
) -> list[confluent_kafka.Message]:
    """`count` messages of a topic, those of a partition in their order; fails if they do not come."""
    client = confluent_kafka.Consumer(
        {
            "bootstrap.servers": cluster.bootstrap_servers,
            "group.id": "looks-only",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 10,
        }
    )
    found: list[confluent_kafka.Message] = []
    try:
        beginning = confluent_kafka.OFFSET_BEGINNING
        client.assign(
            [confluent_kafka.TopicPartition(topic, number, beginning) for number in range(partitions)]
        )
        until = time.monotonic() + PATIENCE
        while len(found) < count and time.monotonic() < until:
            for message in client.consume(count - len(found), 0.05):
                assert message.error() is None, message.error()
                found.append(message)
    finally:
        client.close()
    assert len(found) == count, f"{count} messages were expected, but only {len(found)} came"
    return found


def on_broker(cluster: EmbeddedCluster, topic: str, partitions: int = 1) -> int:
    """How many messages the broker has of a topic: of many it has thrown the oldest away."""
    return sum(high - low for low, high in _watermarks(cluster, topic, partitions))


def taken_by_broker(cluster: EmbeddedCluster, topic: str, partitions: int = 1) -> int:
    """How many messages the broker has taken of a topic, whether or not it has thrown them away since."""
    return sum(high for _low, high in _watermarks(cluster, topic, partitions))


def _watermarks(cluster: EmbeddedCluster, topic: str, partitions: int) -> list[tuple[int, int]]:
    client = confluent_kafka.Consumer(
        {"bootstrap.servers": cluster.bootstrap_servers, "group.id": "looks-only"}
    )
    try:
        return [
            client.get_watermark_offsets(confluent_kafka.TopicPartition(topic, number), PATIENCE)
            for number in range(partitions)
        ]
    finally:
        client.close()


#: Bound for good, so that no broker of another test gets one of these ports.
_nobodys: list[socket.socket] = []


def nobody() -> str:
    """An address at which nobody listens."""
    bound = socket.socket()
    _nobodys.append(bound)
    bound.bind(("127.0.0.1", 0))
    return f"127.0.0.1:{bound.getsockname()[1]}"


def ready(client: Client) -> Client:
    """The client, once it is initialised: on a busy machine its constructor may not wait long enough."""
    assert client.channels.initialised.wait(PATIENCE)
    return client


def quick_producer(cluster: EmbeddedCluster, topic: str = "t", **fields: Any) -> Producer:
    """A producer that soon notices that the cluster is there again."""
    quick = {"min_retry_period": 0.02, "max_retry_period": 0.05, "librdkafka": RECONNECT}
    return Producer(ProducerConfig(cluster.broker_addrs, topic, **{**quick, **fields}))


def unreachable(**fields: Any) -> Producer:
    """A producer whose only broker is not there."""
    quick = {"broker_addrs": [nobody()], "min_retry_period": 0.02, "max_retry_period": 0.05}
    return Producer(ProducerConfig(topic="nowhere", **{**quick, **fields}))


class Wrapped:
    """A real client, of which a test has replaced a method."""

    def __init__(self, properties: dict[str, Any]) -> None:
        self.client = confluent_producer(properties)

    def __len__(self) -> int:
        return len(self.client)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)


class Breakable(Wrapped):
    """A client whose poll() raises once the test says so, as only a fault of the library itself would."""

    def __init__(self, properties: dict[str, Any]) -> None:
        super().__init__(properties)
        self.broken = threading.Event()

    def poll(self, timeout: float) -> int:
        if self.broken.is_set():
            raise MemoryError("broken by the test")
        return int(self.client.poll(timeout))


class Outcomes:
    """Delivery callbacks' arguments in their order; `outcome` is the callback."""

    def __init__(self) -> None:
        self.items: list[tuple[BaseException | None, Any]] = []
        self._condition = threading.Condition()  # guards the list

    def outcome(self, error: BaseException | None, message: Any) -> None:
        with self._condition:
            self.items.append((error, message))
            self._condition.notify_all()

    def wait(self, count: int) -> list[tuple[BaseException | None, Any]]:
        """The outcomes, once there are `count`."""
        with self._condition:
            assert self._condition.wait_for(lambda: len(self.items) >= count, PATIENCE), self.items
            return list(self.items)
