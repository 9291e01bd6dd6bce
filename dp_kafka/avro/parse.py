"""From a schema's definition, JSON text or what it means, to its tree; every refusal says where and why."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from dp_kafka.avro.defaults import default_value
from dp_kafka.avro.logical import logical_type
from dp_kafka.avro.nodes import (
    MISSING,
    PRIMITIVES,
    Array,
    Enum,
    Field,
    Fixed,
    Map,
    Node,
    Primitive,
    Record,
    Union,
    kind_of,
    label,
)
from dp_kafka.events.errors import Mismatch, SchemaError

__all__ = ["Parsed", "parse"]

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_COMPLEX: Final = ("record", "error", "enum", "fixed", "array", "map")


class Parsed:
    """A parsed definition: its JSON text, the tree, and whether a record can contain itself."""

    __slots__ = ("recursive", "root", "text")

    def __init__(self, text: str, root: Node, recursive: bool) -> None:
        self.text = text
        self.root = root
        self.recursive = recursive


def parse(definition: object) -> Parsed:
    """Parse a schema given as JSON text (str), dict or list; raises SchemaError.

    The definition is copied: changing a dict afterwards changes nothing here.
    """
    try:
        value, text = _load(definition)
    except RecursionError:
        raise SchemaError("schema: the definition is nested too deeply", field="schema") from None
    parser = _Parser()
    root = parser.node(value, "schema", "")
    parser.check_defaults()
    return Parsed(text, root, parser.recursive)


def _load(definition: object) -> tuple[Any, str]:
    if isinstance(definition, str):
        if definition.strip() in PRIMITIVES:  # the bare name, which is common although it is no JSON
            return definition.strip(), json.dumps(definition.strip())
        try:
            return json.loads(definition), definition
        except json.JSONDecodeError as exc:
            raise SchemaError(
                f"schema: not valid JSON at line {exc.lineno} column {exc.colno}: {exc.msg}", field="schema"
            ) from None
    if isinstance(definition, (dict, list)):
        try:
            text = json.dumps(definition)
        except (TypeError, ValueError) as exc:
            raise SchemaError(f"schema: not what JSON can hold: {exc}", field="schema") from None
        return json.loads(text), text
    raise SchemaError(
        f"schema: expected JSON text, a dict or a list, found {type(definition).__name__}", field="schema"
    )


class _Parser:
    """One pass over one definition. `names` are the named types so far, `open` the unfinished records."""

    def __init__(self) -> None:
        self.names: dict[str, Node] = {}
        self.open: set[str] = set()
        self.recursive = False
        self.defaults: list[tuple[Field, str]] = []

    def node(self, value: Any, path: str, namespace: str) -> Node:
        try:
            if isinstance(value, str):
                return Primitive(value) if value in PRIMITIVES else self.reference(value, path, namespace)
            if isinstance(value, list):
                return self.union(value, path, namespace)
            if isinstance(value, dict):
                return self.defined(value, path, namespace)
        except RecursionError:
            raise self.error(path, "the definition is nested too deeply") from None
        raise self.error(path, f"expected a type name, an object or a list, found {type(value).__name__}")

    def error(self, path: str, problem: str) -> SchemaError:
        return SchemaError(f"{path}: {problem}", field=path)

    def reference(self, name: str, path: str, namespace: str) -> Node:
        full = name if "." in name or not namespace else f"{namespace}.{name}"
        node = self.names.get(full)
        if node is None:
            defined = ", ".join(self.names) or "none"
            raise self.error(path, f"unknown type {full!r}; named types defined before it: {defined}")
        self.recursive = self.recursive or full in self.open
        return node

    def union(self, value: list[Any], path: str, namespace: str) -> Node:
        branches: list[Node] = []
        seen: set[str] = set()
        for index, item in enumerate(value):
            where = f"{path}[{index}]"
            branch = self.node(item, where, namespace)
            if isinstance(branch, Union):
                raise self.error(where, "a union cannot directly contain a union")
            key = branch.name if isinstance(branch, (Record, Enum, Fixed)) else kind_of(branch)
            if key in seen:
                raise self.error(where, f"{key} is in the union twice")
            seen.add(key)
            branches.append(branch)
        if not branches:
            raise self.error(path, "a union needs at least one type")
        return Union(tuple(branches))

    def defined(self, value: dict[str, Any], path: str, namespace: str) -> Node:  # noqa: PLR0911 - one for each type
        if "type" not in value:
            raise self.error(path, 'the object has no "type"')
        kind = value["type"]
        if isinstance(kind, (dict, list)):
            return self.node(kind, f"{path}.type", namespace)
        if not isinstance(kind, str):
            raise self.error(f"{path}.type", f"expected a type name, found {type(kind).__name__}")
        if kind in PRIMITIVES:
            return Primitive(kind, self.logical(value, kind, path))
        if kind == "array":
            return Array(self.node(self.required(value, "items", path), f"{path}.items", namespace))
        if kind == "map":
            return Map(self.node(self.required(value, "values", path), f"{path}.values", namespace))
        if kind in ("record", "error"):
            return self.record(value, path, namespace)
        if kind == "enum":
            return self.enum(value, path, namespace)
        if kind == "fixed":
            return self.fixed(value, path, namespace)
        return self.reference(kind, f"{path}.type", namespace)

    def required(self, value: dict[str, Any], key: str, path: str) -> Any:
        if key not in value:
            raise self.error(path, f'the {value.get("type", "field")} has no "{key}"')
        return value[key]

    def logical(self, value: dict[str, Any], base: str, path: str, size: int | None = None) -> Any:
        try:
            return logical_type(value.get("logicalType"), base, value, size)
        except ValueError as exc:
            raise self.error(path, str(exc)) from None

    def name(self, value: dict[str, Any], path: str, namespace: str) -> tuple[str, str, tuple[str, ...]]:
        """The full name of a named type, the namespace for what is inside it, and its full aliases."""
        name = self.required(value, "name", path)
        space = value.get("namespace", namespace)
        if not isinstance(space, str):
            raise self.error(f"{path}.namespace", f"expected a string, found {type(space).__name__}")
        full = self.full_name(name, space, f"{path}.name")
        if full in PRIMITIVES or full in _COMPLEX:
            raise self.error(f"{path}.name", f"{full!r} is the name of a built-in type")
        if full in self.names:
            raise self.error(f"{path}.name", f"{full!r} is defined twice")
        inner = full.rpartition(".")[0]
        aliases = self.strings(value, "aliases", path)
        return full, inner, tuple(self.full_name(alias, inner, f"{path}.aliases") for alias in aliases)

    def full_name(self, name: object, namespace: str, path: str) -> str:
        if not isinstance(name, str):
            raise self.error(path, f"expected a string, found {type(name).__name__}")
        full = name if "." in name or not namespace else f"{namespace}.{name}"
        if not all(_NAME.fullmatch(part) for part in full.split(".")):
            raise self.error(
                path, f"{full!r} is not a name; names are letters, digits and _, not first a digit"
            )
        return full

    def strings(self, value: dict[str, Any], key: str, path: str) -> list[str]:
        items = value.get(key, [])
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            raise self.error(f"{path}.{key}", "expected a list of strings")
        return items

    def record(self, value: dict[str, Any], path: str, namespace: str) -> Node:
        full, inner, aliases = self.name(value, path, namespace)
        node = self.names[full] = Record(full, aliases=aliases)
        self.open.add(full)
        items = self.required(value, "fields", path)
        if not isinstance(items, list):
            raise self.error(f"{path}.fields", f"expected a list, found {type(items).__name__}")
        fields: dict[str, Field] = {}
        for index, item in enumerate(items):
            where = f"{path}.fields[{index}]"
            field = self.field(item, where, inner)
            if field.name in fields:
                raise self.error(where, f"record {full} has two fields called {field.name!r}")
            fields[field.name] = field
        node.fields = tuple(fields.values())
        self.open.discard(full)
        return node

    def field(self, value: Any, path: str, namespace: str) -> Field:
        if not isinstance(value, dict):
            raise self.error(path, f"expected an object, found {type(value).__name__}")
        name = self.required(value, "name", path)
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise self.error(f"{path}.name", f"{name!r} is not a name; names are letters, digits and _")
        if value.get("order", "ignore") not in ("ascending", "descending", "ignore"):
            raise self.error(f"{path}.order", "expected ascending, descending or ignore")
        node = self.node(self.required(value, "type", path), f"{path}.type", namespace)
        aliases = tuple(self.strings(value, "aliases", path))
        field = Field(name, node, value.get("default", MISSING), aliases)
        if field.default is not MISSING:
            self.defaults.append((field, f"{path}.default"))
        return field

    def enum(self, value: dict[str, Any], path: str, namespace: str) -> Node:
        full, _, aliases = self.name(value, path, namespace)
        self.required(value, "symbols", path)
        symbols = self.strings(value, "symbols", path)
        for symbol in symbols:
            if not _NAME.fullmatch(symbol):
                raise self.error(f"{path}.symbols", f"{symbol!r} is not a name")
        if not symbols or len(set(symbols)) != len(symbols):
            raise self.error(f"{path}.symbols", "expected at least one symbol, and none twice")
        default = value.get("default")
        if default is not None and default not in symbols:
            raise self.error(f"{path}.default", f"{default!r} is not one of the symbols")
        node = self.names[full] = Enum(full, tuple(symbols), default, aliases)
        return node

    def fixed(self, value: dict[str, Any], path: str, namespace: str) -> Node:
        full, _, aliases = self.name(value, path, namespace)
        size = self.required(value, "size", path)
        if type(size) is not int or size < 0:
            raise self.error(f"{path}.size", "expected a number of bytes, 0 or more")
        node = self.names[full] = Fixed(full, size, aliases, self.logical(value, "fixed", path, size))
        return node

    def check_defaults(self) -> None:
        """Last of all: a default's type may be a record that was not finished where it stands."""
        for field, path in self.defaults:
            try:
                default_value(field.type, field.default)
            except Mismatch as exc:
                text = f"{exc.text(path)} (for {label(field.type)})"
                raise SchemaError(text, field=path) from None
            except RecursionError:
                raise self.error(path, f"the default of {label(field.type)} contains itself") from None
