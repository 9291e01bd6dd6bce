"""Runs tests many times in a row, on a machine that is busy with something else: what a race needs to show.

    .venv/bin/python -m tests.repeat tests/unit/test_runs.py
    .venv/bin/python -m tests.repeat --times 200 --no-load tests/faults -k coordinator

Every test runs `--times` times (50) in one process, so that the clusters of the session are shared, while
`stress` keeps every core busy. It ends with how often each passed, and with 1 if any failed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import pytest


class Repetitions:
    """A pytest plugin that runs every test a number of times, and counts."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.passed: Counter[str] = Counter()
        self.run: Counter[str] = Counter()
        self.seconds: Counter[str] = Counter()

    @pytest.hookimpl(tryfirst=True)
    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        metafunc.fixturenames.append("_repetition")
        metafunc.parametrize("_repetition", range(self.times), ids=lambda number: f"run{number}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = report.nodeid.partition("[")[0]
        self.seconds[name] += report.duration  # type: ignore[assignment]
        if report.when == "call" or (report.when == "setup" and not report.passed):
            self.run[name] += 1
            self.passed[name] += report.passed
        elif report.when == "teardown" and report.failed:
            self.passed[name] -= 1

    def print_counts(self) -> None:
        print("\npassed of    run   seconds each")
        for name in self.run:
            each = self.seconds[name] / self.run[name]
            print(f"{self.passed[name]:6d} of {self.run[name]:6d}   {each:12.2f}   {name}")


@contextlib.contextmanager
def load(cores: int) -> Iterator[None]:
    """Keep `cores` cores busy."""
    program = shutil.which("stress")
    if program is None:
        raise SystemExit("tests.repeat: there is no 'stress' here: apt install stress, or give --no-load")
    process = subprocess.Popen([program, "--quiet", "--cpu", str(cores)])
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


def main() -> int:
    """Parse the arguments, run, and print the counts; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.repeat", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--times", type=int, default=50, help="how often each test runs (50)")
    parser.add_argument("--no-load", action="store_true", help="without keeping the cores busy")
    options, rest = parser.parse_known_args()
    repetitions = Repetitions(options.times)
    busy = contextlib.nullcontext() if options.no_load else load(os.cpu_count() or 1)
    # The distribution has tests and a plugin: so pytest would rewrite this package, which runs already.
    quiet = ["-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    with busy:
        code = pytest.main([*quiet, *rest], plugins=[repetitions])
    repetitions.print_counts()
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
