"""``python -m tests.chaos``, which ``make chaos`` calls: play a run, judge it, and add it to a table.

CHAOS_SEED (default: by chance), CHAOS_MINUTES (3), CHAOS_ORDERING (partition, key, none or all; default: by
the seed), CHAOS_PROTOCOL (eager, cooperative or kip848; default: by the seed), CHAOS_TABLE (a page whose
table of runs gets a row). Journals and logs stay in .chaos; ``python -m tests.chaos DIRECTORY…`` judges runs
again that left theirs there.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

from tests.chaos import table
from tests.chaos.run import BROKER_PROPERTIES, play
from tests.chaos.settings import Settings, from_environment
from tests.chaos.verdict import judge
from tests.kafka.apache import ApacheKafka, ApacheKafkaError

_HOME = Path(".chaos")


def main(directories: list[str]) -> int:
    """0 when every run passed, 1 when one did not, 2 when one could not be made."""
    if directories:
        return max(0 if _judge(Path(each)) else 1 for each in directories)
    try:
        runs = from_environment()
    except ValueError as error:
        print(f"chaos: {error}", file=sys.stderr)
        return 2
    passed = True
    try:
        with ApacheKafka(
            brokers=3, state_dir=_HOME / "brokers", broker_properties=BROKER_PROPERTIES
        ) as kafka:
            for settings in runs:
                passed &= _run(kafka, settings)
    except ApacheKafkaError as error:
        print(f"chaos: the brokers failed, there is no verdict: {error}", file=sys.stderr)
        return 2
    return 0 if passed else 1


def _run(kafka: ApacheKafka, settings: Settings) -> bool:
    name = f"chaos-{settings.seed}-{settings.ordering}-{settings.protocol}"
    directory = _HOME / name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    print(f"{name}: {settings.duration:g} s of faults; journals and logs in {directory}", flush=True)
    began = time.monotonic()
    play(kafka, settings.on(name, kafka.broker_addrs), directory)
    print(f"{name}: over after {time.monotonic() - began:.0f} s", flush=True)
    return _judge(directory)


def _judge(directory: Path) -> bool:
    verdict = judge(directory)
    print(f"{directory.name}: {verdict}", flush=True)
    if page := os.environ.get("CHAOS_TABLE"):
        table.add_row(Path(page), table.row(verdict))
    return verdict.passed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
