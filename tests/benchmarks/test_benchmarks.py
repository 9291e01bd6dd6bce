"""The benchmarks run and tell what they measured. Nothing here looks at how fast anything was."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.catalogue import find
from benchmarks.page import PageError, replaced
from benchmarks.pairs import Bar, Row, alternate, row_of
from benchmarks.report import markdown, text
from tests.waiting import PATIENCE

ROOT = Path(__file__).parent.parent.parent


def _row(kind: str, limit: float | None, results: list[tuple[float, float]]) -> Row:
    pairs = [({"rate": one}, {"rate": other}) for one, other in results]
    return row_of("case", "A case", "a loop", Bar("rate", kind, limit, "msg/s"), pairs)  # type: ignore[arg-type]


@pytest.mark.timeout(180)
def test_a_short_run_measures_both_sides(tmp_path: Path) -> None:
    """Sending, handling and batches on the embedded broker, on both sides, down to the JSON and the table."""
    figures = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks", "--pairs=1", "--scale=0.05", "--no-scaling"]
    done = subprocess.run(
        [*command, "--json", str(figures), "--only", "send-100", "handler-4", "batch-500"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=8 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(figures.read_text())
    rows = [Row.from_dict(row) for row in found["table"]]
    assert {row.case for row in rows} == {"send-100", "handler-4", "batch-500"}
    assert all(row.ours > 0 and row.theirs is not None and row.theirs > 0 for row in rows)
    assert all(row.title in done.stdout for row in rows)


def test_what_counts_is_the_median_of_the_ratios_within_the_pairs() -> None:
    """A slow minute of the machine, which meets both sides of a pair, changes nothing."""
    row = _row("ratio", 0.65, [(80, 100), (8, 10), (90, 100)])
    assert (row.compared, row.spread) == (0.8, (0.8, 0.9))
    assert row.met is True
    assert _row("ratio", 0.85, [(80, 100)]).met is False


def test_a_difference_and_a_value_are_held_against_the_most_they_may_be() -> None:
    assert _row("difference", 3.0, [(7, 5), (6, 5)]).compared == 1.5
    assert _row("difference", 1.0, [(7, 5)]).met is False
    assert _row("value", 1.0, [(0.4, 0.1)]).met is True
    assert _row("value", None, [(0.4, 0.1)]).met is None


def test_the_sides_take_turns_in_going_first() -> None:
    order: list[str] = []

    def side(name: str) -> dict[str, float]:
        order.append(name)
        return {"rate": 1.0}

    results = list(alternate(lambda: side("ours"), lambda: side("plain"), pairs=2))
    assert order == ["ours", "plain", "plain", "ours"]
    assert len(results) == 2


def test_a_miss_is_named_in_both_tables() -> None:
    rows = [_row("ratio", 0.9, [(80, 100)]), _row("ratio", 0.7, [(80, 100)])]
    for table in (text(rows), markdown(rows)):
        assert table.count("MISSED") == 1
        assert table.count("met") == 1


def test_a_row_survives_json() -> None:
    row = _row("ratio", 0.65, [(80, 100), (8, 10)])
    assert Row.from_dict(json.loads(json.dumps(row.to_dict()))) == row


def test_figures_replace_those_between_their_markers_alone() -> None:
    page = "before\n<!-- figures: one -->\nold\n<!-- end of figures -->\nafter"
    written = replaced(page, "one", "new")
    assert written == "before\n<!-- figures: one -->\n\nnew\n\n<!-- end of figures -->\nafter"
    assert replaced(written, "one", "new") == written
    with pytest.raises(PageError, match="no place for two"):
        replaced(page, "two", "new")


def test_every_case_is_found_by_its_name() -> None:
    assert find("latency").name == "latency"
    assert find("partitions-128").spec.partitions == 128
    with pytest.raises(KeyError):
        find("nonsense")
