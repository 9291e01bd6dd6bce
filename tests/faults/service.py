"""A service under fault: a producer, a consumer group, and the count of what was handled and committed."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

from dp_kafka import ConsumerGroup, ConsumerGroupConfig, Message, Producer, ProducerConfig
from dp_kafka.kafkatest import EmbeddedCluster
from tests.conftest import committed_offset
from tests.looking import eventually
from tests.waiting import PATIENCE

__all__ = ["CLASSIC", "KIP_848", "Service", "consumer_config", "producer_config", "until"]

#: librdkafka settings of a member. The embedded broker answers a fetch only at the end of its wait, and
#: members hear of a rebalance by a heartbeat. What is refused is tried again quickly.
_QUICK = {
    "fetch.wait.max.ms": 10,
    "topic.metadata.refresh.interval.ms": 100,
    "retry.backoff.ms": 10,
    "retry.backoff.max.ms": 100,
    "reconnect.backoff.ms": 10,
    "reconnect.backoff.max.ms": 100,
}
#: Who joins again and has no answer, as the embedded broker threw it out while the process stood still, asks
#: again 3 s after "max.poll.interval.ms", by default in five minutes.
CLASSIC = {
    **_QUICK,
    "heartbeat.interval.ms": 100,
    "fetch.error.backoff.ms": 10,
    "max.poll.interval.ms": 4_000,
}
KIP_848 = {**_QUICK, "group.protocol": "consumer", "fetch.error.backoff.ms": 10}


def until(condition: Callable[[], bool], timeout: float = PATIENCE) -> bool:
    """Ask again and again whether something in another process or thread has become so; True if it has."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)  # between two questions
    return True


def consumer_config(cluster: EmbeddedCluster, topic: str, **fields: Any) -> ConsumerGroupConfig:
    """A member that gives up nothing soon, and tries again soon."""
    fields.setdefault("group_name", f"group-{uuid.uuid4().hex[:12]}")
    fields.setdefault("librdkafka", KIP_848)
    fields.setdefault("message_consume_timeout", 3.1)
    fields.setdefault("max_retry_period", 0.4)
    return ConsumerGroupConfig(cluster.broker_addrs, topic, **fields)


def producer_config(cluster: EmbeddedCluster, topic: str, **fields: Any) -> ProducerConfig:
    """A producer that tries again soon."""
    fields.setdefault("min_brokers_healthy", 1)
    fields.setdefault("max_retry_period", 0.4)
    own = {"linger.ms": 0, **{name: _QUICK[name] for name in _QUICK if name != "fetch.wait.max.ms"}}
    fields.setdefault("librdkafka", own)
    return ProducerConfig(cluster.broker_addrs, topic, **fields)


class Service:
    """One topic, one producer, one member of a group. What is sent is numbered; every handling is counted.

    The handler is fed by `group`; `close()` ends both within their bounds, or fails the test.
    """

    def __init__(
        self, cluster: EmbeddedCluster, *, partitions: int = 1, topic: str | None = None, **consumer: Any
    ) -> None:
        self.cluster = cluster
        self.topic = topic or f"fault-{uuid.uuid4().hex[:12]}"
        self.partitions = partitions
        cluster.create_topic(self.topic, partitions)
        self.sent = 0
        #: How often each number was handled; guarded by the condition.
        self.handled: Counter[int] = Counter()
        self._condition = threading.Condition()
        self.producer = Producer(producer_config(cluster, self.topic))
        self.group = ConsumerGroup(consumer_config(cluster, self.topic, **consumer))
        self.group.register_handler(self._handle)

    def _handle(self, _worker_id: int, message: Message) -> None:
        with self._condition:
            self.handled[int(message.data or b"-1")] += 1
            self._condition.notify_all()

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, count: int) -> None:
        """Queue `count` further messages, over all partitions."""
        for _ in range(count):
            partition = self.sent % self.partitions
            self.producer.send_bytes(b"%d" % self.sent, partition=partition, timeout=PATIENCE)
            self.sent += 1

    def wait_handled(self, timeout: float = PATIENCE) -> None:
        """Wait until everything that was sent has been handled."""
        with self._condition:
            if not self._condition.wait_for(lambda: len(self.handled) >= self.sent, timeout):
                missing = sorted(set(range(self.sent)) - set(self.handled))
                raise AssertionError(f"{len(missing)} of {self.sent} were not handled: {missing[:20]}")

    def flow(self, count: int = 3) -> None:
        """Send some messages and see them handled."""
        self.send(count)
        self.wait_handled()

    def close(self, timeout: float = PATIENCE) -> None:
        """Close both clients; each has to be done, with nothing left, well before its bound."""
        until = time.monotonic() + timeout
        with contextlib.ExitStack() as stack:
            stack.callback(self.producer.close, timeout=timeout)
            left = self.group.close(timeout=timeout)
        assert left == 0, f"{left} messages were left in hand"
        assert time.monotonic() < until, "close() needed its whole timeout"

    def check(self, *, once: bool = True) -> None:
        """After close(): each message was handled, exactly `once` or more often, and is committed."""
        assert sorted(self.handled) == list(range(self.sent)), f"messages were lost: {self.handled}"
        if once:
            assert max(self.handled.values(), default=1) == 1, f"handled again: {self.handled}"
        self.check_committed()

    def check_committed(self) -> None:
        """After close(): everything that was sent is committed."""
        assert self._committed() == self._ends()

    def wait_committed(self) -> None:
        """Wait until everything that was sent is committed."""
        eventually(self._committed, self._ends())

    def _ends(self) -> list[int | None]:
        return [len(range(number, self.sent, self.partitions)) or None for number in range(self.partitions)]

    def _committed(self) -> list[int | None]:
        return [
            committed_offset(self.cluster, self.group.group_name, self.topic, number)
            for number in range(self.partitions)
        ]
