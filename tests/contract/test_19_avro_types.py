"""Avro: each type, what it takes and what it refuses. Contract 19.3 and 19.13."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import numbers
import uuid
from typing import Any

import pytest

from dp_kafka import MarshalError
from dp_kafka.avro import Schema, UnmarshalError
from tests.avro_events import ENGINES, marshalled, one


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Both packages: nothing below may depend on which is installed."""
    return str(request.param)


@pytest.mark.parametrize(
    ("type_", "value", "data"),
    [
        ("boolean", True, b"\x01"),
        ("int", -5, b"\x09"),
        ("long", 64, b"\x80\x01"),
        ("string", "é", b"\x04\xc3\xa9"),
        ({"type": "array", "items": "string"}, ["a"], b"\x02\x02a\x00"),
        ({"type": "map", "values": "string"}, {"k": "v"}, b"\x02\x02k\x02v\x00"),
        (["null", "string"], None, b"\x00"),
        ("double", 1.5, b"\x00\x00\x00\x00\x00\x00\xf8?"),
    ],
)
def test_19_3_any_type_may_stand_at_the_top(engine: str, type_: Any, value: Any, data: bytes) -> None:
    """Contract 19.3 and 19.4, widened: the original marshals records only, and tells seven kinds apart."""
    schema = Schema(type_, engine=engine)
    assert schema.marshal(value) == data
    assert schema.unmarshal(data) == value


@pytest.mark.parametrize(
    ("type_", "value", "problem"),
    [
        ("int", 2**31, "expected int, found int out of range (-2147483648 to 2147483647)"),
        ("int", -(2**31) - 1, "expected int, found int out of range (-2147483648 to 2147483647)"),
        ("long", 2**63, "expected long, found int out of range"),
        ("int", True, "expected int, found bool"),
        ("long", True, "expected long, found bool"),
        ("long", 1.0, "expected long, found float"),
        ("long", "secret", "expected long, found str"),
        ("boolean", 1, "expected boolean, found int"),
        ("double", True, "expected double, found bool"),
        ("double", "1.5", "expected double, found str"),
        ("double", decimal.Decimal("1.5"), "expected double, found Decimal"),
        ("double", 10**400, "expected double, found int out of range"),
        ("float", 1e300, "expected float, found float out of range"),
        ("float", 10**39, "expected float, found int out of range"),
        ("string", b"secret", "expected string, found bytes"),
        ("string", 5, "expected string, found int"),
        ("string", None, "expected string, found None"),
        ("string", "\ud800", "expected string, found a str with a lone surrogate"),
        ("bytes", "secret", "expected bytes, found str"),
        ("null", 0, "expected null, found int"),
        ({"type": "fixed", "name": "F", "size": 2}, b"abc", "expected fixed F (2 bytes), found 3 bytes"),
        ({"type": "array", "items": "int"}, "secret", "expected array, found str"),
        ({"type": "array", "items": "int"}, {"a": 1}, "expected array, found dict"),
        ({"type": "map", "values": "int"}, [1], "expected map, found list"),
        ({"type": "map", "values": "int"}, {1: 1}, "{0}: expected a str as key, found int"),
        (["null", "long"], "secret", "expected long, found str"),
        (["null", "long", "string"], 1.5, "expected null or long or string, found float"),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, 5, "expected enum E, found int"),
        ("float", "1.5", "expected float, found str"),
    ],
)
def test_19_3_what_does_not_fit_names_the_path_and_no_value(
    engine: str, type_: Any, value: Any, problem: str
) -> None:
    """Contract 19.3: out of range and of the wrong type, in Python's terms."""
    with pytest.raises(MarshalError) as caught:
        marshalled(type_, value, engine)
    text = str(caught.value)
    assert "event.x" in text
    assert problem in text
    assert "secret" not in text
    assert caught.value.__context__ is None


class Colour(enum.Enum):
    RED = "RED"
    DARK = "dark"


@pytest.mark.parametrize("value", ["RED", Colour.RED])
def test_19_13_enums_take_symbols_and_members(engine: str, value: Any) -> None:
    """Contract 19.13: by value or by name; any other is an error, and names none but the schema's symbols."""
    schema = Schema(one({"type": "enum", "name": "Colour", "symbols": ["RED", "DARK"]}), engine=engine)
    data = schema.marshal({"x": value})
    assert data == b"\x00"
    assert schema.marshal({"x": Colour.DARK}) == b"\x02"
    painted = dataclasses.make_dataclass("Painted", [("x", Colour)])
    assert schema.unmarshal(data, painted).x is Colour.RED
    assert schema.unmarshal(b"\x02", painted).x is Colour.DARK
    problem = r"event\.x: expected enum Colour \(RED, DARK\), found a str that is not one of its symbols"
    with pytest.raises(MarshalError, match=problem):
        schema.marshal({"x": "secret"})


UTC = dt.timezone.utc
NOON = dt.datetime(2024, 2, 29, 12, 0, 0, 123456, tzinfo=UTC)


@pytest.mark.parametrize(
    ("type_", "value", "read"),
    [
        (("int", "date"), dt.date(1969, 12, 31), None),
        (("int", "time-millis"), dt.time(1, 2, 3, 4567), dt.time(1, 2, 3, 4000)),
        (("long", "time-micros"), dt.time(23, 59, 59, 999999), None),
        (("long", "timestamp-millis"), NOON, NOON.replace(microsecond=123000)),
        (("long", "timestamp-millis"), 1000, dt.datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)),
        (("long", "timestamp-micros"), NOON, None),
        (("long", "timestamp-micros"), dt.datetime.min.replace(tzinfo=UTC), None),
        (("long", "local-timestamp-millis"), dt.datetime(1960, 1, 1), None),
        (("long", "local-timestamp-micros"), dt.datetime(2024, 1, 1, 0, 0, 0, 1), None),
        (("string", "uuid"), uuid.UUID(int=5), None),
        (("fixed", "uuid"), uuid.UUID(int=5), None),
        (("bytes", "decimal"), decimal.Decimal("-1.28"), None),
        (("bytes", "decimal"), 3, decimal.Decimal("3.00")),
        (("fixed", "decimal"), decimal.Decimal("1.5"), decimal.Decimal("1.50")),
        (("long", "of-our-own"), 5, None),
    ],
)
def test_19_13_logical_types(engine: str, type_: tuple[str, str], value: Any, read: Any) -> None:
    """Contract 19.13, widened; both engines alike, also where neither package knows the type."""
    base, logical = type_
    definition = {"type": base, "logicalType": logical, "precision": 4, "scale": 2, "name": "F", "size": 16}
    schema = Schema(one(definition), engine=engine)
    result = schema.unmarshal(schema.marshal({"x": value}))["x"]
    assert result == (value if read is None else read)
    if isinstance(result, decimal.Decimal):
        assert result.as_tuple().exponent == -2


@pytest.mark.parametrize(
    ("type_", "value", "problem"),
    [
        ("timestamp-millis", dt.datetime(2024, 1, 1), "a datetime without a time zone; give it one"),
        ("timestamp-millis", "2024", "expected timestamp-millis, found str"),
        ("timestamp-millis", True, "expected timestamp-millis, found bool"),
        ("local-timestamp-millis", NOON, "a datetime with a time zone"),
        ("date", NOON, "expected date, found datetime"),
        ("time-millis", dt.time(1, tzinfo=dt.timezone.utc), "a time with a time zone"),
        ("uuid", "no uuid", "expected uuid, found a str that is not one"),
        ("decimal", 1.5, "expected decimal(4, 2), found float"),
        ("decimal", True, "expected decimal(4, 2), found bool"),
        ("decimal", b"\x05", "expected decimal(4, 2), found bytes"),
        ("decimal", decimal.Decimal("123"), "found a Decimal with more than 4 digits"),
        ("decimal", decimal.Decimal("1E+999999999"), "found a Decimal with more than 4 digits"),
        ("decimal", decimal.Decimal("1.234"), "found a Decimal with more than 2 decimal places"),
        ("decimal", decimal.Decimal("1E-999999"), "found a Decimal with more than 2 decimal places"),
        ("decimal", decimal.Decimal("NaN"), "found a Decimal that is not a finite number"),
    ],
)
def test_19_13_what_a_logical_type_refuses(engine: str, type_: str, value: Any, problem: str) -> None:
    """Contract 19.13: what would lose something unseen."""
    bases = {"date": "int", "time-millis": "int", "uuid": "string", "decimal": "bytes"}
    definition = {"type": bases.get(type_, "long"), "logicalType": type_, "precision": 4, "scale": 2}
    with pytest.raises(MarshalError) as caught:
        marshalled(definition, value, engine)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("base", "logical", "data", "problem"),
    [
        ("int", "date", b"\xfe\xff\xff\xff\x0f", "years 1 to 9999"),
        ("int", "time-millis", b"\x01", "outside one day"),
        ("long", "timestamp-micros", b"\xfe" + b"\xff" * 8 + b"\x01", "years 1 to 9999"),
        ("string", "uuid", b"\x02a", "not a UUID"),
        ("bytes", "decimal", b"\x04\x7f\xff", "more than the 4 digits"),
    ],
)
def test_19_13_data_that_a_logical_type_cannot_hold(
    engine: str, base: str, logical: str, data: bytes, problem: str
) -> None:
    """Contract 19.13: an UnmarshalError with the path."""
    schema = Schema(one({"type": base, "logicalType": logical, "precision": 4, "scale": 2}), engine=engine)
    with pytest.raises(UnmarshalError, match=r"event\.x: .*" + problem):
        schema.unmarshal(data)


def test_19_13_numbers_bytes_and_text_of_other_classes(engine: str) -> None:
    """Contract 19.13: subclasses and their like become the plain value."""

    class Text(str):
        __slots__ = ()

    class Level(enum.IntEnum):
        HIGH = 3

    assert marshalled("string", Text("a"), engine) == b"\x02a"
    assert marshalled("long", Level.HIGH, engine) == b"\x06"
    assert marshalled("bytes", bytearray(b"a"), engine) == b"\x02a"
    assert marshalled("bytes", memoryview(b"a"), engine) == b"\x02a"
    assert marshalled("double", 1, engine) == marshalled("double", 1.0, engine)
    assert marshalled("float", float("inf"), engine) == b"\x00\x00\x80\x7f"
    assert marshalled(["null", "string", "long"], Level.HIGH, engine) == b"\x04\x06"
    assert marshalled(["null", "string", "long"], Colour.DARK, engine) == b"\x02\x08dark"


def test_19_13_members_of_enums_stand_for_their_values_in_every_type(engine: str) -> None:
    """Contract 19.13: a service's constants are written as what they hold."""

    class Constant(enum.Enum):
        YES = True
        COUNT = 7
        RATE = 1.5
        RAW = b"a"
        WHEN = NOON

    for constant, kind in (
        (Constant.YES, "boolean"),
        (Constant.COUNT, "int"),
        (Constant.COUNT, "long"),
        (Constant.RATE, "double"),
        (Constant.RATE, "float"),
        (Constant.RAW, "bytes"),
        (Constant.RAW, ["null", "bytes"]),
        (Constant.WHEN, {"type": "long", "logicalType": "timestamp-micros"}),
    ):
        assert marshalled(kind, constant, engine) == marshalled(kind, constant.value, engine)


def test_19_10_the_branch_of_a_number_is_the_one_that_holds_it_best(engine: str) -> None:
    """Contract 19.10: four bytes lose digits of a float, so `double` goes first wherever it stands."""
    assert marshalled(["float", "double"], 1.5, engine)[:1] == b"\x02"
    assert marshalled(["float", "null"], 1.5, engine) == b"\x00\x00\x00\xc0\x3f"
    assert marshalled(["double", "long"], 5, engine) == b"\x02\x0a"
    assert marshalled(["string", "double"], 5, engine)[:1] == b"\x02"


def test_19_10_bytes_and_fixed_of_a_union(engine: str) -> None:
    """Contract 19.10: the first of the two takes bytes, whatever their class."""
    fixed = {"type": "fixed", "name": "F", "size": 1}
    assert marshalled(["null", "bytes", fixed], bytearray(b"a"), engine) == b"\x02\x02a"
    assert marshalled(["null", fixed, "bytes"], b"a", engine) == b"\x02a"
    assert marshalled(["null", fixed, "bytes"], b"ab", engine) == b"\x04\x04ab"


@pytest.mark.parametrize(
    ("type_", "data", "problem"),
    [
        ("string", b"\x02\xff", r"event\.x: the bytes of a string are not UTF-8"),
        ("string", b"\x01", r"event\.x: this string has a negative length"),
        ("long", b"\xff" * 10, r"event\.x: a number in this long has more than 64 bits"),
        (["null", "long"], b"\x08", r"event\.x: the index of a branch is not one of null or long"),
        ({"type": "array", "items": "string"}, b"\x04\x02a\x02\xff\x00", r"event\.x\[1\]: the bytes"),
        ({"type": "map", "values": "string"}, b"\x02\x02a\x02\xff\x00", r"event\.x\{0\}: the bytes"),
    ],
)
def test_19_3_data_that_is_damaged_says_where(engine: str, type_: Any, data: bytes, problem: str) -> None:
    """Contract 19.3: the first place that cannot be read, whatever the package says of it."""
    with pytest.raises(UnmarshalError, match=problem):
        Schema(one(type_), engine=engine).unmarshal(data)


def test_19_3_blocks_that_tell_their_size_in_bytes_are_read(engine: str) -> None:
    """Contract 19.3: other writers put a block's size before it, and an error behind it is found."""
    schema = Schema(one({"type": "array", "items": "long"}), engine=engine)
    assert schema.unmarshal(b"\x03\x04\x02\x04\x00") == {"x": [1, 2]}
    with pytest.raises(UnmarshalError, match=r"event\.x\[2\]: the data ends inside this long"):
        schema.unmarshal(b"\x03\x04\x02\x04\x02")


# -- what is rare, with either package -------------------------------------------------------------------


class Odd(enum.Enum):
    RED = "red"
    ONE = 1


class Int64:
    """An integer of another package, as numpy has them."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __index__(self) -> int:
        return self._number


numbers.Integral.register(Int64)


def test_members_of_an_enumeration_and_other_integers_stand_for_their_values(engine: str) -> None:
    assert marshalled("string", Odd.RED, engine) == marshalled("string", "red", engine)
    assert marshalled("long", Odd.ONE, engine) == marshalled("long", 1, engine)
    assert marshalled("long", Int64(2**40), engine) == marshalled("long", 2**40, engine)
    assert marshalled(["null", "long"], Int64(7), engine) == marshalled(["null", "long"], 7, engine)
    with pytest.raises(MarshalError, match="expected int, found Int64 out of range"):
        marshalled("int", Int64(2**40), engine)


def test_a_union_takes_the_branch_of_the_logical_type(engine: str) -> None:
    millis = {"type": "long", "logicalType": "timestamp-millis"}
    amount = {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2}
    schema = Schema(one(["string", millis, amount, "boolean"]), engine=engine)
    when = dt.datetime(2024, 5, 6, 7, 8, 9, tzinfo=dt.timezone.utc)
    for value in (when, decimal.Decimal("12.34"), True, "text"):
        assert schema.unmarshal(schema.marshal({"x": value})) == {"x": value}


def test_a_union_of_one_type_says_what_is_wrong_with_it(engine: str) -> None:
    with pytest.raises(MarshalError, match="x: expected string, found int"):
        marshalled(["string"], 5, engine)


def test_a_union_says_what_is_wrong_inside_of_the_one_branch_that_is_meant(engine: str) -> None:
    longs = {"type": "array", "items": "long"}
    with pytest.raises(MarshalError, match=r"x\[1\]: expected long, found str"):
        marshalled(["null", "string", longs], [1, "secret"], engine)


def test_a_default_is_written_each_time_it_is_needed(engine: str) -> None:
    schema = Schema(one({"type": "array", "items": "long"}, default=[1, 2]), engine=engine)
    first = schema.marshal({})
    assert schema.marshal({}) == first == schema.marshal({"x": [1, 2]})


@pytest.mark.parametrize(("default", "found"), [("NaN", "nan"), ("Infinity", "inf"), ("-Infinity", "-inf")])
def test_a_default_may_be_a_number_that_json_does_not_have(engine: str, default: str, found: str) -> None:
    schema = Schema(one("double", default=default), engine=engine)
    assert str(schema.unmarshal(schema.marshal({}))["x"]) == found


def test_the_index_of_a_symbol_that_is_not_there_is_told(engine: str) -> None:
    schema = Schema(one({"type": "enum", "name": "Suit", "symbols": ["HEARTS", "SPADES"]}), engine=engine)
    assert schema.unmarshal(b"\x02") == {"x": "SPADES"}
    with pytest.raises(UnmarshalError, match="x: the index of a symbol is not one of enum Suit"):
        schema.unmarshal(b"\x0a")


def test_a_reader_schema_adds_defaults_and_converts_and_is_compiled_once(engine: str) -> None:
    """Strings are read as bytes, and those as a decimal; what is new has its default, one of its own."""
    writer = Schema(one("string"), engine=engine)
    amount = {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2}
    fields = [
        {"name": "x", "type": amount},
        {"name": "count", "type": "long", "default": 7},
        {"name": "tags", "type": {"type": "array", "items": "string"}, "default": ["new"]},
    ]
    reader = Schema({"type": "record", "name": "One", "fields": fields}, engine=engine)
    data = writer.marshal({"x": "\x04\x02"})
    events = [writer.unmarshal(data, reader_schema=reader) for _ in range(2)]
    assert events[0] == {"x": decimal.Decimal("10.26"), "count": 7, "tags": ["new"]}
    events[0]["tags"].append("mine")
    assert events[1]["tags"] == ["new"]


def test_a_record_of_very_many_fields_is_written_as_any_other(engine: str) -> None:
    """What checks values before they go to fastavro is code that is made, and not without a bound."""
    fields = [{"name": f"f{number}", "type": ["null", "long"]} for number in range(700)]
    schema = Schema({"type": "record", "name": "Wide", "fields": fields}, engine=engine)
    event = {f"f{number}": number if number % 2 else None for number in range(700)}
    assert schema.unmarshal(schema.marshal(event)) == event
    with pytest.raises(MarshalError, match="f3: expected long, found str"):
        schema.marshal({**event, "f3": "secret"})


def test_a_type_of_very_many_parts_is_written_as_any_other(engine: str) -> None:
    fields = [{"name": f"f{number}", "type": ["null", "long"]} for number in range(700)]
    inner = {"type": "record", "name": "Wide", "fields": fields}
    event = {"x": {f"f{number}": number for number in range(700)}}
    schema = Schema(one(inner), engine=engine)
    assert schema.unmarshal(schema.marshal(event)) == event
    with pytest.raises(MarshalError, match=r"x\.f9: expected long, found str"):
        schema.marshal({"x": {**event["x"], "f9": "secret"}})
