"""RegistryCodec: Confluent's wire format through confluent-kafka's serializers, on a registry over HTTP."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from dp_kafka import ConfigError, MarshalError
from dp_kafka.avro import Schema, UnmarshalError
from dp_kafka.codecs import Codec, RegistryCodec, RegistryError
from tests.avro_events import AN_ORDER, ORDER, Item, Order, one
from tests.registry_stub import RegistryStub

LIST = {"type": "record", "name": "L", "fields": [{"name": "next", "type": ["null", "L"]}]}


@pytest.fixture
def registry() -> Iterator[RegistryStub]:
    """A registry over HTTP, empty."""
    with RegistryStub() as stub:
        yield stub


def config(registry: RegistryStub, **more: Any) -> dict[str, Any]:
    """What a client needs; no waits between attempts."""
    return {"url": registry.url, "max.retries": 0, "retries.wait.ms": 1, **more}


def test_an_event_goes_framed_with_the_id_of_its_schema(registry: RegistryStub) -> None:
    registry.add('"string"')
    with RegistryCodec(config(registry), "orders", ORDER) as codec:
        assert isinstance(codec, Codec)
        data = codec.encode(AN_ORDER)
        assert data == b"\x00" + struct.pack(">I", 2) + Schema(ORDER).marshal(AN_ORDER)
        assert registry.subjects() == {"orders-value": [2]}
        assert codec.decode(data) == AN_ORDER


def test_after_the_first_event_the_registry_is_not_asked_again(registry: RegistryStub) -> None:
    with RegistryCodec(config(registry), "orders", ORDER, cls=Order) as codec:
        data = codec.encode(AN_ORDER)
        codec.decode(data)
        asked = len(registry.requests)
        for _ in range(5):
            assert codec.decode(codec.encode(AN_ORDER)) == Order(
                "a", 3, [Item("x", 5), Item("y", -1)], {"k": "v"}
            )
        assert len(registry.requests) == asked


def test_keys_have_a_subject_of_their_own(registry: RegistryStub) -> None:
    with RegistryCodec(config(registry), "orders", "string", is_key=True) as codec:
        assert codec.decode(codec.encode("a")) == "a"
        assert registry.subjects() == {"orders-key": [1]}


def test_without_a_schema_each_message_says_what_it_is(registry: RegistryStub) -> None:
    number = registry.add(json.dumps(one("long")))
    with RegistryCodec(config(registry), "orders") as codec:
        assert codec.decode(b"\x00" + struct.pack(">I", number) + b"\x0a") == {"x": 5}
        with pytest.raises(MarshalError, match="has no schema, so it can only decode"):
            codec.encode({"x": 5})


def test_what_another_schema_wrote_is_resolved_to_ours(registry: RegistryStub) -> None:
    number = registry.add(json.dumps(one("int")))
    ours = {
        **one("long"),
        "fields": [*one("long")["fields"], {"name": "y", "type": "string", "default": "d"}],
    }

    @dataclass
    class Ours:
        x: int
        y: str

    with RegistryCodec(config(registry), "orders", ours, cls=Ours) as codec:
        assert codec.decode(b"\x00" + struct.pack(">I", number) + b"\x0a") == Ours(5, "d")


def test_events_are_checked_and_taken_apart_as_by_a_schema(registry: RegistryStub) -> None:
    """Classes, unions of several records, logical types: the same bytes as `Schema.marshal`."""

    @dataclass
    class Cat:
        lives: int

    cat, dog = (
        {"type": "record", "name": name, "fields": [{"name": "lives", "type": "int"}]}
        for name in ("Dog", "Cat")
    )
    definition = one(["null", "string", cat, dog, {"type": "long", "logicalType": "timestamp-millis"}])
    with RegistryCodec(config(registry), "pets", definition) as codec:
        for value in (Cat(9), "a", 1000, None):
            assert codec.encode({"x": value})[5:] == Schema(definition).marshal({"x": value})
        with pytest.raises(MarshalError, match=r"event\.x: expected null or string or record Dog") as caught:
            codec.encode({"x": b"secret"})
        assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "not in the schema registry's format"),
        (b"\x00\x00\x00", "not in the schema registry's format"),
        (b'{"json": true}', "not in the schema registry's format"),
        (None, "expected bytes, found None"),
        (b"\x00\x00\x00\x00\x01\x04a", "confluent-kafka's serializer raised a"),
    ],
)
def test_what_is_not_in_the_format_is_an_unmarshal_error(
    registry: RegistryStub, data: Any, problem: str
) -> None:
    registry.add(json.dumps(one("string")))
    with (
        RegistryCodec(config(registry), "orders") as codec,
        pytest.raises(UnmarshalError, match=problem) as caught,
    ):
        codec.decode(data)
    assert caught.value.__context__ is None


def test_an_unknown_id_is_the_registrys_answer(registry: RegistryStub) -> None:
    with (
        RegistryCodec(config(registry), "orders") as codec,
        pytest.raises(RegistryError, match="the registry answered: Schema not found") as caught,
    ):
        codec.decode(b"\x00\x00\x00\x00\x63\x02a")
    assert not caught.value.retriable


def test_a_schema_that_is_not_registered_is_the_registrys_answer(registry: RegistryStub) -> None:
    conf = {"auto.register.schemas": False}
    with (
        RegistryCodec(config(registry), "orders", ORDER, serializer_conf=conf) as codec,
        pytest.raises(RegistryError, match="Subject not found"),
    ):
        codec.encode(AN_ORDER)


def test_a_registry_that_fails_is_retriable_and_no_fault_of_the_event(registry: RegistryStub) -> None:
    with RegistryCodec(config(registry), "orders", ORDER) as codec:
        registry.fail_with = 503
        with pytest.raises(RegistryError, match="out of order") as caught:
            codec.encode(AN_ORDER)
        assert caught.value.retriable
        registry.fail_with = None
        assert codec.decode(codec.encode(AN_ORDER)) == AN_ORDER


def test_a_registry_out_of_reach_is_retriable_and_its_address_is_not_shown() -> None:
    with RegistryStub() as stub:
        url = stub.url.replace("http://", "http://me:secret@")
    with (
        RegistryCodec({"url": url, "max.retries": 0}, "orders", ORDER) as codec,
        pytest.raises(RegistryError, match="no registry reached") as caught,
    ):
        codec.encode(AN_ORDER)
    assert caught.value.retriable
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(codec)


def test_a_message_that_nests_deeply_does_not_end_the_process(registry: RegistryStub) -> None:
    """confluent-kafka reads through fastavro, which recurses in C without a limit."""
    number = registry.add(json.dumps(LIST))
    frame = b"\x00" + struct.pack(">I", number)
    with RegistryCodec(config(registry), "lists", LIST) as codec:
        assert codec.decode(frame + b"\x02\x02\x00") == {"next": {"next": {"next": None}}}
        with pytest.raises(UnmarshalError, match="nests too deeply"):
            codec.decode(frame + b"\x02" * 100_000 + b"\x00")
        event: dict[str, Any] = {"next": None}
        for _ in range(150):
            event = {"next": event}
        with pytest.raises(MarshalError, match=r"failed to marshal .* nests too deeply"):
            codec.encode(event)


def test_a_configuration_that_is_not_valid_is_an_error_at_once(registry: RegistryStub) -> None:
    for bad in ({}, {"url": "ftp://me:secret@host"}, {"url": registry.url, "no.such": "secret"}):
        with pytest.raises(ConfigError, match="configuration of the schema registry") as caught:
            RegistryCodec(bad, "orders", ORDER)
        assert "secret" not in str(caught.value)
        assert caught.value.__context__ is None
    with pytest.raises(ConfigError, match=r"Unrecognized properties: no\.such"):
        RegistryCodec(config(registry), "orders", ORDER, serializer_conf={"no.such": 1})


def test_a_client_of_the_user_stays_the_users(registry: RegistryStub) -> None:
    from confluent_kafka.schema_registry import SchemaRegistryClient

    with SchemaRegistryClient(config(registry)) as client:
        with RegistryCodec(client, "orders", ORDER) as codec:
            codec.encode(AN_ORDER)
        assert client.get_schema(1).schema_str == json.dumps(ORDER)


def test_without_its_packages_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka.schema_registry", None)
    with pytest.raises(ConfigError, match=r"pip install 'dp-kafka\[registry\]'"):
        RegistryCodec({"url": "http://localhost"}, "orders")
