"""The process of one case: `python -m benchmarks.child CASE`, its place on stdin, its pairs on stdout."""

from __future__ import annotations

import json
import sys

from benchmarks.cases import Case
from benchmarks.catalogue import find
from benchmarks.pairs import Result, alternate
from benchmarks.place import Place

__all__ = ["measure"]


def measure(case: Case, place: Place) -> list[tuple[Result, Result]]:
    """The pairs of a case, after a run of each side that does not count."""
    ours, theirs = case.ours, case.theirs
    pairs = min(place.pairs, case.most_pairs) if case.most_pairs else place.pairs
    sides = (lambda: ours(place)), None if theirs is None else (lambda: theirs(place))
    if case.warm_up:
        for _ in alternate(*sides, pairs=1):
            pass
    return list(alternate(*sides, pairs=pairs))


if __name__ == "__main__":
    print(json.dumps(measure(find(sys.argv[1]), Place.from_json(sys.stdin.read()))))
