"""What a page of documentation shows: its blocks of code, of output and of commands, and its links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

_COMMENT = re.compile(r"<!--\s*snippet:\s*(?P<what>.*?)\s*-->", re.DOTALL)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block, or the setup in a comment (`language` is then "setup"); `line` is that of its text.

    `marks` is what the comment just above says, after "snippet:".
    """

    language: str
    text: str
    line: int
    marks: str = ""


def pages() -> list[Path]:
    """Every page whose snippets are run."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]
    return sorted(found)


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page in their order."""
    lines = page.read_text().splitlines()
    number, marks = 0, ""
    while number < len(lines):
        line = lines[number]
        number += 1
        if line.lstrip().startswith("```"):
            end = _find(lines, number, line[: len(line) - len(line.lstrip())] + "```", page)
            language = (line.strip("` ") or "text").split()[0]
            yield Block(language, "\n".join(lines[number:end]) + "\n", number + 1, marks)
            number, marks = end + 1, ""
        elif line.startswith("<!--") and "snippet:" in line:
            end = number - 1
            while "-->" not in lines[end]:
                end += 1
            comment = _COMMENT.match("\n".join(lines[number - 1 : end + 1]))
            assert comment is not None, f"{page.name}:{number}: a snippet comment that nobody understands"
            what, _, code = comment["what"].partition("\n")
            if what == "setup":
                yield Block("setup", code + "\n", number + 1)
            else:
                marks = what
            number = end + 1
        elif line.strip():
            assert not marks, f"{page.name}:{number}: {marks!r} stands above no block"


def _find(lines: list[str], start: int, fence: str, page: Path) -> int:
    for number in range(start, len(lines)):
        if lines[number].rstrip() == fence:
            return number
    raise AssertionError(f"{page.name}:{start}: a block that does not end")


def links(page: Path) -> Iterator[str]:
    """The targets of a page's links, but for those to other sites."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for link in _LINK.finditer(text):
        if not re.match(r"[a-z]+:", link["target"]):
            yield link["target"]


def anchors(page: Path) -> set[str]:
    """What a link to a heading of the page may name."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+\s+(.*?)\s*$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def named(page: Path) -> str:
    """The page's path in the repository, for the names of tests."""
    return page.relative_to(ROOT).as_posix()
