"""How single values are checked and become plain: every type of Avro that contains no other."""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable
from operator import index
from typing import Any, Final

from dp_kafka.avro.choose import is_integer, is_number
from dp_kafka.avro.nodes import INT_RANGE, LONG_RANGE, Enum, Fixed, Primitive, label
from dp_kafka.events.errors import Mismatch, found

__all__ = ["Convert", "string", "value_converter"]

Convert = Callable[[Any], Any]
_FLOAT: Final = struct.Struct("<f")


def value_converter(node: Primitive | Fixed | Enum) -> Convert:
    """The function that checks a value of the type and makes it plain, or raises Mismatch."""
    if isinstance(node, Enum):
        return _enum(node)
    base = _fixed(node) if isinstance(node, Fixed) else _PRIMITIVES[node.kind]
    logical = node.logical
    if logical is None:
        return base
    accepts, to_wire = logical.accepts, logical.to_wire
    # Epoch milliseconds for a timestamp, say, but not any bytes for a decimal.
    takes_integers = isinstance(node, Primitive) and node.kind in ("int", "long")

    def convert(value: Any) -> Any:
        cls = type(value)
        if accepts(cls):
            return to_wire(value)
        if takes_integers and is_integer(cls):
            return base(value)
        if isinstance(value, enum.Enum):
            return convert(value.value)
        raise Mismatch(f"expected {label(node)}, found {found(value)}")

    return convert


def _fixed(node: Fixed) -> Convert:
    def fixed(value: Any) -> bytes:
        data = _bytes(value)
        if len(data) != node.size:
            raise Mismatch(f"expected {label(node)}, found {len(data)} bytes")
        return data

    return fixed


def _enum(node: Enum) -> Convert:
    symbols = frozenset(node.symbols)
    shown = ", ".join(node.symbols[:10]) + (", …" if len(node.symbols) > 10 else "")

    def symbol(value: Any) -> str:
        if isinstance(value, enum.Enum):
            # By value, as in `class Colour(Enum): RED = "RED"`, else by name.
            value = value.value if isinstance(value.value, str) and value.value in symbols else value.name
        if not isinstance(value, str):
            raise Mismatch(f"expected {label(node)}, found {found(value)}")
        if value not in symbols:
            raise Mismatch(
                f"expected {label(node)} ({shown}), found a {found(value)} that is not one of its symbols"
            )
        return str.__str__(value)

    return symbol


def _null(value: Any) -> None:
    if value is not None:
        raise Mismatch(f"expected null, found {found(value)}")


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, enum.Enum):
        return _boolean(value.value)
    raise Mismatch(f"expected boolean, found {found(value)}")


def _integer(kind: str, low: int, high: int) -> Convert:
    def integer(value: Any) -> Any:
        number: int = value
        if type(value) is not int:
            if isinstance(value, enum.Enum):
                return integer(value.value)
            if not is_integer(type(value)):
                raise Mismatch(f"expected {kind}, found {found(value)}")
            number = index(value)
        if not low <= number <= high:
            raise Mismatch(f"expected {kind}, found {found(value)} out of range ({low} to {high})")
        return number

    return integer


def _double(value: Any) -> float:
    if type(value) is float:
        return value
    if isinstance(value, enum.Enum):
        return _double(value.value)
    if not is_number(type(value)):
        raise Mismatch(f"expected double, found {found(value)}")
    try:
        return float(value)
    except OverflowError:
        raise Mismatch(f"expected double, found {found(value)} out of range") from None


def _float(value: Any) -> float:
    if isinstance(value, enum.Enum):
        return _float(value.value)
    if not is_number(type(value)):
        raise Mismatch(f"expected float, found {found(value)}")
    try:
        number = float(value)
        _FLOAT.pack(number)  # NaN and the infinities pass
    except OverflowError:
        raise Mismatch(f"expected float, found {found(value)} out of range (4 bytes)") from None
    return number


def _bytes(value: Any) -> bytes:
    if type(value) is bytes:
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, enum.Enum):
        return _bytes(value.value)
    raise Mismatch(f"expected bytes, found {found(value)}")


def string(value: Any) -> str:
    """`value` as a str that UTF-8 can hold; raises Mismatch."""
    if type(value) is not str:
        if isinstance(value, str):
            return string(str.__str__(value))
        if isinstance(value, enum.Enum):
            return string(value.value)
        raise Mismatch(f"expected string, found {found(value)}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Mismatch(
                "expected string, found a str with a lone surrogate, which UTF-8 cannot hold"
            ) from None
    return value


_PRIMITIVES: Final[dict[str, Convert]] = {
    "null": _null,
    "boolean": _boolean,
    "int": _integer("int", *INT_RANGE),
    "long": _integer("long", *LONG_RANGE),
    "float": _float,
    "double": _double,
    "bytes": _bytes,
    "string": string,
}
