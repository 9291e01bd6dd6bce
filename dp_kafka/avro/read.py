"""From the plain value that a codec decoded to the event: logical types, union branches and schema evolution.

`make_reader(writer, reader)` compiles, once for a pair of schemas, the function that turns what was written
with the one into what the other describes, by the specification's rules of schema resolution. It is here
and not left to the packages because they differ: the avro package knows no aliases, fastavro's defaults are
the schema's raw JSON.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from dp_kafka.avro.defaults import default_value
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
from dp_kafka.events.build import NamedDict
from dp_kafka.events.errors import Mismatch, SchemaError

__all__ = ["make_reader"]

# None stands for "as it is": most values need nothing, and then neither do the containers around them.
Read = Callable[[Any], Any] | None


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise Mismatch("the bytes are not UTF-8, so they cannot be read as a string") from None


# What the specification lets a reader widen. bytes and string have the same form on the wire.
_PROMOTIONS: Final[dict[tuple[str, str], Callable[[Any], Any] | None]] = {
    ("int", "long"): None,
    ("int", "float"): float,
    ("int", "double"): float,
    ("long", "float"): float,
    ("long", "double"): float,
    ("float", "double"): None,
    ("string", "bytes"): str.encode,
    ("bytes", "string"): _text,
}


def make_reader(writer: Node, reader: Node, *, named: bool = False) -> Read:
    """The function for what `writer` wrote and `reader` describes; raises SchemaError when there can be none.

    `named`: records of a union of several become NamedDicts, which tell their record's name to whoever builds
    classes from them. What the function returns raises Mismatch for a value that the reader has no place for.
    """
    try:
        return _Compiler(named).compile(writer, reader)
    except Mismatch as exc:
        raise SchemaError(f"reader schema: {exc.text('event')}", field=exc.path("event")) from None


class _Compiler:
    """One compilation. `records` holds the pairs of records that are compiled or being compiled."""

    def __init__(self, named: bool) -> None:
        self.named = named
        self.records: dict[tuple[int, int], list[Any]] = {}

    def compile(self, writer: Node, reader: Node) -> Read:  # noqa: PLR0911 - one for each type
        if isinstance(writer, Union):
            return self.from_union(writer, reader)
        if isinstance(reader, Union):
            return self.into_union(writer, reader)
        match writer, reader:
            case Primitive(), Primitive():
                return self.primitive(writer, reader)
            case Fixed(), Fixed() if _same_name(writer, reader) and writer.size == reader.size:
                return self.logical(writer, reader)
            case Enum(), Enum() if _same_name(writer, reader):
                return self.enum(writer, reader)
            case Array(), Array():
                item = self.inside("[]", writer.items, reader.items)
                return None if item is None else _reads_array(item)
            case Map(), Map():
                item = self.inside("{}", writer.values, reader.values)
                return None if item is None else _reads_map(item)
            case Record(), Record() if _same_name(writer, reader):
                return self.record(writer, reader)
        raise _cannot(writer, reader)

    def inside(self, step: str, writer: Node, reader: Node) -> Read:
        try:
            return self.compile(writer, reader)
        except Mismatch as exc:
            exc.steps.append(step)
            raise

    def primitive(self, writer: Primitive, reader: Primitive) -> Read:
        if writer.kind == reader.kind:
            return self.logical(writer, reader)
        if (writer.kind, reader.kind) not in _PROMOTIONS:
            raise _cannot(writer, reader)
        promote = _PROMOTIONS[writer.kind, reader.kind]
        finish = self.logical(Primitive(reader.kind, None if promote else writer.logical), reader)
        if promote is None or finish is None:
            return promote or finish
        return lambda raw: finish(promote(raw))

    def logical(self, writer: Primitive | Fixed, reader: Primitive | Fixed) -> Read:
        if reader.logical is None:
            return None
        if writer.logical is not None and writer.logical.label != reader.logical.label:
            # The raw value would be read as another instant or another number, without an error.
            raise _cannot(writer, reader)
        return reader.logical.from_wire

    def enum(self, writer: Enum, reader: Enum) -> Read:
        unknown = frozenset(writer.symbols) - frozenset(reader.symbols)
        if not unknown:
            return None

        def symbol(raw: str) -> str:
            if raw not in unknown:
                return raw
            if reader.default is None:
                raise Mismatch(f"the symbol is none of the reader's {label(reader)}, which has no default")
            return reader.default

        return symbol

    def from_union(self, writer: Union, reader: Node) -> Read:
        reads: list[Read] = []
        problem: Mismatch | None = None
        for index, branch in enumerate(writer.branches):
            # Read with its own schema, a branch is itself: int and long would else both become the int.
            target = reader.branches[index] if reader is writer else reader
            try:
                reads.append(self.naming(writer, branch, self.compile(branch, target)))
            except Mismatch as exc:
                problem = exc
                reads.append(_refuses(branch, reader))
        if problem is not None and all(isinstance(read, _Refusal) for read in reads):
            raise problem
        if not writer.simple:
            return _reads_tagged(reads)
        other = next(read for read, branch in zip(reads, writer.branches, strict=True) if not is_null(branch))
        null = next(read for read, branch in zip(reads, writer.branches, strict=True) if is_null(branch))
        if null is None and other is None:
            return None
        return lambda raw: _apply(null if raw is None else other, raw)

    def naming(self, union: Union, branch: Node, read: Read) -> Read:
        if not self.named or not isinstance(branch, Record):
            return read
        if sum(isinstance(other, Record) for other in union.branches) < 2:
            return read
        return lambda raw: NamedDict(branch.name, _apply(read, raw))

    def into_union(self, writer: Node, reader: Union) -> Read:
        for exact in (True, False):
            for branch in reader.branches:
                if exact and not _same_type(writer, branch):
                    continue
                try:
                    return self.naming(reader, branch, self.compile(writer, branch))
                except Mismatch:
                    continue
        raise _cannot(writer, reader)

    def record(self, writer: Record, reader: Record) -> Read:
        pair = (id(writer), id(reader))
        if pair in self.records:
            # The record contains itself: this place cannot know yet whether there is anything to do.
            later = self.records[pair]
            return lambda raw: _apply(later[0], raw) if later else raw
        later = self.records[pair] = []
        taken: list[tuple[str, str, Read]] = []
        added: list[tuple[str, Callable[[], Any]]] = []
        sources = {field.name: field for field in writer.fields}
        for field in reader.fields:
            source = next((sources[name] for name in (field.name, *field.aliases) if name in sources), None)
            if source is not None:
                taken.append(
                    (source.name, field.name, self.inside(f".{field.name}", source.type, field.type))
                )
            elif field.default is not MISSING:
                added.append((field.name, _default(field)))
            else:
                raise Mismatch(
                    f"{label(writer)} has no field {field.name!r}, and the reader gives it no default"
                )
        same = len(taken) == len(writer.fields) and not added and all(old == new for old, new, _ in taken)
        if same and all(read is None for _, _, read in taken):
            del self.records[pair]
            return None
        read = _reads_record(taken, added)
        later.append(read)
        return read


class _Refusal:
    """Stands for a branch that the writer may write and the reader cannot read: an error when it comes."""

    def __init__(self, problem: str) -> None:
        self.problem = problem

    def __call__(self, _raw: Any) -> Any:
        raise Mismatch(self.problem)


def _refuses(branch: Node, reader: Node) -> _Refusal:
    return _Refusal(f"found {label(branch)}, which the reader schema's {label(reader)} cannot take")


def _apply(read: Read, raw: Any) -> Any:
    return raw if read is None else read(raw)


def _reads_tagged(reads: list[Read]) -> Callable[[Any], Any]:
    by_tag = {f"b{index}": read for index, read in enumerate(reads)}

    def tagged(raw: dict[str, Any]) -> Any:
        ((tag, value),) = raw.items()
        read = by_tag[tag]
        return value if read is None else read(value)

    return tagged


def _reads_array(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def array(raw: list[Any]) -> list[Any]:
        result: list[Any] = []
        try:
            for item in raw:
                result.append(read(item))  # noqa: PERF401 - its length is the index of what does not fit
        except Mismatch as exc:
            exc.steps.append(f"[{len(result)}]")
            raise
        return result

    return array


def _reads_map(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def mapping(raw: dict[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        try:
            for key, item in raw.items():
                result[key] = read(item)
        except Mismatch as exc:
            exc.steps.append(f"{{{len(result)}}}")
            raise
        return result

    return mapping


def _reads_record(
    taken: list[tuple[str, str, Read]], added: list[tuple[str, Callable[[], Any]]]
) -> Callable[[Any], Any]:
    def record(raw: dict[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        new = ""
        try:
            for old, new, read in taken:
                result[new] = raw[old] if read is None else read(raw[old])
        except Mismatch as exc:
            exc.steps.append(f".{new}")
            raise
        for name, default in added:
            result[name] = default()
        return result

    return record


def _default(field: Field) -> Callable[[], Any]:
    value = default_value(field.type, field.default)
    if isinstance(value, (list, dict)):
        # A new one for each event: the event is its owner's to change.
        return lambda: default_value(field.type, field.default)
    return lambda: value


def _cannot(writer: Node, reader: Node) -> Mismatch:
    return Mismatch(f"the writer's {label(writer)} cannot be read as {label(reader)}")


def _same_type(writer: Node, reader: Node) -> bool:
    if isinstance(writer, Primitive) and isinstance(reader, Primitive):
        return writer.kind == reader.kind
    if isinstance(writer, (Record, Enum, Fixed)) and isinstance(reader, (Record, Enum, Fixed)):
        return type(writer) is type(reader) and writer.name == reader.name
    return type(writer) is type(reader)


def _same_name(writer: Record | Enum | Fixed, reader: Record | Enum | Fixed) -> bool:
    """By the specification the names without their namespaces decide, or an alias of the reader."""
    short = writer.name.rpartition(".")[2]
    return reader.name.rpartition(".")[2] == short or any(
        alias == writer.name or alias.rpartition(".")[2] == short for alias in reader.aliases
    )
