"""Administration of Apache Kafka: ACLs with an authorizer, topics, groups."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from confluent_kafka.admin import AclOperation  # type: ignore[attr-defined]  # re-exported without __all__

from dp_kafka import (
    AdminConfig,
    ConsumerGroup,
    ConsumerGroupConfig,
    KafkaClientError,
    Producer,
    ProducerConfig,
    SecurityConfig,
    State,
)
from dp_kafka.admin import (
    Admin,
    TopicAuth,
    TopicAuthList,
    apply,
    commit_offsets,
    compare,
    create_topic,
    describe_group,
    new_admin,
    topic_info,
    topic_settings,
)
from dp_kafka.errors import AclError, DeliveryError
from tests.faults.service import until
from tests.waiting import PATIENCE, Collected

from .apache import ApacheKafka, ExternalKafka
from .apache.certs import KeyPair
from .conftest import TopicFactory, known_everywhere

DOMAIN = "example.org"


def shown(kafka: ApacheKafka, pair: KeyPair) -> SecurityConfig:
    """TLS with a certificate of the cluster's authority."""
    return SecurityConfig(
        root_ca_certs=kafka.certificates.authority.certificate,
        client_cert=pair.certificate,
        client_key=pair.key,
    )


def admin_of(kafka: ApacheKafka, pair: KeyPair) -> Admin:
    return new_admin(kafka.mutual_tls_addrs, AdminConfig(security=shown(kafka, pair)))


@pytest.fixture
def super_admin(secured_kafka: ApacheKafka) -> Admin:
    return admin_of(secured_kafka, secured_kafka.certificates.admin)


@pytest.fixture
def guarded(secured_kafka: ApacheKafka) -> str:
    """A topic that nobody may touch yet."""
    name = f"guarded-{uuid.uuid4().hex[:8]}"
    secured_kafka.create_topic(name)
    return name


def delivery(kafka: ApacheKafka, topic: str, pair: KeyPair) -> str:
    """Send one message with a certificate; the name of the error, or nothing."""
    outcomes: Collected[str] = Collected()
    config = ProducerConfig(
        kafka.mutual_tls_addrs,
        topic,
        min_brokers_healthy=1,
        security=shown(kafka, pair),
        # Idempotence would need a right of its own while there is no right to write anywhere.
        librdkafka={"enable.idempotence": False},
    )
    with Producer(config) as producer:
        assert producer.channels.initialised.wait(PATIENCE)
        try:
            producer.send_bytes(b"x", on_delivery=lambda error, _: outcomes.add(getattr(error, "name", "")))
        except DeliveryError as error:
            # librdkafka knows the topic's refusal already, and does not take the message at all.
            return error.name
        return outcomes.wait(1)[0]


def test_applied_acls_are_on_the_cluster_once_and_take_effect(
    secured_kafka: ApacheKafka, super_admin: Admin, guarded: str
) -> None:
    """Contract 18.5: each binding has a result; applying again changes nothing."""
    web = secured_kafka.certificates.issue(f"importer.web.{DOMAIN}")
    assert delivery(secured_kafka, guarded, web) == "TOPIC_AUTHORIZATION_FAILED"

    wanted = TopicAuthList(DOMAIN, [TopicAuth("importer", ["web", "publishing"], guarded, ["write"], ["*"])])
    assert len(compare(wanted, super_admin).missing) == 2
    results = wanted.apply(super_admin)
    assert [(each.ok, each.created, each.binding) for each in results] == [
        (True, True, binding) for binding in wanted.get_acls()
    ]
    after = compare(wanted, super_admin)
    assert (after.missing, after.extra) == ([], [])
    assert after.present == wanted.get_acls()

    again = apply(wanted, super_admin)
    assert [(each.ok, each.created) for each in again] == [(True, False)] * 2
    assert compare(wanted, super_admin) == after

    # The controller has them; the broker hears of it a moment later.
    assert until(lambda: delivery(secured_kafka, guarded, web) == "")
    elsewhere = secured_kafka.certificates.issue(f"importer.elsewhere.{DOMAIN}")
    assert delivery(secured_kafka, guarded, elsewhere) == "TOPIC_AUTHORIZATION_FAILED"


def test_only_what_is_missing_is_created_and_what_is_not_wanted_is_told(
    super_admin: Admin, guarded: str
) -> None:
    before = TopicAuthList(DOMAIN, [TopicAuth("app", ["web"], guarded, ["read", "describe"], ["*"])])
    before.apply(super_admin)
    wanted = TopicAuthList(DOMAIN, [TopicAuth("app", ["web"], guarded, ["read", "write"], ["*"])])
    difference = compare(wanted, super_admin)
    assert [each.operation for each in difference.missing] == [AclOperation.WRITE]
    assert [each.operation for each in difference.present] == [AclOperation.READ]
    assert [each.operation for each in difference.extra] == [AclOperation.DESCRIBE]
    results = wanted.apply(super_admin)
    assert [(each.binding.operation, each.created) for each in results] == [
        (AclOperation.READ, False),
        (AclOperation.WRITE, True),
    ]
    left = compare(wanted, super_admin)
    assert [each.operation for each in left.extra] == [AclOperation.DESCRIBE], "nothing is ever taken away"


def test_who_may_not_alter_acls_gets_an_error_and_nothing_is_created(
    secured_kafka: ApacheKafka, super_admin: Admin, guarded: str
) -> None:
    nobody = admin_of(secured_kafka, secured_kafka.certificates.client)
    wanted = TopicAuthList(DOMAIN, [TopicAuth("app", ["web"], guarded, ["read"], ["*"])])
    with pytest.raises(KafkaClientError, match="CLUSTER_AUTHORIZATION_FAILED") as caught:
        wanted.apply(nobody)
    assert caught.value.permanent
    assert len(compare(wanted, super_admin).missing) == 1


def test_a72_who_may_look_but_not_alter_gets_a_result_for_each_binding(
    secured_kafka: ApacheKafka, super_admin: Admin, guarded: str
) -> None:
    """A72: nobody knew what was created. An auditor may describe only: each binding has its result.

    Contract 18.5, changed: the original stops at the first failure.
    """
    auditor = secured_kafka.certificates.issue(f"auditor-{uuid.uuid4().hex[:8]}")
    _may_describe_the_cluster(secured_kafka, auditor)
    TopicAuthList(DOMAIN, [TopicAuth("app", ["web"], guarded, ["read"], ["*"])]).apply(super_admin)
    wanted = TopicAuthList(DOMAIN, [TopicAuth("app", ["web"], guarded, ["read", "write"], ["*"])])
    admin = admin_of(secured_kafka, auditor)
    assert until(lambda: _may_see(wanted, admin)), "the broker hears of the auditor a moment later"
    with pytest.raises(AclError, match="cluster-admin ACLs: 1 of 2 were not created") as caught:
        wanted.apply(admin)
    there, refused = caught.value.results
    assert (there.ok, there.created) == (True, False)
    assert not refused.ok
    assert refused.error.name == "CLUSTER_AUTHORIZATION_FAILED"
    assert "Request(" not in str(refused.error), "not the whole request, as the controller shows it"


def _may_see(wanted: TopicAuthList, admin: Admin) -> bool:
    try:
        compare(wanted, admin)
    except KafkaClientError as error:
        return error.name != "CLUSTER_AUTHORIZATION_FAILED"
    return True


def _may_describe_the_cluster(kafka: ApacheKafka, pair: KeyPair) -> None:
    from confluent_kafka.admin import (  # type: ignore[attr-defined]
        AclBinding,
        AclPermissionType,
        ResourcePatternType,
        ResourceType,
    )

    binding = AclBinding(
        ResourceType.BROKER,
        "kafka-cluster",
        ResourcePatternType.LITERAL,
        pair.principal,
        "*",
        AclOperation.DESCRIBE,
        AclPermissionType.ALLOW,
    )
    admin = kafka.admin()  # kept, as its requests end with it
    for future in admin.create_acls([binding]).values():
        future.result(PATIENCE)


def test_a_wrong_certificate_is_named(secured_kafka: ApacheKafka) -> None:
    security = SecurityConfig(root_ca_certs=secured_kafka.certificates.other_authority.certificate)
    admin = new_admin(secured_kafka.tls_addrs, AdminConfig(security=security))
    with pytest.raises(KafkaClientError, match="_SSL") as caught:
        topic_info(admin, "t", timeout=5)
    assert caught.value.permanent


def test_a_topic_is_created_once_with_its_settings(apache_kafka: ApacheKafka | ExternalKafka) -> None:
    admin = new_admin(apache_kafka.broker_addrs)
    name = f"created-{uuid.uuid4().hex[:8]}"
    settings = {"retention.ms": "3600000"}
    assert create_topic(admin, name, partitions=3, settings=settings, validate_only=True)
    assert create_topic(admin, name, partitions=3, settings=settings)
    assert not create_topic(admin, name, partitions=5)
    assert until(lambda: known_everywhere(apache_kafka.broker_addrs, name))
    assert len(topic_info(admin, name).partitions) == 3
    found = {each.name: each for each in topic_settings(admin, name)}
    assert (found["retention.ms"].value, found["retention.ms"].default) == ("3600000", False)
    assert found["cleanup.policy"].default


def test_a_topic_that_the_cluster_refuses_is_an_error(apache_kafka: ApacheKafka | ExternalKafka) -> None:
    admin = new_admin(apache_kafka.broker_addrs)
    with pytest.raises(KafkaClientError, match="INVALID_REPLICATION_FACTOR"):
        create_topic(admin, f"refused-{uuid.uuid4().hex[:8]}", replication_factor=100)
    with pytest.raises(KafkaClientError, match="INVALID_CONFIG"):
        create_topic(admin, f"refused-{uuid.uuid4().hex[:8]}", settings={"no.such.setting": "1"})


@pytest.fixture(params=["classic", "consumer"])
def live_group(
    request: pytest.FixtureRequest,
    apache_kafka: ApacheKafka | ExternalKafka,
    kafka_topic: TopicFactory,
) -> Iterator[ConsumerGroup]:
    name = kafka_topic(2)
    config = ConsumerGroupConfig(
        list(apache_kafka.broker_addrs),
        name,
        f"group-of-{name}",
        librdkafka={"group.protocol": request.param},
    )
    with ConsumerGroup(config) as group:
        group.register_handler(lambda worker_id, message: None)
        group.start()
        assert group.state_wait(State.CONSUMING, 60)
        yield group


def test_a_group_is_described_with_its_members(
    apache_kafka: ApacheKafka | ExternalKafka, live_group: ConsumerGroup
) -> None:
    admin = new_admin(apache_kafka.broker_addrs)
    found = describe_group(admin, live_group.group_name)
    assert found.state == "stable"
    (member,) = found.members
    assert member.client_id == "dp-kafka"
    assert sorted(member.partitions) == [(live_group.topic, 0), (live_group.topic, 1)]
    with pytest.raises(KafkaClientError, match="UNKNOWN_MEMBER_ID"):
        commit_offsets(admin, live_group.group_name, {(live_group.topic, 0): 0})
    live_group.close()
    after = describe_group(admin, live_group.group_name)
    assert (after.state, after.members) == ("empty", ())
    commit_offsets(admin, live_group.group_name, {(live_group.topic, 0): 0})


def test_a_group_that_nobody_knows_has_no_members(apache_kafka: ApacheKafka | ExternalKafka) -> None:
    admin = new_admin(apache_kafka.broker_addrs)
    found = describe_group(admin, f"unknown-{uuid.uuid4().hex}")
    assert (found.state, found.members) == ("dead", ())
