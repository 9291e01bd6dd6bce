"""The tree of a parsed Avro schema: what each type is called and made of. Built once, then only read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

__all__ = [
    "INT_RANGE",
    "LONG_RANGE",
    "MISSING",
    "PRIMITIVES",
    "Array",
    "Enum",
    "Field",
    "Fixed",
    "Logical",
    "Map",
    "Node",
    "Primitive",
    "Record",
    "Union",
    "bounded",
    "empty_on_the_wire",
    "is_null",
    "kind_of",
    "label",
]

PRIMITIVES: Final = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
INT_RANGE: Final = (-(2**31), 2**31 - 1)
LONG_RANGE: Final = (-(2**63), 2**63 - 1)


class _Missing:
    """The type of MISSING, which stands for "no value" where None is a value."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()


@dataclass(frozen=True, slots=True)
class Logical:
    """A logical type: how its Python values become those of the type under it, and back.

    `accepts` says of a class whether `to_wire` takes its instances. Both functions raise Mismatch.
    """

    name: str
    label: str
    accepts: Callable[[type], bool]
    to_wire: Callable[[Any], Any]
    from_wire: Callable[[Any], Any]


# Nodes are compared by identity: the same record is one node wherever the schema refers to it.
@dataclass(eq=False, slots=True)
class Primitive:
    kind: str
    logical: Logical | None = None


@dataclass(eq=False, slots=True)
class Fixed:
    name: str
    size: int
    aliases: tuple[str, ...] = ()
    logical: Logical | None = None


@dataclass(eq=False, slots=True)
class Enum:
    name: str
    symbols: tuple[str, ...]
    default: str | None = None
    aliases: tuple[str, ...] = ()


@dataclass(eq=False, slots=True)
class Array:
    items: Node


@dataclass(eq=False, slots=True)
class Map:
    values: Node


@dataclass(eq=False, slots=True)
class Union:
    branches: tuple[Node, ...]

    @property
    def simple(self) -> bool:
        """Whether it is null and one other type, in either order: then the value itself tells the branch."""
        return len(self.branches) == 2 and any(is_null(branch) for branch in self.branches)


@dataclass(eq=False, slots=True)
class Field:
    """`default` is the JSON of the schema, or MISSING."""

    name: str
    type: Node
    default: Any = MISSING
    aliases: tuple[str, ...] = ()


@dataclass(eq=False, slots=True)
class Record:
    """`fields` is filled in after the record is made, because a field may refer to the record."""

    name: str
    fields: tuple[Field, ...] = ()
    aliases: tuple[str, ...] = ()


Node = Primitive | Fixed | Enum | Array | Map | Union | Record


def is_null(node: Node) -> bool:
    """Whether `node` is the null type."""
    return isinstance(node, Primitive) and node.kind == "null"


def kind_of(node: Node) -> str:
    """The type's name in the specification: `long`, `array`, `record`."""
    return node.kind if isinstance(node, Primitive) else type(node).__name__.lower()


def label(node: Node) -> str:  # noqa: PLR0911 - one for each type
    """What errors call the type: `long`, `timestamp-millis`, `record shop.Order`, `null or string`."""
    match node:
        case Primitive() | Fixed() if node.logical is not None:
            return node.logical.label
        case Primitive():
            return node.kind
        case Fixed():
            return f"fixed {node.name} ({node.size} bytes)"
        case Enum():
            return f"enum {node.name}"
        case Record():
            return f"record {node.name}"
        case Array():
            return "array"
        case Map():
            return "map"
        case _:
            return " or ".join(label(branch) for branch in node.branches)


def empty_on_the_wire(node: Node, _open: frozenset[int] = frozenset()) -> bool:
    """Whether values of the type take no bytes at all, so that the data cannot bound how many there are."""
    match node:
        case Primitive():
            return node.kind == "null"
        case Fixed():
            return node.size == 0
        case Record():
            # A record inside itself can only end in a union or an array, and those take bytes.
            if id(node) in _open:
                return True
            return all(empty_on_the_wire(field.type, _open | {id(node)}) for field in node.fields)
        case _:
            return False


def bounded(root: Node) -> bool:
    """Whether the length of the data bounds the number of values in it: no array of what takes no bytes."""
    seen: set[int] = set()
    todo: list[Node] = [root]
    while todo:
        node = todo.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        match node:
            case Array():
                if empty_on_the_wire(node.items):
                    return False
                todo.append(node.items)
            case Map():
                todo.append(node.values)
            case Union():
                todo.extend(node.branches)
            case Record():
                todo.extend(field.type for field in node.fields)
            case _:
                pass
    return True
