"""The two codecs that turn plain values into Avro's binary form and back: the avro package, and fastavro.

Neither sees the user's schema. Both get a schema of the same wire form that leaves nothing to their own
taste: no logical types, no defaults, no names of the user. What is left has one encoding, so the bytes are
equal, and so is what each of them reads.

Two devices of that schema need explaining. A record is written as its fields one after the other, so a
record of one field has the bytes of that field; hence

* a type that is not a record is put into a record with one field, because fastavro parses any other again for
  every event;
* a branch of a union is put into a record with one field, `b<index>`, for reading (and for writing with the
  avro package): so the value says which branch it is, whatever Python type it has. A union of null and one
  other type needs none of this.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from io import BytesIO
from typing import Any, Protocol

from dp_kafka.avro.nodes import Array, Enum, Fixed, Map, Node, Primitive, Record, Union, kind_of
from dp_kafka.events.errors import SchemaError

__all__ = ["ENGINES", "Engine", "FastavroEngine", "Tag", "branch_by_name", "make_engine"]

ENGINES = ("avro", "fastavro")
# Makes the datum of a union: from the union, the index of the branch, and the datum of the branch.
Tag = Callable[[Union, int, Any], Any]


class Engine(Protocol):
    """Encodes and decodes plain values of one schema; any thread may call it at any time.

    Both methods raise whatever the package under them raises, and that may show a value: it is for the
    caller to drop it.
    """

    name: str

    def tag(self, union: Union, index: int, datum: Any) -> Any: ...

    def encode(self, datum: Any) -> bytes: ...

    def decode(self, data: bytes) -> Any: ...


def make_engine(root: Node, name: str | None, *, reference_only: bool) -> Engine:
    """The engine called `name`, or by default fastavro where it is installed, else avro.

    `reference_only`: only the avro package is safe for this schema. fastavro recurses in C: data that nests
    deeply in a recursive schema would overflow the stack and end the process, where Python raises
    RecursionError.
    """
    if name is not None and name not in ENGINES:
        raise SchemaError(f"engine: expected one of {', '.join(ENGINES)}, found {name!r}", field="engine")
    fastavro = None if name == "avro" else _fastavro()
    if name == "fastavro" and fastavro is None:
        raise SchemaError("engine: fastavro is not installed: pip install 'dp-kafka[fast]'", field="engine")
    if fastavro is None or reference_only:
        return AvroEngine(root)
    return FastavroEngine(root, fastavro)


def _fastavro() -> Any:
    try:
        import fastavro
    except ImportError:
        return None
    return fastavro


def branch_by_name(union: Union, index: int, datum: Any) -> Any:
    """The datum of a union as fastavro takes it with the user's schema: the branch's name and its value."""
    branch = union.branches[index]
    return (branch.name if isinstance(branch, (Record, Enum, Fixed)) else kind_of(branch)), datum


class FastavroEngine:
    """fastavro: compiled, and about 15 times as fast."""

    name = "fastavro"

    def __init__(self, root: Node, fastavro: Any) -> None:
        self._boxed = not isinstance(root, Record)
        self._names = _Names()
        #: What encodes: schemaless_writer, and the schema that it takes.
        self.writing: tuple[Any, Any] = (
            fastavro.schemaless_writer,
            fastavro.parse_schema(_wire_root(root, self._names)),
        )
        self._read: Any = fastavro.schemaless_reader
        self._read_schema: Any = fastavro.parse_schema(_wire_root(root, _Names(tagged=True)))

    def tag(self, union: Union, index: int, datum: Any) -> Any:
        # Also where there is but one branch beside null: fastavro compares an untagged datum with the branch,
        # and does not know the tags of enums, fixed, arrays and maps inside of it.
        return self._names.branch(union.branches[index]), datum

    def encode(self, datum: Any) -> bytes:
        write, schema = self.writing
        out = BytesIO()
        write(out, schema, {"v": datum} if self._boxed else datum)
        return out.getvalue()

    def decode(self, data: bytes) -> Any:
        source = BytesIO(data)
        datum = self._read(source, self._read_schema, None)
        if source.read(1):
            raise ValueError("bytes are left over")
        return datum["v"] if self._boxed else datum


class AvroEngine:
    """The avro package: pure Python, the reference."""

    name = "avro"

    def __init__(self, root: Node) -> None:
        import avro.io
        import avro.schema

        self._io = avro.io
        self._boxed = not isinstance(root, Record)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            self._schema = avro.schema.parse(json.dumps(_wire_root(root, _Names(tagged=True))))
        self._writer = avro.io.DatumWriter(self._schema)

    def tag(self, union: Union, index: int, datum: Any) -> Any:
        return datum if union.simple else {f"b{index}": datum}

    def encode(self, datum: Any) -> bytes:
        out = BytesIO()
        self._writer.write({"v": datum} if self._boxed else datum, self._io.BinaryEncoder(out))
        return out.getvalue()

    def decode(self, data: bytes) -> Any:
        source = BytesIO(data)
        # A reader counts while it reads, so each call has its own.
        datum: Any = self._io.DatumReader(self._schema).read(self._io.BinaryDecoder(source))
        if source.read(1):
            raise ValueError("bytes are left over")
        return datum["v"] if self._boxed else datum


class _Names:
    """The names in a wire schema: flat, because a name without namespace can hide behind one with."""

    def __init__(self, *, tagged: bool = False) -> None:
        self.tagged = tagged
        self.unions = 0
        self._of: dict[int, str] = {}

    def define(self, node: Node) -> tuple[str, bool]:
        """The name of a named type, and whether it was known before."""
        known = id(node) in self._of
        return self._of.setdefault(id(node), f"T{len(self._of)}"), known

    def branch(self, node: Node) -> str:
        """What fastavro calls a branch of a union."""
        return self._of.get(id(node)) or kind_of(node)


def _wire_root(root: Node, names: _Names) -> Any:
    if isinstance(root, Record):
        return _wire(root, names)
    return {"type": "record", "name": "Box", "fields": [{"name": "v", "type": _wire(root, names)}]}


def _wire(node: Node, names: _Names) -> Any:  # noqa: PLR0911 - one for each type
    match node:
        case Primitive():
            return node.kind
        case Array():
            return {"type": "array", "items": _wire(node.items, names)}
        case Map():
            return {"type": "map", "values": _wire(node.values, names)}
        case Union():
            return _wire_union(node, names)
        case _:
            name, known = names.define(node)
            if known:
                return name
            if isinstance(node, Fixed):
                return {"type": "fixed", "name": name, "size": node.size}
            if isinstance(node, Enum):
                return {"type": "enum", "name": name, "symbols": list(node.symbols)}
            fields = [{"name": field.name, "type": _wire(field.type, names)} for field in node.fields]
            return {"type": "record", "name": name, "fields": fields}


def _wire_union(node: Union, names: _Names) -> Any:
    branches = [_wire(branch, names) for branch in node.branches]
    if node.simple or not names.tagged:
        return branches
    names.unions += 1
    return [
        {
            "type": "record",
            "name": f"U{names.unions}_{index}",
            "fields": [{"name": f"b{index}", "type": branch}],
        }
        for index, branch in enumerate(branches)
    ]
