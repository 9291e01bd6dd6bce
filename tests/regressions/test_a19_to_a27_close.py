"""Defects of the original's close of a consumer group, which this library must not have (A19 to A27)."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from dp_kafka import ClosedError, ConsumerGroup, ConsumerGroupConfig, Message, Producer, ProducerConfig, State
from dp_kafka.consumer.client import confluent_consumer
from dp_kafka.health import CheckState, Status
from dp_kafka.health.checks import BrokerCheck
from dp_kafka.kafkatest import EmbeddedCluster
from tests.clients import WatchedConsumers
from tests.conftest import (
    INCREMENTAL,
    CommittedFunction,
    GroupFactory,
    SendFunction,
    TopicFactory,
)
from tests.looking import eventually
from tests.sending import PLAIN, Breakable, quick_producer
from tests.waiting import PATIENCE, Collected, Held, Logged, consuming, in_thread


@pytest.mark.parametrize("handler", [False, True], ids=["without a handler", "with a busy handler"])
def test_a19_close_does_not_wait_for_messages_that_nobody_has_taken(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction, handler: bool
) -> None:
    """They stay in the upstream channel, and are delivered again to the next consumer."""
    name = topic(partitions=3)
    for partition in range(3):
        send(name, "a", "b", partition=partition)
    group = consumer_group(name)
    held = Held()
    if handler:
        group.register_handler(held)
    group.start()
    if handler:
        assert held.entered.wait(PATIENCE)
    eventually(lambda: group.channels.upstream.qsize() >= 2)
    closing = in_thread(group.close)
    assert group.state_wait(State.CLOSING, PATIENCE)
    held.finish.set()
    assert closing.result(PATIENCE) == 0


@pytest.mark.parametrize("attempt", range(5))
def test_a20_what_is_buffered_at_close_is_never_handled_and_never_committed(
    topic: TopicFactory,
    consumer_group: GroupFactory,
    send: SendFunction,
    committed: CommittedFunction,
    attempt: int,
) -> None:
    """Not at random: once the group drains, the message in hand is the last one."""
    name = topic(partitions=2)
    for partition in range(2):
        send(name, *"abcdef", partition=partition)
    clients = WatchedConsumers()
    group = consumer_group(name, client_factory=clients)
    entered, opened = threading.Event(), threading.Event()
    handled: Collected[tuple[int, int]] = Collected()

    def handler(_worker_id: int, message: Message) -> None:
        handled.add((message.partition, message.offset))
        entered.set()
        assert opened.wait(PATIENCE)

    group.register_handler(handler)
    group.start()
    assert entered.wait(PATIENCE)
    closing = in_thread(lambda: group.close(timeout=PATIENCE))
    clients.wait("pause")  # the poll thread drains: what is buffered is forgotten by now
    opened.set()
    assert closing.result(PATIENCE) == 0
    ((partition, offset),) = handled.items
    assert offset == 0
    found = [committed(group.group_name, name, number) for number in range(2)]
    assert found[partition] == 1
    assert found[1 - partition] is None


def test_a21_a_partial_batch_is_handled_before_the_hooks_run(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction, committed: CommittedFunction
) -> None:
    name = topic()
    send(name, "a", "b", "c")
    group = consumer_group(name, batch_size=100, batch_wait_time=3_600)
    order: list[Any] = []
    group.register_batch_handler(lambda batch: order.append([message.data for message in batch]))
    group.start()
    eventually(group._poller.in_hand, 3)
    assert group.close(lambda: order.append("hook"), timeout=PATIENCE) == 0
    assert order == [[b"a", b"b", b"c"], "hook"]
    assert committed(group.group_name, name) == 3


def test_a22_a_close_in_full_traffic_makes_no_errors(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction, logged: Logged
) -> None:
    name = topic(partitions=3)
    for partition in range(3):
        send(name, *(f"{number}" for number in range(300)), partition=partition)
    group = consumer_group(name, num_workers=3)
    handled: Collected[int] = Collected()
    group.register_handler(lambda _worker_id, message: handled.add(message.offset))
    group.start()
    handled.wait(20)
    assert group.close(timeout=PATIENCE) == 0
    assert list(group.channels.errors) == []
    assert "ERROR" not in {record.levelname for record in logged.of("")}


def test_a22_errors_of_the_shutdown_can_be_read(topic: TopicFactory, consumer_group: GroupFactory) -> None:
    """`errors` is the last channel to close, and what it holds can be taken afterwards."""
    group = consuming(consumer_group(topic()))
    failure = ValueError("from the hook")

    def hook() -> None:
        raise failure

    assert group.close(hook, timeout=PATIENCE) == 0
    assert list(group.channels.errors) == [failure]


def test_a23_a_hook_may_call_anything_and_fail(
    topic: TopicFactory, consumer_group: GroupFactory, logged: Logged
) -> None:
    group = consuming(consumer_group(topic()))
    found: list[Any] = []

    def calls_everything() -> None:
        state = CheckState("Kafka")
        group.checker(state)
        with pytest.raises(ClosedError):
            group.start()
        with pytest.raises(ClosedError):
            group.initialise()
        with pytest.raises(ClosedError):
            group.register_handler(lambda worker_id, message: None)
        group.stop()
        group.log_errors()
        found.extend([state.status, group.state, group.is_initialised, group.channels.upstream.closed])
        found.extend([group.stop_and_wait(timeout=0), group.close()])

    def fails() -> None:
        raise RuntimeError("hook failed")

    def panics() -> None:
        raise SystemExit(3)

    closing = in_thread(lambda: group.close(fails, panics, calls_everything, timeout=PATIENCE))
    assert closing.result(PATIENCE) == 0
    assert found[:3] == [Status.CRITICAL, State.CLOSING, False]
    assert found[-1] == 0
    assert group.channels.closed.is_set()
    assert [type(error) for error in group.channels.errors] == [RuntimeError, SystemExit]
    assert len(logged.of("a hook of close() failed")) == 2


def test_a24_the_time_limit_of_close_is_kept_by_a_consumer_group(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction, logged: Logged
) -> None:
    name = topic()
    send(name, "a")
    group = consumer_group(name)
    held = Held.by(group)
    began = time.monotonic()
    assert group.close(timeout=0.3) == 1
    took = time.monotonic() - began
    held.finish.set()
    assert 0.25 < took < PATIENCE / 2
    assert group.channels.closed.wait(PATIENCE)
    assert f"still running topic={name!r}" in logged.text
    assert f"thread='dp-kafka:worker-1:{name}'" in logged.text


def test_a24_the_time_limit_of_close_is_kept_by_a_producer(own_cluster: EmbeddedCluster) -> None:
    own_cluster.create_topic("t")
    producer = quick_producer(own_cluster)
    assert producer.channels.initialised.wait(PATIENCE)
    own_cluster.broker_down(1)
    producer.send_bytes(b"v")
    began = time.monotonic()
    assert producer.close(timeout=0.3) == 1
    assert 0.25 < time.monotonic() - began < PATIENCE / 2
    assert producer.channels.closed.is_set()


class RecordsClose(BrokerCheck):
    """Remembers whether the clients that ask the brokers were let go."""

    closed = False

    def close(self) -> None:
        super().close()
        self.closed = True


class FailsToClose:
    """A consumer client that closes, and says that it did not."""

    def __init__(self, properties: dict[str, Any]) -> None:
        self._client = confluent_consumer(properties)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def close(self) -> None:
        self._client.close()
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))


def test_a25_the_health_clients_are_let_go_though_the_client_does_not_close(
    topic: TopicFactory, cluster: EmbeddedCluster
) -> None:
    config = ConsumerGroupConfig(cluster.broker_addrs, topic(), "group", librdkafka=INCREMENTAL)
    brokers = RecordsClose(config)
    group = consuming(ConsumerGroup(config, client_factory=FailsToClose, broker_check=brokers))
    assert group.close(timeout=PATIENCE) == 0
    eventually(lambda: brokers.closed)


def test_a25_the_health_clients_of_a_producer_are_let_go_though_its_thread_has_died(
    topic: TopicFactory, cluster: EmbeddedCluster
) -> None:
    clients: list[Breakable] = []

    def factory(properties: dict[str, Any]) -> Breakable:
        clients.append(Breakable(properties))
        return clients[0]

    config = ProducerConfig(cluster.broker_addrs, topic(), librdkafka=PLAIN)
    brokers = RecordsClose(config)
    producer = Producer(config, client_factory=factory, broker_check=brokers)
    assert producer.channels.initialised.wait(PATIENCE)
    clients[0].broken.set()
    assert producer.channels.closed.wait(PATIENCE)
    eventually(lambda: brokers.closed)


def test_a27_close_waits_for_every_thread_of_a_consumer_group(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction
) -> None:
    name = topic()
    send(name, "a")
    group = consumer_group(name, num_workers=3)
    handled: Collected[bytes | None] = Collected()
    group.register_handler(lambda _worker_id, message: handled.add(message.data))
    group.log_errors()
    group.start()
    handled.wait(1)
    running = {thread.name for thread in threading.enumerate() if thread.name.endswith(f":{name}")}
    assert running == {
        f"dp-kafka:{role}:{name}" for role in ("poll", "worker-1", "worker-2", "worker-3", "errors")
    }
    assert group.close(timeout=PATIENCE) == 0
    left = {thread.name for thread in threading.enumerate() if thread.name.endswith(f":{name}")}
    assert left <= {f"dp-kafka:close:{name}"}  # which has told of the end, and is about to
