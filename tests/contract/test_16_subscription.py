"""Contract 16: a consumer group that follows the health of what it depends on."""

from __future__ import annotations

import threading
import time
import uuid
from typing import Any

import pytest

from dp_kafka import ConsumerGroup, ConsumerGroupConfig, Message, State
from dp_kafka.health import BrokerCheck, CheckState, HealthCheck, Status
from dp_kafka.kafkatest import EmbeddedCluster
from tests.conftest import INCREMENTAL, PATIENCE, GroupFactory, SendFunction, TopicFactory
from tests.looking import eventually
from tests.sending import RECONNECT


@pytest.fixture
def group(topic: TopicFactory, consumer_group: GroupFactory) -> ConsumerGroup:
    return consumer_group(topic(), librdkafka=INCREMENTAL)


def test_16_1_ok_starts_and_warning_and_critical_stop(group: ConsumerGroup) -> None:
    """contract 16.1"""
    for stopping in (Status.WARNING, Status.CRITICAL):
        group.on_health_update(Status.OK)
        assert group.state_wait(State.CONSUMING, PATIENCE)
        group.on_health_update(stopping)
        assert group.state_wait(State.STOPPED, PATIENCE)


def test_16_1_the_texts_will_do(group: ConsumerGroup) -> None:
    """contract 16.1: a status is its text"""
    group.on_health_update("OK")
    assert group.state_wait(State.CONSUMING, PATIENCE)
    group.on_health_update("WARNING")
    assert group.state_wait(State.STOPPED, PATIENCE)


@pytest.mark.parametrize("other", ["", "ok", "UNKNOWN", None, 0, object()])
def test_16_1_anything_else_is_ignored(group: ConsumerGroup, other: Any) -> None:
    """contract 16.1"""
    entered = [group.channels.state.entries(state) for state in State]
    group.on_health_update(other)
    assert [group.channels.state.entries(state) for state in State] == entered
    assert group.state is State.STOPPED


def test_16_1_errors_are_logged_and_not_raised(
    group: ConsumerGroup, caplog: pytest.LogCaptureFixture
) -> None:
    """contract 16.1"""
    group.close()
    group.on_health_update(Status.OK)
    group.on_health_update(Status.WARNING)
    (record,) = [record for record in caplog.records if "health update not followed" in record.getMessage()]
    assert "closing" in record.getMessage()


@pytest.mark.parametrize(
    ("updates", "state"),
    [
        ([Status.OK, Status.WARNING, Status.OK], State.CONSUMING),
        ([Status.OK, Status.CRITICAL], State.STOPPED),
    ],
)
def test_16_1_before_it_is_initialised_the_last_status_decides(
    own_cluster: EmbeddedCluster, updates: list[Status], state: State
) -> None:
    """contract 16.1, 7.13"""
    own_cluster.create_topic("t")
    own_cluster.broker_down(1)
    config = ConsumerGroupConfig(
        own_cluster.broker_addrs, "t", "g", min_retry_period=0.05, max_retry_period=0.1, librdkafka=RECONNECT
    )
    with ConsumerGroup(config) as group:
        for status in updates:
            group.on_health_update(status)
        assert group.state is State.INITIALISING
        own_cluster.broker_up(1)
        assert group.state_wait(state, PATIENCE)


def test_16_2_several_checks_and_all_of_them_must_be_well(group: ConsumerGroup) -> None:
    """contract 16.2: several checks, one HealthCheck"""
    states: dict[str, CheckState] = {}

    def check(state: CheckState) -> None:
        states[state.name] = state
        state.update(Status.OK, "fine")

    with HealthCheck(interval=3600) as health:
        health.subscribe(group, health.add_check("a", check), health.add_check("b", check))
        assert group.state_wait(State.CONSUMING, PATIENCE)
        states["a"].update(Status.WARNING, "shaky")
        assert group.state_wait(State.STOPPED, PATIENCE)
        states["b"].update(Status.CRITICAL, "broken")
        states["a"].update(Status.OK, "fine again")
        states["b"].update(Status.OK, "fine again")
        assert group.state_wait(State.CONSUMING, PATIENCE)


def test_a_group_follows_its_own_brokers_down_and_up(own_cluster: EmbeddedCluster) -> None:
    """It stops when they go, and when they are back it starts and handles what was sent meanwhile."""
    own_cluster.create_topic("t")
    # The member that could not say that it left is waited for that long.
    own_cluster.set_consumer_session_timeout(1)
    config = ConsumerGroupConfig(own_cluster.broker_addrs, "t", "g", librdkafka={**INCREMENTAL, **RECONNECT})
    with ConsumerGroup(config, broker_check=BrokerCheck(config, timeout=0.5)) as group:
        group.register_handler(lambda worker_id, message: None)
        with HealthCheck(interval=0.05) as health:
            health.subscribe(group, health.add_check("kafka consumer", group.checker))
            assert group.state_wait(State.CONSUMING, PATIENCE)
            own_cluster.broker_down(1)
            assert group.state_wait(State.STOPPED, PATIENCE)
            assert health.status is Status.WARNING
            own_cluster.broker_up(1)
            assert group.state_wait(State.CONSUMING, PATIENCE)
            eventually(lambda: health.status, Status.OK)


def test_a_flapping_health_never_hangs_and_the_last_word_counts(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction
) -> None:
    """A7: WARNING, OK, WARNING in a row, while a handler is busy and messages wait for it."""
    name = topic()
    group = consumer_group(name, librdkafka=INCREMENTAL)
    entered, go_on = threading.Event(), threading.Event()

    def handler(worker_id: int, message: Message) -> None:
        entered.set()
        go_on.wait(2 * PATIENCE)

    group.register_handler(handler)
    group.on_health_update(Status.OK)
    send(name, *map(str, range(50)))
    assert entered.wait(PATIENCE)
    started = time.monotonic()
    for _ in range(20):
        for status in (Status.WARNING, Status.OK, Status.WARNING):
            group.on_health_update(status)
    assert time.monotonic() - started < PATIENCE / 2, "an update waits for no handler"
    assert group.state is State.STOPPING
    go_on.set()
    assert group.state_wait(State.STOPPED, PATIENCE)
    assert group.state is State.STOPPED

    group.on_health_update(Status.WARNING)
    group.on_health_update(Status.OK)
    assert group.state_wait(State.CONSUMING, PATIENCE)


def test_a_health_that_flaps_from_several_threads_ends_in_the_last_status(group: ConsumerGroup) -> None:
    def flap() -> None:
        for _ in range(50):
            for status in (Status.OK, Status.WARNING, Status.OK, Status.CRITICAL):
                group.on_health_update(status)

    threads = [threading.Thread(target=flap, name=f"test-{uuid.uuid4().hex[:4]}") for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert group.stop_and_wait(PATIENCE)
    group.on_health_update(Status.OK)
    assert group.state_wait(State.CONSUMING, PATIENCE)


def test_a_subscriber_may_close_the_group(group: ConsumerGroup) -> None:
    """On the thread that tells of the health; it waits for the end there."""
    closed = threading.Event()

    class Closer:
        def on_health_update(self, status: Status) -> None:
            group.close(timeout=PATIENCE)
            closed.set()

    with HealthCheck(interval=3600) as health:
        check = health.add_check("kafka consumer", group.checker)
        health.subscribe(group, check)
        health.subscribe(Closer(), check)
        assert closed.wait(PATIENCE)
    assert group.state is State.CLOSING
