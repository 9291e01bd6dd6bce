"""Nothing of the original is forgotten: each numbered behaviour and defect has a test, or a reason for none.

The numbers are those of docs/from-dp-kafka.md. A test names the ones that it shows, in its name
(`test_3_7_…`, `test_a07_…`) or, for behaviours, in its docstring ("Contract 5.6").
"""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "from-dp-kafka.md"

#: How many numbered behaviours each section has: 1.1 to 1.21, and so on.
BEHAVIOURS = {
    1: 21,
    2: 12,
    3: 13,
    4: 9,
    5: 7,
    6: 5,
    7: 22,
    8: 9,
    9: 6,
    10: 7,
    11: 9,
    12: 9,
    13: 6,
    14: 5,
    15: 11,
    16: 2,
    17: 5,
    18: 5,
    19: 13,
    20: 13,
    21: 6,
}
DEFECTS = 88

#: Headings of the page.
OTHERWISE, MEANINGLESS, DEFECTIVE = (
    "What behaves otherwise",
    "What has no meaning here",
    "Defects of the original",
)

_IN_NAME = re.compile(r"(?:^test|(?<=\d)_and)_(\d\d?)_(\d\d?)(?=_)")
_IN_DOCSTRING = re.compile(r"[Cc]ontract ((?:\d+\.\d+(?:, | and )?)+)")
_DEFECT_IN_NAME = re.compile(r"(?:^test|_and)_a(\d+)(?=_)")
_ROW = re.compile(r"^\| *(A?\d+(?:\.\d+)?) *\| *(.*\S) *\|$", re.MULTILINE)


@functools.cache
def all_tests() -> list[tuple[str, str]]:
    """Name and docstring of every test function, and of the methods of test classes."""
    return [
        (node.name, ast.get_docstring(node) or "")
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for top in ast.parse(path.read_text()).body
        for node in (top.body if isinstance(top, ast.ClassDef) else [top])
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]


def rows(heading: str) -> dict[str, list[str]]:
    """The cells beside each number that begins a row of the table below a heading of the page."""
    (section,) = re.findall(rf"^## {heading}$(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return {number: [cell.strip() for cell in rest.split(" | ")] for number, rest in _ROW.findall(section)}


def behaviours_in_tests() -> set[str]:
    found: set[str] = set()
    for name, docstring in all_tests():
        found.update(f"{section}.{number}" for section, number in _IN_NAME.findall(name))
        for numbers in _IN_DOCSTRING.findall(docstring):
            found.update(re.findall(r"\d+\.\d+", numbers))
    return found


def defects_in_tests() -> set[int]:
    return {int(number) for name, _ in all_tests() for number in _DEFECT_IN_NAME.findall(name)}


def all_behaviours() -> list[str]:
    return [f"{section}.{number}" for section, count in BEHAVIOURS.items() for number in range(1, count + 1)]


def test_every_numbered_behaviour_has_a_test_or_a_line_that_says_why_not() -> None:
    found = behaviours_in_tests() | set(rows(MEANINGLESS))
    assert [number for number in all_behaviours() if number not in found] == []


def test_every_defect_of_the_original_has_a_test_or_a_line_that_says_why_it_cannot_be_here() -> None:
    reasons = {int(number[1:]) for number, cells in rows(DEFECTIVE).items() if "`test_a" not in cells[-1]}
    found = defects_in_tests() | reasons
    assert [f"A{number}" for number in range(1, DEFECTS + 1) if number not in found] == []


def test_no_test_and_no_line_names_what_there_is_not() -> None:
    """A misspelt number would count for nothing."""
    assert behaviours_in_tests() - set(all_behaviours()) == set()
    assert defects_in_tests() <= set(range(1, DEFECTS + 1))
    for heading in (MEANINGLESS, OTHERWISE):
        assert set(rows(heading)) - set(all_behaviours()) == set()


def test_the_page_has_a_row_for_every_defect_and_names_its_test() -> None:
    defects = rows(DEFECTIVE)
    assert list(defects) == [f"A{number}" for number in range(1, DEFECTS + 1)]
    for number, (what, here) in defects.items():
        assert what
        assert here
        for mentioned in re.findall(r"`(test_a\d+_)…`", here):
            assert mentioned == f"test_a{int(number[1:]):02d}_"
            assert int(number[1:]) in defects_in_tests()


def test_a_line_that_says_why_not_says_also_what_stands_instead() -> None:
    for number, (what, why) in rows(MEANINGLESS).items():
        assert what, number
        assert ". " in why, f"{number}: why it has no meaning, and in a further sentence what stands instead"
