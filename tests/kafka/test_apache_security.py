"""The secured broker that security tests stand on: it lets in whom it should, and refuses everybody else."""

from __future__ import annotations

import stat
import time
from collections.abc import Mapping

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported without __all__
    AclBinding,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from .apache import ApacheKafka
from .apache.certs import KeyPair
from .conftest import need_brokers

#: Seconds until a client that is not let in counts as refused; those that are let in need a tenth of one.
_PATIENCE = 3.0


def _brokers_seen(addresses: list[str], properties: Mapping[str, object]) -> int:
    client = Producer({"bootstrap.servers": ",".join(addresses), "log_level": 0, **properties})
    return len(client.list_topics(timeout=_PATIENCE).brokers)


def _refusals(addresses: list[str], properties: Mapping[str, object]) -> set[str]:
    """Names of the errors that a client hears which is not let in."""
    heard: list[KafkaError] = []
    client = Producer(
        {"bootstrap.servers": ",".join(addresses), "log_level": 0, "error_cb": heard.append, **properties}
    )
    with pytest.raises(KafkaException):
        client.list_topics(timeout=_PATIENCE)
    client.poll(0)
    return {error.name() for error in heard} - {"_ALL_BROKERS_DOWN"}


def _trust(kafka: ApacheKafka) -> dict[str, object]:
    return {"security.protocol": "ssl", "ssl.ca.pem": kafka.certificates.authority.certificate}


def _show(pair: KeyPair) -> dict[str, object]:
    return {"ssl.certificate.pem": pair.certificate, "ssl.key.pem": pair.key}


def _login(kafka: ApacheKafka, mechanism: str, user: str, password: str | None = None) -> dict[str, object]:
    return {
        "security.protocol": "sasl_plaintext",
        "sasl.mechanism": mechanism,
        "sasl.username": user,
        "sasl.password": password or kafka.users[user],
    }


def test_tls_takes_clients_with_and_without_a_certificate(secured_kafka: ApacheKafka) -> None:
    trust, client = _trust(secured_kafka), secured_kafka.certificates.client
    assert _brokers_seen(secured_kafka.tls_addrs, trust) == 1
    assert _brokers_seen(secured_kafka.tls_addrs, trust | _show(client)) == 1


def test_mutual_tls_takes_a_client_with_a_certificate(secured_kafka: ApacheKafka) -> None:
    files = {
        "security.protocol": "ssl",
        "ssl.ca.location": str(secured_kafka.certificates.authority.file),
        "ssl.certificate.location": str(secured_kafka.certificates.client.certificate_file),
        "ssl.key.location": str(secured_kafka.certificates.client.key_file),
    }
    assert _brokers_seen(secured_kafka.mutual_tls_addrs, files) == 1


@pytest.mark.parametrize("who", ["nobody", "expired_client", "stranger"])
def test_mutual_tls_refuses(secured_kafka: ApacheKafka, who: str) -> None:
    shown = {} if who == "nobody" else _show(getattr(secured_kafka.certificates, who))
    assert _refusals(secured_kafka.mutual_tls_addrs, _trust(secured_kafka) | shown) <= {"_SSL", "_TRANSPORT"}


def test_a_client_refuses_a_broker_of_an_authority_it_does_not_trust(secured_kafka: ApacheKafka) -> None:
    other = secured_kafka.certificates.other_authority.certificate
    assert _refusals(secured_kafka.tls_addrs, _trust(secured_kafka) | {"ssl.ca.pem": other}) >= {"_SSL"}


def test_a_client_refuses_an_expired_broker_unless_it_skips_verification(secured_kafka: ApacheKafka) -> None:
    addresses, trust = secured_kafka.expired_tls_addrs, _trust(secured_kafka)
    assert "_SSL" in _refusals(addresses, trust)
    assert _brokers_seen(addresses, trust | {"enable.ssl.certificate.verification": False}) == 1


def test_a_client_refuses_the_certificate_of_another_host(secured_kafka: ApacheKafka) -> None:
    addresses, trust = secured_kafka.wrong_host_tls_addrs, _trust(secured_kafka)
    assert "_SSL" in _refusals(addresses, trust)
    assert _brokers_seen(addresses, trust | {"ssl.endpoint.identification.algorithm": "none"}) == 1


def test_a_plaintext_client_gets_nothing_from_a_tls_listener(secured_kafka: ApacheKafka) -> None:
    assert _refusals(secured_kafka.tls_addrs, {}) <= {"_TRANSPORT"}


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_sasl_takes_the_right_password_only(secured_kafka: ApacheKafka, mechanism: str) -> None:
    right = _login(secured_kafka, mechanism, "alice")
    assert _brokers_seen(secured_kafka.sasl_addrs, right) == 1
    wrong = _login(secured_kafka, mechanism, "alice", "wrong")
    assert _refusals(secured_kafka.sasl_addrs, wrong) == {"_AUTHENTICATION"}
    encrypted = _trust(secured_kafka) | right | {"security.protocol": "sasl_ssl"}
    assert _brokers_seen(secured_kafka.sasl_tls_addrs, encrypted) == 1


def _delivery_error(addresses: list[str], topic: str, properties: Mapping[str, object]) -> str | None:
    errors: list[str | None] = []
    producer = Producer({"bootstrap.servers": ",".join(addresses), "log_level": 0, **properties})
    producer.produce(topic, b"x", on_delivery=lambda error, _: errors.append(error.name() if error else None))
    assert producer.flush(20.0) == 0
    return errors[0]


def _allow(kafka: ApacheKafka, topic: str, principal: str, operation: AclOperation) -> None:
    binding = AclBinding(
        ResourceType.TOPIC,
        topic,
        ResourcePatternType.LITERAL,
        principal,
        "*",
        operation,
        AclPermissionType.ALLOW,
    )
    admin = kafka.admin()
    for future in admin.create_acls([binding]).values():
        future.result(10.0)


def test_who_has_no_acl_may_not_write_and_who_has_may(secured_kafka: ApacheKafka) -> None:
    secured_kafka.create_topic("guarded")
    alice = _login(secured_kafka, "SCRAM-SHA-512", "alice")
    assert _delivery_error(secured_kafka.sasl_addrs, "guarded", alice) == "TOPIC_AUTHORIZATION_FAILED"
    assert _delivery_error(secured_kafka.broker_addrs, "guarded", {}) == "TOPIC_AUTHORIZATION_FAILED"
    _allow(secured_kafka, "guarded", "User:alice", AclOperation.WRITE)
    _until_delivered(secured_kafka.sasl_addrs, "guarded", alice)


def test_a_certificate_is_a_principal(secured_kafka: ApacheKafka) -> None:
    """Contract 18.4: User:CN=<app>.<subnet>.<domain>."""
    secured_kafka.create_topic("guarded-by-certificate")
    pair = secured_kafka.certificates.issue("app.subnet.example.org")
    shown = _trust(secured_kafka) | _show(pair)
    topic, addresses = "guarded-by-certificate", secured_kafka.mutual_tls_addrs
    assert _delivery_error(addresses, topic, shown) == "TOPIC_AUTHORIZATION_FAILED"
    _allow(secured_kafka, topic, pair.principal, AclOperation.WRITE)
    _until_delivered(addresses, topic, shown)


def _until_delivered(addresses: list[str], topic: str, properties: Mapping[str, object]) -> None:
    """The controller has the ACL; the broker hears of it a moment later."""
    deadline = time.monotonic() + 10.0
    error = _delivery_error(addresses, topic, properties)
    while error is not None and time.monotonic() < deadline:
        error = _delivery_error(addresses, topic, properties)
    assert error is None


@pytest.mark.parametrize("user", ["sasl", "certificate"])
def test_admin_is_a_super_user(secured_kafka: ApacheKafka, user: str) -> None:
    secured_kafka.create_topic(f"super-{user}")
    if user == "sasl":
        addresses, properties = secured_kafka.sasl_addrs, _login(secured_kafka, "SCRAM-SHA-256", "admin")
    else:
        admin = secured_kafka.certificates.admin
        addresses, properties = secured_kafka.tls_addrs, _trust(secured_kafka) | _show(admin)
    assert _delivery_error(addresses, f"super-{user}", properties) is None


def test_keys_are_for_their_owner_only(secured_kafka: ApacheKafka) -> None:
    client = secured_kafka.certificates.client
    assert stat.S_IMODE(client.key_file.stat().st_mode) == 0o600
    assert client.key not in repr(client)


def test_three_secured_brokers_form_a_cluster() -> None:
    need_brokers()
    with ApacheKafka(brokers=3, tls=True, sasl=True, authorizer=True) as kafka:
        kafka.create_topic("spread", partitions=3)
        admin = kafka.certificates.admin
        shown = _trust(kafka) | _show(admin)
        assert _brokers_seen(kafka.mutual_tls_addrs, shown) == 3
        assert _delivery_error(kafka.mutual_tls_addrs, "spread", shown | {"acks": "all"}) is None
