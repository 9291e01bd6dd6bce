"""How cost grows: the cases behind the plots, one for each number of workers, partitions and processes."""

from __future__ import annotations

from benchmarks import consuming, members
from benchmarks.cases import Case
from benchmarks.pairs import Bar
from benchmarks.place import Place, TopicSpec

__all__ = ["AXES", "SCALING", "needs_company"]

MESSAGES = 80_000
PAIRS = 2
_RATE = (Bar("rate", "ratio", None, "msg/s"),)
#: What a partition of the embedded broker keeps, in messages of 100 bytes and with something to spare.
_KEPT = 25_000


def _consuming(name: str, title: str, partitions: int, workers: int) -> Case:
    messages = min(MESSAGES, _KEPT * partitions)
    return Case(
        name,
        title,
        "poll() + store_offsets()",
        TopicSpec(partitions=partitions, messages=messages),
        _RATE,
        lambda place: consuming.ours(place, messages, num_workers=workers),
        lambda place: consuming.plain(place, messages),
        most_pairs=PAIRS,
    )


def _processes(count: int) -> Case:
    def ours(place: Place) -> dict[str, float]:
        return members.ours(place, place.spec.messages, count)

    def plain(place: Place) -> dict[str, float]:
        return members.plain(place, place.spec.messages, count)

    title = f"{count} process{'es' * (count > 1)}, {members.WORKERS} workers each"
    spec = TopicSpec(partitions=64, messages=4 * MESSAGES)
    return Case(
        f"processes-{count}", title, "poll() + store_offsets()", spec, _RATE, ours, plain, 1, warm_up=False
    )


#: For each axis: the number on it, and the case.
SCALING: dict[str, list[tuple[int, Case]]] = {
    "workers": [
        (count, _consuming(f"workers-{count}", f"{count} workers, 64 partitions", 64, count))
        for count in (1, 2, 4, 8, 16, 32, 64)
    ],
    "partitions": [
        (count, _consuming(f"partitions-{count}", f"{count} partitions, 16 workers", count, 16))
        for count in (1, 2, 4, 8, 16, 32, 64, 128)
    ],
    "processes": [(count, _processes(count)) for count in (1, 2, 4, 8)],
}
AXES = tuple(SCALING)


def needs_company(case: Case) -> bool:
    """Whether groups have to wait for further members."""
    return case.name.startswith("processes-")
