"""Runs cases on a broker, each in a process of its own, and says on stderr how it goes."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace

from benchmarks.brokers import JOIN_SECONDS, Broker
from benchmarks.cases import Case
from benchmarks.pairs import Result, Row, row_of
from benchmarks.place import Place, TopicSpec
from benchmarks.scaling import needs_company

__all__ = ["CaseError", "run_case"]

#: How long the process of a case may take, in seconds.
CASE_SECONDS = 300


class CaseError(Exception):
    """The process of a case failed; it has told on stderr why."""


def run_case(
    case: Case, broker: Broker, *, pairs: int, scale: float = 1.0, python: str = sys.executable
) -> list[Row]:
    """Run one case; its rows.

    Raises:
        CaseError: its process failed, or took too long.
    """
    spec = _scaled(case.spec, scale)
    place = Place(broker.broker_addrs, broker.kind, broker.topic(spec), spec, pairs, scale)
    broker.let_groups_wait(JOIN_SECONDS if needs_company(case) else 0)
    try:
        done = subprocess.run(
            [python, "-m", "benchmarks.child", case.name],
            input=place.to_json(),
            stdout=subprocess.PIPE,
            text=True,
            timeout=CASE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CaseError(f"{case.name} took more than {CASE_SECONDS} seconds") from error
    if done.returncode:
        raise CaseError(f"{case.name} ended with exit code {done.returncode}")
    results: list[tuple[Result, Result]] = [
        (ours, theirs) for ours, theirs in json.loads(done.stdout.splitlines()[-1])
    ]
    return [row_of(case.name, case.title, case.theirs_title, bar, results) for bar in case.bars]


def _scaled(spec: TopicSpec, scale: float) -> TopicSpec:
    """The topic with fewer messages, still the same number on each partition."""
    if not spec.messages:
        return spec
    each = math.ceil(spec.messages * scale / spec.partitions)
    return replace(spec, messages=each * spec.partitions)
