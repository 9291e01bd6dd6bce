"""Defects A67 to A72, of the original's drain and admin: each test fails with the defect."""

from __future__ import annotations

import time
import uuid

import pytest

from dp_kafka import AdminConfig, ConfigError, KafkaClientError, SecurityConfig
from dp_kafka.admin import TopicAuth, TopicAuthList, new_admin
from dp_kafka.drain import DrainTopicConfig, DrainTopicInput, drain_topics
from dp_kafka.kafkatest import EmbeddedCluster
from tests.conftest import CommittedFunction, SendFunction, TopicFactory
from tests.sending import nobody
from tests.unreachable import silent_address
from tests.waiting import PATIENCE, Logged


def test_a67_a_drain_does_not_stop_after_the_first_batch(
    cluster: EmbeddedCluster, topic: TopicFactory, send: SendFunction, committed: CommittedFunction
) -> None:
    """A67: only `batch_size` messages were consumed, and the rest stayed."""
    name, group = topic(2), f"group-{uuid.uuid4().hex[:12]}"
    for partition in range(2):
        send(name, *map(str, range(1_000)), partition=partition)
    config = DrainTopicConfig(cluster.broker_addrs, batch_size=10, timeout=PATIENCE)
    (result,) = drain_topics(config, DrainTopicInput(name, group))
    assert (result.ok, result.count) == (True, 2_000)
    assert [committed(group, name, partition) for partition in range(2)] == [1_000, 1_000]


@pytest.mark.parametrize("kind", ["nobody", "silent"])
def test_a68_a_cluster_that_cannot_be_reached_does_not_hang_the_drain(kind: str, logged: Logged) -> None:
    """A68: it waited for a consuming consumer without limit, and the timeout was ignored."""
    with silent_address() as silent:
        config = DrainTopicConfig([silent if kind == "silent" else nobody()], timeout=0.5)
        started = time.monotonic()
        results = drain_topics(config, DrainTopicInput("a", "g"), DrainTopicInput("b", "g"))
        assert time.monotonic() - started < 6
    assert [result.ok for result in results] == [False, False]
    assert len(logged.of("topic not drained")) == 2, "and the error is not only logged"


def test_a69_a_slow_broker_is_waited_for_until_the_deadline(
    own_cluster: EmbeddedCluster, send: SendFunction
) -> None:
    """A69: the deadline was that of the first fetch, so a slow one ended with nothing drained."""
    own_cluster.create_topic("t")
    own_cluster.set_latency(0.4)
    config = DrainTopicConfig(own_cluster.broker_addrs, timeout=PATIENCE * 2)
    (result,) = drain_topics(config, DrainTopicInput("t", "g"))
    assert (result.ok, result.to_offsets) == (True, {0: 0}), result.error


def test_a70_no_input_is_a_clear_error_and_no_crash(cluster: EmbeddedCluster) -> None:
    """A70: a missing input crashed in the error log."""
    config = DrainTopicConfig(cluster.broker_addrs)
    with pytest.raises(ConfigError, match="takes DrainTopicInputs, but got NoneType"):
        drain_topics(config, None)  # type: ignore[arg-type]


def test_a71_tls_is_an_option_of_the_drain(cluster: EmbeddedCluster) -> None:
    """A71: there was no way to drain a topic of a cluster with TLS."""
    plain = DrainTopicConfig(cluster.broker_addrs, timeout=1)
    secured = DrainTopicConfig(cluster.broker_addrs, timeout=1, security=SecurityConfig())
    assert not drain_topics(secured, DrainTopicInput("t", "g"))[0].ok, "this broker speaks no TLS"
    assert drain_topics(plain, DrainTopicInput("t", "g"))[0].error is not None
    properties = secured.member("t", "g").security, secured.admin().security
    assert properties == (SecurityConfig(), SecurityConfig())


@pytest.mark.parametrize(("field", "wrong"), [("batch_size", 0), ("batch_size", -1), ("timeout", -1)])
def test_a71_sizes_and_times_are_checked(field: str, wrong: int) -> None:
    """A71: neither was, and a timeout below zero ended the drain before it began."""
    with pytest.raises(ConfigError) as caught:
        DrainTopicConfig(["localhost:9092"], **{field: wrong})  # type: ignore[arg-type]
    assert caught.value.field == field


def test_a71_no_message_is_logged(
    cluster: EmbeddedCluster, topic: TopicFactory, send: SendFunction, logged: Logged
) -> None:
    """A71: all messages were kept and logged."""
    name = topic()
    send(name, "the-payload", key="the-key")
    config = DrainTopicConfig(cluster.broker_addrs, timeout=PATIENCE)
    assert drain_topics(config, DrainTopicInput(name, "g"))[0].ok
    logged.wait("topic drained")
    assert "the-payload" not in logged.text
    assert "the-key" not in logged.text


def test_a72_the_brokers_of_a_list_are_used() -> None:
    """A72: they were never read, so a list with brokers still needed a client."""
    auth = TopicAuth("app", ["web"], "t", ["read"], ["*"])
    with pytest.raises(ConfigError) as caught:
        TopicAuthList("ons.example", [auth]).apply()
    assert caught.value.field == "brokers"
    address = nobody()
    with pytest.raises(KafkaClientError):
        TopicAuthList("ons.example", [auth], [address]).apply(config=AdminConfig(retry_max=0), timeout=0.5)


def test_a72_an_empty_list_is_an_error() -> None:
    """A72: no ACLs came of it, silently."""
    for field in ("subnets", "operations", "hosts"):
        lists = {"subnets": ["web"], "operations": ["read"], "hosts": ["*"], field: []}
        with pytest.raises(ConfigError) as caught:
            TopicAuth(app="app", topic="t", **lists)
        assert caught.value.field == field
    with pytest.raises(ConfigError) as caught:
        TopicAuthList("ons.example", [])
    assert caught.value.field == "acls"


def test_a72_where_nothing_can_be_created_nothing_is_begun(cluster: EmbeddedCluster) -> None:
    """A72: it stopped in the middle; what some refusals leave behind is told in tests/kafka."""
    auths = TopicAuthList("ons.example", [TopicAuth("app", ["web", "publishing"], "t", ["read"], ["*"])])
    with pytest.raises(KafkaClientError, match="_UNSUPPORTED_FEATURE"):
        auths.apply(new_admin(cluster.broker_addrs))
