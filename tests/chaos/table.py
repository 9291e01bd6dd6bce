"""The table of runs in docs/reliability.md: one row a run, written by the program that made the run."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.verdict import Verdict

__all__ = ["HEADER", "add_row", "row"]

HEADER = (
    "| seed | ordering | rebalances | minutes | sent | handled | failures retried "
    "| duplicates after kill / lost session / clean stop | passed over | kills of consumers / brokers "
    "| other faults | longest stall | verdict |"
)


def row(verdict: Verdict) -> str:
    """A run as one row."""
    kills = [verdict.faults.get(f"kill {what}", 0) for what in ("member", "broker")]
    cells = (
        verdict.settings["seed"],
        verdict.settings["ordering"],
        verdict.settings["protocol"],
        f"{verdict.settings['duration'] / 60:g}",
        verdict.acknowledged,
        verdict.handled,
        verdict.failures,
        f"{verdict.after_kill} / {verdict.after_loss} / {verdict.unexplained}",
        verdict.passed_over,
        f"{kills[0]} / {kills[1]}",
        sum(verdict.faults.values()) - sum(kills),
        f"{verdict.stall:.1f} s",
        "passed" if verdict.passed else "failed: " + "; ".join(verdict.violations),
    )
    return f"| {' | '.join(map(str, cells))} |"


def add_row(page: Path, text: str) -> None:
    """Put a row at the end of the table in a page. Raises ValueError when the page has no such table."""
    lines = page.read_text().splitlines()
    if HEADER not in lines:
        raise ValueError(f"{page} has no table of runs, which begins {HEADER!r}")
    at = lines.index(HEADER)
    while at < len(lines) and lines[at].startswith("|"):
        at += 1
    lines.insert(at, text)
    page.write_text("\n".join(lines) + "\n")
