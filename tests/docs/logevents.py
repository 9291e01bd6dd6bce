"""Which events the library logs, read from its source: loggers, levels, texts, fields."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "dp_kafka"
LOGS = PACKAGE / "logs.py"

#: What logs an event: the positions of logger, level, event and fields. log_error is always at ERROR.
_FUNCTIONS = {"log_event": (0, 1, 2, 3), "log_error": (0, None, 1, 3)}
_METHODS = {"debug", "info", "warning", "error", "exception", "critical", "log"}


@dataclass
class Event:
    """A line that is logged: where it may come from, and what is known of its fields."""

    logger: str
    text: str
    #: "log_event" or "log_error", and whether it is given the stack of a thread.
    function: str
    has_stack: bool
    levels: set[str] = field(default_factory=set)
    fields: set[str] = field(default_factory=set)
    places: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Scope:
    """Where an expression stands: its module, the function round it, and what one caller gives to that."""

    module: Module
    function: ast.FunctionDef | None
    given: Mapping[str, tuple[ast.expr, Scope]] | None = None


class Module:
    """One file of the source."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.relative_to(PACKAGE.parent).as_posix()
        self.tree = ast.parse(path.read_text())
        #: Every call, with the innermost function round it.
        self.calls: list[tuple[ast.Call, Scope]] = []
        self._walk(self.tree, None)

    def _walk(self, node: ast.AST, function: ast.FunctionDef | None) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Call):
                self.calls.append((child, Scope(self, function)))
            self._walk(child, child if isinstance(child, ast.FunctionDef) else function)

    @staticmethod
    def assigned(name: str, inside: Sequence[ast.AST]) -> Iterator[ast.expr]:
        """What is assigned to a variable, or to an attribute of self, anywhere inside of nodes."""
        for node in (node for outer in inside for node in ast.walk(outer)):
            targets = node.targets if isinstance(node, ast.Assign) else []
            if isinstance(node, (ast.AnnAssign, ast.NamedExpr)) and node.value is not None:
                targets = [node.target]
            for target in targets:
                if _name(target) == name:
                    yield node.value  # type: ignore[union-attr,misc]


def _name(node: ast.expr) -> str:
    """The name of a variable, a method, or an attribute of self; "" of anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
        return f"self.{node.attr}"
    return ""


class Source:
    """All of the library's modules."""

    def __init__(self) -> None:
        self.modules = [Module(path) for path in sorted(PACKAGE.rglob("*.py"))]

    def events(self) -> dict[tuple[str, str], Event]:
        """Every event, by its logger and text."""
        found: dict[tuple[str, str], Event] = {}
        for module in self.modules:
            for call, scope in module.calls:
                positions = _FUNCTIONS.get(_name(call.func))
                if positions is not None:
                    self._note(call, scope, positions, found)
        return found

    def _note(
        self,
        call: ast.Call,
        scope: Scope,
        positions: tuple[int, int | None, int, int],
        found: dict[tuple[str, str], Event],
    ) -> None:
        logger_at, level_at, event_at, fields_at = positions
        function = _name(call.func)
        has_stack = any(keyword.arg == "stack" for keyword in call.keywords)
        told = [at for at in positions if at is not None and at < len(call.args)]
        for where in self._by_caller([call.args[at] for at in told], scope):
            levels = {"ERROR"} if level_at is None else self.constants(call.args[level_at], where)
            fields = self.keys(call.args[fields_at], where) if len(call.args) > fields_at else set()
            for logger in self.constants(call.args[logger_at], where):
                for text in self.constants(call.args[event_at], where):
                    event = found.setdefault((logger, text), Event(logger, text, function, has_stack))
                    event.levels |= levels
                    event.fields |= fields
                    event.places.append(f"{scope.module.name}:{call.lineno}")

    def _by_caller(self, told: list[ast.expr], scope: Scope) -> list[Scope]:
        """The scope of a call; one for each caller, where the function round it passes on what it got."""
        function = scope.function
        if function is None or not any(_name(argument) in _parameters(function) for argument in told):
            return [scope]
        return [
            Scope(scope.module, function, self._given(function, caller, where))
            for module in self.modules
            for caller, where in module.calls
            if _name(caller.func).removeprefix("self.") == function.name
        ] or [scope]

    @staticmethod
    def _given(
        function: ast.FunctionDef, caller: ast.Call, where: Scope
    ) -> dict[str, tuple[ast.expr, Scope]]:
        """What a caller gives for each parameter, defaults included."""
        arguments = function.args
        positional = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
        given = dict(zip(reversed(positional), reversed(arguments.defaults), strict=False))
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
            if default is not None:
                given[argument.arg] = default
        if positional[:1] == ["self"]:
            del positional[0]
        given |= zip(positional, caller.args, strict=False)
        keywords = {keyword.arg: keyword.value for keyword in caller.keywords if keyword.arg is not None}
        if arguments.kwarg is not None:
            more = {name: value for name, value in keywords.items() if name not in _parameters(function)}
            given[arguments.kwarg.arg] = ast.Dict([ast.Constant(name) for name in more], [*more.values()])
        given |= {name: value for name, value in keywords.items() if name in _parameters(function)}
        return {name: (value, where) for name, value in given.items()}

    def constants(self, node: ast.expr, scope: Scope) -> set[str]:
        """The texts that an expression may have; fails the test where that cannot be told."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return {node.value}
        if isinstance(node, ast.IfExp):
            return self.constants(node.body, scope) | self.constants(node.orelse, scope)
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "logging"
        ):
            return {node.attr}
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "logging.getLogger":
            return self.constants(node.args[0], scope)
        found: set[str] = set()
        for source, where in self._sources(node, scope):
            found |= self.constants(source, where)
        place = f"{scope.module.name}:{node.lineno}"
        assert found, f"{place}: what is logged is no constant text: {ast.unparse(node)}"
        return found

    def keys(self, node: ast.expr, scope: Scope) -> set[str]:
        """The names of fields that an expression is sure to have, as far as they can be told."""
        if isinstance(node, ast.Dict):
            found: set[str] = set()
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant):
                    found.add(str(key.value))
                elif key is None:
                    found |= self.keys(value, scope)
            return found
        if isinstance(node, ast.IfExp):
            return self.keys(node.body, scope) | self.keys(node.orelse, scope)
        found = set()
        for source, where in self._sources(node, scope):
            found |= self.keys(source, where)
        return found

    def _sources(self, node: ast.expr, scope: Scope) -> Iterator[tuple[ast.expr, Scope]]:
        """Where the value of a variable, of an attribute, or of a parameter comes from."""
        name, module = _name(node), scope.module
        if isinstance(node, ast.Call) and _name(node.func):
            yield from self._returned(_name(node.func).removeprefix("self."), scope)
        elif name.startswith("self."):
            for value in module.assigned(name, [module.tree]):
                yield value, Scope(module, None)
        elif scope.given is not None and name in scope.given:
            yield scope.given[name]
        elif name:
            values = [] if scope.function is None else [*module.assigned(name, [scope.function])]
            yield from ((value, scope) for value in values)
            if not values:
                top = [node for node in module.tree.body if isinstance(node, (ast.Assign, ast.AnnAssign))]
                yield from ((value, Scope(module, None)) for value in module.assigned(name, top))

    @staticmethod
    def _returned(name: str, scope: Scope) -> Iterator[tuple[ast.expr, Scope]]:
        """What a function of the same module returns."""
        for node in ast.walk(scope.module.tree):
            if isinstance(node, ast.FunctionDef) and node.name == name:
                for inner in ast.walk(node):
                    if isinstance(inner, ast.Return) and inner.value is not None:
                        yield inner.value, Scope(scope.module, node)

    def other_lines(self, allowed: Callable[[str], bool]) -> list[str]:
        """Where something is logged that is no event."""
        return [
            f"{module.name}:{call.lineno}: {ast.unparse(call)[:80]}"
            for module in self.modules
            if module.path != LOGS and not allowed(module.name)
            for call, _ in module.calls
            if isinstance(call.func, ast.Attribute)
            and call.func.attr in _METHODS
            and "log" in ast.unparse(call.func.value).lower()
        ]


def _parameters(function: ast.FunctionDef) -> list[str]:
    arguments = function.args
    named = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    return [argument.arg for argument in (*named, *filter(None, [arguments.kwarg]))]
