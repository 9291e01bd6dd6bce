"""docs/testing.md: its tests with fixtures run in pytest, and its whole test of a service is a short one."""

from __future__ import annotations

import pytest

from tests import usertests

from .pages import ROOT, Block, blocks

PAGE = ROOT / "docs" / "testing.md"


def files() -> dict[str, Block]:
    """The page's blocks that are files of their own: a comment in their first line names them."""
    marked = [
        block
        for block in blocks(PAGE)
        if block.marks.endswith("tests/docs/test_testing.py runs it with pytest")
    ]
    return {block.text.splitlines()[0].removeprefix("# "): block for block in marked}


def test_the_tests_that_the_page_shows_pass(pytester: pytest.Pytester) -> None:
    for name, block in files().items():
        pytester.path.joinpath(name).write_text(block.text, encoding="utf-8")
    pytester.syspathinsert()
    usertests.run(pytester, passed=2)


def test_a_whole_test_of_a_service_takes_less_than_twenty_lines() -> None:
    assert len(files()["test_billing.py"].text.splitlines()) < 20
