"""From an event to the plain value that both codecs encode: types and ranges checked, classes taken apart.

`Writer(root, tag).convert(event)` returns a new value that shares only immutable parts with the event, or
raises Mismatch with the path of what does not fit.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Any

from dp_kafka.avro.choose import by_fields, candidates, is_array
from dp_kafka.avro.defaults import default_value
from dp_kafka.avro.engines import Tag
from dp_kafka.avro.nodes import (
    MISSING,
    Array,
    Enum,
    Field,
    Fixed,
    Map,
    Node,
    Primitive,
    Record,
    Union,
    is_null,
    label,
)
from dp_kafka.avro.values import Convert, string, value_converter
from dp_kafka.events.errors import Mismatch, found
from dp_kafka.events.fields import ByClass, attributes_of, holds_fields

__all__ = ["Writer"]

# Of each field of a record: its name, how its value is converted, and what is written when the event has
# none.
_Fields = list[tuple[str, Convert, Callable[[], Any]]]


class Writer:
    """The conversion for one schema. Any thread may use it at any time."""

    def __init__(self, root: Node, tag: Tag) -> None:
        self._tag = tag
        self._records: dict[int, Convert] = {}
        self.convert = self.compile(root)

    def compile(self, node: Node) -> Convert:
        match node:
            case Primitive() | Fixed() | Enum():
                return value_converter(node)
            case Array():
                return _array(self.compile(node.items))
            case Map():
                return _map(self.compile(node.values))
            case Union():
                return self._union(node)
            case _:
                return self._record(node)

    def _record(self, node: Record) -> Convert:
        known = self._records.get(id(node))
        if known is not None:
            return known
        fields: _Fields = []
        plans: ByClass[Callable[[Any], dict[str, Any]]] = ByClass(lambda cls: _plan(node, cls, fields))

        def convert(value: Any) -> Any:
            return plans[type(value)](value)

        # Known before its fields are compiled, because one of them may be the record itself.
        self._records[id(node)] = convert
        fields.extend((field.name, self.compile(field.type), self._default(field)) for field in node.fields)
        return convert

    def _default(self, field: Field) -> Callable[[], Any]:
        """What is written for a field that the event does not have; only read, so one serves all."""
        made: list[Any] = []

        def default() -> Any:
            if not made:
                # At the first use, because the type may be a record that is not compiled yet.
                made.append(self.compile(field.type)(default_value(field.type, field.default)))
            return made[0]

        def null() -> Any:
            return self.compile(field.type)(None)

        def missing() -> Any:
            raise Mismatch(f"no value for this {label(field.type)}, and the schema has no default for it")

        if field.default is not MISSING:
            return default
        nullable = isinstance(field.type, Union) and any(is_null(branch) for branch in field.type.branches)
        return null if nullable or is_null(field.type) else missing

    def _union(self, node: Union) -> Convert:
        converts = [self.compile(branch) for branch in node.branches]
        tag = self._tag
        if node.simple:
            index = next(index for index, branch in enumerate(node.branches) if not is_null(branch))
            other = converts[index]
            return lambda value: None if value is None else tag(node, index, other(value))
        orders: ByClass[tuple[int, ...]] = ByClass(lambda cls: candidates(node, cls))

        def convert(value: Any) -> Any:
            problems = []
            for branch in by_fields(node, orders[type(value)], value):
                try:
                    datum = converts[branch](value)
                except Mismatch as exc:
                    problems.append(exc)
                else:
                    return tag(node, branch, datum)
            if isinstance(value, enum.Enum) and type(value.value) is not type(value):
                return convert(value.value)
            if len(problems) == 1:
                raise problems[0]
            raise Mismatch(f"expected {label(node)}, found {found(value)}")

        return convert


def _plan(node: Record, cls: type, fields: _Fields) -> Callable[[Any], dict[str, Any]]:
    """How instances of `cls` become the record's dict."""
    if issubclass(cls, Mapping):
        return lambda value: _from_mapping(value, fields)
    if not holds_fields(cls):
        return lambda value: _refuse(node, value)
    attributes = attributes_of(cls)
    if attributes is None:
        return lambda value: _from_object(node, value, [(field[0], *field) for field in fields])
    # A field that the class lacks, or hides with "-", gets an attribute name that no object has.
    named = [(attributes.get(field[0], ""), *field) for field in fields]
    return lambda value: _from_dataclass(value, named)


def _from_mapping(value: Mapping[str, Any], fields: _Fields) -> dict[str, Any]:
    result, name = {}, ""
    try:
        for name, convert, default in fields:
            # Not value[name]: a defaultdict would grow in its owner's hands.
            item = value.get(name, MISSING)
            result[name] = default() if item is MISSING else convert(item)
    except Mismatch as exc:
        exc.steps.append(f".{name}")
        raise
    return result


def _from_dataclass(value: Any, fields: list[tuple[str, str, Convert, Callable[[], Any]]]) -> dict[str, Any]:
    result, name = {}, ""
    try:
        for attribute, name, convert, default in fields:
            item = getattr(value, attribute, MISSING)
            result[name] = default() if item is MISSING else convert(item)
    except Mismatch as exc:
        exc.steps.append(f".{name}")
        raise
    return result


def _from_object(
    node: Record, value: Any, fields: list[tuple[str, str, Convert, Callable[[], Any]]]
) -> dict[str, Any]:
    # Any object has attributes: one that has none of these is not the event but a mistake.
    if fields and not any(hasattr(value, field[0]) for field in fields):
        return _refuse(node, value)
    return _from_dataclass(value, fields)


def _refuse(node: Record, value: Any) -> dict[str, Any]:
    raise Mismatch(f"expected {label(node)}, found {found(value)}")


def _array(convert: Convert) -> Convert:
    def array(value: Any) -> list[Any]:
        if not is_array(type(value)):
            raise Mismatch(f"expected array, found {found(value)}")
        result: list[Any] = []
        try:
            for item in value:
                result.append(convert(item))  # noqa: PERF401 - its length is the index of what does not fit
        except Mismatch as exc:
            exc.steps.append(f"[{len(result)}]")
            raise
        return result

    return array


def _map(convert: Convert) -> Convert:
    def mapping(value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise Mismatch(f"expected map, found {found(value)}")
        result: dict[str, Any] = {}
        position = 0
        try:
            for key, item in value.items():
                result[_key(key)] = convert(item)
                position += 1
        except Mismatch as exc:
            # A key is payload as much as a value, so the path tells its position.
            exc.steps.append(f"{{{position}}}")
            raise
        return result

    return mapping


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise Mismatch(f"expected a str as key, found {found(key)}")
    return string(key)
