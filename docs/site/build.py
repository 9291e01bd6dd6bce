"""Builds the site into a folder, and tells what is wrong with it."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import pdoc.doc
import pdoc.render

from dp_kafka import __version__

from . import docstrings, links, pages, public

TEMPLATES = Path(__file__).with_name("templates")
_FAKE = "dp_kafka.kafkatest.producer"


def build(site: Path) -> list[str]:
    """Write the site; a sentence for each thing that a reader would stumble over."""
    shutil.rmtree(site, ignore_errors=True)
    site.mkdir(parents=True)
    site = site.resolve()
    # Each place shows what it has; names that come with their first use would look like none.
    found = list(public.names())
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        modules = {name: pdoc.doc.Module.from_name(name) for name in public.MODULES}
        _configure(list(modules), found)
        # Two classes are called Producer: with this one at hand pdoc knows which of them an annotation means.
        known = {**modules, _FAKE: pdoc.doc.Module.from_name(_FAKE)}
        for name, module in modules.items():
            _write(site / f"{name.replace('.', '/')}.html", pdoc.render.html_module(module, known))
        _write(site / "search.js", pdoc.render.search_index(modules))
        _write_pages(site)
    return [
        *(f"pdoc: {each.message}" for each in warned),
        *docstrings.problems(found),
        *_missing(site, found),
        *links.broken(site),
    ]


def _configure(modules: list[str], names: list[public.Name]) -> None:
    pdoc.render.configure(
        docformat="google",
        footer_text=f"dp_kafka {__version__}",
        show_source=False,
        template_directory=TEMPLATES,
    )
    pdoc.render.env.globals["site_modules"] = modules
    # By where a class is defined: the place where users have it from, the first if there are several.
    homes: dict[tuple[str, str], tuple[str, str]] = {}
    for name in names:
        if isinstance(name.value, type):
            homes.setdefault((name.value.__module__, name.value.__qualname__), (name.module, name.qualname))
    pdoc.render.env.globals["site_homes"] = homes
    pdoc.render.env.globals["site_pages"] = [
        (pages.url_of(page), pages.title_of(page)) for page in pages.page_paths()
    ]


def _write_pages(site: Path) -> None:
    targets: set[Path] = set()
    for page in pages.page_paths():
        body, led_to = pages.render(page)
        targets |= led_to
        _write_page(site, page, pages.title_of(page), body)
    for path in pages.copied(targets):
        if path.suffix == ".png":
            copy = site / pages.url_of(path)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(pages.ROOT / path, copy)
        else:
            _write_page(site, path, path.as_posix(), pages.listing(path))


def _write_page(site: Path, path: Path, title: str, body: str) -> None:
    url = pages.url_of(path)
    template = pdoc.render.env.get_template("page.html.jinja2")
    _write(site / url, template.render(title=title, body=body, here="../" * url.count("/")))


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def _missing(site: Path, names: list[public.Name]) -> Iterator[str]:
    """Every public name has to be in the page of its module, where links and searches find it."""
    there = {name: links.anchors(site / f"{name.replace('.', '/')}.html") for name in public.MODULES}
    for name in names:
        if not name.of_instances and name.qualname not in there[name.module]:
            yield f"{name} is public, but not in the reference"
