"""Where in a schema the data goes wrong: reads bytes that a codec refused, builds nothing, says what it met.

Only for the error message, so it need not be fast; but it runs on data that anybody may have sent, so it
bounds every loop by the data itself.
"""

from __future__ import annotations

from dp_kafka.avro.nodes import (
    Array,
    Enum,
    Fixed,
    Map,
    Node,
    Primitive,
    Union,
    empty_on_the_wire,
    label,
)
from dp_kafka.events.errors import Mismatch

__all__ = ["MAX_EMPTY", "MAX_NESTING", "locate"]

#: How many types may stand inside one another where fastavro reads a recursive schema. It takes some
#: kilobytes of the C stack for each, and the smallest stack of a thread, on macOS, has 512.
MAX_NESTING = 200
#: How many values that take no bytes (nulls, say) one message may have: the bytes themselves set no limit.
MAX_EMPTY = 1_000_000


def locate(root: Node, data: bytes, *, max_nesting: int | None = None) -> str | None:
    """What is wrong with `data`, with the path and the offset but nothing of the data; None: nothing is.

    `max_nesting`: how many types may stand inside one another; None leaves it to Python's own limit.
    """
    cursor = _Cursor(data, max_nesting)
    try:
        cursor.skip(root)
    except Mismatch as exc:
        return f"{exc.text()} (at byte {cursor.at} of {len(data)})"
    except RecursionError:
        return f"event: the data nests too deeply (at byte {cursor.at} of {len(data)})"
    if cursor.at < len(data):
        return f"event: the {label(root)} ends at byte {cursor.at}, and the data has {len(data)} bytes"
    return None


class _Cursor:
    """A position in the data, moved on by one value of a type after the other."""

    def __init__(self, data: bytes, max_nesting: int | None) -> None:
        self.data = data
        self.at = 0
        self.left = max_nesting
        self.empty = 0

    def skip(self, node: Node) -> None:
        if self.left is None:
            self.of_type(node)
            return
        if self.left == 0:
            raise RecursionError
        self.left -= 1
        self.of_type(node)
        self.left += 1

    def of_type(self, node: Node) -> None:
        match node:
            case Primitive():
                self.primitive(node.kind)
            case Fixed():
                self.take(node.size, label(node))
            case Enum():
                if not 0 <= self.number(label(node)) < len(node.symbols):
                    raise Mismatch(f"the index of a symbol is not one of {label(node)}")
            case Union():
                index = self.number(label(node))
                if not 0 <= index < len(node.branches):
                    raise Mismatch(f"the index of a branch is not one of {label(node)}")
                self.skip(node.branches[index])
            case Array():
                self.blocks(node, node.items)
            case Map():
                self.blocks(node, node.values)
            case _:
                for field in node.fields:
                    self.inside(f".{field.name}", field.type)

    def inside(self, step: str, node: Node) -> None:
        try:
            self.skip(node)
        except Mismatch as exc:
            exc.steps.append(step)
            raise

    def primitive(self, kind: str) -> None:
        if kind in ("int", "long"):
            self.number(kind)
        elif kind in ("string", "bytes"):
            piece = self.take(self.number(kind), kind)
            if kind == "string" and not _is_utf8(piece):
                raise Mismatch("the bytes of a string are not UTF-8")
        else:
            self.take({"null": 0, "boolean": 1, "float": 4, "double": 8}[kind], kind)

    def blocks(self, node: Array | Map, item: Node) -> None:
        is_map = isinstance(node, Map)
        index = 0
        while count := self.number(label(node)):
            if count < 0:
                count = -count
                self.number(label(node))  # the size of the block in bytes, which is not needed here
            if not is_map and empty_on_the_wire(item):
                self.empty += count
                if self.empty > MAX_EMPTY:
                    raise Mismatch(f"it announces more than {MAX_EMPTY} values that take no bytes")
                continue
            for index in range(index, index + count):  # noqa: B020 - goes on counting
                if is_map:
                    self.primitive("string")
                self.inside(f"{{{index}}}" if is_map else f"[{index}]", item)
            index += 1

    def number(self, expected: str) -> int:
        result = shift = 0
        while True:
            byte = self.take(1, expected)[0]
            result |= (byte & 0x7F) << shift
            if byte < 0x80:
                return (result >> 1) ^ -(result & 1)
            shift += 7
            if shift > 63:
                raise Mismatch(f"a number in this {expected} has more than 64 bits")

    def take(self, size: int, expected: str) -> bytes:
        if size < 0:
            raise Mismatch(f"this {expected} has a negative length")
        if size > len(self.data) - self.at:
            raise Mismatch(f"the data ends inside this {expected}")
        piece = self.data[self.at : self.at + size]
        self.at += size
        return piece


def _is_utf8(piece: bytes) -> bool:
    try:
        piece.decode()
    except UnicodeDecodeError:
        return False
    return True
