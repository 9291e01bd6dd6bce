"""dp_kafka in the environment of the peers."""

from __future__ import annotations

from benchmarks import consuming, producing
from benchmarks.pairs import Result
from benchmarks.place import Place

__all__ = ["consume", "produce"]


def produce(place: Place, messages: int) -> Result:  # noqa: ARG001  # as many as the plain loop beside it
    return producing.ours_send(place)


def consume(place: Place, messages: int) -> Result:
    return consuming.ours(place, messages)
