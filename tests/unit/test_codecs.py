"""The codecs: JSON through either package, bytes, and Avro behind the two methods of the protocol."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import json
import re
import sys
import types
import uuid
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Literal, NamedTuple, NewType, TypedDict, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp_kafka import ConfigError, MarshalError
from dp_kafka.avro import Schema, UnmarshalError
from dp_kafka.codecs import AvroCodec, BytesCodec, Codec, JsonCodec
from dp_kafka.events.fields import ByClass
from tests.avro_events import AN_ORDER, ORDER, Item, Order, one

ENGINES = ("json", "orjson")
T = TypeVar("T")


@pytest.fixture(params=ENGINES)
def codec(request: pytest.FixtureRequest) -> JsonCodec:
    """JSON through either package: nothing below may depend on which is installed."""
    return JsonCodec(engine=request.param)


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Point(NamedTuple):
    x: int
    y: int = 0


@dataclass(slots=True)
class Event:
    name: str
    at: dt.datetime
    points: list[Point]
    _private: int = 5


class Model:
    """What is like pydantic's."""

    def model_dump(self) -> dict[str, Any]:
        return {"n": 1}


UTC = dt.timezone.utc
NOON = dt.datetime(2024, 2, 29, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("event", "text"),
    [
        ({"a": 1, "b": [True, None, "é"]}, '{"a":1,"b":[true,null,"é"]}'),
        (
            Event("e", NOON, [Point(1)]),
            '{"name":"e","at":"2024-02-29T12:00:00+00:00","points":[{"x":1,"y":0}]}',
        ),
        ([uuid.UUID(int=1), decimal.Decimal("1.50")], '["00000000-0000-0000-0000-000000000001","1.50"]'),
        ([dt.date(2024, 1, 2), dt.time(1, 2)], '["2024-01-02","01:02:00"]'),
        (dt.time(1, tzinfo=UTC), '"01:00:00+00:00"'),
        ([Colour.RED, Level.HIGH], '["red",3]'),
        ((1, deque([2]), types.MappingProxyType({"k": OrderedDict(j=1)})), '[1,[2],{"k":{"j":1}}]'),
        ({1: "a", Colour.RED: "b"}, '{"1":"a","red":"b"}'),
        (Model(), '{"n":1}'),
        ([2**64 - 1, -(2**63), 1.5], "[18446744073709551615,-9223372036854775808,1.5]"),
        (None, "null"),
        ("null", '"null"'),
    ],
)
def test_json_of(codec: JsonCodec, event: Any, text: str) -> None:
    assert codec.encode(event).decode() == text


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (float("nan"), "NaN and infinities have no JSON form"),
        (float("inf"), "NaN and infinities have no JSON form"),
        (2**64, "an int of more than 64 bits has no JSON form"),
        (b"secret", "bytes has no JSON form"),
        ({"secret"}, "set has no JSON form"),
        (object(), "object has no JSON form"),
        ("secret\ud800", "a str with a lone surrogate has no JSON form"),
        (Event, "type has no JSON form"),
    ],
)
def test_what_has_no_json_form_names_its_place_and_no_value(
    codec: JsonCodec, value: Any, problem: str
) -> None:
    for event, path in (
        ({"items": [{"a": None}, {"value": value}]}, r"event.items[1].value: "),
        ({"some key": value}, "event{0}: "),
        (Point(1, value), "event.y: "),
    ):
        with pytest.raises(MarshalError) as caught:
            codec.encode(event)
        assert str(caught.value).startswith(f"failed to marshal event as JSON: {path}{problem}")
        assert "secret" not in str(caught.value)
        assert caught.value.__context__ is None


def test_json_of_what_contains_itself_is_an_error(codec: JsonCodec) -> None:
    event: list[Any] = []
    event.append(event)
    with pytest.raises(MarshalError, match="nests too deeply, or contains itself"):
        codec.encode(event)
    with pytest.raises(MarshalError, match="expected a str or int as key, found tuple"):
        codec.encode({(1, 2): 3})


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b'{"secret"', "not valid JSON at line 1 column"),
        (b"", "not valid JSON at line 1 column 1"),
        (b"[NaN]", "not valid JSON"),
        (b"[1e999]", "not valid JSON"),
        (b"\xff", "not "),
        ('"s"'.encode("utf-16"), "not "),
        ("text", "expected bytes, found str"),
        (None, "expected bytes, found None"),
    ],
)
def test_what_is_not_json_is_an_unmarshal_error(codec: JsonCodec, data: Any, problem: str) -> None:
    with pytest.raises(UnmarshalError, match=f"failed to unmarshal event from JSON: {problem}") as caught:
        codec.decode(data)
    assert "secret" not in str(caught.value)
    assert caught.value.__context__ is None


texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]))
numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)


@given(json_values)
def test_json_round_trips_and_both_packages_agree(value: Any) -> None:
    by_json, by_orjson = JsonCodec(engine="json"), JsonCodec(engine="orjson")
    for data in (by_json.encode(value), by_orjson.encode(value)):
        assert by_json.decode(data) == value
        assert by_orjson.decode(data) == value


@given(st.integers())
def test_large_integers_are_read_alike(number: int) -> None:
    data = json.dumps(number).encode()
    read = [JsonCodec(engine=engine).decode(data) for engine in ENGINES]
    assert read[0] == read[1]
    assert type(read[0]) is type(read[1])


UserId = NewType("UserId", int)


class Extra(TypedDict, total=False):
    note: str


class Handmade:
    """A class without annotated fields: its constructor says what it needs."""

    def __init__(self, n: int, label: str = "none") -> None:
        self.n = n
        self.label = label


class Annotated:
    """Like a pydantic model: annotated fields, keyword arguments."""

    kind: ClassVar[str] = "annotated"
    n: int

    def __init__(self, **values: Any) -> None:
        if values["n"] < 0:
            raise ValueError(f"{values} is secret")
        self.n = values["n"]


@dataclass
class Tree:
    name: str
    children: list[Tree] = field(default_factory=list)


@dataclass
class Everything:
    id: UserId
    at: dt.datetime
    day: dt.date
    price: decimal.Decimal
    key: uuid.UUID
    colour: Colour
    mode: Literal["on", "off"]
    pair: tuple[int, str]
    names: frozenset[str]
    by_name: dict[str, Tree]
    point: Point | None
    extra: Extra
    made: Handmade
    annotated: Annotated
    ratio: float
    anything: Any
    number: int | float | str
    missing: str = "default"
    computed: int = field(default=7, init=False)


EVERYTHING = {
    "id": 1,
    "at": "2024-02-29T12:00:00Z",
    "day": "2024-02-29",
    "price": "1.50",
    "key": "00000000-0000-0000-0000-000000000001",
    "colour": "RED",
    "mode": "on",
    "pair": [1, "a"],
    "names": ["a", "b"],
    "by_name": {"t": {"name": "t", "children": [{"name": "u"}]}},
    "point": {"x": 1},
    "extra": {"note": "n", "ignored": 1},
    "made": {"n": 2},
    "annotated": {"n": 3, "kind": "ignored"},
    "ratio": 2,
    "anything": [1],
    "number": 5,
    "ignored": True,
}


def test_json_becomes_any_class(codec: JsonCodec) -> None:
    event = JsonCodec(Everything, engine=codec.engine).decode(codec.encode(EVERYTHING))
    assert isinstance(event, Everything)
    assert (event.id, event.at, event.day) == (1, NOON, dt.date(2024, 2, 29))
    assert (event.price, event.key, event.colour) == (decimal.Decimal("1.50"), uuid.UUID(int=1), Colour.RED)
    assert (event.mode, event.pair, event.names) == ("on", (1, "a"), frozenset("ab"))
    assert event.by_name == {"t": Tree("t", [Tree("u")])}
    assert (event.point, event.extra) == (Point(1, 0), {"note": "n"})
    assert (event.made.n, event.made.label, event.annotated.n) == (2, "none", 3)
    assert type(event.ratio) is float
    assert type(event.number) is int
    assert (event.anything, event.missing, event.computed) == ([1], "default", 7)


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("id", "secret", "event.id: expected int, found str"),
        ("id", True, "event.id: expected int, found bool"),
        ("id", None, "event.id: found null, and the class's type hint has no None"),
        ("at", "secret", "event.at: expected datetime, found a str that is not one"),
        ("price", "secret", "event.price: expected Decimal, found a str that is not one"),
        ("colour", "secret", "event.colour: expected a value or name of Colour, found a str that is neither"),
        ("mode", "secret", "event.mode: expected one of the literals 'on', 'off', found another str"),
        ("pair", [1], "event.pair: expected a list of 2 items, found list"),
        ("names", ["a", 5], "event.names[1]: expected str, found int"),
        (
            "by_name",
            {"a": {"name": "b", "children": [{}]}},
            "event.by_name{0}.children[0].name: Tree needs a",
        ),
        ("by_name", [], "event.by_name: expected a dict, found list"),
        ("point", [1, 2], "event.point: expected a record for Point, found list"),
        ("annotated", {"n": -1}, "event.annotated: Annotated refused the values, with a ValueError"),
        ("number", [], "event.number: expected int or float or str, found list"),
        ("ratio", "1.5", "event.ratio: expected float, found str"),
    ],
)
def test_what_does_not_fit_a_class_names_its_place_and_no_value(key: str, value: Any, problem: str) -> None:
    data = json.dumps({**EVERYTHING, key: value}).encode()
    with pytest.raises(UnmarshalError) as caught:
        JsonCodec(Everything).decode(data)
    assert problem in str(caught.value)
    assert "secret" not in str(caught.value)
    assert caught.value.__context__ is None


def test_a_class_that_cannot_be_built_says_why() -> None:
    class Unresolved:
        x: NoSuchName  # type: ignore[name-defined]  # noqa: F821

    class Empty:
        """No fields."""

    for cls, problem in (
        (Unresolved, "the type hints of Unresolved cannot be resolved: name 'NoSuchName' is not defined"),
        (Empty, "Empty has no annotated fields, so it cannot be built from a record"),
        ("Event", "cls must be a class to build, such as a dataclass; found an instance of str"),
        (dict[str, int], "{0}: expected int, found dict"),
    ):
        with pytest.raises(UnmarshalError, match=re.escape(problem)):
            JsonCodec(cls).decode(b'{"x": {}}')


def test_json_without_orjson(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "orjson", None)
    assert JsonCodec().engine == "json"
    assert JsonCodec().decode(JsonCodec().encode({"a": 1})) == {"a": 1}
    with pytest.raises(ConfigError, match=r"orjson is not installed: pip install 'dp-kafka\[fast\]'"):
        JsonCodec(engine="orjson")
    with pytest.raises(ConfigError, match="expected orjson or json, found 'other'"):
        JsonCodec(engine="other")


def test_bytes_pass_unchanged() -> None:
    codec = BytesCodec()
    for value in (b"a", bytearray(b"a"), memoryview(b"a")):
        assert codec.encode(value) == b"a"
        assert codec.decode(value) == b"a"  # type: ignore[arg-type]
    with pytest.raises(MarshalError, match="expected bytes, found str: encode it first"):
        codec.encode("secret")
    with pytest.raises(UnmarshalError, match="expected bytes, found None"):
        codec.decode(None)  # type: ignore[arg-type]


def test_avro_as_a_codec() -> None:
    codec = AvroCodec(ORDER, Order)
    data = codec.encode(AN_ORDER)
    assert data == Schema(ORDER).marshal(AN_ORDER)
    assert codec.decode(data) == Order("a", 3, [Item("x", 5), Item("y", -1)], {"k": "v"})
    assert AvroCodec(Schema(ORDER)).decode(data) == AN_ORDER
    evolved = AvroCodec(one("int"), reader_schema=one("double"))
    assert evolved.decode(b"\x02") == {"x": 1.0}
    assert repr(codec) == "AvroCodec(shop.Order, Order)"


@pytest.mark.parametrize("codec", [JsonCodec(), BytesCodec(), AvroCodec(ORDER)], ids=repr)
def test_each_codec_has_the_two_methods(codec: Any) -> None:
    assert isinstance(codec, Codec)


def test_a_hint_that_names_no_class_takes_any_value(codec: JsonCodec) -> None:
    @dataclass
    class Box(Generic[T]):
        content: T
        label: str = ""

    for content in ("text", 5, [1, None], {"a": 1}, None):
        built = JsonCodec(Box, engine=codec.engine).decode(codec.encode({"content": content}))
        assert built == Box(content)


def test_a_time_that_is_no_text_is_refused_by_its_type(codec: JsonCodec) -> None:
    @dataclass
    class Event:
        when: dt.datetime

    with pytest.raises(UnmarshalError, match="when: expected datetime, found int"):
        JsonCodec(Event, engine=codec.engine).decode(b'{"when": 1700000000}')


def test_a_program_that_makes_classes_while_it_runs_does_not_grow_for_ever() -> None:
    made: list[type] = []

    def name_of(cls: type) -> str:
        made.append(cls)
        return cls.__name__

    names = ByClass(name_of)
    classes = [type(f"Made{number}", (), {}) for number in range(ByClass._BOUND + 5)]
    assert [names[cls] for cls in classes] == [cls.__name__ for cls in classes]
    assert len(names) == ByClass._BOUND
    made.clear()
    assert (names[classes[0]], names[classes[-1]]) == ("Made0", classes[-1].__name__)
    assert made == [classes[-1]], "what was not kept is made again"
