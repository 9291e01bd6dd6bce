"""Brokers that are away, slow, or lose what they had: it costs time, never a message, and nothing hangs."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from dp_kafka import ConsumerGroup, DeliveryError, Message, Producer, State
from dp_kafka.errors import MessageTooLargeError
from dp_kafka.health import CheckState, Status
from dp_kafka.kafkatest import EmbeddedCluster
from tests.conftest import committed_offset
from tests.faults.service import CLASSIC, KIP_848, Service, consumer_config, producer_config, until
from tests.looking import eventually
from tests.waiting import PATIENCE, Collected

membership = pytest.mark.parametrize("librdkafka", [CLASSIC, KIP_848], ids=["classic", "KIP-848"])


@pytest.fixture
def three() -> Iterator[EmbeddedCluster]:
    """Three brokers of the test's own."""
    with EmbeddedCluster(brokers=3) as embedded:
        yield embedded


@membership
def test_brokers_that_are_down_at_the_start(
    own_cluster: EmbeddedCluster, librdkafka: dict[str, object]
) -> None:
    """Both clients are made and started without a broker; when one comes everything goes on by itself."""
    own_cluster.broker_down(1)
    with Service(own_cluster, librdkafka=librdkafka) as service:
        service.group.start()
        assert service.group.state is State.INITIALISING
        assert not service.producer.is_initialised
        own_cluster.broker_up(1)
        assert service.group.state_wait(State.CONSUMING, PATIENCE)
        assert service.producer.channels.initialised.wait(PATIENCE)
        service.flow()
    service.check()


@membership
@pytest.mark.parametrize("down", [(1,), (1, 2, 3)], ids=["one of three", "all three"])
def test_brokers_that_go_down_in_the_middle(
    three: EmbeddedCluster, librdkafka: dict[str, object], down: tuple[int, ...]
) -> None:
    """What is sent meanwhile waits; handlers that are at work finish, and are committed later."""
    if len(down) == 1:
        # So it connects again before it hears from the others that the broker is not there any more.
        librdkafka = {**librdkafka, "reconnect.backoff.ms": 0}
    with Service(three, partitions=3, librdkafka=librdkafka) as service:
        # One partition for each broker: by chance none might lead, and nobody miss the one that goes.
        for partition in range(3):
            three.set_leader(service.topic, partition, partition + 1)
        service.group.start()
        service.flow(6)
        for broker in down:
            three.broker_down(broker)
        service.send(6)
        # It is seen, and told of; the state does not change, as librdkafka is at it.
        assert until(lambda: service.group.channels.errors.qsize() > 0)
        assert service.group.state in (State.CONSUMING, State.STARTING)
        for broker in down:
            three.broker_up(broker)
        service.wait_handled()
    service.check()


@pytest.mark.early
def test_a_broker_that_takes_two_seconds_for_each_answer(own_cluster: EmbeddedCluster) -> None:
    """Everything is as it should be, only later; also the last commit and the leave."""
    own_cluster.set_consumer_heartbeat_interval(5.0)  # as brokers have it; a heartbeat may take that long
    service = Service(own_cluster, message_consume_timeout=10.0)
    service.group.start()
    service.flow(1)
    own_cluster.set_latency(2.0)
    service.send(1)
    service.wait_handled(2 * PATIENCE)  # it answers one request after another
    service.close(timeout=2 * PATIENCE)
    own_cluster.set_latency(0.0)
    service.check()


@membership
def test_a_coordinator_that_moves(three: EmbeddedCluster, librdkafka: dict[str, object]) -> None:
    """Again and again, with messages under way: members find it, and nothing is handled twice."""
    with Service(three, partitions=3, librdkafka=librdkafka, group_name="moves") as service:
        three.set_coordinator("moves", 1)
        service.group.start()
        service.flow()
        for broker in (2, 3, 1):
            three.set_coordinator("moves", broker)
            service.flow(6)
    service.check()


def test_a_message_that_is_too_large(own_cluster: EmbeddedCluster) -> None:
    """The sender is told, by the client or by the broker's report; nothing else is held up by it."""
    with Service(own_cluster) as service:
        service.group.start()
        service.flow(1)
        with pytest.raises(MessageTooLargeError, match="larger than the limit"):
            service.producer.send_bytes(b"-" * 1_100_000)
        own_cluster.inject_errors("Produce", "MSG_SIZE_TOO_LARGE")
        reports: Collected[object] = Collected()
        service.producer.send_bytes(b"-1", on_delivery=lambda error, _message: reports.add(error))
        (error,) = reports.wait(1)
        assert isinstance(error, DeliveryError)
        assert error.name == "MSG_SIZE_TOO_LARGE"
        service.flow(2)
    service.check()


def test_a_message_that_is_larger_than_all_buffers_is_consumed(own_cluster: EmbeddedCluster) -> None:
    """A member reads ahead within its bounds, but one message always comes, whatever its size."""
    own_cluster.create_topic("large")
    sizes: Collected[int] = Collected()
    config = consumer_config(own_cluster, "large", max_buffered_bytes=1_000_000)
    with (
        Producer(producer_config(own_cluster, "large", max_message_bytes=4_000_000)) as producer,
        ConsumerGroup(config) as group,
    ):
        group.register_handler(lambda _worker, message: sizes.add(len(message.data or b"")))
        group.start()
        for size in (10, 3_000_000, 10):
            producer.send_bytes(b"-" * size, partition=0)
        assert sizes.wait(3) == [10, 3_000_000, 10]
    assert committed_offset(own_cluster, config.group_name, "large") == 3


@membership
def test_a_topic_that_is_deleted_under_a_consumer(
    own_cluster: EmbeddedCluster, librdkafka: dict[str, object]
) -> None:
    """The health check says so, nothing dies of it, and the group can be stopped."""
    service = Service(own_cluster, librdkafka=librdkafka)
    group = service.group

    def found() -> tuple[Status | None, str]:
        state = CheckState()
        group.checker(state)
        return state.status, state.message

    try:
        group.start()
        service.flow(2)
        eventually(lambda: committed_offset(own_cluster, group.group_name, service.topic), 2)
        # It would ask for its topic, and the embedded broker makes what producers ask for.
        service.producer.close(PATIENCE)
        own_cluster.delete_topic(service.topic)
        missing = f"topic {service.topic} not available in broker(s): {own_cluster.broker_addrs}"
        eventually(found, (Status.CRITICAL, missing.replace("'", "")))
        assert group.stuck_or_dead() == []
        assert group.stop_and_wait(PATIENCE)
    finally:
        service.close(timeout=PATIENCE)


def test_all_brokers_go_while_a_handler_is_at_work_and_come_back_before_it_ends(
    own_cluster: EmbeddedCluster,
) -> None:
    """The handler notices nothing, and its message is committed when it is done."""
    entered, finish = threading.Event(), threading.Event()
    own_cluster.create_topic("away")

    def handler(_worker: int, _message: Message) -> None:
        entered.set()
        assert finish.wait(PATIENCE)

    with (
        ConsumerGroup(consumer_config(own_cluster, "away")) as group,
        Producer(producer_config(own_cluster, "away")) as producer,
    ):
        group.register_handler(handler)
        group.start()
        producer.send_bytes(b"in hand")
        assert entered.wait(PATIENCE)
        own_cluster.broker_down(1)
        assert until(lambda: group.channels.errors.qsize() > 0)
        own_cluster.broker_up(1)
        finish.set()
        eventually(lambda: committed_offset(own_cluster, group.group_name, "away"), 1)
