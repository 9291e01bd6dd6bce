"""Avro: what events become, and what they come back as. Contract 19, in the order of its numbers."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import pickle
import types
import typing
import uuid
from collections import OrderedDict, defaultdict
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest

from dp_kafka import MarshalError
from dp_kafka.avro import Schema, UnmarshalError
from tests.avro_events import ADDRESS, AN_ORDER, ENGINES, ORDER, Item, Order, marshalled, one

STRINGS = {"type": "array", "items": "string"}


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Both packages: nothing below may depend on which is installed."""
    return str(request.param)


def test_19_1_an_event_becomes_raw_avro_and_comes_back_as_a_dict(engine: str) -> None:
    """Contract 19.1: no header, no schema id, no container file."""
    schema = Schema(ORDER, engine=engine)
    data = schema.marshal(AN_ORDER)
    assert data == b"\x02a\x06\x04\x02x\x0a\x02y\x01\x00\x02\x02k\x02v\x00"
    assert schema.unmarshal(data) == AN_ORDER
    assert schema.engine == engine


def test_19_1_unmarshal_builds_a_new_object_of_the_class(engine: str) -> None:
    """Contract 19.1, where the original fills a struct that is there."""
    schema = Schema(ORDER, engine=engine)
    order = schema.unmarshal(schema.marshal(AN_ORDER), Order)
    assert order == Order("a", 3, [Item("x", 5), Item("y", -1)], {"k": "v"})


def test_19_1_the_definition_is_text_or_a_dict_and_is_parsed_once(engine: str) -> None:
    """Contract 19.1."""
    definition = one("string")
    schema = Schema(definition, engine=engine)
    definition["fields"].append({"name": "late", "type": "long"})
    assert schema.marshal({"x": "a"}) == b"\x02a"
    again = Schema(schema.definition, engine=engine)
    assert again.marshal({"x": "a"}) == b"\x02a"
    assert schema.name == "One"


def test_19_1_a_schema_pickles() -> None:
    """Contract 19.1: a schema goes to worker processes like any other value."""
    schema = pickle.loads(pickle.dumps(Schema(ORDER)))
    assert schema.unmarshal(schema.marshal(AN_ORDER)) == AN_ORDER


def test_19_2_fields_map_by_metadata_and_a_dash_skips(engine: str) -> None:
    """Contract 19.2."""

    @dataclass
    class Event:
        text: str = field(metadata={"avro": "x"})
        secret: str = field(default="mine", metadata={"avro": "-"})

    schema = Schema(one("string"), engine=engine)
    data = schema.marshal(Event("a", "hidden"))
    assert data == b"\x02a"
    assert schema.unmarshal(data, Event) == Event("a", "mine")
    hidden = Schema({"type": "record", "name": "R", "fields": [{"name": "secret", "type": "string"}]})
    with pytest.raises(MarshalError, match=r"event\.secret: no value"):
        hidden.marshal(Event("a", "hidden"))


def test_19_2_any_object_with_attributes_is_a_record(engine: str) -> None:
    """Contract 19.2."""

    class Slotted:
        __slots__ = ("x",)

        def __init__(self) -> None:
            self.x = "a"

    class WithProperty:
        @property
        def x(self) -> str:
            return "a"

    class Named(NamedTuple):
        x: str

    @dataclass(slots=True, frozen=True)
    class Frozen:
        x: str

    class Listlike(list[int]):
        x = "a"

    schema = Schema(one("string"), engine=engine)
    for event in (Slotted(), WithProperty(), Named("a"), Frozen("a"), types.SimpleNamespace(x="a")):
        assert schema.marshal(event) == b"\x02a"
        assert schema.marshal(event) == b"\x02a"
    for wrong in (Listlike(), object(), Slotted, "a", 5, None, ["a"], types.SimpleNamespace(y="a")):
        with pytest.raises(MarshalError, match="event: expected record One, found"):
            schema.marshal(wrong)


def test_19_2_mappings_other_than_dict_are_records_and_maps(engine: str) -> None:
    """Contract 19.2: a defaultdict does not grow, either."""
    schema = Schema(one({"type": "map", "values": "string"}, default={}), engine=engine)
    grows: defaultdict[str, Any] = defaultdict(dict)
    assert schema.marshal(grows) == b"\x00"
    assert not grows
    proxy = types.MappingProxyType({"x": OrderedDict(k="v")})
    assert schema.marshal(proxy) == b"\x02\x02k\x02v\x00"


def test_19_4_the_path_goes_through_records_arrays_and_maps(engine: str) -> None:
    """Contract 19.4: the whole path, but of a map only the position, because its keys are payload."""
    schema = Schema(ORDER, engine=engine)
    bad = {**AN_ORDER, "items": [*AN_ORDER["items"], {"sku": "z", "price": 1}, {"sku": "q", "price": "x"}]}
    with pytest.raises(
        MarshalError, match=r"avro schema: event\.items\[3\]\.price: expected long, found str$"
    ):
        schema.marshal(bad)
    with pytest.raises(MarshalError, match=r"avro schema: event\.tags\{1\}: expected string, found int$"):
        schema.marshal({**AN_ORDER, "tags": {"a": "b", "secret": 5}})
    with pytest.raises(MarshalError) as caught:
        schema.marshal({**AN_ORDER, "count": None})
    assert caught.value.log_data == {"schema": "shop.Order"}


def test_19_5_lists_of_anything_and_maps_of_anything(engine: str) -> None:
    """Contract 19.5, widened."""
    nested = {"type": "map", "values": {"type": "array", "items": {"type": "array", "items": "double"}}}
    event = {"x": {"a": [[1.0, 2.5], []], "b": []}}
    schema = Schema(one(nested), engine=engine)
    assert schema.unmarshal(schema.marshal(event)) == event
    assert schema.marshal({"x": {"a": ((1, 2.5), ()), "b": ()}}) == schema.marshal(event)


def test_19_6_no_element_is_dropped(engine: str) -> None:
    """Contract 19.6, replaced: an element of the wrong type is an error, not a hole."""
    with pytest.raises(MarshalError, match=r"event\.x\[1\]: expected string, found int"):
        marshalled({"type": "array", "items": "string"}, ["a", 5], engine)


@pytest.mark.parametrize(
    "type_", [ADDRESS, ["null", ADDRESS], [ADDRESS, "null"], ["string", "null", ADDRESS]], ids=str
)
def test_19_7_a_nested_record_stands_anywhere_in_a_union(engine: str, type_: Any) -> None:
    """Contract 19.7, widened: in any branch, beside null or not."""

    @dataclass
    class Address:
        city: str

    schema = Schema(one(type_), engine=engine)
    data = schema.marshal({"x": Address("Bern")})
    assert data == schema.marshal({"x": {"city": "Bern"}})
    assert schema.unmarshal(data) == {"x": {"city": "Bern"}}


def test_19_7_a_record_is_defined_once_and_named_again(engine: str) -> None:
    """Contract 19.7: also a name without namespace inside one that has its own."""
    definition = {
        "type": "record",
        "name": "Outer",
        "fields": [
            {"name": "a", "type": ADDRESS},
            {"name": "b", "type": "Address"},
            {
                "name": "c",
                "type": {
                    "type": "record",
                    "name": "deep.Inner",
                    "fields": [
                        {
                            "name": "d",
                            "type": {"type": "enum", "name": "Address", "symbols": ["HOME"]},
                        },
                        {"name": "e", "type": "deep.Address"},
                    ],
                },
            },
        ],
    }
    event = {"a": {"city": "x"}, "b": {"city": "y"}, "c": {"d": "HOME", "e": "HOME"}}
    schema = Schema(definition, engine=engine)
    assert schema.unmarshal(schema.marshal(event)) == event


def test_19_8_an_array_of_records_that_the_schema_lacks_is_ignored(engine: str) -> None:
    """Contract 19.8 gave way to 19.9: what the schema does not have is not written."""
    assert Schema(one("string"), engine=engine).marshal({"x": "a", "items": [{"n": 1}]}) == b"\x02a"


@pytest.mark.parametrize(
    ("type_", "default", "read"),
    [
        ("string", "d", "d"),
        ("long", 7, 7),
        ("double", 1, 1.0),
        ("boolean", True, True),
        ("bytes", "ÿ\u0000", b"\xff\x00"),
        ({"type": "fixed", "name": "F", "size": 2}, "ab", b"ab"),
        ({"type": "enum", "name": "E", "symbols": ["A", "B"]}, "B", "B"),
        ({"type": "array", "items": "long"}, [1, 2], [1, 2]),
        ({"type": "map", "values": "long"}, {"a": 1}, {"a": 1}),
        (ADDRESS, {"city": "Bern"}, {"city": "Bern"}),
        (["null", "string"], None, None),
        (["string", "null"], "d", "d"),
        (["null", "string", "long"], 5, 5),
        (
            {"type": "long", "logicalType": "timestamp-millis"},
            0,
            dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc),
        ),
    ],
)
def test_19_9_a_field_that_the_event_lacks_gets_the_default(
    engine: str, type_: Any, default: Any, read: Any
) -> None:
    """Contract 19.9."""
    schema = Schema(one(type_, default=default), engine=engine)
    assert schema.unmarshal(schema.marshal({})) == {"x": read}


def test_19_9_without_a_default_null_stands_in_where_it_may(engine: str) -> None:
    """Contract 19.9, and what both packages do."""
    assert Schema(one(["long", "null"]), engine=engine).marshal({}) == b"\x02"
    with pytest.raises(
        MarshalError, match=r"event\.x: no value for this long, and the schema has no default"
    ):
        Schema(one("long"), engine=engine).marshal({})


def test_19_9_extra_fields_are_ignored(engine: str) -> None:
    """Contract 19.9: even one that means something to fastavro."""
    nested = {"type": "record", "name": "N", "fields": [{"name": "n", "type": "long"}]}
    schema = Schema(one(["null", nested]), engine=engine)
    expected = schema.marshal({"x": {"n": 1}})
    assert schema.marshal({"x": {"n": 1, "-type": "Other", "more": object()}, "y": 2}) == expected


def test_19_10_the_first_branch_that_accepts_the_value_takes_it(engine: str) -> None:
    """Contract 19.10: its own kind before a wider one."""
    assert marshalled(["int", "long"], 5, engine) == b"\x00\x0a"
    assert marshalled(["long", "int"], 5, engine) == b"\x00\x0a"
    assert marshalled(["int", "long"], 2**40, engine)[:1] == b"\x02"
    assert marshalled(["double", "long"], 5, engine) == b"\x02\x0a"
    assert marshalled(["float", "double"], 0.1, engine)[:1] == b"\x02"
    assert marshalled(["int", "boolean"], True, engine) == b"\x02\x01"
    assert marshalled(["int", "null"], 0, engine) == b"\x00\x00"
    assert marshalled(["long", "string", "double"], 1.5, engine)[:1] == b"\x04"
    symbol = {"type": "enum", "name": "E", "symbols": ["A"]}
    assert marshalled([symbol, "string"], "A", engine) == b"\x00\x00"
    assert marshalled([symbol, "string"], "B", engine) == b"\x02\x02B"
    assert marshalled(["bytes", {"type": "array", "items": "int"}], b"\x01", engine) == b"\x00\x02\x01"
    assert marshalled([{"type": "array", "items": "int"}, "string"], (1,), engine) == b"\x00\x02\x02\x00"


def test_19_10_records_of_a_union_are_told_apart(engine: str) -> None:
    """Contract 19.10: by the name of the class, and for dicts by their fields; both ways."""
    cat = {"type": "record", "name": "Cat", "fields": [{"name": "lives", "type": "int"}]}
    dog = {
        "type": "record",
        "name": "Dog",
        "fields": [{"name": "lives", "type": "int"}, {"name": "tricks", "type": "int", "default": 0}],
    }

    @dataclass
    class Cat:
        lives: int

    @dataclass
    class Dog:
        lives: int

    @dataclass
    class Owner:
        x: list[Cat | Dog | str]

    schema = Schema(one({"type": "array", "items": ["string", cat, dog]}), engine=engine)
    event = Owner.__new__(Owner)
    event.x = [Dog(1), Cat(9), "none"]
    data = schema.marshal(event)
    assert schema.unmarshal(data) == {"x": [{"lives": 1, "tricks": 0}, {"lives": 9}, "none"]}
    # The hints of classes inside a function cannot be resolved by name, so they are given here.
    Owner.__annotations__["x"] = list[Cat | Dog | str]
    assert schema.unmarshal(data, Owner).x == [Dog(1), Cat(9), "none"]
    assert schema.marshal({"x": [{"lives": 1, "tricks": 0}, {"lives": 9}, "none"]}) == data


def test_19_10_empty_values_under_a_null_first_union_are_written_as_they_are(engine: str) -> None:
    """Contract 19.10, changed: the original writes null for them, and loses the difference."""
    for type_, empty, hint in (
        ("string", "", str),
        ({"type": "array", "items": "string"}, [], list[str]),
        ({"type": "map", "values": "string"}, {}, dict[str, str]),
    ):
        schema = Schema(one(["null", type_]), engine=engine)
        data = schema.marshal({"x": empty})
        assert data == b"\x02\x00"
        assert schema.unmarshal(data) == {"x": empty}
        assert schema.unmarshal(b"\x00") == {"x": None}
        # What the original wrote as null is the empty value again for a class that knows no None.
        plain = dataclasses.make_dataclass("Plain", [("x", hint)])
        optional = dataclasses.make_dataclass("Nullable", [("x", hint | None)])
        for written, value in ((data, empty), (b"\x00", None)):
            assert schema.unmarshal(written, plain).x == empty
            assert schema.unmarshal(written, optional).x == value


def test_19_10_null_for_a_hint_without_none_is_the_default_or_an_error(engine: str) -> None:
    """Contract 19.10: never a None where the class promises none."""
    schema = Schema(one(["null", "long"]), engine=engine)
    defaulted = dataclasses.make_dataclass("Defaulted", [("x", int, field(default=-1))])
    assert schema.unmarshal(b"\x00", defaulted).x == -1
    strict = dataclasses.make_dataclass("Strict", [("x", int)])
    with pytest.raises(UnmarshalError, match=r"event\.x: found null, and the class's type hint has no None"):
        schema.unmarshal(b"\x00", strict)


def test_19_10_a_tuple_is_no_branch_and_value(engine: str) -> None:
    """Contract 19.10: it is to fastavro, but an event should not depend on what is installed."""
    symbol = {"type": "enum", "name": "E", "symbols": ["A"]}
    for type_ in ("string", symbol, "long", "bytes", ADDRESS):
        for union in (["null", type_], ["null", "boolean", type_]):
            with pytest.raises(MarshalError, match=r"event\.x: expected .*, found tuple"):
                marshalled(union, ("string", "A"), engine)


def test_19_11_none_is_no_array(engine: str) -> None:
    """Contract 19.11, changed: nil is Go's empty slice, None is nobody's empty list."""
    assert marshalled({"type": "array", "items": "string"}, [], engine) == b"\x00"
    with pytest.raises(MarshalError, match=r"event\.x: expected array, found None"):
        marshalled({"type": "array", "items": "string"}, None, engine)


def test_19_12_a_value_that_does_not_fit_the_class_names_path_and_types(engine: str) -> None:
    """Contract 19.12."""
    wrong = dataclasses.make_dataclass("Wrong", [("sku", int)])
    holder = dataclasses.make_dataclass("Holder", [("items", list[wrong])])  # type: ignore[valid-type]
    schema = Schema(ORDER, engine=engine)
    with pytest.raises(UnmarshalError, match=r"event\.items\[0\]\.sku: expected int, found str$") as caught:
        schema.unmarshal(schema.marshal(AN_ORDER), holder)
    assert caught.value.__context__ is None


class Shade(enum.Enum):
    DARK = "dark"


@pytest.mark.parametrize(
    ("type_", "value", "hint", "read"),
    [
        (STRINGS, ["a", "b"], tuple[str, str], ("a", "b")),
        (STRINGS, ["a", "b"], frozenset[str], frozenset("ab")),
        (STRINGS, ["a"], list, ["a"]),
        ({"type": "map", "values": "long"}, {"a": 1}, dict[str, float], {"a": 1.0}),
        ({"type": "map", "values": "long"}, {"a": 1}, dict, {"a": 1}),
        ("long", 5, float, 5.0),
        ("long", 5, decimal.Decimal, decimal.Decimal(5)),
        ("long", 5, typing.Any, 5),
        ("long", 5, typing.Literal[5, 6], 5),
        ("string", "1.50", decimal.Decimal, decimal.Decimal("1.50")),
        ("string", "2024-01-01T00:00:00Z", dt.datetime, dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc)),
        ("string", "dark", Shade, Shade.DARK),
        ({"type": "string", "logicalType": "uuid"}, uuid.UUID(int=5), str, str(uuid.UUID(int=5))),
        (["null", "long", "string"], 5, int | str | None, 5),
        (["null", "long", "string"], None, int | str | None, None),
    ],
)
def test_19_1_values_become_what_the_type_hint_says(
    engine: str, type_: Any, value: Any, hint: Any, read: Any
) -> None:
    """Contract 19.1: the value, and its type."""
    schema = Schema(one(type_), engine=engine)
    holder = dataclasses.make_dataclass("Holder", [("x", hint)])
    result = schema.unmarshal(schema.marshal({"x": value}), holder).x
    assert result == read
    assert type(result) is type(read)


@pytest.mark.parametrize(
    ("type_", "value", "hint", "problem"),
    [
        (STRINGS, ["a"], tuple[str, str], "event.x: expected a list of 2 items, found list"),
        (STRINGS, ["a"], dict[str, str], "event.x: expected a dict, found list"),
        (STRINGS, ["a", "5"], list[int], "event.x[0]: expected int, found str"),
        ("string", "secret", list[str], "event.x: expected a list, found str"),
        ("string", "secret", float, "event.x: expected float, found str"),
        ("string", "secret", decimal.Decimal, "event.x: expected Decimal, found a str that is not one"),
        ("string", "secret", Shade, "event.x: "),
        ("string", "secret", int | bool, "event.x: expected int or bool, found str"),
        ("string", "secret", typing.Literal["a", "b"], "event.x: expected one of the literals 'a', 'b'"),
        ("long", 5, str, "event.x: expected str, found int"),
        ("boolean", True, float, "event.x: expected float, found bool"),
        (["null", "long"], None, int, "event.x: found null, and the class's type hint has no None"),
        ({"type": "map", "values": "string"}, {"secret": "v"}, dict[str, int], "event.x{0}: expected int"),
    ],
)
def test_19_12_what_the_type_hint_has_no_place_for_is_named_and_not_shown(
    engine: str, type_: Any, value: Any, hint: Any, problem: str
) -> None:
    """Contract 19.12: the path and the types, never a value or a key."""
    schema = Schema(one(type_), engine=engine)
    holder = dataclasses.make_dataclass("Holder", [("x", hint)])
    with pytest.raises(UnmarshalError) as caught:
        schema.unmarshal(schema.marshal({"x": value}), holder)
    assert problem in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["", 5, None])
def test_19_2_a_field_that_is_called_something_else_than_a_name_is_an_error(engine: str, name: Any) -> None:
    """Contract 19.2: when the event is written, and when it is read."""
    odd = dataclasses.make_dataclass("Odd", [("x", str, dataclasses.field(metadata={"avro": name}))])
    schema = Schema(one("string"), engine=engine)
    problem = r'metadata\["avro"\] of the field x must be the name of a schema field'
    with pytest.raises(MarshalError, match=problem):
        schema.marshal(odd("a"))
    with pytest.raises(UnmarshalError, match=problem):
        schema.unmarshal(b"\x02a", odd)
