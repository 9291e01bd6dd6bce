"""Defects A59 to A62 (and A26, A80 where they are about health): each test fails with the defect."""

from __future__ import annotations

import contextlib
import threading
import time

import confluent_kafka
import pytest

from dp_kafka import ConsumerGroup, ConsumerGroupConfig, Producer, ProducerConfig
from dp_kafka.errors import ConfigError
from dp_kafka.health import BrokerCheck, CheckState, Status
from dp_kafka.health.lookup import Found
from dp_kafka.health.probe import Answer
from dp_kafka.kafkatest import EmbeddedCluster
from tests.conftest import PATIENCE
from tests.unreachable import dead_address, silent_address


def topics_of(cluster: EmbeddedCluster) -> set[str]:
    """All topics, asked for in a way that creates none."""
    client = confluent_kafka.Consumer(
        {"bootstrap.servers": cluster.bootstrap_servers, "group.id": "looks-only"}
    )
    try:
        return set(client.list_topics(timeout=PATIENCE).topics)
    finally:
        client.close()


class Counting:
    """A lookup that finds the topic, and counts."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, timeout: float) -> Found:
        self.times += 1
        return Found(True)

    def close(self) -> None:
        """Nothing to let go."""


def test_a59_one_broker_away_is_ok_by_the_threshold_and_checking_initialises_nothing(
    own_cluster: EmbeddedCluster,
) -> None:
    """A59: the original's description has rules that its code does not follow, one way or the other."""
    own_cluster.create_topic("t")
    (address,) = own_cluster.broker_addrs
    state = CheckState()
    with dead_address() as dead:
        check = BrokerCheck(ConsumerGroupConfig([address, dead], "t", "g"))
        check(state)
        assert state.status is Status.OK
        BrokerCheck(ConsumerGroupConfig([address, dead], "missing", "g"))(state)
        assert state.status is Status.CRITICAL

        own_cluster.broker_down(1)
        # The retries are far away: whatever initialised it now would be the check.
        config = ProducerConfig([address], "t", min_retry_period=600, max_retry_period=600)
        with Producer(config) as producer:
            assert not producer.is_initialised
            own_cluster.broker_up(1)
            producer.checker(state)
            assert (state.status, state.message) == (Status.WARNING, "kafka producer is not initialised")
            assert not producer.is_initialised


def test_a60_brokers_that_do_not_answer_are_waited_for_all_at_once_and_within_the_deadline() -> None:
    """A60: one after another, with two tries each, dead brokers hold the checker for minutes."""
    with contextlib.ExitStack() as stack:
        addresses = [stack.enter_context(silent_address()) for _ in range(8)]
        check = BrokerCheck(ProducerConfig(addresses, "t"), timeout=1.0)
        state = CheckState()
        started = time.monotonic()
        check(state)
        took = time.monotonic() - started
    assert (state.status, state.message) == (
        Status.CRITICAL,
        f"broker(s) not reachable at: [{' '.join(addresses)}]",
    )
    assert took < 4, "eight of them, one after another, take 8 seconds"


def test_a61_a_broker_that_was_away_is_healthy_in_the_next_check(own_cluster: EmbeddedCluster) -> None:
    """A61: an error of an old connection was reported although there was a new one."""
    own_cluster.create_topic("t")
    check = BrokerCheck(ConsumerGroupConfig(own_cluster.broker_addrs, "t", "g"))
    state = CheckState()
    for _ in range(3):
        check(state)
        assert (state.status, state.message) == (Status.OK, "kafka consumer group is healthy")
        own_cluster.broker_down(1)
        check(state)
        assert state.status is Status.CRITICAL
        own_cluster.broker_up(1)
    check.close()


def test_a61_the_topic_is_not_asked_for_where_nobody_answers() -> None:
    """A61: metadata was requested on a connection that could not be opened."""
    lookup = Counting()
    with dead_address() as dead:
        BrokerCheck(ProducerConfig([dead], "t"), lookup=lookup)(CheckState())
    assert lookup.times == 0


def test_a62_addresses_are_named_in_the_configured_order() -> None:
    """A62: in an order that changes from check to check."""
    with contextlib.ExitStack() as stack:
        addresses = [stack.enter_context(dead_address()) for _ in range(10)]
        for order in (addresses, addresses[::-1]):
            check = BrokerCheck(ProducerConfig(order, "t"))
            for _ in range(5):
                state = CheckState()
                check(state)
                assert state.message == f"broker(s) not reachable at: [{' '.join(order)}]"


def test_a62_an_address_counts_once() -> None:
    """A62: given twice it counted as two brokers, enough for a threshold of two."""
    for make in (ProducerConfig, lambda *args: ConsumerGroupConfig(*args, "g")):
        with pytest.raises(ConfigError, match="twice"):
            make(["localhost:9092", "LOCALHOST:9092"], "t")


def test_a62_no_state_is_a_clear_error_also_before_the_initialisation() -> None:
    """A62: a crash, if the client was not initialised."""
    with (
        dead_address() as dead,
        Producer(ProducerConfig([dead], "t")) as producer,
        ConsumerGroup(ConsumerGroupConfig([dead], "t", "g")) as group,
    ):
        for client in (producer, group):
            with pytest.raises(TypeError, match="state must not be None"):
                client.checker(None)  # type: ignore[arg-type]


def test_a62_a_check_does_not_create_the_topic(own_cluster: EmbeddedCluster) -> None:
    """A62: it asked for the topic in a way that creates it, where brokers create topics by themselves."""
    own_cluster.create_topic("another")
    state = CheckState()
    with Producer(ProducerConfig(own_cluster.broker_addrs, "wanted")) as producer:
        producer.checker(state)
        assert state.status is Status.CRITICAL
    with ConsumerGroup(ConsumerGroupConfig(own_cluster.broker_addrs, "wanted", "g")) as group:
        group.checker(state)
        assert state.status is Status.CRITICAL
    assert topics_of(own_cluster) == {"another"}
    # These brokers do create a topic for who asks like that.
    other = confluent_kafka.Producer({"bootstrap.servers": own_cluster.bootstrap_servers})
    other.list_topics("wanted", timeout=PATIENCE)
    assert topics_of(own_cluster) == {"another", "wanted"}


def test_a26_a_check_opens_nothing_again_after_close(own_cluster: EmbeddedCluster) -> None:
    """A26: a closed client counted as initialised, so that its check connected again, and could say OK."""
    own_cluster.create_topic("t")
    state = CheckState()
    producer = Producer(ProducerConfig(own_cluster.broker_addrs, "t"))
    group = ConsumerGroup(ConsumerGroupConfig(own_cluster.broker_addrs, "t", "g"))
    for client in (producer, group):
        client.checker(state)
        assert state.status is Status.OK
        client.close()
    own_cluster.track_requests()
    for client in (producer, group):
        client.checker(state)
        assert state.status is Status.CRITICAL
        assert state.message.endswith("is closed")
    assert own_cluster.requests() == []


def test_a80_a_check_says_ok_on_brokers_that_are_not_there_if_the_test_says_so() -> None:
    """A80: the original's test kit has no partitions in its metadata, so its checkers are always CRITICAL."""
    config = ProducerConfig(["fake:1", "fake:2"], "t")
    state = CheckState()
    BrokerCheck(config, probe=lambda address, until: Answer(), lookup=Counting())(state)
    assert (state.status, state.message) == (Status.OK, "kafka producer is healthy")


def test_a_hanging_check_leaves_no_thread_behind_it() -> None:
    """As for A60: what a check has begun ends with its deadline."""
    with silent_address() as silent:
        BrokerCheck(ProducerConfig([silent], "t"), timeout=0.2)(CheckState())
        for thread in threading.enumerate():
            if thread.name.startswith("dp-kafka:probe:"):
                thread.join(PATIENCE)
                assert not thread.is_alive()
