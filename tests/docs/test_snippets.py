"""What the pages show is what happens: their code, the output of it, their commands, their links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dp_kafka.cli import demo
from dp_kafka.kafkatest import EmbeddedCluster

from . import commands, session
from .pages import ROOT, Block, anchors, blocks, links, named, pages

each_page = pytest.mark.parametrize("page", pages(), ids=named)


@pytest.mark.early
@each_page
def test_code_of_a_page_runs_and_prints_what_the_page_shows(page: Path, own_cluster: EmbeddedCluster) -> None:
    session.run(list(blocks(page)), named(page), own_cluster)


@each_page
def test_commands_of_a_page_exist(page: Path) -> None:
    for block in blocks(page):
        for line in commands.shown(block):
            commands.check(line)


@each_page
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{named(page)} links to {link}"
        assert target.is_relative_to(ROOT), f"{named(page)} links out of the repository, to {link}"
        if anchor:
            assert anchor in anchors(target), f"{named(page)} links to {link}"


def test_the_readme_shows_what_the_demo_prints(capsys: pytest.CaptureFixture[str]) -> None:
    """Numbers and progress may differ, the wording and the columns may not."""
    assert demo.main([]) == 0
    shown = next(block.text for block in blocks(ROOT / "README.md") if block.text.startswith("$ make run\n"))
    assert _shape(shown.removeprefix("$ make run\n")) == _shape(capsys.readouterr().out)


def _shape(text: str) -> list[str]:
    lines = [re.sub(r"\s*[\d,.:]+(?=[\s.]|$)", " N", line) for line in text.strip().splitlines()]
    return [line for line in lines if not line.startswith("sent ")]


@pytest.mark.parametrize(
    ("printed", "matches"),
    [("a\nb 1 c\n", True), ("a\nb 1 c", False), ("b 1 c\na\n", False), ("a\nb 1 c\nd\n", False), ("", False)],
)
def test_output_is_compared_whole(printed: str, matches: bool) -> None:
    assert session.Shown(Block("text", "a\nb … c\n", 1, "output")).matches(printed) is matches


@pytest.mark.parametrize(
    ("printed", "matches"), [("b\na\na\n", True), ("a\nb\na\n", True), ("a\nb\nb\n", False)]
)
def test_output_in_any_order_counts_lines(printed: str, matches: bool) -> None:
    shown = session.Shown(Block("text", "a\na\nb\n", 1, "output in any order"))
    assert shown.matches(printed) is matches


@pytest.mark.parametrize(
    "line",
    [
        "make no-such-target",
        "python -m no_such_module",
        "python -m dp_kafka demo --no-such-option",
        "python examples/no_such_example.py",
        "python examples/consumer.py --no-such-option",
        "KAFKA_NO_SUCH_VARIABLE=1 python examples/consumer.py",
        "pip install 'dp-kafka[no-such-extra]'",
        "no-such-command",
        "printf x | make no-such-target",
    ],
)
def test_a_command_that_does_not_exist_is_found(line: str) -> None:
    with pytest.raises(AssertionError):
        commands.check(line)
