"""The figures of docs/performance.md: the tables between its markers, and the plots beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.pairs import Row
from benchmarks.report import markdown, number
from benchmarks.scaling import AXES

__all__ = ["PageError", "replaced", "write"]

PAGE = "performance.md"
FOLDER = "performance"


class PageError(Exception):
    """The page lacks a marker."""


def write(docs: Path, found: dict[str, Any]) -> None:
    """Put the figures of one run into the page: those of its broker; the others stay."""
    from benchmarks import plots  # matplotlib is in the extra `bench`; the tests of this module do without

    folder = docs / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    broker = found["broker"]
    (folder / f"{broker}.json").write_text(json.dumps(found, indent=1) + "\n")
    page = docs / PAGE
    text = page.read_text()
    rows = [Row.from_dict(row) for row in found["table"]]
    ratios = f"![Ours divided by plain confluent-kafka]({FOLDER}/{broker}-ratios.png)"
    sections = {"table": f"{_where(found)}\n\n{markdown(rows)}\n\n{ratios}"}
    if found["scaling"]:
        for axis in _measured_axes(found):
            plots.growth(found["scaling"], axis, folder / f"{broker}-{axis}.png")
        sections["growth"] = _growth(found)
    if found["peers"]:
        compared = [Row.from_dict(row) for row in found["peers"]]
        plots.peers(compared, folder / f"{broker}-peers.png")
        picture = f"![Rates of each library, of plain confluent-kafka's]({FOLDER}/{broker}-peers.png)"
        sections["peers"] = f"{picture}\n\n{_peers(compared)}"
    plots.ratios(rows, folder / f"{broker}-ratios.png")
    for section, content in sections.items():
        text = replaced(text, f"{broker}-{section}", content)
    page.write_text(text)


def replaced(text: str, marker: str, content: str) -> str:
    """The page with new content between `<!-- figures: marker -->` and `<!-- end of figures -->`.

    Raises:
        PageError: the page has no such marker.
    """
    begin, end = f"<!-- figures: {marker} -->\n", "\n<!-- end of figures -->"
    head, found, rest = text.partition(begin)
    _old, found_end, tail = rest.partition(end)
    if not found or not found_end:
        raise PageError(f"{PAGE} has no place for {marker}: put {begin.strip()} and {end.strip()} there")
    return f"{head}{begin}\n{content}\n{end}{tail}"


def _where(found: dict[str, Any]) -> str:
    machine = found["machine"]
    broker = {"embedded": "the embedded broker", "apache": "Apache Kafka, one broker on the same machine"}
    return (
        f"Measured on {found['measured']} on {broker[found['broker']]}: {machine['platform']}, "
        f"{machine['cores']} cores, Python {machine['python']}, librdkafka {machine['librdkafka']}, "
        f"{found['pairs']} pairs."
    )


def _measured_axes(found: dict[str, Any]) -> list[str]:
    return [axis for axis in AXES if any(point["axis"] == axis for point in found["scaling"])]


def _growth(found: dict[str, Any]) -> str:
    lines = ["| | ours, msg/s | plain, msg/s | ours / plain |", "|---|---|---|---|"]
    for point in found["scaling"]:
        row = Row.from_dict(point["row"])
        plain = "" if row.theirs is None else number(row.theirs)
        lines.append(f"| {row.title} | {number(row.ours)} | {plain} | {row.compared:.2f} |")
    images = [
        f"![Messages a second over the number of {axis}]({FOLDER}/{found['broker']}-{axis}.png)"
        for axis in _measured_axes(found)
    ]
    return "\n\n".join([*images, "\n".join(lines)])


def _peers(rows: list[Row]) -> str:
    """One line for each library, its two jobs beside each other."""
    lines = ["| | send, msg/s | of plain | handle and commit, msg/s | of plain |", "|---|---|---|---|---|"]
    names = dict.fromkeys(row.title.partition(":")[0] for row in rows)
    for name in names:
        cells = [name]
        for job in ("produce", "consume"):
            row = next(
                (row for row in rows if row.case.endswith(job) and row.title.partition(":")[0] == name), None
            )
            cells += ["", ""] if row is None else [number(row.ours), f"{row.compared:.2g}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
