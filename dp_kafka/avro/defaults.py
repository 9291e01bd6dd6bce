"""What a field's default, which a schema gives as JSON, is as a Python value."""

from __future__ import annotations

from typing import Any

from dp_kafka.avro.nodes import (
    INT_RANGE,
    LONG_RANGE,
    MISSING,
    Array,
    Enum,
    Fixed,
    Logical,
    Map,
    Node,
    Primitive,
    Record,
    Union,
    label,
)
from dp_kafka.events.errors import Mismatch

__all__ = ["default_value"]


def default_value(node: Node, value: Any) -> Any:  # noqa: PLR0911 - one for each type
    """The Python value that the JSON `value` stands for as a default of the type; a new object at each call.

    Raises Mismatch when it does not fit. A default may show in the error: it stands in the schema, not in a
    payload.
    """
    match node:
        case Primitive():
            return _logical(node.logical, _primitive(node.kind, value))
        case Fixed():
            raw = _primitive("bytes", value)
            if len(raw) != node.size:
                raise Mismatch(f"expected {node.size} characters, found {len(raw)}")
            return _logical(node.logical, raw)
        case Enum():
            if value not in node.symbols:
                raise Mismatch(f"{value!r} is not a symbol of {label(node)}")
            return value
        case Array():
            if not isinstance(value, list):
                raise _unexpected("a list", value)
            return [_at(f"[{index}]", node.items, item) for index, item in enumerate(value)]
        case Map():
            if not isinstance(value, dict):
                raise _unexpected("an object", value)
            return {key: _at(f"[{key!r}]", node.values, item) for key, item in value.items()}
        case Union():
            return _union(node, value)
        case _:
            return _record(node, value)


def _record(node: Record, value: Any) -> Any:
    if not isinstance(value, dict):
        raise _unexpected("an object", value)
    result = {}
    for field in node.fields:
        item = value.get(field.name, field.default)
        if item is MISSING:
            raise Mismatch(f"{label(node)} needs {field.name!r}, which has no default of its own")
        result[field.name] = _at(f".{field.name}", field.type, item)
    return result


def _union(node: Union, value: Any) -> Any:
    # The specification of today takes any branch, those before 1.12 the first one only: the first that fits.
    for branch in node.branches:
        try:
            return default_value(branch, value)
        except Mismatch:
            continue
    raise _unexpected(label(node), value)


def _at(step: str, node: Node, value: Any) -> Any:
    try:
        return default_value(node, value)
    except Mismatch as exc:
        exc.steps.append(step)
        raise


def _logical(logical: Logical | None, raw: Any) -> Any:
    return raw if logical is None else logical.from_wire(raw)


def _primitive(kind: str, value: Any) -> Any:  # noqa: PLR0911 - one for each type
    if kind == "null" and value is None:
        return None
    if kind == "boolean" and isinstance(value, bool):
        return value
    if kind in ("int", "long") and type(value) is int:
        low, high = INT_RANGE if kind == "int" else LONG_RANGE
        if not low <= value <= high:
            raise Mismatch(f"{value} is out of the range of {kind}")
        return value
    if kind in ("float", "double") and type(value) in (int, float):
        return float(value)
    # JSON has no NaN, and writers that need one put its name there.
    if kind in ("float", "double") and value in ("NaN", "Infinity", "-Infinity"):
        return float(value)
    if kind == "string" and isinstance(value, str):
        return value
    if kind == "bytes" and isinstance(value, str):
        try:
            return value.encode("latin-1")  # the specification: code points 0 to 255 are the bytes 0 to 255
        except UnicodeEncodeError:
            raise Mismatch("a default of bytes has code points up to 255 only") from None
    raise _unexpected(kind, value)


def _unexpected(expected: str, value: Any) -> Mismatch:
    return Mismatch(f"expected {expected}, found {value!r}")
