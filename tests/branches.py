"""`make coverage` fails under 95 % of the branches: `python -m tests.branches --least 95`.

`coverage report` has one figure for lines and branches together, and lines, of which there are four times as
many, hide the branches: the errors and edge cases that no test takes.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import coverage

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Say how many of the branches ran, and which files have most of the others; 1 if they are too few."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--least", type=float, required=True, metavar="PERCENT")
    least: float = parser.parse_args(arguments).least
    measured = coverage.Coverage()
    measured.load()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "coverage.json"
        measured.json_report(outfile=str(file))
        report = json.loads(file.read_text())
    ran, there = (report["totals"][name] for name in ("covered_branches", "num_branches"))
    percent = 100 * ran / there
    print(f"branches: {ran:,} of {there:,} ran: {percent:.1f} %")
    if percent >= least:
        return 0
    missing = {name: found["summary"]["missing_branches"] for name, found in report["files"].items()}
    for name in sorted(missing, key=lambda each: -missing[each])[:10]:
        print(f"  {missing[name]:4} did not in {name}")
    print(f"that is less than {least:g} %", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
