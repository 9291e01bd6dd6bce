"""Which branch of a union takes a value: the first that accepts it, its own kind before a wider one.

The two packages under this library disagree here (the avro package takes the last branch that fits,
fastavro the first, with exceptions), so the choice is made before either of them sees the event.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from numbers import Integral, Real

from dp_kafka.avro.nodes import Array, Fixed, Map, Node, Primitive, Record, Union
from dp_kafka.avro.nodes import Enum as EnumNode
from dp_kafka.events.fields import holds_fields, is_named_tuple

__all__ = ["by_fields", "candidates", "is_array", "is_integer", "is_number"]

# Classes that only a logical type has a place for, unlike the int that a timestamp also takes.
_LOGICAL = (decimal.Decimal, datetime.date, datetime.time, uuid.UUID)
_NO, _NARROWER, _WIDER, _OWN = 0, 1, 2, 3


def candidates(union: Union, cls: type) -> tuple[int, ...]:
    """The branches that may take instances of `cls`, best first.

    Before all others comes the record that has the name of the class; then those of the class's own kind in
    their order, then those that it widens to: an int goes into a double only when there is no int or long
    to take it.
    """
    fits = [(_fit(branch, cls), index) for index, branch in enumerate(union.branches)]
    ranked = sorted(fits, key=lambda fit: (not _named_after(union.branches[fit[1]], cls), -fit[0], fit[1]))
    return tuple(index for fit, index in ranked if fit)


def by_fields(union: Union, order: tuple[int, ...], value: object) -> tuple[int, ...]:
    """`order` for one value: a mapping goes first to the record of which it has most fields."""
    if len(order) < 2 or not isinstance(value, Mapping):
        return order
    records = {index: branch for index in order if isinstance(branch := union.branches[index], Record)}
    if len(records) < 2:
        return order
    # sorted() is stable: where as many fields fit, the earlier branch stays the earlier one.
    best = iter(
        sorted(records, key=lambda index: -sum(field.name in value for field in records[index].fields))
    )
    return tuple(next(best) if index in records else index for index in order)


def is_integer(cls: type) -> bool:
    """Whether instances are integers: int and what stands for it (numpy's, say), but not bool."""
    return cls is int or (cls is not bool and issubclass(cls, Integral))


def is_number(cls: type) -> bool:
    """Whether instances are numbers that a float holds: no bool, and no Decimal, which would lose digits."""
    return cls is float or (cls is not bool and issubclass(cls, Real))


def is_array(cls: type) -> bool:
    """Whether instances are written as arrays: lists, tuples, other sequences, sets; no text."""
    if cls is list:
        return True
    return (
        issubclass(cls, (Sequence, AbstractSet))
        and not issubclass(cls, (str, bytes, bytearray, memoryview))
        and not is_named_tuple(cls)
    )


def _named_after(branch: Node, cls: type) -> bool:
    return isinstance(branch, Record) and branch.name.rpartition(".")[2] == cls.__name__


def _fit(node: Node, cls: type) -> int:  # noqa: PLR0911 - one for each type
    if issubclass(cls, enum.Enum) and not issubclass(cls, (str, int, float)):
        # A plain member stands for a symbol here; anything else is tried with its value afterwards.
        return _OWN if isinstance(node, EnumNode) else _NO
    match node:
        case Primitive() | Fixed() if node.logical is not None:
            if node.logical.accepts(cls):
                return _OWN if issubclass(cls, _LOGICAL) else _WIDER
            integers = isinstance(node, Primitive) and node.kind in ("int", "long")
            return _WIDER if integers and is_integer(cls) else _NO
        case Primitive():
            return _fit_primitive(node.kind, cls)
        case Fixed():
            return _fit_primitive("bytes", cls)
        case EnumNode():
            return _OWN if issubclass(cls, str) else _NO
        case Array():
            return _OWN if is_array(cls) else _NO
        case Map():
            return _OWN if issubclass(cls, Mapping) else _NO
        case _:  # a record, as no union stands in a union
            return _OWN if holds_fields(cls) else _NO


def _fit_primitive(kind: str, cls: type) -> int:
    match kind:
        case "null":
            own = cls is type(None)
        case "boolean":
            own = cls is bool
        case "int" | "long":
            own = is_integer(cls)
        case "string":
            own = issubclass(cls, str)
        case "bytes":
            own = issubclass(cls, (bytes, bytearray, memoryview))
        case "double":
            own = is_number(cls) and not is_integer(cls)
        case _:  # a float of 4 bytes: it loses digits of what the other numbers hold
            own = False
    if own:
        return _OWN
    if kind in ("float", "double") and is_number(cls):
        return _WIDER if kind == "double" else _NARROWER
    return _NO
