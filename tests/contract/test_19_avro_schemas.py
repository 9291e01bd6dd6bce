"""Avro: invalid schemas, invalid data, and schemas that change. Contract 19.3, 19.9 and 19.12."""

from __future__ import annotations

import dataclasses
import datetime as dt
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
        ({"type": {"type": "lng"}}, "schema.type.type: unknown type 'lng'"),
        ({"type": 5}, "schema.type: expected a type name, found int"),
        (one(5), "schema.fields[0].type: expected a type name, an object or a list, found int"),
        (one("int", default=object()), "schema: not what JSON can hold: Object of type object"),
        ({**one("int"), "namespace": 5}, "schema.namespace: expected a string, found int"),
        ({**one("int"), "name": "record"}, "schema.name: 'record' is the name of a built-in type"),
        ({**one("int"), "name": 5}, "schema.name: expected a string, found int"),
        ({**one("int"), "aliases": "Two"}, "schema.aliases: expected a list of strings"),
        ({**one("int"), "fields": {}}, "schema.fields: expected a list, found dict"),
        ({**one("int"), "fields": ["x"]}, "schema.fields[0]: expected an object, found str"),
        ({**one("int"), "fields": [{"name": "a b", "type": "int"}]}, "schema.fields[0].name: 'a b' is not"),
        (one("int", order="up"), "schema.fields[0].order: expected ascending, descending or ignore"),
        (
            one({"type": "record", "name": "One", "fields": []}),
            "schema.fields[0].type.name: 'One' is defined twice",
        ),
        (
            one({"type": "enum", "name": "E", "symbols": ["A-B"]}),
            "schema.fields[0].type.symbols: 'A-B' is not a name",
        ),
        (
            one({"type": "enum", "name": "E", "symbols": ["A"], "default": "B"}),
            "schema.fields[0].type.default: 'B' is not one of the symbols",
        ),
        (
            one({"type": "fixed", "name": "F", "size": 4, "logicalType": "uuid"}),
            "schema.fields[0].type: logical type uuid needs a fixed of 16 bytes, found 4",
        ),
        (
            one({"type": "bytes", "logicalType": "decimal", "precision": 2, "scale": 3}),
            "schema.fields[0].type: the scale of a decimal must be an integer from 0 to its precision, 2",
        ),
        (
            one({"type": "bytes", "logicalType": "decimal", "precision": 10**9}),
            "schema.fields[0].type: a decimal precision of 1000000000 is more than",
        ),
        (
            one({"type": "fixed", "name": "F", "size": 1, "logicalType": "decimal", "precision": 3}),
            "schema.fields[0].type: a decimal precision of 3 does not fit 1 bytes, which hold 2 digits",
        ),
        (
            one({"type": "fixed", "name": "F", "size": 2}, default="abc"),
            "schema.fields[0].default: expected 2 characters, found 3",
        ),
        (one("bytes", default="€"), "schema.fields[0].default: a default of bytes has code points up to 255"),
        (
            one({"type": "enum", "name": "E", "symbols": ["A"]}, default="B"),
            "schema.fields[0].default: 'B' is not a symbol of enum E",
        ),
        (
            one({"type": "array", "items": "int"}, default=1),
            "schema.fields[0].default: expected a list, found 1",
        ),
        (
            one({"type": "map", "values": "int"}, default=[]),
            "schema.fields[0].default: expected an object, found []",
        ),
        (one(ADDRESS, default=[]), "schema.fields[0].default: expected an object, found []"),
        (one(["null", "int"], default="x"), "schema.fields[0].default: expected null or int, found 'x'"),
        (one("boolean", default=1), "schema.fields[0].default: expected boolean, found 1"),
        (
            one(["null", "One"], default={"x": {"x": {}}}),
            "schema.fields[0].default: the default of null or record One contains itself",
        ),
    ],
)
def test_19_a_bad_schema_is_an_error_at_once_that_says_where(definition: Any, problem: str) -> None:
    """Contract 19.3, where the original finds out at the first event."""
    with pytest.raises(SchemaError) as caught:
        Schema(definition)
    assert problem in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert caught.value.field == problem.split(": ", 1)[0]


@pytest.mark.parametrize(
    ("type_", "default", "problem"),
    [
        ({"type": "array", "items": "int"}, [1, "b"], "default[1]: expected int, found 'b'"),
        ({"type": "map", "values": "int"}, {"k": "v"}, "default['k']: expected int, found 'v'"),
        (ADDRESS, {"city": 5}, "default.city: expected string, found 5"),
    ],
)
def test_19_9_what_is_wrong_inside_of_a_default_is_found_there(
    type_: Any, default: Any, problem: str
) -> None:
    """Contract 19.9: the path goes on into the default, and the error's field is the default."""
    with pytest.raises(SchemaError) as caught:
        Schema(one(type_, default=default))
    assert f"schema.fields[0].{problem}" in str(caught.value)
    assert caught.value.field == "schema.fields[0].default"


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

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
F2 = {"type": "fixed", "name": "F", "size": 2}


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

    @pytest.mark.parametrize(
        ("old", "new", "value", "read"),
        [
            ("int", "long", 5, 5),
            ("int", "float", 5, 5.0),
            ("long", "double", 5, 5.0),
            ("float", "double", 1.5, 1.5),
            ("string", "bytes", "é", "é".encode()),
            ("bytes", "string", "é".encode(), "é"),
            ("int", {"type": "long", "logicalType": "timestamp-millis"}, 0, EPOCH),
            ({"type": "map", "values": "int"}, {"type": "map", "values": "double"}, {"k": 5}, {"k": 5.0}),
            ({"type": "array", "items": "int"}, {"type": "array", "items": "double"}, [5], [5.0]),
            ("string", ["null", "bytes"], "a", b"a"),
            (["int", "string"], ["string", "double"], 5, 5.0),
            (F2, {**F2, "namespace": "other"}, b"ab", b"ab"),
        ],
    )
    def test_it_reads_what_the_specification_lets_it_widen(
        self, engine: str, old: Any, new: Any, value: Any, read: Any
    ) -> None:
        """Contract 19.9: the value, and its type."""
        schema = Schema(one(old), reader_schema=one(new), engine=engine)
        result = schema.unmarshal(schema.marshal({"x": value}))["x"]
        assert result == read
        assert type(result) is type(read)

    @pytest.mark.parametrize(
        ("old", "new", "problem"),
        [
            ("long", "int", r"event\.x: the writer's long cannot be read as int"),
            (F2, {**F2, "size": 3}, r"event\.x: the writer's fixed F \(2 bytes\) cannot be read as fixed F"),
            (F2, {**F2, "name": "G"}, r"event\.x: the writer's fixed F"),
            ("long", ["null", "int"], r"event\.x: the writer's long cannot be read as null or int"),
            (["null", "long"], "string", r"event\.x: the writer's long cannot be read as string"),
            (
                {"type": "array", "items": "long"},
                {"type": "array", "items": "int"},
                r"event\.x\[\]: the writer",
            ),
            (
                {"type": "map", "values": "long"},
                {"type": "map", "values": "int"},
                r"event\.x\{\}: the writer",
            ),
        ],
    )
    def test_what_it_can_never_read_is_an_error_when_the_schema_is_made(
        self, old: Any, new: Any, problem: str
    ) -> None:
        """Contract 19.9: not at the first event that comes."""
        with pytest.raises(SchemaError, match=problem):
            Schema(one(old), reader_schema=one(new))

    def test_bytes_that_are_no_text_are_an_error_with_the_place(self, engine: str) -> None:
        """Contract 19.9: the path leads through arrays and maps, and the bytes are not shown."""
        old, new = (
            {"type": "array", "items": {"type": "map", "values": kind}} for kind in ("bytes", "string")
        )
        schema = Schema(one(old), reader_schema=one(new), engine=engine)
        data = schema.marshal({"x": [{}, {"a": b"a", "b": b"\xff"}]})
        with pytest.raises(UnmarshalError, match=r"event\.x\[1\]\{1\}: the bytes are not UTF-8"):
            schema.unmarshal(data)

    def test_a_record_that_contains_itself_is_widened_at_every_depth(self, engine: str) -> None:
        """Contract 19.9."""
        old, new = (
            {
                "type": "record",
                "name": "Node",
                "fields": [{"name": "value", "type": kind}, {"name": "next", "type": ["null", "Node"]}],
            }
            for kind in ("int", "double")
        )
        schema = Schema(old, reader_schema=new, engine=engine)
        read = schema.unmarshal(schema.marshal({"value": 1, "next": {"value": 2, "next": None}}))
        assert read == {"value": 1.0, "next": {"value": 2.0, "next": None}}
        assert [type(read["value"]), type(read["next"]["value"])] == [float, float]


def test_19_a_schema_tells_its_name_and_its_package(engine: str) -> None:
    """What somebody sees who prints one."""
    assert repr(Schema(one("string"), engine=engine)) == f"<Schema One, through {engine}>"


def test_19_data_may_be_any_bytes_like_object(engine: str) -> None:
    """Contract 19.1: also a slice of a larger buffer."""
    schema = Schema(one("string"), engine=engine)
    assert schema.unmarshal(bytearray(b"\x02a")) == schema.unmarshal(memoryview(b"..\x02a")[2:]) == {"x": "a"}


@pytest.mark.parametrize("depth", [600, 20_000])
@pytest.mark.parametrize("as_text", [False, True])
def test_19_a_definition_that_nests_too_deeply_is_an_error(depth: int, as_text: bool) -> None:
    """Contract 19.3: and no RecursionError, which nobody who reads schemas expects."""
    definition: Any = "int"
    for _ in range(depth):
        definition = {"type": "array", "items": definition}
    if as_text:
        definition = '{"type": "array", "items": ' * depth + '"int"' + "}" * depth
    with pytest.raises(SchemaError, match=r"^schema.*: the definition is nested too deeply$"):
        Schema(definition)
