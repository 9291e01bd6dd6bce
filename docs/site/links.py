"""Whether the links of a built site lead somewhere: to a file of it, and to a place in that file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

_OTHER_SITE = re.compile(r"[a-z][a-z+.-]*:")


class _Document(HTMLParser):
    """What a file can be led to by, and what it leads to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.targets: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.anchors.add(value)
            elif ((name == "href" and tag == "a") or (name == "src" and tag == "img")) and value:
                self.targets.append(value)


def anchors(file: Path) -> set[str]:
    """The places in a file that links can name."""
    return _Document(file.read_text()).anchors


def broken(site: Path) -> Iterator[str]:
    """A sentence for each link that leads nowhere."""
    documents = {path: _Document(path.read_text()) for path in sorted(site.rglob("*.html"))}
    for path, document in documents.items():
        for link in document.targets:
            if _OTHER_SITE.match(link):
                continue
            name, _, anchor = link.partition("#")
            target = (path.parent / unquote(name)).resolve() if name else path
            where = path.relative_to(site)
            if not target.is_relative_to(site) or not target.is_file():
                yield f"{where}: a link to {link}, which the site does not have"
            elif anchor and (target not in documents or unquote(anchor) not in documents[target].anchors):
                yield f"{where}: a link to {link}, but there is no such place"
