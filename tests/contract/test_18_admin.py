"""Contract 18: the admin client, ACLs as bindings, topics, groups and lag; what needs no authorizer."""

from __future__ import annotations

import dataclasses
import gc
import time
import weakref
from typing import Any

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported without __all__
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from dp_kafka import AdminConfig, ConfigError, KafkaClientError, SecurityConfig, UnknownTopicError
from dp_kafka.admin import (
    Acls,
    GroupOffsets,
    LagReader,
    TopicAuth,
    TopicAuthList,
    commit_offsets,
    create_topic,
    describe_group,
    ends_of,
    get_acls,
    get_principal,
    list_topics,
    new_admin,
    starts_of,
    topic_info,
)
from dp_kafka.admin.client import Admin
from dp_kafka.kafkatest import EmbeddedCluster
from tests.conftest import SendFunction, TopicFactory
from tests.sending import nobody
from tests.waiting import PATIENCE

AUTH = TopicAuth(
    app="dp-import-api",
    subnets=["web", "publishing"],
    topic="content-published",
    operations=["read", AclOperation.WRITE],
    hosts=["*", "10.0.0.1"],
)


def test_18_1_a_mistake_shows_when_the_admin_is_made() -> None:
    """contract 18.1"""
    for wrong in ([], ["localhost"], "localhost:9092"):
        with pytest.raises(ConfigError) as caught:
            new_admin(wrong)
        assert caught.value.field == "broker_addrs"
    with pytest.raises(ConfigError, match="takes an AdminConfig"):
        new_admin(["localhost:9092"], {"retry_max": 1})  # type: ignore[arg-type]


def test_18_1_something_else_than_an_admin_client_is_a_clear_error() -> None:
    """contract 18.1: also where the client would only be used much later"""
    with pytest.raises(
        ConfigError, match="an admin client is needed, as new_admin\\(\\) makes it, but got str"
    ):
        list_topics("localhost:9092")  # type: ignore[arg-type]


def test_18_1_a_cluster_that_is_away_is_an_error_in_time() -> None:
    """contract 18.1: making the client does not connect; the first request says what is wrong"""
    admin = new_admin([nobody()], AdminConfig(retry_max=1))
    started = time.monotonic()
    with pytest.raises(KafkaClientError) as caught:
        list_topics(admin, timeout=0.5)
    assert caught.value.name in ("_TRANSPORT", "_TIMED_OUT")
    assert time.monotonic() - started < 5


def test_18_1_the_security_of_the_configuration_is_the_clients(cluster: EmbeddedCluster) -> None:
    """contract 18.1: TLS on a listener without it gets no answer, so it was TLS that was tried"""
    admin = new_admin(cluster.broker_addrs, AdminConfig(security=SecurityConfig(), retry_max=0))
    with pytest.raises(KafkaClientError):
        list_topics(admin, timeout=1.0)
    assert list_topics(new_admin(cluster.broker_addrs), timeout=PATIENCE) is not None


def test_18_3_subnets_times_operations_times_hosts_in_that_order() -> None:
    """contract 18.3"""
    bindings = get_acls(AUTH, "ons.example")
    assert [(each.principal, each.operation, each.host) for each in bindings] == [
        (f"User:CN=dp-import-api.{subnet}.ons.example", operation, host)
        for subnet in ("web", "publishing")
        for operation in (AclOperation.READ, AclOperation.WRITE)
        for host in ("*", "10.0.0.1")
    ]
    for each in bindings:
        assert (each.restype, each.name) == (ResourceType.TOPIC, "content-published")
        assert each.resource_pattern_type is ResourcePatternType.LITERAL
        assert each.permission_type is AclPermissionType.ALLOW


def test_18_4_the_principal() -> None:
    """contract 18.4"""
    assert get_principal("app", "web", "ons.example") == "User:CN=app.web.ons.example"


@pytest.mark.parametrize("field", ["subnets", "operations", "hosts"])
@pytest.mark.parametrize("wrong", [[], "web", None, ["", ""], [3]])
def test_18_2_an_access_that_makes_no_sense_is_refused(field: str, wrong: Any) -> None:
    """contract 18.2"""
    with pytest.raises(ConfigError) as caught:
        dataclasses.replace(AUTH, **{field: wrong})
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("field", "wrong"),
    [("app", ""), ("app", "a,O=other"), ("app", "a b"), ("topic", "no/topic"), ("operations", ["delete!"])],
)
def test_18_2_a_name_that_makes_no_sense_is_refused(field: str, wrong: Any) -> None:
    """contract 18.2"""
    with pytest.raises(ConfigError) as caught:
        dataclasses.replace(AUTH, **{field: wrong})
    assert caught.value.field == field


def test_18_2_a_list_has_each_binding_once() -> None:
    """contract 18.2: two accesses may overlap"""
    read = dataclasses.replace(AUTH, operations=["read"])
    both = TopicAuthList("ons.example", [AUTH, read])
    assert both.get_acls() == AUTH.get_acls("ons.example")
    assert isinstance(both.get_acls(), Acls)


def test_topics_are_listed_and_looked_up_and_none_is_created(own_cluster: EmbeddedCluster) -> None:
    own_cluster.create_topic("b", 3)
    own_cluster.create_topic("a")
    admin = new_admin(own_cluster.broker_addrs)
    assert [(each.name, len(each.partitions)) for each in list_topics(admin)] == [("a", 1), ("b", 3)]
    found = topic_info(admin, "b")
    assert [each.partition for each in found.partitions] == [0, 1, 2]
    assert (found.internal, found.replication_factor) == (False, 1)
    assert not any(each.under_replicated for each in found.partitions)
    with pytest.raises(UnknownTopicError, match="no topic 'c'"):
        topic_info(admin, "c")
    assert [each.name for each in list_topics(admin)] == ["a", "b"]


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("topic", "a b"),
        ("partitions", 0),
        ("replication_factor", 0),
        ("settings", {"retention.ms": 5}),
    ],
)
def test_a_topic_that_makes_no_sense_is_refused_before_anybody_is_asked(field: str, wrong: Any) -> None:
    admin = new_admin([nobody()])
    with pytest.raises(ConfigError) as caught:
        create_topic(admin, **{"topic": "t", **{field: wrong}})
    assert caught.value.field == field


def test_what_the_embedded_broker_cannot_do_is_an_error_that_says_so(cluster: EmbeddedCluster) -> None:
    admin = new_admin(cluster.broker_addrs)
    for request in (lambda: create_topic(admin, "new"), lambda: describe_group(admin, "g")):
        with pytest.raises(KafkaClientError, match="_UNSUPPORTED_FEATURE"):
            request()


def test_offsets_begin_and_end_where_the_messages_do(
    cluster: EmbeddedCluster, topic: TopicFactory, send: SendFunction
) -> None:
    name = topic(2)
    send(name, *"abc", partition=1)
    cluster.delete_records(name, 1, 2)
    admin = new_admin(cluster.broker_addrs)
    asked = [(name, 0), (name, 1)]
    assert starts_of(admin, asked) == {(name, 0): 0, (name, 1): 2}
    assert ends_of(admin, asked) == {(name, 0): 0, (name, 1): 3}
    assert ends_of(admin, []) == {}


@pytest.mark.parametrize("error", ["NOT_LEADER_FOR_PARTITION", "_TRANSPORT"])
def test_an_offset_is_asked_for_again_when_the_leader_moves_or_goes(
    own_cluster: EmbeddedCluster, error: str
) -> None:
    """For a broken connection librdkafka gives no error here, but the offset -1001."""
    own_cluster.create_topic("t")
    admin = new_admin(own_cluster.broker_addrs)
    own_cluster.inject_errors("ListOffsets", error)
    assert ends_of(admin, [("t", 0)], timeout=PATIENCE) == {("t", 0): 0}


def test_a_group_has_the_offsets_that_were_committed_for_it(
    cluster: EmbeddedCluster, topic: TopicFactory, send: SendFunction
) -> None:
    name = topic(3)
    send(name, *"abcde", partition=0)
    send(name, "a", partition=1)
    group = f"group-of-{name}"
    commit_offsets(new_admin(cluster.broker_addrs), group, {(name, 0): 3, (name, 2): 0})
    with GroupOffsets(cluster.broker_addrs, group) as offsets:
        assert offsets.committed([(name, each) for each in range(3)]) == {(name, 0): 3, (name, 2): 0}
    with LagReader(cluster.broker_addrs, group, [name]) as reader:
        found = reader.read()
        assert [each.committed for each in found] == [3, None, 0]
        assert [each.lag for each in found] == [2, 1, 0]
        send(name, "f", partition=0)
        assert [each.lag for each in reader.read()] == [3, 1, 0]
    with LagReader(cluster.broker_addrs, group) as reader:
        assert [each.partition for each in reader.read()] == [0, 2], "those with a commit, of all topics"


def test_a_group_that_lost_messages_to_retention_is_not_behind_by_them(
    cluster: EmbeddedCluster, topic: TopicFactory, send: SendFunction
) -> None:
    name = topic()
    send(name, *"abcde")
    cluster.delete_records(name, 0, 4)
    commit_offsets(new_admin(cluster.broker_addrs), "behind", {(name, 0): 1})
    with LagReader(cluster.broker_addrs, "behind", [name]) as reader:
        assert [each.lag for each in reader.read()] == [1]


@pytest.mark.parametrize("error", ["NOT_COORDINATOR", "COORDINATOR_NOT_AVAILABLE", "_TRANSPORT"])
@pytest.mark.parametrize("request_name", ["OffsetCommit", "OffsetFetch"])
def test_committed_offsets_survive_a_coordinator_that_moves(
    own_cluster: EmbeddedCluster, request_name: str, error: str
) -> None:
    """The admin client's own request for them ends the process with a segmentation fault."""
    own_cluster.create_topic("t")
    own_cluster.inject_errors(request_name, error)
    commit_offsets(new_admin(own_cluster.broker_addrs), "g", {("t", 0): 0})
    with GroupOffsets(own_cluster.broker_addrs, "g") as offsets:
        assert offsets.committed([("t", 0)]) == {("t", 0): 0}


def test_a_coordinator_whose_connection_broke_is_asked_again_at_once(own_cluster: EmbeddedCluster) -> None:
    """A client that had found it would wait until time is up, one time in eight, or abort the process."""
    own_cluster.create_topic("t")
    for offset in range(60):
        own_cluster.inject_errors("OffsetCommit", "_TRANSPORT")
        admin = new_admin(own_cluster.broker_addrs, AdminConfig(retry_backoff=0.02))
        commit_offsets(admin, "g", {("t", 0): offset}, timeout=PATIENCE)
    with GroupOffsets(own_cluster.broker_addrs, "g") as offsets:
        assert offsets.committed([("t", 0)]) == {("t", 0): 59}


def test_an_admin_client_ends_with_its_last_reference(own_cluster: EmbeddedCluster) -> None:
    """There is no close(): one that waited for the garbage collector kept its threads and connections."""
    own_cluster.create_topic("t")

    def alive() -> int:
        return sum(isinstance(each, Admin) for each in gc.get_objects())

    gc.collect()
    before = alive()
    gc.disable()
    try:
        admin = new_admin(own_cluster.broker_addrs, AdminConfig(retry_max=1, retry_backoff=0.02))
        list_topics(admin, timeout=PATIENCE)
        own_cluster.inject_errors("ListOffsets", *["NOT_LEADER_FOR_PARTITION"] * 2)
        with pytest.raises(KafkaClientError):
            ends_of(admin, [("t", 0)], timeout=PATIENCE)
        own_cluster.inject_errors("OffsetCommit", "NOT_COORDINATOR", "GROUP_AUTHORIZATION_FAILED")
        with pytest.raises(KafkaClientError):
            commit_offsets(admin, "g", {("t", 0): 0}, timeout=PATIENCE)
        ended = weakref.ref(admin)
        del admin
        assert ended() is None
        assert alive() == before, "those for one request"
    finally:
        gc.enable()


def test_a_group_that_one_may_not_read_is_a_permanent_error(own_cluster: EmbeddedCluster) -> None:
    own_cluster.create_topic("t")
    own_cluster.inject_errors("OffsetFetch", "GROUP_AUTHORIZATION_FAILED")
    with LagReader(own_cluster.broker_addrs, "g", ["t"]) as reader:
        with pytest.raises(KafkaClientError, match="GROUP_AUTHORIZATION_FAILED") as caught:
            reader.read(timeout=PATIENCE)
        assert caught.value.permanent
    with (
        LagReader(own_cluster.broker_addrs, "g", ["missing"]) as reader,
        pytest.raises(UnknownTopicError, match="'missing'"),
    ):
        reader.read(timeout=PATIENCE)
