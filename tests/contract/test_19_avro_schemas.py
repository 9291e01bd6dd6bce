"""Avro: invalid schemas, invalid data, and schemas that change. Contract 19.3, 19.9 and 19.12."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from dp_kafka.avro import Schema, SchemaError, UnmarshalError
from tests.avro_events import ADDRESS, ENGINES, ORDER, one


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Both packages: nothing below may depend on which is installed."""
    return str(request.param)


@pytest.mark.parametrize(
    ("definition", "problem"),
    [
        ("{", "schema: not valid JSON at line 1 column 2"),
        (5, "schema: expected JSON text, a dict or a list, found int"),
        ({"type": "lng"}, "schema.type: unknown type 'lng'"),
        ({"name": "R"}, 'schema: the object has no "type"'),
        ({"type": "record", "fields": []}, 'schema: the record has no "name"'),
        ({"type": "record", "name": "R"}, 'schema: the record has no "fields"'),
        ({"type": "record", "name": "1R", "fields": []}, "schema.name: '1R' is not a name"),
        (one("lng"), "schema.fields[0].type: unknown type 'lng'"),
        (one({"type": "array"}), 'schema.fields[0].type: the array has no "items"'),
        (one({"type": "array", "items": ["int", "x"]}), "schema.fields[0].type.items[1]: unknown type 'x'"),
        (one(["null", "null"]), "schema.fields[0].type[1]: null is in the union twice"),
        (one(["null", ["int"]]), "schema.fields[0].type[1]: a union cannot directly contain a union"),
        (one([]), "schema.fields[0].type: a union needs at least one type"),
        (one("long", default="x"), "schema.fields[0].default: expected long, found 'x'"),
        (one("int", default=2**31), "schema.fields[0].default: 2147483648 is out of the range of int"),
        (one(ADDRESS, default={}), "schema.fields[0].default: record Address needs 'city'"),
        (
            one({"type": "enum", "name": "E", "symbols": ["A", "A"]}),
            "schema.fields[0].type.symbols: expected",
        ),
        (one({"type": "fixed", "name": "F", "size": -1}), "schema.fields[0].type.size: expected"),
        (
            one({"type": "bytes", "logicalType": "decimal"}),
            "schema.fields[0].type: logical type decimal needs",
        ),
        (one({"type": "string", "logicalType": "date"}), "schema.fields[0].type: logical type date needs"),
        (
            {**one("int"), "fields": [{"name": "a", "type": "int"}, {"name": "a", "type": "int"}]},
            "schema.fields[1]: record One has two fields called 'a'",
        ),
    ],
)
def test_19_a_bad_schema_is_an_error_at_once_that_says_where(definition: Any, problem: str) -> None:
    """Contract 19.3, where the original finds out at the first event."""
    with pytest.raises(SchemaError) as caught:
        Schema(definition)
    assert problem in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert caught.value.field == problem.split(":", 1)[0]


@pytest.mark.parametrize("data", [b"", b"\x02", b"\x02a\x06\x04\x02x"])
def test_19_data_that_ends_early_says_where(engine: str, data: bytes) -> None:
    """Contract 19.12: the path, and how far it was good."""
    with pytest.raises(UnmarshalError, match=rf"event\..*the data ends inside this .* of {len(data)}\)"):
        Schema(ORDER, engine=engine).unmarshal(data)


def test_19_data_that_goes_on_says_so(engine: str) -> None:
    """Contract 19.12."""
    with pytest.raises(UnmarshalError, match="record One ends at byte 2, and the data has 3 bytes"):
        Schema(one("string"), engine=engine).unmarshal(b"\x02aX")
    with pytest.raises(UnmarshalError, match="expected bytes, found str"):
        Schema(one("string"), engine=engine).unmarshal("text")
    with pytest.raises(UnmarshalError, match="expected bytes, found None"):
        Schema(one("string"), engine=engine).unmarshal(None)


OLD = {
    "type": "record",
    "name": "User",
    "fields": [
        {"name": "name", "type": "string"},
        {"name": "age", "type": "int"},
        {"name": "gone", "type": {"type": "array", "items": "string"}},
        {"name": "colour", "type": {"type": "enum", "name": "C", "symbols": ["RED", "NEW"]}},
        {"name": "score", "type": ["null", "int"]},
    ],
}
NEW_COLOUR = {"type": "enum", "name": "C", "symbols": ["RED", "BLUE"], "default": "BLUE"}
NEW = {
    "type": "record",
    "name": "Person",
    "aliases": ["User"],
    "fields": [
        {"name": "colour", "type": NEW_COLOUR},
        {"name": "full_name", "aliases": ["name"], "type": ["null", "string"]},
        {"name": "age", "type": "double"},
        {"name": "score", "type": ["string", "long", "null"]},
        {"name": "tags", "type": {"type": "array", "items": "string"}, "default": []},
    ],
}
USER = {"name": "Ada", "age": 36, "gone": ["x"], "colour": "NEW", "score": 7}
PERSON = {"colour": "BLUE", "full_name": "Ada", "age": 36.0, "score": 7, "tags": []}


class TestReaderSchema:
    """Evolution by Avro's rules of schema resolution; contract 19.9 is the writer's half of it."""

    def test_it_renames_widens_adds_and_drops(self, engine: str) -> None:
        """Contract 19.9."""
        new = Schema(NEW, engine=engine)
        schema = Schema(OLD, reader_schema=new, engine=engine)
        data = schema.marshal(USER)
        assert schema.unmarshal(data) == PERSON
        old = Schema(OLD, engine=engine)
        assert old.unmarshal(data, reader_schema=new) == PERSON
        assert old.unmarshal(data, reader_schema=NEW) == PERSON
        assert old.unmarshal(data) == USER
        assert isinstance(schema.unmarshal(data)["age"], float)

    def test_a_default_is_a_new_object_for_each_event(self, engine: str) -> None:
        """Contract 19.9: an event is its owner's to change."""
        schema = Schema(OLD, reader_schema=NEW, engine=engine)
        data = schema.marshal(USER)
        schema.unmarshal(data)["tags"].append("mine")
        assert schema.unmarshal(data)["tags"] == []

    def test_it_builds_classes_too(self, engine: str) -> None:
        """Contract 19.9."""
        person = dataclasses.make_dataclass("Person", [("full_name", str), ("tags", tuple[str, ...])])
        schema = Schema(OLD, reader_schema=NEW, engine=engine)
        assert schema.unmarshal(schema.marshal(USER), person) == person("Ada", ())

    def test_a_reader_that_cannot_read_is_an_error_at_once(self) -> None:
        """Contract 19.9: says where, and why."""
        with pytest.raises(SchemaError, match=r"event\.x: the writer's string cannot be read as long"):
            Schema(one("string"), reader_schema=one("long"))
        added = {"type": "record", "name": "One", "fields": [{"name": "y", "type": "long"}]}
        with pytest.raises(SchemaError, match="has no field 'y', and the reader gives it no default"):
            Schema(one("string"), reader_schema=added)
        millis, micros = (
            {"type": "long", "logicalType": f"timestamp-{unit}"} for unit in ("millis", "micros")
        )
        with pytest.raises(SchemaError, match="timestamp-millis cannot be read as timestamp-micros"):
            Schema(one(millis), reader_schema=one(micros))

    def test_a_branch_that_the_reader_lacks_is_an_error_when_it_comes(self, engine: str) -> None:
        """Contract 19.9."""
        schema = Schema(one(["null", "string", "long"]), reader_schema=one(["null", "string"]), engine=engine)
        assert schema.unmarshal(schema.marshal({"x": "a"})) == {"x": "a"}
        with pytest.raises(UnmarshalError, match=r"event\.x: found long, which the reader schema's null or"):
            schema.unmarshal(schema.marshal({"x": 5}))

    def test_an_unknown_symbol_without_default_is_an_error(self, engine: str) -> None:
        """Contract 19.9."""
        old, new = ({"type": "enum", "name": "E", "symbols": symbols} for symbols in (["A", "B"], ["A"]))
        schema = Schema(one(old), reader_schema=one(new), engine=engine)
        assert schema.unmarshal(b"\x00") == {"x": "A"}
        with pytest.raises(UnmarshalError, match=r"event\.x: the symbol is none of the reader's enum E"):
            schema.unmarshal(b"\x02")
