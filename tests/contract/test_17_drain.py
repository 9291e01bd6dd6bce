"""Contract 17: draining topics, on the embedded broker; see also tests/kafka/test_apache_drain.py."""

from __future__ import annotations

import dataclasses
import threading
import time
import uuid
from typing import Any

import pytest

from dp_kafka import ConfigError, KafkaClientError, SecurityConfig, State, UnknownTopicError
from dp_kafka.drain import DrainError, DrainProgress, DrainTopicConfig, DrainTopicInput, drain_topics
from dp_kafka.kafkatest import EmbeddedCluster
from tests.conftest import INCREMENTAL, CommittedFunction, GroupFactory, SendFunction, TopicFactory
from tests.sending import nobody
from tests.unreachable import silent_address
from tests.waiting import PATIENCE, Collected, Logged, fields


@pytest.fixture
def config(cluster: EmbeddedCluster) -> DrainTopicConfig:
    return DrainTopicConfig(cluster.broker_addrs, timeout=PATIENCE * 2)


def group_name() -> str:
    return f"group-{uuid.uuid4().hex[:12]}"


def test_17_2_everything_that_is_there_is_committed_as_consumed(
    config: DrainTopicConfig, topic: TopicFactory, send: SendFunction, committed: CommittedFunction
) -> None:
    """contract 17.2"""
    name, group = topic(3), group_name()
    for partition, count in enumerate((50, 0, 7)):
        send(name, *map(str, range(count)), partition=partition)
    (result,) = drain_topics(config, DrainTopicInput(name, group))
    assert result.ok, result.error
    assert (result.topic, result.group_name, result.count) == (name, group, 57)
    assert result.from_offsets == {0: 0, 1: 0, 2: 0}
    assert result.to_offsets == {0: 50, 1: 0, 2: 7}
    assert 0 < result.seconds < PATIENCE
    assert [committed(group, name, partition) for partition in range(3)] == [50, 0, 7]


def test_17_2_it_goes_on_from_where_the_group_stands(
    config: DrainTopicConfig, topic: TopicFactory, send: SendFunction
) -> None:
    name, group = topic(), group_name()
    send(name, *"abc")
    drain_topics(config, DrainTopicInput(name, group))
    send(name, *"defg")
    (result,) = drain_topics(config, DrainTopicInput(name, group))
    assert (result.count, result.from_offsets, result.to_offsets) == (4, {0: 3}, {0: 7})
    (nothing,) = drain_topics(config, DrainTopicInput(name, group))
    assert (nothing.ok, nothing.count) == (True, 0)


def test_17_2_what_retention_has_removed_is_not_counted(
    cluster: EmbeddedCluster, config: DrainTopicConfig, topic: TopicFactory, send: SendFunction
) -> None:
    name = topic()
    send(name, *"abcde")
    cluster.delete_records(name, 0, 2)
    (result,) = drain_topics(config, DrainTopicInput(name, group_name()))
    assert (result.count, result.from_offsets, result.to_offsets) == (3, {0: 2}, {0: 5})


@pytest.mark.early
@pytest.mark.timeout(240)
def test_17_2_a_service_finds_only_what_came_after_the_drain(
    config: DrainTopicConfig, topic: TopicFactory, send: SendFunction, consumer_group: GroupFactory
) -> None:
    """contract 17.2: also for the group of a service that has run before, and is stopped for the drain"""
    name, group = topic(2), group_name()
    handled: Collected[bytes] = Collected()
    with consumer_group(name, group_name=group) as before:
        before.register_handler(lambda worker_id, message: handled.add(message.data))
        before.start()
        send(name, "handled")
        handled.wait(1)
    send(name, *map(str, range(100)), partition=0)
    send(name, *map(str, range(100)), partition=1)
    (result,) = drain_topics(dataclasses.replace(config, timeout=90), DrainTopicInput(name, group))
    assert (result.ok, result.count) == (True, 200), result.error
    send(name, "after", partition=1)
    again = consumer_group(name, group_name=group)
    again.register_handler(lambda worker_id, message: handled.add(message.data))
    again.start()
    assert handled.wait(2, 60) == [b"handled", b"after"]


def test_17_2_topics_are_drained_in_parallel_and_one_that_fails_holds_up_no_other(
    config: DrainTopicConfig, topic: TopicFactory, send: SendFunction, logged: Logged
) -> None:
    """contract 17.2: each on a thread of its own; the error is logged with topic and group"""
    names = [topic() for _ in range(20)]
    group = group_name()
    for name in names:
        send(name, *"abc")
    inputs = [DrainTopicInput(name, group) for name in names]
    inputs.insert(7, DrainTopicInput("missing", group))
    seen: set[str] = set()

    def progress(_: DrainProgress) -> None:
        seen.update(thread.name for thread in threading.enumerate())

    results = drain_topics(config, *inputs, progress=progress)
    assert [result.topic for result in results] == [each.topic for each in inputs]
    assert [result.count for result in results] == [3] * 7 + [0] + [3] * 13
    assert [result.ok for result in results] == [True] * 7 + [False] + [True] * 13
    assert isinstance(results[7].error, UnknownTopicError)
    assert fields(logged.wait("topic not drained"))["group"] == group
    assert fields(logged.wait("topic not drained"))["topic"] == "missing"
    assert sum(name.startswith("dp-kafka:drain:") for name in seen) > 1


def test_17_2_without_topics_there_are_no_results(config: DrainTopicConfig) -> None:
    assert drain_topics(config) == []


def test_17_3_the_input_is_checked_before_anything_happens(config: DrainTopicConfig) -> None:
    """contract 17.3"""
    fine = DrainTopicInput("t", "g")
    for wrong in ([None], [fine, "t"], [fine, DrainTopicInput("t", "g")]):
        with pytest.raises(ConfigError) as caught:
            drain_topics(config, *wrong)  # type: ignore[arg-type]
        assert caught.value.field == "inputs"
    with pytest.raises(ConfigError, match="takes a DrainTopicConfig"):
        drain_topics(None, fine)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("broker_addrs", []),
        ("timeout", 0),
        ("timeout", "5s"),
        ("batch_size", 0),
        ("kafka_version", "new"),
        ("live_members", 1),
        ("security", "TLS"),
        ("librdkafka", []),
        ("librdkafka", {"enable.auto.commit": True}),
    ],
)
def test_17_1_the_configuration_is_checked_when_it_is_made(field: str, wrong: Any) -> None:
    """contract 17.1"""
    fine = DrainTopicConfig(["localhost:9092"])
    with pytest.raises(ConfigError) as caught:
        dataclasses.replace(fine, **{field: wrong})
    assert caught.value.field == field


def test_17_1_the_configuration_reaches_the_clients() -> None:
    """contract 17.1"""
    security = SecurityConfig(insecure_skip_verify=True)
    raw = {"group.protocol": "consumer", "socket.keepalive.enable": True}
    config = DrainTopicConfig(["b:1"], kafka_version="3.9.0", security=security, librdkafka=raw)
    assert config.admin().security == config.member("t", "g").security == security
    assert config.admin().librdkafka == {"socket.keepalive.enable": True}
    assert config.member("t", "g").librdkafka == raw


def test_the_progress_goes_up_to_the_total_and_is_told_on_the_callers_thread(
    config: DrainTopicConfig, topic: TopicFactory, send: SendFunction
) -> None:
    name = topic(250)
    for partition in range(0, 250, 50):
        send(name, "a", "b", partition=partition)
    told: list[DrainProgress] = []
    threads: set[int] = set()

    def progress(now: DrainProgress) -> None:
        told.append(now)
        threads.add(threading.get_ident())

    (result,) = drain_topics(config, DrainTopicInput(name, group_name()), progress=progress)
    assert result.count == 10
    assert threads == {threading.get_ident()}
    assert [each.done for each in told] == sorted(each.done for each in told)
    assert [(each.done, each.total) for each in (told[0], told[-1])] == [(0, 10), (10, 10)]
    assert len(told) > 2, "a large topic is not done in one step"


def test_an_error_of_the_progress_function_ends_the_drain_and_is_raised(
    config: DrainTopicConfig, topic: TopicFactory
) -> None:
    name = topic()

    def progress(_: DrainProgress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drain_topics(config, DrainTopicInput(name, group_name()), progress=progress)


def test_a_group_with_live_members_is_refused_and_keeps_its_offsets(
    config: DrainTopicConfig,
    topic: TopicFactory,
    send: SendFunction,
    consumer_group: GroupFactory,
    committed: CommittedFunction,
) -> None:
    """The embedded broker does not tell who is in a group; the drain finds out when it joins."""
    name = topic(2)
    live = consumer_group(name, librdkafka=INCREMENTAL)
    entered, go_on = threading.Event(), threading.Event()
    live.register_handler(lambda worker_id, message: entered.set() or go_on.wait(PATIENCE * 5))
    live.start()
    assert live.state_wait(State.CONSUMING, PATIENCE)
    for partition in range(2):
        send(name, *"abc", partition=partition)
    assert entered.wait(PATIENCE)
    # By KIP-848: in a classic group the embedded broker throws out who is held up for a second.
    incremental = dataclasses.replace(config, librdkafka=INCREMENTAL)
    (result,) = drain_topics(incremental, DrainTopicInput(name, live.group_name))
    stands = [committed(live.group_name, name, partition) for partition in range(2)]
    go_on.set()
    assert isinstance(result.error, DrainError)
    assert "live members" in str(result.error)
    assert "live_members=True" in str(result.error)
    assert result.count == 0
    assert [offset or 0 for offset in stands] == [0, 0]


def test_17_5_a_cluster_that_is_away_ends_it_at_the_deadline() -> None:
    """contract 17.5, changed: the original waits for it without limit, and then for one batch."""
    config = DrainTopicConfig([nobody()], timeout=0.5)
    started = time.monotonic()
    (result,) = drain_topics(config, DrainTopicInput("t", "g"))
    assert time.monotonic() - started < 5
    assert isinstance(result.error, (DrainError, KafkaClientError))
    assert (result.count, result.from_offsets) == (0, {})


def test_a_drain_can_be_ended_from_its_progress_while_another_topic_waits(
    cluster: EmbeddedCluster, topic: TopicFactory
) -> None:
    """Ctrl-C raises in the calling thread; the thread of a topic that waits for the cluster ends as well."""
    with silent_address() as silent:
        config = DrainTopicConfig([*cluster.broker_addrs, silent], timeout=60)
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            drain_topics(config, *(DrainTopicInput(topic(), "g") for _ in range(3)), progress=_interrupt)
    assert time.monotonic() - started < 20


def _interrupt(_: DrainProgress) -> None:
    raise KeyboardInterrupt
