"""Producers and consumer groups on secured listeners: those that are let in, and what is told of the others.

Whatever keeps a client out is named within ten seconds, on `errors` and by `checker`; and nothing that is
logged, printed or said in an error shows a key or a password.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported without __all__
    AclBinding,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from dp_kafka import (
    ClosedError,
    ConfigError,
    ConsumerGroup,
    ConsumerGroupConfig,
    DeliveryError,
    KafkaClientError,
    Producer,
    ProducerConfig,
    SecurityConfig,
)
from dp_kafka.health import CheckState, Status

from .apache import ApacheKafka
from .apache.certs import KeyPair

Client = Producer | ConsumerGroup

#: Seconds within which a failure has to be named.
NAMED_WITHIN = 10.0
#: Seconds for what is sure to come, on a busy machine.
PATIENCE = 30.0

both_clients = pytest.mark.parametrize("kind", [Producer, ConsumerGroup])


# -- no secret in any log --------------------------------------------------------------------------------


class Told(logging.Handler):
    """Everything that was logged during a test, from any thread, with the fields of its events."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.parts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.parts += [logging.Formatter().format(record), repr(record.__dict__)]


def secrets_of(kafka: ApacheKafka) -> list[str]:
    """What nobody may ever read: passwords, and the lines of private keys."""
    certificates = kafka.certificates
    pairs = [certificates.client, certificates.admin, certificates.expired_client, certificates.stranger]
    lines = [line for pair in pairs for line in pair.key.splitlines() if not line.startswith("-----")]
    return [*lines, *kafka.users.values(), WRONG_PASSWORD]


def shown_secrets(kafka: ApacheKafka, text: str) -> list[str]:
    """The secrets that a text shows."""
    return [secret for secret in secrets_of(kafka) if secret in text]


WRONG_PASSWORD = "not-alices-password-4711"


@pytest.fixture(autouse=True)
def told(secured_kafka: ApacheKafka, capfd: pytest.CaptureFixture[str]) -> Iterator[Told]:
    """Fails a test in which a secret was logged, or printed, as librdkafka can by itself."""
    heard = Told()
    root = logging.getLogger()
    before = root.level
    root.addHandler(heard)
    root.setLevel(logging.DEBUG)
    yield heard
    root.setLevel(before)
    root.removeHandler(heard)
    printed = capfd.readouterr()
    everything = "\n".join([*heard.parts, printed.out, printed.err])
    assert shown_secrets(secured_kafka, everything) == []


@pytest.mark.parametrize("secret", range(4))
def test_the_search_for_secrets_finds_each_kind(secured_kafka: ApacheKafka, secret: int) -> None:
    """Else the test of every log proves nothing."""
    shown = [
        secured_kafka.certificates.client.key,
        secured_kafka.certificates.stranger.key.splitlines()[1],
        f"password={secured_kafka.users['alice']!r}",
        WRONG_PASSWORD,
    ][secret]
    assert shown_secrets(secured_kafka, f"something {shown} something")


# -- clients ---------------------------------------------------------------------------------------------


def trusting(kafka: ApacheKafka, pair: KeyPair | None = None, **more: Any) -> SecurityConfig:
    """TLS that trusts the brokers' authority, with a client certificate or without, as PEM text."""
    shown = {} if pair is None else {"client_cert": pair.certificate, "client_key": pair.key}
    return SecurityConfig(**{"root_ca_certs": kafka.certificates.authority.certificate, **shown, **more})


def login(kafka: ApacheKafka, mechanism: str, user: str, password: str = "", **more: Any) -> SecurityConfig:
    """SASL, in the clear unless told otherwise."""
    return SecurityConfig(
        **{
            "tls": False,
            "sasl_mechanism": mechanism,
            "sasl_username": user,
            "sasl_password": password or kafka.users[user],
            **more,
        }
    )


@contextlib.contextmanager
def made(
    kind: type[Client],
    addresses: list[str],
    security: SecurityConfig | None,
    *,
    topic: str = "open",
    group: str = "",
    handler: Callable[[int, Any], None] = lambda worker_id, message: None,
    librdkafka: dict[str, Any] | None = None,
) -> Iterator[Client]:
    """A client of that kind, which a consumer group has a handler and is started."""
    raw = librdkafka or {}
    client: Client
    if kind is Producer:
        client = Producer(
            ProducerConfig(addresses, topic, security=security, min_brokers_healthy=1, librdkafka=raw)
        )
    else:
        client = ConsumerGroup(
            ConsumerGroupConfig(
                addresses, topic, group or f"open-{uuid.uuid4().hex}", security=security, librdkafka=raw
            )
        )
        client.register_handler(handler)
        client.start()
    try:
        yield client
    finally:
        client.close(timeout=2.0)


def check(client: Client) -> CheckState:
    """What its checker says now."""
    state = CheckState()
    client.checker(state)
    return state


def named_on_errors(client: Client, pattern: str, until: float) -> BaseException:
    """The first error that the pattern finds; fails if it does not come in time."""
    seen: list[str] = []
    while True:
        try:
            error = client.channels.errors.get(timeout=max(0.01, until - time.monotonic()))
        except queue.Empty:
            raise AssertionError(f"no {pattern!r} within {NAMED_WITHIN:g} s, but {seen}") from None
        if re.search(pattern, str(error)):
            return error
        seen.append(str(error))


def named_by_checker(client: Client, pattern: str, until: float) -> CheckState:
    """What the checker says, once it names the failure; fails if it does not in time."""
    while not re.search(pattern, (state := check(client)).message):
        assert time.monotonic() < until, f"the checker never named {pattern!r}, but says {state}"
    return state


def allow(
    kafka: ApacheKafka, principal: str, operation: AclOperation, name: str, *, group: bool = False
) -> None:
    """Grant a right on a topic or a group, by prefix."""
    binding = AclBinding(
        ResourceType.GROUP if group else ResourceType.TOPIC,
        name,
        ResourcePatternType.PREFIXED,
        principal,
        "*",
        operation,
        AclPermissionType.ALLOW,
    )
    admin = kafka.admin()
    for future in admin.create_acls([binding]).values():
        future.result(PATIENCE)


@pytest.fixture(scope="session")
def open_topic(secured_kafka: ApacheKafka) -> str:
    """A topic, and groups of that name, with which everybody but bob may do everything."""
    secured_kafka.create_topic("open")
    for principal in ("User:alice", "User:ANONYMOUS", secured_kafka.certificates.client.principal):
        allow(secured_kafka, principal, AclOperation.ALL, "open")
        allow(secured_kafka, principal, AclOperation.ALL, "open", group=True)
    return "open"


# -- who is let in ---------------------------------------------------------------------------------------

WAYS_IN: dict[str, Callable[[ApacheKafka], tuple[list[str], SecurityConfig]]] = {
    "TLS, inline": lambda kafka: (kafka.tls_addrs, trusting(kafka)),
    "TLS, file": lambda kafka: (
        kafka.tls_addrs,
        SecurityConfig(root_ca_certs=str(kafka.certificates.authority.file)),
    ),
    "mutual TLS, inline": lambda kafka: (
        kafka.mutual_tls_addrs,
        trusting(kafka, kafka.certificates.client),
    ),
    "mutual TLS, inline with backslashes": lambda kafka: (
        kafka.mutual_tls_addrs,
        SecurityConfig(
            root_ca_certs=kafka.certificates.authority.certificate.replace("\n", "\\n"),
            client_cert=kafka.certificates.client.certificate.replace("\n", "\\n"),
            client_key=kafka.certificates.client.key.replace("\n", "\\n"),
        ),
    ),
    "mutual TLS, files": lambda kafka: (
        kafka.mutual_tls_addrs,
        SecurityConfig(
            root_ca_certs=str(kafka.certificates.authority.file),
            client_cert=str(kafka.certificates.client.certificate_file),
            client_key=str(kafka.certificates.client.key_file),
        ),
    ),
    "mutual TLS, a file and inline": lambda kafka: (
        kafka.mutual_tls_addrs,
        trusting(
            kafka,
            client_cert=str(kafka.certificates.client.certificate_file),
            client_key=kafka.certificates.client.key,
        ),
    ),
    "skip verify: another authority": lambda kafka: (
        kafka.tls_addrs,
        SecurityConfig(
            root_ca_certs=kafka.certificates.other_authority.certificate, insecure_skip_verify=True
        ),
    ),
    "skip verify: another host": lambda kafka: (
        kafka.wrong_host_tls_addrs,
        trusting(kafka, insecure_skip_verify=True),
    ),
    "skip verify: expired": lambda kafka: (
        kafka.expired_tls_addrs,
        trusting(kafka, insecure_skip_verify=True),
    ),
    "SCRAM-SHA-256": lambda kafka: (kafka.sasl_addrs, login(kafka, "SCRAM-SHA-256", "alice")),
    "SCRAM-SHA-512": lambda kafka: (kafka.sasl_addrs, login(kafka, "SCRAM-SHA-512", "alice")),
    "SCRAM-SHA-512 over TLS": lambda kafka: (
        kafka.sasl_tls_addrs,
        login(
            kafka,
            "SCRAM-SHA-512",
            "alice",
            tls=True,
            root_ca_certs=kafka.certificates.authority.certificate,
        ),
    ),
}


@pytest.mark.parametrize("way", WAYS_IN)
def test_messages_flow_and_checkers_are_content(
    secured_kafka: ApacheKafka, open_topic: str, way: str
) -> None:
    addresses, security = WAYS_IN[way](secured_kafka)
    arrived = threading.Event()
    value = uuid.uuid4().hex.encode()

    def handle(_worker_id: int, message: Any) -> None:
        if message.data == value:
            arrived.set()

    with (
        made(Producer, addresses, security, topic=open_topic) as producer,
        made(ConsumerGroup, addresses, security, topic=open_topic, handler=handle) as consumer,
    ):
        assert isinstance(producer, Producer)
        producer.send_bytes(value, timeout=PATIENCE)
        assert arrived.wait(PATIENCE)
        assert check(producer).message == "kafka producer is healthy"
        assert check(consumer).message == "kafka consumer group is healthy"
        assert "PRIVATE" not in repr((producer, consumer, security))


# -- who is not ------------------------------------------------------------------------------------------

#: Addresses, security, and what names the failure: on `errors`, and by the checker.
KEPT_OUT: dict[str, Callable[[ApacheKafka], tuple[list[str], SecurityConfig, str, str]]] = {
    "wrong authority": lambda kafka: (
        kafka.tls_addrs,
        trusting(kafka, root_ca_certs=kafka.certificates.other_authority.certificate),
        "_SSL: .*unable to get local issuer certificate",
        "certificate verify failed: unable to get local issuer certificate",
    ),
    "wrong host name": lambda kafka: (
        kafka.wrong_host_tls_addrs,
        trusting(kafka),
        "_SSL: .*certificate is not valid for '127.0.0.1'",
        "certificate verify failed: .* not valid for '127.0.0.1'",
    ),
    "expired broker": lambda kafka: (
        kafka.expired_tls_addrs,
        trusting(kafka),
        "_SSL: .*certificate has expired",
        "certificate verify failed: certificate has expired",
    ),
    "no client certificate": lambda kafka: (
        kafka.mutual_tls_addrs,
        trusting(kafka),
        "(?i)alert (bad certificate|certificate required)",
        "refuses the client's certificate|does the broker want a client certificate",
    ),
    "expired client": lambda kafka: (
        kafka.mutual_tls_addrs,
        trusting(kafka, kafka.certificates.expired_client),
        "(?i)alert (bad certificate|certificate (unknown|expired))",
        "refuses the client's certificate|does the broker want a client certificate",
    ),
    "client of another authority": lambda kafka: (
        kafka.mutual_tls_addrs,
        trusting(kafka, kafka.certificates.stranger),
        "(?i)alert (bad certificate|certificate unknown|unknown ca)",
        "refuses the client's certificate|does the broker want a client certificate",
    ),
    "TLS at a plaintext listener": lambda kafka: (
        kafka.broker_addrs,
        trusting(kafka),
        "connecting to a PLAINTEXT broker listener",
        "SSL",
    ),
    "wrong password, SCRAM-SHA-256": lambda kafka: (
        kafka.sasl_addrs,
        login(kafka, "SCRAM-SHA-256", "alice", WRONG_PASSWORD),
        "_AUTHENTICATION: .*invalid credentials with SASL mechanism SCRAM-SHA-256",
        "_AUTHENTICATION: .*invalid credentials",
    ),
    "wrong password, SCRAM-SHA-512 over TLS": lambda kafka: (
        kafka.sasl_tls_addrs,
        login(
            kafka,
            "SCRAM-SHA-512",
            "alice",
            WRONG_PASSWORD,
            tls=True,
            root_ca_certs=kafka.certificates.authority.certificate,
        ),
        "_AUTHENTICATION: .*invalid credentials with SASL mechanism SCRAM-SHA-512",
        "_AUTHENTICATION: .*invalid credentials",
    ),
}


@both_clients
@pytest.mark.parametrize("why", KEPT_OUT)
def test_what_keeps_a_client_out_is_named(
    secured_kafka: ApacheKafka, open_topic: str, kind: type[Client], why: str
) -> None:
    addresses, security, on_errors, by_checker = KEPT_OUT[why](secured_kafka)
    until = time.monotonic() + NAMED_WITHIN
    with made(kind, addresses, security, topic=open_topic) as client:
        error = named_on_errors(client, on_errors, until)
        assert isinstance(error, KafkaClientError)
        state = named_by_checker(client, by_checker, until)
        assert state.status is Status.WARNING, "not initialised; HealthCheck makes it CRITICAL in time"
        assert "not initialised" in state.message


@pytest.mark.parametrize("form", ["inline", "files"])
def test_a_key_of_another_certificate_is_refused_at_once(secured_kafka: ApacheKafka, form: str) -> None:
    client, other = secured_kafka.certificates.client, secured_kafka.certificates.stranger
    cert, key = (
        (client.certificate, other.key)
        if form == "inline"
        else (str(client.certificate_file), str(other.key_file))
    )
    with pytest.raises(ConfigError, match="client_key does not belong to client_cert") as caught:
        SecurityConfig(
            root_ca_certs=secured_kafka.certificates.authority.certificate, client_cert=cert, client_key=key
        )
    assert shown_secrets(secured_kafka, repr((caught.value, caught.value.log_data))) == []


@both_clients
def test_librdkafka_tells_no_secret_when_it_tells_everything(
    secured_kafka: ApacheKafka, open_topic: str, kind: type[Client], told: Told
) -> None:
    """With `debug=all` it logs all that it does, its configuration first."""
    security = login(
        secured_kafka,
        "SCRAM-SHA-512",
        "alice",
        tls=True,
        root_ca_certs=secured_kafka.certificates.authority.certificate,
        client_cert=secured_kafka.certificates.client.certificate,
        client_key=secured_kafka.certificates.client.key,
    )
    raw = {"debug": "all", "log_level": 7}
    with made(kind, secured_kafka.sasl_tls_addrs, security, topic=open_topic, librdkafka=raw) as client:
        assert client.channels.initialised.wait(PATIENCE)
        assert check(client).status is Status.OK
    assert any("sasl.password" in part for part in told.parts), "the configuration was never logged"


# -- rights ----------------------------------------------------------------------------------------------


def private_names(kafka: ApacheKafka) -> tuple[str, str]:
    """A topic and a group that nobody has a right on yet."""
    topic = f"private-{uuid.uuid4().hex[:8]}"
    kafka.create_topic(topic)
    return topic, topic


def alice(kafka: ApacheKafka) -> tuple[list[str], SecurityConfig]:
    return kafka.sasl_addrs, login(kafka, "SCRAM-SHA-512", "alice")


def test_a_topic_that_must_not_be_written_is_named_for_each_message(
    secured_kafka: ApacheKafka, open_topic: str
) -> None:
    topic, _ = private_names(secured_kafka)
    allow(secured_kafka, "User:alice", AclOperation.DESCRIBE, topic)
    addresses, security = alice(secured_kafka)
    reports: queue.Queue[Any] = queue.Queue()
    with made(Producer, addresses, security, topic=topic) as producer:
        assert isinstance(producer, Producer)
        until = time.monotonic() + NAMED_WITHIN
        producer.send_bytes(b"x", on_delivery=lambda error, _: reports.put(error), timeout=NAMED_WITHIN)
        error = named_on_errors(producer, "TOPIC_AUTHORIZATION_FAILED", until)
        assert isinstance(error, DeliveryError)
        assert reports.get(timeout=PATIENCE).name == "TOPIC_AUTHORIZATION_FAILED"
        state = named_by_checker(producer, "TOPIC_AUTHORIZATION_FAILED", until)
        assert state.status is Status.CRITICAL


def test_a_producer_without_any_right_to_write_says_so_when_it_dies(secured_kafka: ApacheKafka) -> None:
    """Kafka gives it no producer id, which is fatal to librdkafka: only a new producer helps."""
    topic, _ = private_names(secured_kafka)
    security = login(secured_kafka, "SCRAM-SHA-512", "bob")
    reports: queue.Queue[Any] = queue.Queue()
    with made(Producer, secured_kafka.sasl_addrs, security, topic=topic) as producer:
        assert isinstance(producer, Producer)
        until = time.monotonic() + NAMED_WITHIN
        sent = 0
        with contextlib.suppress(ClosedError, DeliveryError):  # it may have died before
            producer.send_bytes(b"x", on_delivery=lambda error, _: reports.put(error), timeout=5.0)
            sent = 1
        error = named_on_errors(producer, "CLUSTER_AUTHORIZATION_FAILED", until)
        assert isinstance(error, KafkaClientError)
        assert error.permanent
        assert error.fatal
        state = named_by_checker(producer, "CLUSTER_AUTHORIZATION_FAILED", until)
        assert state.status is Status.CRITICAL
        assert producer.stuck_or_dead(), "liveness has the service started again"
        for _ in range(sent):
            assert isinstance(reports.get(timeout=PATIENCE), DeliveryError)


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
@pytest.mark.parametrize("missing", ["group", "topic"])
def test_a_missing_right_of_a_consumer_is_named_and_once_granted_it_consumes(
    secured_kafka: ApacheKafka, missing: str, protocol: str
) -> None:
    """The topic may be described and not read; or the group may not be joined."""
    topic, group = private_names(secured_kafka)
    allow(secured_kafka, "User:alice", AclOperation.WRITE, topic)
    allow(secured_kafka, "User:alice", AclOperation.DESCRIBE, topic)
    if missing == "group":
        allow(secured_kafka, "User:alice", AclOperation.READ, topic)
    else:
        allow(secured_kafka, "User:alice", AclOperation.READ, group, group=True)
    addresses, security = alice(secured_kafka)
    arrived = threading.Event()
    with (
        made(Producer, addresses, security, topic=topic) as producer,
        made(
            ConsumerGroup,
            addresses,
            security,
            topic=topic,
            group=group,
            handler=lambda worker_id, message: arrived.set(),
            librdkafka={"group.protocol": protocol},
        ) as consumer,
    ):
        assert isinstance(producer, Producer)
        producer.send_bytes(b"x", timeout=PATIENCE)
        until = time.monotonic() + NAMED_WITHIN
        name = f"{missing.upper()}_AUTHORIZATION_FAILED"
        error = named_on_errors(consumer, name, until)
        assert isinstance(error, KafkaClientError)
        assert error.permanent
        assert named_by_checker(consumer, name, until).status is Status.CRITICAL
        assert not arrived.is_set()
        if missing == "group":
            allow(secured_kafka, "User:alice", AclOperation.READ, group, group=True)
        else:
            allow(secured_kafka, "User:alice", AclOperation.READ, topic)
        assert arrived.wait(PATIENCE)
        until = time.monotonic() + PATIENCE
        assert named_by_checker(consumer, "is healthy", until).status is Status.OK
