"""Contract section 2: TLS and SASL, shown on real handshakes where a property alone would prove little."""

from __future__ import annotations

import copy
import pickle
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from dp_kafka.config import AdminConfig, KafkaSettings, SecurityConfig
from dp_kafka.config.rdkafka import security_properties
from dp_kafka.errors import CACertsError, ConfigError
from tests.certificates import make_pair
from tests.configs import accept, consumer, producer
from tests.tls_listener import Listener

AUTHORITY = make_pair("authority", authority=True)
SERVER = make_pair("localhost", issuer=AUTHORITY)
CLIENT = make_pair("client", issuer=AUTHORITY)
OTHER = make_pair("other", issuer=AUTHORITY)


def refused(**fields: Any) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        SecurityConfig(**fields)
    return caught.value


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    server = Listener(tmp_path, name=SERVER)
    yield server
    server.close()


@pytest.fixture
def strict_listener(tmp_path: Path) -> Iterator[Listener]:
    server = Listener(tmp_path, name=SERVER, authority=AUTHORITY)
    yield server
    server.close()


def written(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def test_2_1_without_security_it_is_plaintext() -> None:
    assert "security.protocol" not in accept(producer())
    assert security_properties(None) == {}


def test_2_1_any_security_config_even_empty_turns_tls_on() -> None:
    assert security_properties(SecurityConfig()) == {"security.protocol": "ssl"}
    for config in (producer(security=SecurityConfig()), consumer(security=SecurityConfig())):
        assert accept(config)["security.protocol"] == "ssl"
    assert accept(AdminConfig(security=SecurityConfig()))["security.protocol"] == "ssl"


def test_2_1_an_empty_config_verifies_against_the_hosts_authorities(listener: Listener) -> None:
    """The listener's authority is unknown to the host, so the client must hang up."""
    listener.meet(SecurityConfig())
    assert isinstance(listener.error, ssl.SSLError)
    assert "unknown ca" in str(listener.error)


def test_2_2_the_four_fields_in_their_order() -> None:
    config = SecurityConfig(AUTHORITY.cert, CLIENT.cert, CLIENT.key, True)
    assert config.root_ca_certs == AUTHORITY.cert
    assert (config.client_cert, config.client_key) == (CLIENT.cert, CLIENT.key)
    assert config.insecure_skip_verify is True


@pytest.mark.parametrize("lead", ["", " ", "\n", "\r\n\t ", "\\n", "Bag Attributes\n    friendlyName: x\n"])
def test_2_3_inline_pem_is_found_behind_blanks_and_comments(lead: str) -> None:
    """contract 2.3, changed: the original saw PEM text at position 0 only, and took the rest for a path."""
    properties = security_properties(
        SecurityConfig(lead + AUTHORITY.cert, lead + CLIENT.cert, lead + CLIENT.key)
    )
    assert {"ssl.ca.pem", "ssl.certificate.pem", "ssl.key.pem"} < properties.keys()
    assert not any(name.endswith(".location") for name in properties)
    Producer({**properties, "log_level": 0})


def test_2_3_anything_else_is_a_path(tmp_path: Path) -> None:
    ca = written(tmp_path, "ca.pem", AUTHORITY.cert)
    cert = written(tmp_path, "cert.pem", CLIENT.cert)
    key = written(tmp_path, "key.pem", CLIENT.key)
    properties = security_properties(SecurityConfig(ca, cert, key))
    assert properties["ssl.ca.location"] == ca
    assert properties["ssl.certificate.location"] == cert
    assert properties["ssl.key.location"] == key
    Producer({**properties, "log_level": 0})


def test_2_3_a_path_object_is_a_path(tmp_path: Path) -> None:
    ca = written(tmp_path, "ca.pem", AUTHORITY.cert)
    assert SecurityConfig(Path(ca)).root_ca_certs == ca  # type: ignore[arg-type]


def test_2_4_a_literal_backslash_n_is_a_line_break() -> None:
    """As environment variables carry them."""
    one_line = [text.replace("\n", "\\n") for text in (AUTHORITY.cert, CLIENT.cert, CLIENT.key)]
    assert all("\n" not in text for text in one_line)
    properties = security_properties(SecurityConfig(one_line[0], one_line[1], one_line[2]))
    assert properties["ssl.key.pem"].strip() == CLIENT.key.strip()
    Producer({**properties, "log_level": 0})


@pytest.mark.parametrize("cert_inline", [True, False])
@pytest.mark.parametrize("key_inline", [True, False])
def test_2_5_certificate_and_key_are_each_inline_or_a_file(
    strict_listener: Listener, tmp_path: Path, cert_inline: bool, key_inline: bool
) -> None:
    """contract 2.5, changed: the certificate does not decide for the key. All four really log in."""
    cert = CLIENT.cert if cert_inline else written(tmp_path, "c.pem", CLIENT.cert)
    key = CLIENT.key if key_inline else written(tmp_path, "k.pem", CLIENT.key)
    strict_listener.meet(SecurityConfig(AUTHORITY.cert, cert, key))
    assert strict_listener.error is None
    assert strict_listener.client_certificate == ssl.PEM_cert_to_DER_cert(CLIENT.cert)


def test_2_6_a_client_without_certificate_is_no_client(strict_listener: Listener) -> None:
    strict_listener.meet(SecurityConfig(AUTHORITY.cert))
    assert isinstance(strict_listener.error, ssl.SSLError)
    assert strict_listener.client_certificate is None


@pytest.mark.parametrize(
    ("fields", "missing"),
    [({"client_cert": CLIENT.cert}, "client_key"), ({"client_key": CLIENT.key}, "client_cert")],
)
def test_2_6_half_a_pair_is_refused(fields: dict[str, str], missing: str) -> None:
    """contract 2.6, changed: the original silently went without client authentication."""
    error = refused(**fields)
    assert error.field == missing
    assert "needs both" in str(error)


@pytest.mark.parametrize(
    ("version", "spoken"),
    [
        (ssl.TLSVersion.TLSv1_1, False),
        (ssl.TLSVersion.TLSv1_2, True),
        (ssl.TLSVersion.TLSv1_3, True),
    ],
)
def test_2_7_nothing_older_than_tls_1_2_is_spoken(
    tmp_path: Path, version: ssl.TLSVersion, spoken: bool
) -> None:
    """Each listener speaks one version only."""
    listener = Listener(tmp_path, name=SERVER, version=version)
    try:
        listener.meet(SecurityConfig(AUTHORITY.cert))
        assert (listener.error is None) is spoken
    finally:
        listener.close()


@pytest.mark.parametrize("inline", [True, False])
def test_2_8_own_authorities_replace_the_hosts(listener: Listener, tmp_path: Path, inline: bool) -> None:
    ca = AUTHORITY.cert if inline else written(tmp_path, "ca.pem", AUTHORITY.cert)
    listener.meet(SecurityConfig(ca))
    assert listener.error is None


def test_2_8_an_authority_that_did_not_sign_is_not_trusted(listener: Listener) -> None:
    listener.meet(SecurityConfig(make_pair("stranger", authority=True).cert))
    assert isinstance(listener.error, ssl.SSLError)


def test_2_8_several_authorities_with_comments_between(listener: Listener, tmp_path: Path) -> None:
    stranger = make_pair("stranger", authority=True).cert
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(f"# Bäume\n{stranger}\n# Wälder\n{AUTHORITY.cert}", encoding="utf-8")
    listener.meet(SecurityConfig(str(bundle)))
    assert listener.error is None


def test_2_8_an_unreadable_file_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / "missing.pem")
    error = refused(root_ca_certs=path)
    assert f"failed read from {path}: No such file or directory" in str(error)
    assert error.field == "root_ca_certs"
    assert "failed read from" in str(refused(root_ca_certs=str(tmp_path)))


@pytest.mark.parametrize(
    "text",
    [
        CLIENT.key,
        "-----BEGIN CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----",
    ],
)
def test_2_8_no_certificate_in_it_has_an_error_of_its_own(tmp_path: Path, text: str) -> None:
    for value in (text, written(tmp_path, "ca.pem", text)):
        error = refused(root_ca_certs=value)
        assert isinstance(error, CACertsError)
        assert "cannot load CA Certs" in str(error)


def test_2_8_an_empty_file_has_no_certificate(tmp_path: Path) -> None:
    assert isinstance(refused(root_ca_certs=written(tmp_path, "ca.pem", "")), CACertsError)


@pytest.mark.parametrize("inline", [True, False])
def test_2_9_a_key_of_another_certificate_is_refused(tmp_path: Path, inline: bool) -> None:
    cert = CLIENT.cert if inline else written(tmp_path, "c.pem", CLIENT.cert)
    key = OTHER.key if inline else written(tmp_path, "k.pem", OTHER.key)
    assert "client_key does not belong to client_cert" in str(refused(client_cert=cert, client_key=key))


def broken(text: str) -> str:
    lines = text.splitlines()
    return "\n".join([lines[0], lines[1][:20], lines[-1]])


@pytest.mark.parametrize(
    ("cert", "key", "complaint"),
    [
        (broken(CLIENT.cert), CLIENT.key, "error parsing X509 keypair"),
        (CLIENT.cert, broken(CLIENT.key), "error parsing X509 keypair"),
        (CLIENT.key, CLIENT.key, "client_cert contains no certificate"),
        (CLIENT.cert, CLIENT.cert, "client_key contains no private key"),
    ],
    ids=["broken certificate", "broken key", "no certificate", "no key"],
)
def test_2_9_a_pair_that_cannot_be_parsed_is_refused(cert: str, key: str, complaint: str) -> None:
    assert complaint in str(refused(client_cert=cert, client_key=key))


def test_2_9_a_key_file_that_is_missing_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / "client.key")
    error = refused(client_cert=CLIENT.cert, client_key=path)
    assert path in str(error)
    assert error.field == "client_key"


def test_2_10_skip_verify_trusts_any_authority(listener: Listener) -> None:
    listener.meet(SecurityConfig(insecure_skip_verify=True))
    assert listener.error is None


@pytest.mark.parametrize("skip", [True, False])
def test_2_10_skip_verify_trusts_any_host_name(tmp_path: Path, skip: bool) -> None:
    listener = Listener(tmp_path, name=make_pair("elsewhere", issuer=AUTHORITY))
    try:
        listener.meet(SecurityConfig(AUTHORITY.cert, insecure_skip_verify=skip))
        assert (listener.error is None) is skip
    finally:
        listener.close()


def test_2_10_skip_verify_must_be_a_bool() -> None:
    assert refused(insecure_skip_verify="false").field == "insecure_skip_verify"


@pytest.mark.parametrize("form", ["pkcs8", "legacy"])
@pytest.mark.parametrize("inline", [True, False])
def test_2_11_an_encrypted_key_is_refused_with_a_way_out(tmp_path: Path, form: str, inline: bool) -> None:
    """contract 2.11. Nothing asks for a password on the terminal either."""
    key = CLIENT.encrypted_key(b"pw") if form == "pkcs8" else CLIENT.legacy_encrypted_key(b"pw")
    value = key if inline else written(tmp_path, "k.pem", key)
    error = refused(client_cert=CLIENT.cert, client_key=value)
    assert "client_key is encrypted" in str(error)
    assert "ssl.key.password" in str(error)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_2_11_sasl_over_tls(mechanism: str) -> None:
    """contract 2.11, changed: SASL by name and password."""
    security = SecurityConfig(sasl_mechanism=mechanism, sasl_username="u", sasl_password="p")
    properties = accept(producer(security=security))
    assert properties["security.protocol"] == "sasl_ssl"
    assert properties["sasl.mechanisms"] == mechanism
    assert (properties["sasl.username"], properties["sasl.password"]) == ("u", "p")


def test_2_11_sasl_in_the_clear_has_to_be_said() -> None:
    security = SecurityConfig(sasl_mechanism="PLAIN", sasl_username="u", sasl_password="p", tls=False)
    assert accept(consumer(security=security))["security.protocol"] == "sasl_plaintext"
    assert security_properties(SecurityConfig(tls=False)) == {"security.protocol": "plaintext"}


@pytest.mark.parametrize(
    "fields",
    [
        {"root_ca_certs": AUTHORITY.cert},
        {"client_cert": CLIENT.cert, "client_key": CLIENT.key},
        {"insecure_skip_verify": True},
    ],
)
def test_2_11_no_tls_has_no_use_for_certificates(fields: dict[str, Any]) -> None:
    assert "tls=False" in str(refused(tls=False, **fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"sasl_mechanism": "PLAIN"},
        {"sasl_username": "u"},
        {"sasl_password": "hunter2"},
        {"sasl_mechanism": "PLAIN", "sasl_password": "hunter2"},
        {"sasl_username": "u", "sasl_password": "hunter2", "sasl_mechanism": ""},
    ],
)
def test_2_11_sasl_needs_all_three(fields: dict[str, str]) -> None:
    error = refused(**fields)
    assert "missing" in str(error)
    assert "hunter2" not in str(error)


@pytest.mark.parametrize("mechanism", ["plain", "GSSAPI", "OAUTHBEARER", "MD5"])
def test_2_11_other_mechanisms_are_refused(mechanism: str) -> None:
    error = refused(sasl_mechanism=mechanism, sasl_username="u", sasl_password="hunter2")
    assert error.field == "sasl_mechanism"
    assert "hunter2" not in str(error)


def test_2_12_tls_only_when_the_variable_says_exactly_tls() -> None:
    assert KafkaSettings.from_env({}).security() is None
    assert KafkaSettings.from_env({"KAFKA_SEC_PROTO": ""}).security() is None
    assert KafkaSettings.from_env({"KAFKA_SEC_PROTO": "TLS"}).security() == SecurityConfig()
    with pytest.raises(ConfigError, match="KAFKA_SEC_PROTO must be exactly 'TLS'"):
        KafkaSettings.from_env({"KAFKA_SEC_PROTO": "tls"})


def test_neither_repr_nor_str_shows_a_secret(tmp_path: Path) -> None:
    security = SecurityConfig(
        AUTHORITY.cert,
        CLIENT.cert,
        CLIENT.key,
        sasl_mechanism="PLAIN",
        sasl_username="user",
        sasl_password="hunter2",
    )
    for text in (repr(security), str(producer(security=security)), repr(consumer(security=security))):
        assert "BEGIN" not in text
        assert "hunter2" not in text
        assert "user" in text
    path = written(tmp_path, "ca.pem", AUTHORITY.cert)
    assert path in repr(SecurityConfig(path))


def test_security_compares_copies_and_pickles() -> None:
    security = SecurityConfig(AUTHORITY.cert, CLIENT.cert, CLIENT.key)
    for twin in (copy.deepcopy(security), pickle.loads(pickle.dumps(security))):
        assert twin == security
        assert hash(twin) == hash(security)
    assert security != SecurityConfig(AUTHORITY.cert)


def test_inline_keys_leave_no_file_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    SecurityConfig(client_cert=CLIENT.cert, client_key=CLIENT.key)
    refused(client_cert=CLIENT.cert, client_key=OTHER.key)
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_file_system_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Then librdkafka is the first to compare certificate and key, when a client is made."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    security = SecurityConfig(client_cert=CLIENT.cert, client_key=CLIENT.key)
    assert "were not compared" in caplog.text
    assert "BEGIN" not in caplog.text
    AdminClient({**security_properties(security), "log_level": 0})


@pytest.mark.parametrize(
    ("raw", "conflict"),
    [
        ({"security.protocol": "plaintext"}, True),
        ({"security.protocol": "SSL"}, False),
        ({"ssl.ca.location": "/etc/ca.pem"}, True),
        ({"ssl.keystore.location": "/etc/store"}, True),
        ({"ssl.key.location": "/etc/key.pem"}, True),
        ({"enable.ssl.certificate.verification": "false"}, False),
        ({"ssl.cipher.suites": "ECDHE-RSA-AES256-GCM-SHA384"}, False),
    ],
)
def test_raw_properties_must_not_contradict_security(raw: dict[str, str], conflict: bool) -> None:
    security = SecurityConfig(AUTHORITY.cert, CLIENT.cert, CLIENT.key)
    if not conflict:
        accept(producer(security=security, librdkafka=raw))
        return
    with pytest.raises(ConfigError) as caught:
        producer(security=security, librdkafka=raw)
    assert next(iter(raw)) in str(caught.value)
    assert "BEGIN" not in str(caught.value)


def test_without_security_all_of_tls_may_be_raw(tmp_path: Path) -> None:
    """The way out that the error for an encrypted key names."""
    raw = {
        "security.protocol": "ssl",
        "ssl.certificate.location": written(tmp_path, "c.pem", CLIENT.cert),
        "ssl.key.location": written(tmp_path, "k.pem", CLIENT.encrypted_key(b"pw")),
        "ssl.key.password": "pw",
    }
    config = producer(librdkafka=raw)
    accept(config)
    assert "'pw'" not in repr(config)
