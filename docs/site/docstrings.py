"""What is wrong with the docstrings of public names: none, an exception left out, a reference to nothing."""

from __future__ import annotations

import ast
import builtins
import contextlib
import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

from .public import MODULES, Name

_CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
#: What reads as a reference: a dotted name of the library, the name of a class, a call.
_DOTTED = re.compile(r"(dp_kafka(?:\.\w+)+)(?:\(\))?")
_CLASS_OR_CALL = re.compile(r"((?:\w+\.)*[A-Z][a-z]\w*(?:\.\w+)*)(?:\(\))?|((?:\w+\.)*\w+)\(\)")


def problems(names: Iterable[Name]) -> Iterator[str]:
    """A sentence for each docstring that would leave a reader without what it should say."""
    for name in names:
        if name.owner is None and not isinstance(name.value, type) and not callable(name.value):
            # A constant: Python keeps no docstring of it, and its module says what it is.
            if not _said_in_module(name):
                yield f"{name} is a constant that the docstring of {name.module} does not explain"
            continue
        if not name.docstring:
            last = name.qualname.split(".")[-1]
            yield f"{name} has no docstring, or its class does not say what `{last}` is"
            continue
        yield from (
            f"{name} raises {error}, and does not say so"
            for error in sorted(raised(name.value))
            if not re.search(rf"\b{error}\b", name.docstring) and not _said_of_every_method(error, name.owner)
        )
        yield from (
            f"{name} refers to `{reference}`, which does not exist"
            for reference in references(name.docstring)
            if not _resolves(reference, name)
        )


def raised(value: Any) -> set[str]:
    """The exceptions that a function, or the making of an instance, raises in its own body."""
    bodies: list[Any] = []
    if inspect.isclass(value):
        own = vars(value)
        bodies = [own[part] for part in ("__init__", "__post_init__") if part in own]
    elif isinstance(value, property):
        bodies = [value.fget]
    elif isinstance(value, (staticmethod, classmethod)):
        bodies = [value.__func__]
    elif inspect.isfunction(value):
        bodies = [value]
    return {error for body in bodies if inspect.isfunction(body) for error in _raised_in(body)}


def _raised_in(function: Any) -> Iterator[str]:
    function = inspect.unwrap(function)
    if not function.__module__.startswith("dp_kafka"):
        return
    try:
        source = inspect.getsource(function)
    except OSError:
        return  # made by dataclasses
    (definition,) = ast.parse(textwrap.dedent(source)).body
    todo = list(ast.iter_child_nodes(definition))
    while todo:
        node = todo.pop()
        # What a function within raises is raised where that one is called.
        if not isinstance(node, (ast.FunctionDef, ast.Lambda)):
            todo.extend(ast.iter_child_nodes(node))
        if (
            isinstance(node, ast.Raise)
            and isinstance(node.exc, ast.Call)
            and isinstance(node.exc.func, ast.Name)
        ):
            if node.exc.func.id[0].isupper():
                yield node.exc.func.id
        elif (
            isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "checks"
        ):
            # dp_kafka.config.checks: each of its functions refuses with this.
            yield "ConfigError"


def _said_of_every_method(error: str, owner: type | None) -> bool:
    return re.search(rf"\b{error}\b[^.]* every method", inspect.getdoc(owner) or "") is not None


def references(docstring: str) -> list[str]:
    """The names that a docstring refers to, in backticks."""
    found = []
    for code in _CODE.findall(docstring):
        match = _DOTTED.fullmatch(code) or _CLASS_OR_CALL.fullmatch(code)
        if match:
            found.append(next(part for part in match.groups() if part))
    return found


def _resolves(reference: str, name: Name) -> bool:
    """Whether a reference leads from where it stands to something that exists."""
    first, *rest = reference.split(".")
    for scope in _scopes(name):
        if first in scope and _has(scope[first], rest):
            return True
    return _importable(reference) or _importable(f"dp_kafka.{reference}")


def _scopes(name: Name) -> Iterator[dict[str, Any]]:
    """Where a reader looks: in the class, in its module, among public names, in Python."""
    if inspect.isroutine(name.value):
        with contextlib.suppress(ValueError, TypeError):
            yield dict(inspect.signature(name.value).parameters)
    owner = name.owner or (name.value if inspect.isclass(name.value) else None)
    if owner is not None:
        yield {member: getattr(owner, member, None) for member in dir(owner)}
    home = inspect.getmodule(owner or name.value)
    if home is not None:
        yield vars(home)
    for module in MODULES:
        public = importlib.import_module(module)
        yield {each: getattr(public, each) for each in public.__all__}
        # A method is often referred to without its class, as in `close()`.
        yield {
            member: getattr(getattr(public, each), member)
            for each in public.__all__
            if inspect.isclass(getattr(public, each))
            for member in dir(getattr(public, each))
            if not member.startswith("_")
        }
    yield vars(builtins)


def _has(value: Any, rest: list[str]) -> bool:
    for part in rest:
        if not hasattr(value, part):
            return part in getattr(value, "__annotations__", ())
        value = getattr(value, part)
    return True


def _importable(reference: str) -> bool:
    """Whether it is the dotted name of something in a module: `queue.Full`, `time.monotonic`."""
    parts = reference.split(".")
    for count in range(len(parts), 0, -1):
        module_name = ".".join(parts[:count])
        if module_name not in sys.modules:
            try:
                importlib.import_module(module_name)
            except ImportError:
                continue
        return _has(sys.modules[module_name], parts[count:])
    return False


def _said_in_module(name: Name) -> bool:
    return f"`{name.qualname}`" in (importlib.import_module(name.module).__doc__ or "")
