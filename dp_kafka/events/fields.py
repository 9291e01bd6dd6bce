"""The fields of an event's class: what each is called in the schema, and which attribute holds it."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import uuid
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, TypeVar

from dp_kafka.events.errors import Mismatch

__all__ = ["ByClass", "attributes_of", "holds_fields", "is_named_tuple", "schema_name"]

T = TypeVar("T")

# Classes whose instances are values, never records, although they have attributes.
_VALUES = (
    type(None),
    int,
    float,
    complex,
    str,
    bytes,
    bytearray,
    memoryview,
    decimal.Decimal,
    datetime.date,
    datetime.time,
    datetime.timedelta,
    datetime.tzinfo,
    uuid.UUID,
    enum.Enum,
    type,
)


class ByClass(dict[type, T]):
    """What `make` gives for a class, made at its first use and kept.

    Any thread may look up; two may make the same entry, to the same end. Past the bound nothing is kept any
    more, so a program that makes classes while it runs does not grow for ever here.
    """

    _BOUND: Final = 1_000

    def __init__(self, make: Callable[[type], T]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, cls: type) -> T:
        made = self._make(cls)
        if len(self) < self._BOUND:
            self[cls] = made
        return made


def schema_name(field: dataclasses.Field[Any]) -> str | None:
    """What the schema calls a dataclass field: its `metadata["avro"]`, else its name; None when that is "-".

    Raises Mismatch when the metadata is something else.
    """
    name = field.metadata.get("avro", field.name)
    if not isinstance(name, str) or not name:
        raise Mismatch(
            f'metadata["avro"] of the field {field.name} must be the name of a schema field, or "-"'
        )
    return None if name == "-" else name


def attributes_of(cls: type) -> dict[str, str] | None:
    """Schema field name to attribute name for a dataclass; None for other classes."""
    if not dataclasses.is_dataclass(cls):
        return None
    names = ((schema_name(field), field.name) for field in dataclasses.fields(cls))
    return {name: attribute for name, attribute in names if name is not None}


def is_named_tuple(cls: type) -> bool:
    """Whether `cls` comes from NamedTuple or namedtuple: a tuple by class, a record by intent."""
    return issubclass(cls, tuple) and hasattr(cls, "_fields")


def holds_fields(cls: type) -> bool:
    """Whether an instance of `cls` can be a record: a mapping, or an object with attributes."""
    if issubclass(cls, Mapping) or dataclasses.is_dataclass(cls) or is_named_tuple(cls):
        return True
    if issubclass(cls, _VALUES) or cls is object:
        return False
    # Lists, sets and arrays are values; an iterable model (pydantic's, say) has no __len__ and is not.
    return not issubclass(cls, Collection)
