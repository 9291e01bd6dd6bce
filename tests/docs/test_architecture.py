"""docs/architecture.md says what the code does: its states, its threads, the tests of its invariants."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from dp_kafka.state import TRANSITIONS

from .pages import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text()


def test_the_picture_of_the_states_is_the_table_of_transitions() -> None:
    shown = set(re.findall(r"^ +(\w+) --> (\w+)", PAGE, re.MULTILINE))
    assert shown == {(str(old), str(new)) for old, following in TRANSITIONS.items() for new in following}


def test_every_kind_of_thread_is_on_the_page() -> None:
    code = "\n".join(path.read_text() for path in ROOT.glob("dp_kafka/**/*.py"))
    named = set(re.findall(r"\"dp-kafka:([a-z]+)[-:{]", code))
    shown = set(re.findall(r"`dp-kafka:([a-z]+)[-:]", PAGE))
    assert named
    assert named == shown


def test_each_invariant_names_tests_that_exist() -> None:
    tests = "\n".join(path.read_text() for path in ROOT.glob("tests/**/test_*.py"))
    existing = set(re.findall(r"def (test_\w+)\(", tests))
    rows = re.findall(r"^\| (\d+) \|.*\|$", PAGE, re.MULTILINE)
    assert rows == [str(number) for number in range(1, 13)]
    for row in re.findall(r"^\| \d+ \|.*\|$", PAGE, re.MULTILINE):
        named = set(re.findall(r"`(test_\w+)`", row))
        assert named, f"no test is named for: {row}"
        assert named <= existing, f"these tests do not exist: {named - existing}"


def test_each_invariant_names_the_modules_that_keep_it() -> None:
    for row in re.findall(r"^\| \d+ \|.*\|$", PAGE, re.MULTILINE):
        keepers = row.split(" | ")[2]
        modules = re.findall(r"\]\(\.\./(dp_kafka/[\w/]+\.py)\)", keepers)
        assert modules or "table of locks" in keepers, f"nobody keeps: {row}"
        assert [name for name in modules if not (ROOT / name).is_file()] == []


#: What consumers and producers have in common, besides channels, whose mutex is that of `queue.Queue`.
SHARED = [ROOT / "dp_kafka" / f"{name}.py" for name in ("closing", "initialisation", "state", "threads")]


def test_every_lock_of_the_clients_is_in_the_table() -> None:
    """Those of consumers and producers, by class and name; the page says where to look for the others."""
    table = set(re.findall(r"^\| `(\w+)\.(_?\w+)`(?:, `(_\w+)`)?[^|]*\|.*\|.*\|$", PAGE, re.MULTILINE))
    shown = {(owner, name) for owner, *names in table for name in names if name}
    for path in (*ROOT.glob("dp_kafka/consumer/*.py"), *ROOT.glob("dp_kafka/producer/*.py"), *SHARED):
        for owner in ast.parse(path.read_text()).body:
            if isinstance(owner, ast.ClassDef):
                for name in _locks(owner):
                    assert (owner.name, name) in shown, f"{path.name}: {owner.name}.{name}"


def test_imports_point_one_way() -> None:
    layers = re.findall(r"^\d\. (`\w+`.*)$", PAGE[PAGE.index("Imports point one way") :], re.MULTILINE)
    order = {name: at for at, layer in enumerate(layers) for name in re.findall(r"`(\w+)`", layer)}
    parts = {path.name.removesuffix(".py") for path in ROOT.glob("dp_kafka/[!.]*") if _is_part(path)}
    assert set(order) == parts
    for path in ROOT.glob("dp_kafka/**/*.py"):
        part = path.relative_to(ROOT / "dp_kafka").parts[0].removesuffix(".py")
        if part in parts:
            for name in _imported(ast.parse(path.read_text())):
                assert order.get(name, 0) <= order[part], f"{path.name} imports {name}"


def _is_part(path: Path) -> bool:
    return path.name not in ("__init__.py", "__main__.py", "py.typed", "__pycache__")


def _imported(node: ast.AST) -> Iterator[str]:
    """The parts of the library that are imported when a module is, by their first names."""
    for inner in ast.iter_child_nodes(node):
        if isinstance(inner, ast.ImportFrom) and inner.module and inner.module.split(".")[0] == "dp_kafka":
            yield from inner.module.split(".")[1:2] or [alias.name for alias in inner.names]
        elif not isinstance(inner, ast.FunctionDef):
            yield from _imported(inner)


def _locks(owner: ast.ClassDef) -> set[str]:
    """The attributes of a class that hold a lock, or a condition of their own."""
    return {
        node.target.attr if isinstance(node, ast.AnnAssign) else node.targets[0].attr
        for node in ast.walk(owner)
        if isinstance(node, (ast.Assign, ast.AnnAssign))
        and isinstance(node.value, ast.Call)
        and ast.unparse(node.value) in ("threading.Lock()", "threading.RLock()", "threading.Condition()")
        and isinstance(node.target if isinstance(node, ast.AnnAssign) else node.targets[0], ast.Attribute)
    }
