"""What is public: the modules that users import from, and the names in their `__all__`."""

from __future__ import annotations

import ast
import enum
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

#: The modules of the reference. What is not in their `__all__`, and every other module, is private.
MODULES = (
    "dp_kafka",
    "dp_kafka.admin",
    "dp_kafka.avro",
    "dp_kafka.channels",
    "dp_kafka.codecs",
    "dp_kafka.drain",
    "dp_kafka.health",
    "dp_kafka.kafkatest",
    "dp_kafka.kafkatest.plugin",
    "dp_kafka.redrive",
    "dp_kafka.retry",
    "dp_kafka.shutdown",
)


@dataclass(frozen=True)
class Name:
    """A public name: `qualname` in `module`, what it is, and the docstring that a reader finds with it."""

    module: str
    qualname: str
    value: Any
    docstring: str
    #: The class whose member it is, if it is one.
    owner: type | None = None
    #: Whether only instances have it, set by the constructor: it is found in the docstring of the class.
    of_instances: bool = False

    def __str__(self) -> str:
        return f"{self.module}.{self.qualname}"


def names() -> Iterator[Name]:
    """Every public name, and every public member of its classes."""
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        for name in module.__all__:
            value = getattr(module, name)
            yield Name(module_name, name, value, _own_docstring(value))
            if inspect.isclass(value):
                yield from _members(module_name, name, value)


def _members(module: str, name: str, cls: type) -> Iterator[Name]:
    """The members of a class that this library defines, without those that it has from elsewhere."""
    found: dict[str, Any] = {}
    for base in cls.__mro__:
        if base.__module__.startswith("dp_kafka"):
            for member, value in vars(base).items():
                if not member.startswith("_"):
                    found.setdefault(member, value)
    own_fields = {field.name for field in fields(cls)} if is_dataclass(cls) else set()
    for member in own_fields:
        found.setdefault(member, None)
    for member, value in found.items():
        # A field's docstring, and that of a member of an enumeration, is the line of its class.
        described = member in own_fields or isinstance(value, enum.Enum) or not _can_have_docstring(value)
        docstring = _line_about(member, cls) if described else _own_docstring(value)
        yield Name(module, f"{name}.{member}", value, docstring, cls)
    for member in _set_by_constructor(cls) - set(found):
        yield Name(module, f"{name}.{member}", None, _line_about(member, cls), cls, of_instances=True)


def _set_by_constructor(cls: type) -> set[str]:
    """The public attributes that an `__init__` of the class, or of its bases here, gives to instances."""
    found = set()
    for base in cls.__mro__:
        constructor = vars(base).get("__init__")
        if not base.__module__.startswith("dp_kafka") or not inspect.isfunction(constructor):
            continue
        try:
            source = textwrap.dedent(inspect.getsource(constructor))
        except OSError:
            continue  # made by dataclasses
        found |= {
            node.attr
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and isinstance(node.value, ast.Name)
            and node.value.id == "self"
            and not node.attr.startswith("_")
        }
    return found


def _can_have_docstring(value: Any) -> bool:
    return isinstance(value, (staticmethod, classmethod, property)) or inspect.isroutine(value)


def _own_docstring(value: Any) -> str:
    if isinstance(value, (staticmethod, classmethod)):
        value = value.__func__
    if inspect.isclass(value):
        # A dataclass without one is given its signature, and any other class the docstring of its base.
        own = vars(value).get("__doc__") or ""
        return "" if own.startswith(f"{value.__name__}(") else inspect.cleandoc(own)
    return inspect.cleandoc(getattr(value, "__doc__", None) or "")


def _line_about(member: str, cls: type) -> str:
    """The line in which the docstring of the class, or of a base of this library, names the member."""
    for base in cls.__mro__:
        if base.__module__.startswith("dp_kafka"):
            for line in (vars(base).get("__doc__") or "").splitlines():
                if f"`{member}`" in line or re.match(rf"\s+{member}: ", line):  # or a line of its arguments
                    return line.strip()
    return ""
