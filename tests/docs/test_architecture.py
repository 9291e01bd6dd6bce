"""docs/architecture.md says what the code does: its states, its threads, the tests of its invariants."""

from __future__ import annotations

import re

from dp_kafka.state import TRANSITIONS

from .pages import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text()


def test_the_picture_of_the_states_is_the_table_of_transitions() -> None:
    shown = set(re.findall(r"^ +(\w+) --> (\w+)", PAGE, re.MULTILINE))
    assert shown == {(str(old), str(new)) for old, following in TRANSITIONS.items() for new in following}


def test_every_kind_of_thread_is_on_the_page() -> None:
    code = "\n".join(path.read_text() for path in ROOT.glob("dp_kafka/**/*.py"))
    named = set(re.findall(r"f\"dp-kafka:([a-z]+)[-:{]", code))
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
