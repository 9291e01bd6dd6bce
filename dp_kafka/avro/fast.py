"""The short way through marshal: a compiled function per class of events, which checks and encodes at once.

`make_encoder` writes, for one record and one class, a Python function that looks at the type and range of
every field and hands the event to fastavro, and compiles it, as the standard library does for dataclasses.
For an event of three fields the checks cost a tenth of the encoding, where calling one function per field
costs a third. A dict is not even copied, unless one of its fields needs converting.

The function returns None for whatever it is not made for, errors included: `dp_kafka.avro.write` then does
it the longer way, and names what does not fit. So nothing here decides what is an error.
"""

from __future__ import annotations

import contextlib
import keyword
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from typing import Any, Final

from dp_kafka.avro.nodes import (
    INT_RANGE,
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
)

__all__ = ["make_encoder"]

Encoder = Callable[[Any], bytes | None]

# A record that is used in many places is checked in each; past this size checking would cost more than it
# saves.
_MAX_LINES: Final = 1_000
# The largest float of 4 bytes; what lies beyond goes the longer way, infinities and NaN included.
_FLOAT_MAX: Final = 3.4028234663852886e38

# What fastavro would take, and should not: a float for a long, a bool for a double. No check is made for
# what it refuses by itself: all but str for a string or a key of a map, all but a symbol for an enum, and
# longs of more than 64 bits.
_FAILS: Final = {
    "null": "{0} is not None",
    "boolean": "type({0}) is not bool",
    "int": f"type({{0}}) is not int or not {INT_RANGE[0]} <= {{0}} <= {INT_RANGE[1]}",
    "long": "type({0}) is not int",
    "float": f"type({{0}}) not in (float, int) or not -{_FLOAT_MAX} <= {{0}} <= {_FLOAT_MAX}",
    "double": "type({0}) is not float and type({0}) is not int",
    "bytes": "type({0}) is not bytes",
}


def make_encoder(
    record: Record,
    attributes: Mapping[str, str] | None,
    convert: Callable[[Field], Callable[[Any], Any]],
    write: Callable[[BytesIO, Any, Any], None],
    schema: Any,
) -> Encoder | None:
    """The function for events of one class, or None when there can be none.

    Args:
        record: what an event is.
        attributes: schema field name to attribute name; None for dicts.
        convert: gives the conversion of a field whose values cannot go to fastavro as they are.
        write, schema: fastavro's schemaless_writer and the parsed schema that it takes.
    """
    names = [field.name for field in record.fields]
    if attributes is None:
        values = [f"v0[{name!r}]" for name in names]
    elif all(_is_attribute(attributes.get(name, "")) for name in names):
        values = [f"v0.{attributes[name]}" for name in names]
    else:
        return None  # the class lacks a field, so that a default comes in
    constants: dict[str, Any] = {"write": write, "schema": schema, "BytesIO": BytesIO}
    lines = ["def made(v0):", " try:"]
    parts: list[str] = []
    copied = attributes is not None
    try:
        for index, field in enumerate(record.fields):
            variable = f"f{index}"
            lines.append(f"  {variable} = {values[index]}")
            parts.append(f"{field.name!r}: {variable}")
            checks = _Checks(variable)
            if checks.of(field.type):
                lines += checks.lines
            else:
                copied = True
                constants[f"convert{index}"] = convert(field)
                lines.append(f"  {variable} = convert{index}({variable})")
        datum = f"{{{', '.join(parts)}}}" if copied else "v0"
        lines += ["  out = BytesIO()", f"  write(out, schema, {datum})", "  return out.getvalue()"]
        lines += [" except Exception: return None"]
        if len(lines) > _MAX_LINES:
            return None
        # Nothing of an event gets into the source, and of a schema only names, which are identifiers by now.
        exec(compile("\n".join(lines), "<dp_kafka.avro.fast>", "exec"), constants)
    except SyntaxError:  # more nested loops than Python takes
        return None
    made: Encoder = constants["made"]
    return made


def _is_attribute(name: str) -> bool:
    return name.isidentifier() and not keyword.iskeyword(name)


class _NeedsConverting(Exception):
    """Raised for a type of which some value cannot go to fastavro as it is."""


class _Checks:
    """The lines that leave the function when one variable does not fit its type."""

    def __init__(self, variable: str) -> None:
        self.variable = variable
        self.lines: list[str] = []
        self.variables = 0

    def of(self, node: Node) -> bool:
        """Make the lines; False when values of the type need converting."""
        try:
            self.check(node, self.variable, 2)
        except _NeedsConverting:
            return False
        return True

    def add(self, depth: int, line: str) -> None:
        if len(self.lines) >= _MAX_LINES:
            raise _NeedsConverting
        self.lines.append(" " * depth + line)

    def unless(self, depth: int, fails: str) -> None:
        self.add(depth, f"if {fails}: return None")

    def new(self) -> str:
        self.variables += 1
        return f"{self.variable}_{self.variables}"

    def check(self, node: Node, value: str, depth: int) -> None:
        match node:
            case Primitive() if node.logical is None:
                if node.kind in _FAILS:
                    self.unless(depth, _FAILS[node.kind].format(value))
            case Fixed() if node.logical is None:
                self.unless(depth, f"type({value}) is not bytes or len({value}) != {node.size}")
            case Enum():
                pass
            case Array():
                self.unless(depth, f"type({value}) is not list")
                self.loop(f"{value}", node.items, depth)
            case Map():
                self.unless(depth, f"type({value}) is not dict")
                self.loop(f"{value}.values()", node.values, depth)
            case Union() if node.simple:
                other = next(branch for branch in node.branches if not is_null(branch))
                with self.block(depth, f"if {value} is not None:"):
                    self.check(other, value, depth + 1)
                    if isinstance(other, Enum) or (isinstance(other, Primitive) and other.kind == "string"):
                        # To fastavro a tuple in a union is the name of a branch and its value.
                        self.unless(depth + 1, f"type({value}) is not str")
                    if isinstance(other, Record):
                        # To fastavro this key in a record of a union is the name of the record's type.
                        self.unless(depth + 1, f"'-type' in {value}")
            case Record():
                self.unless(depth, f"type({value}) is not dict")
                for field in node.fields:
                    part = self.new()
                    self.add(depth, f"{part} = {value}[{field.name!r}]")
                    self.check(field.type, part, depth)
            case _:
                raise _NeedsConverting

    def loop(self, values: str, node: Node, depth: int) -> None:
        item = self.new()
        with self.block(depth, f"for {item} in {values}:"):
            self.check(node, item, depth + 1)

    @contextlib.contextmanager
    def block(self, depth: int, head: str) -> Iterator[None]:
        """The lines added inside stand under `head`, which goes again when there are none."""
        self.add(depth, head)
        before = len(self.lines)
        yield
        if len(self.lines) == before:
            self.lines.pop()
