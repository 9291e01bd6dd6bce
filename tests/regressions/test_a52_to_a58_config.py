"""Mistakes A52 to A58 of the original: configuration and TLS."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dp_kafka.config import AdminConfig, ConsumerGroupConfig, ProducerConfig, SecurityConfig
from dp_kafka.config.rdkafka import consumer_properties, security_properties
from dp_kafka.errors import ConfigError
from tests.certificates import make_pair

PAIR = make_pair("client", authority=True)
OTHER = make_pair("other")
BODY = PAIR.key.splitlines()[1]
ONE_LINE_BODY = "".join(PAIR.key.splitlines()[1:-1])


def everything_said(error: BaseException) -> str:
    """All that a log could show of an error: its text, its chain, its attributes."""
    said: list[str] = []
    link: BaseException | None = error
    while link is not None:
        said += traceback.format_exception_only(type(link), link)
        said += [repr(vars(link)), repr(link.args)]
        link = link.__cause__ or link.__context__
    return "".join(said)


def key_values(folder: Path) -> Iterator[dict[str, Any]]:
    """A key, or what a mishap left of it, in every field and combination that has to be refused."""
    cert_file = folder / "c.pem"
    cert_file.write_text(PAIR.cert)
    for key in (OTHER.key, OTHER.key.replace("\n", "\\n"), " \n" + OTHER.key):
        for cert in (PAIR.cert, str(cert_file)):
            yield {"client_cert": cert, "client_key": key}
    headless = OTHER.key.split("\n", 1)[1]
    one_line = "".join(OTHER.key.splitlines()[1:-1])
    for damaged in (headless, one_line, "BEGIN PRIVATE KEY " + one_line, one_line * 60, "x\0" + one_line):
        yield {"client_cert": PAIR.cert, "client_key": damaged}
        yield {"client_cert": damaged, "client_key": PAIR.key}
        yield {"root_ca_certs": damaged}
    yield {"root_ca_certs": OTHER.key}
    yield {"client_cert": OTHER.key, "client_key": OTHER.key}
    yield {"client_key": OTHER.key}
    yield {"client_key": OTHER.key, "client_cert": "/nowhere/cert.pem"}
    yield {"client_key": OTHER.key.encode(), "client_cert": PAIR.cert}
    yield {"tls": False, "client_key": OTHER.key}


def test_a52_no_error_ever_contains_key_material(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The original used the key as a file name, and so put it into the error of open()."""
    caplog.set_level(logging.DEBUG)
    pieces = [line for pem in (PAIR.key, OTHER.key) for line in pem.splitlines()[1:-1]]
    for fields in key_values(tmp_path):
        with pytest.raises(ConfigError) as caught:
            SecurityConfig(**fields)
        said = everything_said(caught.value) + caplog.text
        for piece in pieces:
            assert piece[:16] not in said
        assert "BEGIN PRIVATE" not in said


def test_a52_a_path_with_an_inline_key_works(tmp_path: Path) -> None:
    path = tmp_path / "c.pem"
    path.write_text(PAIR.cert)
    properties = security_properties(SecurityConfig(client_cert=str(path), client_key=PAIR.key))
    assert properties["ssl.certificate.location"] == str(path)
    assert properties["ssl.key.pem"] == PAIR.key


@pytest.mark.parametrize("lead", [" ", "\n", "\t\r\n"])
def test_a52_a_certificate_behind_blanks_is_no_path(lead: str) -> None:
    properties = security_properties(SecurityConfig(client_cert=lead + PAIR.cert, client_key=lead + PAIR.key))
    assert properties["ssl.certificate.pem"] == PAIR.cert


def test_a52_ordinary_paths_are_still_named() -> None:
    """The error would help nobody if it hid every path."""
    for path in ("/var/run/secrets/kafka.io/tls/client.key", "certs/client-key.pem", "C:\\certs\\client.key"):
        with pytest.raises(ConfigError, match="failed read from") as caught:
            SecurityConfig(client_cert=PAIR.cert, client_key=path)
        assert path in str(caught.value)


MAKERS: list[Any] = [
    lambda **more: ProducerConfig(["a:1"], "t", **more),
    lambda **more: ConsumerGroupConfig(["a:1"], "t", "g", **more),
    AdminConfig,
]


@pytest.mark.parametrize("make", MAKERS)
def test_a53_no_default_is_shared(make: Any) -> None:
    """In the original a default changed through one configuration changed for all."""
    one, other = make(), make()
    assert one.librdkafka is not other.librdkafka
    with pytest.raises(TypeError):
        one.librdkafka["client.id"] = "changed"
    assert dict(other.librdkafka) == dict(make().librdkafka) == {}


@pytest.mark.parametrize("make", MAKERS)
def test_a54_the_callers_objects_are_copied_and_not_changed(make: Any) -> None:
    raw = {"client.id": "x"}
    config = make(librdkafka=raw)
    assert raw == {"client.id": "x"}
    raw["client.id"] = "y"
    raw["retries"] = "1"
    assert dict(config.librdkafka) == {"client.id": "x"}


@pytest.mark.parametrize(
    "make",
    [
        lambda addresses: ProducerConfig(addresses, "t"),
        lambda addresses: ConsumerGroupConfig(addresses, "t", "g"),
    ],
)
def test_a54_the_callers_addresses_are_copied(make: Any) -> None:
    addresses = ["a:1", "b:2"]
    config = make(addresses)
    addresses.append("c:3")
    assert config.broker_addrs == ("a:1", "b:2")


def test_a54_making_properties_changes_nothing() -> None:
    config = ConsumerGroupConfig(["a:1"], "t", "g", librdkafka={"client.id": "x"})
    before = repr(config)
    consumer_properties(config)["client.id"] = "y"
    assert repr(config) == before
    assert consumer_properties(config)["client.id"] == "x"


@pytest.mark.parametrize("fields", [{"client_cert": PAIR.cert}, {"client_key": PAIR.key}])
def test_a55_half_a_pair_does_not_silently_disable_client_authentication(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="needs both"):
        SecurityConfig(**fields)


@pytest.mark.parametrize("timeout", [3, 3.0, 1, 0, -1, 3601])
def test_a56_a_session_shorter_than_the_heartbeat_is_refused_at_once(timeout: float) -> None:
    """The original left this to its client, and retried for ever."""
    with pytest.raises(ConfigError) as caught:
        ConsumerGroupConfig(["a:1"], "t", "g", message_consume_timeout=timeout)
    assert caught.value.field == "message_consume_timeout"


def test_a56_negative_retries_are_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="retry_max"):
        ProducerConfig(["a:1"], "t", retry_max=-1)


@pytest.mark.parametrize("limit", [0, -1])
def test_a57_a_message_limit_of_zero_is_not_ignored(limit: int) -> None:
    with pytest.raises(ConfigError, match="max_message_bytes must be greater than zero"):
        ProducerConfig(["a:1"], "t", max_message_bytes=limit)


@pytest.mark.parametrize("addresses", [["a:1", ""], ["a:1", "a:1"], ["a"]])
def test_a57_addresses_are_checked(addresses: list[str]) -> None:
    with pytest.raises(ConfigError, match="broker_addrs"):
        ProducerConfig(addresses, "t")


@pytest.mark.parametrize("config", [ProducerConfig, ConsumerGroupConfig, AdminConfig, SecurityConfig])
def test_a58_the_documentation_names_every_field_and_no_other(config: Any) -> None:
    """The original's README told of fields that did not exist, and of defaults that were not."""
    text = config.__doc__ or ""
    fields = set(config.__dataclass_fields__) - {"_"}
    assert {name for name in fields if f"`{name}`" not in text} == set()


@pytest.mark.parametrize(
    ("make", "field", "stated"),
    [
        (MAKERS[0], "min_retry_period", "(0.2)"),
        (MAKERS[0], "max_retry_period", "(32.0)"),
        (MAKERS[1], "message_consume_timeout", "(10.0)"),
        (MAKERS[1], "num_workers", "(1)"),
        (MAKERS[1], "batch_size", "(1)"),
        (MAKERS[1], "batch_wait_time", "(0.2)"),
        (MAKERS[1], "min_brokers_healthy", "(1)"),
        (MAKERS[1], "commit_interval", "(0.05)"),
        (MAKERS[1], "max_buffered_messages", "(10,000)"),
    ],
)
def test_a58_documented_defaults_are_the_real_ones(make: Any, field: str, stated: str) -> None:
    config = make()
    assert f"`{field}` {stated}" in (type(config).__doc__ or "")
    assert float(stated.strip("()").replace(",", "")) == getattr(config, field)
