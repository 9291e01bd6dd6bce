"""Pairs of runs, and what follows from them: medians of each side and of what lies between them. Pure."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Literal

__all__ = ["Bar", "Clock", "Result", "Row", "alternate", "row_of"]

#: What one run measured, by the name of the metric.
Result = dict[str, float]
Side = Callable[[], Result]

#: A ratio ours/theirs is at least the bar; a difference ours-theirs, or our value alone, at most.
Kind = Literal["ratio", "difference", "value"]


@dataclass(frozen=True)
class Bar:
    """What one row of the table compares, and the limit that it is held against (None: only told)."""

    metric: str
    kind: Kind
    limit: float | None
    unit: str
    #: What is added to the name of the case, where it has several rows.
    label: str = ""
    #: Units per unit of measurement, for show: 1000 shows seconds as milliseconds.
    factor: float = 1.0


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    case: str
    title: str
    theirs_title: str
    unit: str
    kind: Kind
    ours: float
    #: None where there is nobody to compare with.
    theirs: float | None
    #: The median over the pairs of the ratio or the difference; of our values, if that is what counts.
    compared: float
    #: The smallest and the largest of them.
    spread: tuple[float, float]
    bar: float | None
    pairs: int

    @property
    def met(self) -> bool | None:
        """Whether the bar is met; None without one."""
        if self.bar is None:
            return None
        return self.compared >= self.bar if self.kind == "ratio" else self.compared <= self.bar

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "spread": list(self.spread), "met": self.met}

    @classmethod
    def from_dict(cls, read: dict[str, Any]) -> Row:
        """From JSON."""
        fields = {name: value for name, value in read.items() if name != "met"}
        return cls(**{**fields, "spread": tuple(read["spread"])})


def alternate(ours: Side, theirs: Side | None, pairs: int) -> Iterator[tuple[Result, Result]]:
    """Run both sides `pairs` times, each time the other one first; neither finds the garbage of the other."""
    for number in range(pairs):
        results: list[Result] = [{}, {}]
        for side in (0, 1) if number % 2 == 0 else (1, 0):
            run = (ours, theirs)[side]
            if run is not None:
                gc.collect()
                results[side] = run()
        yield results[0], results[1]


class Clock:
    """Wall time and the CPU time of all threads of this process, from its making to `stop()`."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def stop(self, messages: int) -> Result:
        """Messages a second, and messages a second of CPU time."""
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        return {"rate": messages / wall, "cpu_rate": messages / max(cpu, 1e-6)}


def row_of(case: str, title: str, theirs_title: str, bar: Bar, results: list[tuple[Result, Result]]) -> Row:
    """The row of one metric of a case."""
    ours = [one[bar.metric] * bar.factor for one, _ in results]
    theirs = [other[bar.metric] * bar.factor for _, other in results if bar.metric in other]
    if bar.kind == "ratio":
        compared = [one / other for one, other in zip(ours, theirs, strict=True)]
    elif bar.kind == "difference":
        compared = [one - other for one, other in zip(ours, theirs, strict=True)]
    else:
        compared = ours
    return Row(
        case=case,
        title=f"{title}, {bar.label}" if bar.label else title,
        theirs_title=theirs_title,
        unit=bar.unit,
        kind=bar.kind,
        ours=median(ours),
        theirs=median(theirs) if theirs else None,
        compared=median(compared),
        spread=(min(compared), max(compared)),
        bar=bar.limit,
        pairs=len(results),
    )
