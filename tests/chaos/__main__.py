"""``python -m tests.chaos``, which ``make chaos`` calls: play a run, judge it, and add it to a table.

CHAOS_SEED (default: by chance), CHAOS_MINUTES (3), CHAOS_ORDERING (partition, key, none or all; default: by
the seed), CHAOS_PROTOCOL (eager, cooperative or kip848; default: by the seed), CHAOS_TABLE (a page whose
table of runs gets a row). Journals and logs stay in .chaos.
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


def main() -> int:
    """0 when every run passed, 1 when one did not, 2 when one could not be made."""
    try:
        runs = from_environment()
    except ValueError as error:
        print(f"chaos: {error}", file=sys.stderr)
        return 2
    page = os.environ.get("CHAOS_TABLE")
    passed = True
    try:
        with ApacheKafka(
            brokers=3, state_dir=_HOME / "brokers", broker_properties=BROKER_PROPERTIES
        ) as kafka:
            for settings in runs:
                passed &= _run(kafka, settings, Path(page) if page else None)
    except ApacheKafkaError as error:
        print(f"chaos: the brokers failed, there is no verdict: {error}", file=sys.stderr)
        return 2
    return 0 if passed else 1


def _run(kafka: ApacheKafka, settings: Settings, page: Path | None) -> bool:
    name = f"chaos-{settings.seed}-{settings.ordering}-{settings.protocol}"
    directory = _HOME / name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    print(f"{name}: {settings.duration:g} s of faults; journals and logs in {directory}", flush=True)
    began = time.monotonic()
    play(kafka, settings.on(name, kafka.broker_addrs), directory)
    verdict = judge(directory)
    print(f"{verdict} after {time.monotonic() - began:.0f} s", flush=True)
    if page is not None:
        table.add_row(page, table.row(settings, verdict))
    return verdict.passed


if __name__ == "__main__":
    sys.exit(main())
