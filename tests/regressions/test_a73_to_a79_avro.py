"""Defects of the original's Avro that are not here: each test fails with the one that it is named after."""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass
from typing import Any

import pytest

from dp_kafka import MarshalError
from dp_kafka.avro import Schema, UnmarshalError
from tests.avro_events import ENGINES, one

ITEM = {
    "type": "record",
    "name": "Item",
    "fields": [
        {"name": "number", "type": "int"},
        {"name": "total", "type": "long"},
        {"name": "names", "type": {"type": "array", "items": "string"}},
    ],
}
NESTED = {
    "type": "record",
    "name": "Outer",
    "fields": [
        {"name": "item", "type": ITEM},
        {"name": "items", "type": {"type": "array", "items": "Item"}},
    ],
}


@dataclass
class Item:
    number: int
    total: int
    names: list[str]


@dataclass
class Outer:
    item: Item
    items: list[Item]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Both packages."""
    return str(request.param)


def test_a73_integers_of_nested_records_come_back_as_integers(engine: str) -> None:
    """They went through JSON as floats, and lost what 53 bits do not hold."""
    event = Outer(Item(-7, 2**63 - 1, []), [Item(1, -(2**63), []), Item(2**31 - 1, 2**53 + 1, [])])
    schema = Schema(NESTED, engine=engine)
    back = schema.unmarshal(schema.marshal(event), Outer)
    assert back == event
    assert type(back.item.total) is int


def test_a74_string_lists_of_nested_records_get_no_extra_strings(engine: str) -> None:
    schema = Schema(NESTED, engine=engine)
    event = Outer(Item(1, 1, ["a", "b"]), [Item(1, 1, ["c"])])
    back = schema.unmarshal(schema.marshal(event), Outer)
    assert back.item.names == ["a", "b"]
    assert back.items[0].names == ["c"]


@pytest.mark.parametrize(
    "type_",
    [
        "string",
        "long",
        ITEM,
        {"type": "array", "items": "string"},
        {"type": "array", "items": ITEM},
        {"type": "map", "values": "long"},
    ],
    ids=str,
)
def test_a75_null_is_read_wherever_the_schema_allows_it(engine: str, type_: Any) -> None:
    schema = Schema(one(["null", type_]), engine=engine)
    assert schema.unmarshal(schema.marshal({"x": None})) == {"x": None}

    @dataclass
    class Any_:
        x: Any

    assert schema.unmarshal(b"\x00", Any_) == Any_(None)


@pytest.mark.parametrize(("type_", "empty"), [("string", ""), ({"type": "array", "items": "string"}, [])])
def test_a75_what_is_empty_under_a_null_first_union_round_trips(engine: str, type_: Any, empty: Any) -> None:
    schema = Schema(one(["null", type_]), engine=engine)
    assert schema.unmarshal(schema.marshal({"x": empty})) == {"x": empty}


def test_a76_array_items_may_contain_records_and_arrays_of_records(engine: str) -> None:
    schema = Schema({"type": "array", "items": NESTED}, engine=engine)
    item = {"number": 1, "total": 2, "names": ["a"]}
    event = [{"item": item, "items": [item, item]}, {"item": item, "items": []}]
    assert schema.unmarshal(schema.marshal(event)) == event


def test_a77_what_made_the_original_panic_is_an_error_that_says_so(engine: str) -> None:
    schema = Schema(one("long"), engine=engine)
    with pytest.raises(MarshalError, match="event: expected record One, found None"):
        schema.marshal(None)
    for no_class in (Item(1, 2, []), "Item", 5):
        with pytest.raises(UnmarshalError, match="cls must be a class to build"):
            schema.unmarshal(b"\x02", no_class)
    for wrong in (str, int, object.__class__):
        with pytest.raises(UnmarshalError, match="event"):
            schema.unmarshal(b"\x02", wrong)


def test_a77_fields_that_only_one_side_has_are_no_reason_to_fail(engine: str) -> None:
    @dataclass
    class Other:
        x: int
        added: str = "default"

    two = {
        "type": "record",
        "name": "Two",
        "fields": [{"name": "x", "type": "long"}, {"name": "unread", "type": "string"}],
    }
    schema = Schema(two, engine=engine)
    assert schema.unmarshal(b"\x0a\x02a", Other) == Other(5)

    @dataclass
    class Needy:
        x: int
        needed: str

    with pytest.raises(UnmarshalError, match=r"event\.needed: Needy needs a value, and the data has none"):
        schema.unmarshal(b"\x0a\x02a", Needy)


def test_a78_types_are_checked_at_every_depth(engine: str) -> None:
    schema = Schema(NESTED, engine=engine)
    good = {"number": 1, "total": 2, "names": ["a"]}
    with pytest.raises(MarshalError, match=r"event\.items\[1\]\.names\[0\]: expected string, found bytes"):
        schema.marshal({"item": good, "items": [good, {**good, "names": [b"a"]}]})


def test_a78_null_may_be_any_branch_of_a_record_union(engine: str) -> None:
    for union in ([ITEM, "null"], ["null", ITEM], ["string", ITEM, "null"]):
        schema = Schema(one(union), engine=engine)
        for value in (None, {"number": 1, "total": 2, "names": []}):
            assert schema.unmarshal(schema.marshal({"x": value})) == {"x": value}


def test_a78_an_unknown_symbol_is_an_error_and_writes_nothing(engine: str) -> None:
    schema = Schema(one({"type": "enum", "name": "E", "symbols": ["A"]}), engine=engine)
    with pytest.raises(MarshalError, match="not one of its symbols"):
        schema.marshal({"x": "B"})


def test_a79_reading_an_empty_array_gives_an_empty_array(engine: str) -> None:
    schema = Schema(NESTED, engine=engine)
    outer = schema.unmarshal(schema.marshal(Outer(Item(1, 1, []), [Item(1, 1, [])])), Outer)
    again = schema.unmarshal(schema.marshal(Outer(Item(1, 1, []), [])), Outer)
    assert again.items == []
    assert len(outer.items) == 1


def test_a79_a_schema_is_parsed_once(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    schema = Schema(NESTED, engine=engine)

    def refuse(*_args: object) -> None:
        raise AssertionError("parsed again")

    monkeypatch.setattr("json.loads", refuse)
    monkeypatch.setattr("dp_kafka.avro.schema.parse", refuse)
    monkeypatch.setattr("avro.schema.make_avsc_object", refuse)
    monkeypatch.setattr("fastavro.parse_schema", refuse)
    event = Outer(Item(1, 1, ["a"]), [Item(2, 2, [])])
    assert schema.unmarshal(schema.marshal(event), Outer) == event


# Not defects of the original, but of the packages under this library.

LIST = {"type": "record", "name": "L", "fields": [{"name": "next", "type": ["null", "L"]}]}


def test_deeply_nested_data_does_not_end_the_process() -> None:
    """fastavro recurses in C: some thousand bytes of a recursive schema overflow the process's stack."""
    schema = Schema(LIST, engine="fastavro")
    assert schema.engine == "avro"
    with pytest.raises(UnmarshalError, match="nests too deeply"):
        schema.unmarshal(b"\x02" * 100_000 + b"\x00")
    short = b"\x02" * 20 + b"\x00"
    assert schema.marshal(schema.unmarshal(short)) == short


def test_an_event_that_contains_itself_is_an_error() -> None:
    event: dict[str, Any] = {}
    event["next"] = event
    with pytest.raises(MarshalError, match="nests too deeply, or contains itself"):
        Schema(LIST).marshal(event)
    items: list[Any] = []
    items.append(items)
    with pytest.raises(MarshalError, match=r"event\.x\[0\]: expected long, found list"):
        Schema(one({"type": "array", "items": "long"})).marshal({"x": items})


def test_a_count_without_bytes_behind_it_does_not_fill_the_memory(engine: str) -> None:
    """A null takes no byte, so ten bytes can announce a million million; the packages make them all."""
    schema = Schema(one({"type": "array", "items": "null"}), engine=engine)
    assert schema.unmarshal(schema.marshal({"x": [None] * 3})) == {"x": [None] * 3}
    huge = b"\xfe" + b"\xff" * 7 + b"\x7f" + b"\x00"
    outcome: list[BaseException] = []

    def read() -> None:
        try:
            schema.unmarshal(huge)
        except BaseException as exc:
            outcome.append(exc)

    # In a thread, so that a failure is a failure and no hanging test run.
    reader = threading.Thread(target=read, name="test-avro-huge", daemon=True)
    reader.start()
    reader.join(20)
    assert not reader.is_alive()
    assert "event.x: it announces more than 1000000 values that take no bytes" in str(outcome[0])


def test_without_fastavro_the_avro_package_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastavro", None)
    schema = Schema(one("long"))
    assert schema.engine == "avro"
    assert schema.marshal({"x": 5}) == b"\x0a"
    with pytest.raises(ValueError, match=r"fastavro is not installed: pip install 'dp-kafka\[fast\]'"):
        Schema(one("long"), engine="fastavro")
    with pytest.raises(ValueError, match="engine: expected one of avro, fastavro, found 'other'"):
        Schema(one("long"), engine="other")
