"""The pages of the repository as HTML: Markdown rendered, links led to what the site has of their targets."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath

import pdoc.render_helpers
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import TextLexer, get_lexer_for_filename
from pygments.util import ClassNotFound

ROOT = Path(__file__).parents[2]

_HEADING = re.compile(r"<h([1-6])(?: id=\"[^\"]*\")?>(.*?)</h\1>", re.DOTALL)
_TARGET = re.compile(r"(?P<before>(?:href|src)=\")(?P<target>[^\"]+)(?P<after>\")")
_OTHER_SITE = re.compile(r"[a-z][a-z+.-]*:|#")
_COMMENT = re.compile(r"^<!--.*?-->\n?", re.DOTALL | re.MULTILINE)


def page_paths() -> list[Path]:
    """The pages, relative to the repository, in the order in which the site names them."""
    first = [
        Path("README.md"),
        *(Path("docs") / f"{name}.md" for name in ("guide", "testing", "observability")),
    ]
    found = [
        path.relative_to(ROOT)
        for pattern in ("docs/*.md", "examples/**/*.md", "*.md")
        for path in sorted(ROOT.glob(pattern))
    ]
    return list(dict.fromkeys([*first, *found]))


def title_of(page: Path) -> str:
    """Its first heading."""
    found = re.search(r"^# (.+)$", (ROOT / page).read_text(), re.MULTILINE)
    return found[1] if found else page.stem


def url_of(path: Path) -> str:
    """Where the site has a file of the repository: a page, an image, or a listing of any other file."""
    if path == Path("README.md"):
        return "index.html"
    if path.suffix == ".md":
        return path.with_suffix(".html").as_posix()
    if path.suffix == ".png":
        return path.as_posix()
    return f"files/{path.as_posix()}.html"


def render(page: Path) -> tuple[str, set[Path]]:
    """The HTML of a page, and the files of the repository that it leads to."""
    # markdown2 would show the comments that say how snippets are tested.
    text = _COMMENT.sub("", (ROOT / page).read_text())
    body = _HEADING.sub(_with_anchor, str(pdoc.render_helpers.to_html(text)))
    targets: set[Path] = set()

    def led(match: re.Match[str]) -> str:
        target = html.unescape(match["target"])
        if _OTHER_SITE.match(target):
            return match[0]
        name, _, anchor = target.partition("#")
        path = _file_at(normpath((PurePosixPath(page.as_posix()).parent / name).as_posix()))
        targets.add(path)
        url = relpath(url_of(path), PurePosixPath(url_of(page)).parent.as_posix())
        return match["before"] + html.escape(url + (f"#{anchor}" if anchor else "")) + match["after"]

    return _TARGET.sub(led, body), targets


def listing(path: Path) -> str:
    """A file of the repository as highlighted text."""
    try:
        lexer = get_lexer_for_filename(path.name)
    except ClassNotFound:
        lexer = TextLexer()
    code = highlight((ROOT / path).read_text(), lexer, HtmlFormatter(cssclass="pdoc-code codehilite"))
    return f"<h1>{html.escape(path.as_posix())}</h1>\n{code}"


def copied(targets: Iterable[Path]) -> list[Path]:
    """Those targets that the site has to have beside its pages."""
    return sorted(path for path in set(targets) if path.suffix != ".md" and (ROOT / path).is_file())


def _file_at(name: str) -> Path:
    """The file that a link means; that of a folder is its page."""
    path = Path(name)
    return path / "README.md" if (ROOT / path).is_dir() else path


def _with_anchor(match: re.Match[str]) -> str:
    """A heading with the anchor that links to it name: as on the forges that show these pages."""
    text = html.unescape(re.sub(r"<[^>]+>", "", match[2]))
    anchor = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
    return f'<h{match[1]} id="{anchor}">{match[2]}</h{match[1]}>'
