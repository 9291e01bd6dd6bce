"""All cases by name: those of the table, of the plots and of the peers."""

from __future__ import annotations

from benchmarks.cases import CASES, Case
from benchmarks.scaling import SCALING

__all__ = ["find"]


def find(name: str) -> Case:
    """The case of this name; raises KeyError."""
    cases = [*CASES, *(case for points in SCALING.values() for _, case in points)]
    if name.startswith("peer-"):
        # Only the environment of the peers has what these import.
        from benchmarks.peers import cases as peer_cases

        cases += peer_cases()
    return {case.name: case for case in cases}[name]
