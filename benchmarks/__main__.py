"""`python -m benchmarks`: run cases, print the table, write JSON, plots and the page."""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import brokers
from benchmarks.brokers import Broker
from benchmarks.cases import CASES, Case
from benchmarks.pairs import Row
from benchmarks.peers import PEER_CASES
from benchmarks.report import machine, text
from benchmarks.runner import CaseError, run_case
from benchmarks.scaling import SCALING

__all__ = ["main"]

_DOCS = Path(__file__).parent.parent / "docs"


def _arguments(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--kafka", action="store_true", help="on Apache Kafka, not on the embedded broker")
    parser.add_argument("--only", nargs="+", metavar="CASE", help="these cases alone; * stands for anything")
    parser.add_argument("--pairs", type=int, default=5, help="pairs of runs for each case (5)")
    parser.add_argument("--scale", type=float, default=1.0, help="multiply the messages of each run (1.0)")
    parser.add_argument("--peers", metavar="PYTHON", help="also the peers, with this interpreter")
    parser.add_argument("--no-scaling", action="store_true", help="leave the plots of growth out")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the figures go")
    parser.add_argument("--docs", action="store_true", help="write docs/performance.md and its plots")
    parser.add_argument("--list", action="store_true", help="list the cases")
    return parser.parse_args(given)


def _chosen(cases: list[Case], only: list[str] | None) -> list[Case]:
    if only is None:
        return cases
    return [case for case in cases if any(fnmatch.fnmatchcase(case.name, pattern) for pattern in only)]


class _Run:
    """Runs cases one after another and keeps those that failed."""

    def __init__(self, broker: Broker, arguments: argparse.Namespace) -> None:
        self._broker = broker
        self._arguments = arguments
        self.failed: list[str] = []

    def rows(self, case: Case, python: str = sys.executable) -> list[Row]:
        began = time.monotonic()
        pairs, scale = self._arguments.pairs, self._arguments.scale
        try:
            rows = run_case(case, self._broker, pairs=pairs, scale=scale, python=python)
        except CaseError as error:
            self.failed.append(str(error))
            print(f"FAILED: {error}", file=sys.stderr, flush=True)
            return []
        told = ", ".join(f"{row.compared:.2f}" for row in rows)
        print(f"{time.monotonic() - began:5.1f} s  {case.name}: {told}", file=sys.stderr, flush=True)
        return rows


def main(given: list[str] | None = None) -> int:
    """Run what was asked for; the exit code, which says nothing of bars."""
    arguments = _arguments(given)
    table = _chosen(list(CASES), arguments.only)
    points = [
        (axis, count, case)
        for axis, cases in SCALING.items()
        for count, case in cases
        if not arguments.no_scaling and case in _chosen([case], arguments.only)
    ]
    peers = _chosen(PEER_CASES, arguments.only) if arguments.peers else []
    if arguments.list:
        print("\n".join(case.name for case in [*table, *(case for _, _, case in points), *peers]))
        return 0
    with contextlib.ExitStack() as stack:
        broker = stack.enter_context(brokers.apache() if arguments.kafka else brokers.embedded())
        run = _Run(broker, arguments)
        found: dict[str, Any] = {
            "broker": broker.kind,
            "measured": time.strftime("%Y-%m-%d", time.gmtime()),
            "machine": machine(),
            "pairs": arguments.pairs,
            "table": [row for case in table for row in run.rows(case)],
            "scaling": [
                {"axis": axis, "count": count, "row": row.to_dict()}
                for axis, count, case in points
                for row in run.rows(case)
            ],
            "peers": [row for case in peers for row in run.rows(case, arguments.peers)],
        }
    print(text([*found["table"], *found["peers"]]))
    for key in ("table", "peers"):
        found[key] = [row.to_dict() for row in found[key]]
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    if arguments.docs:
        from benchmarks import page

        page.write(_DOCS, found)
    return 1 if run.failed else 0


if __name__ == "__main__":
    sys.exit(main())
