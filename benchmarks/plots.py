"""The plots: how each case stands to its bar, and how cost grows. Needs matplotlib (the extra `bench`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt

from benchmarks.pairs import Row

__all__ = ["growth", "peers", "ratios"]

_OURS, _PLAIN, _BAR = "#1f6f8b", "#b0b7bf", "#c0392b"


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    # Without the date and the version of the library the file changes only with what it shows.
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def ratios(rows: list[Row], path: Path) -> None:
    """Ours divided by plain for each case, with the smallest and largest pair, and its bar."""
    shown = [row for row in rows if row.kind == "ratio" and row.bar is not None][::-1]
    figure, axes = plt.subplots(figsize=(10, 0.42 * len(shown) + 1.4))
    for place, row in enumerate(shown):
        low, high = row.spread
        axes.barh(place, row.compared, color=_OURS, height=0.6)
        axes.plot([low, high], [place, place], color="black", linewidth=1)
        assert row.bar is not None
        axes.plot([row.bar, row.bar], [place - 0.4, place + 0.4], color=_BAR, linewidth=2)
    axes.set_yticks(range(len(shown)), [row.title for row in shown], fontsize=8)
    axes.axvline(1, color="grey", linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    ticks = [0.5, 1, 2, 5, 10, 20, 50]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("ours / plain confluent-kafka (median; line: smallest to largest pair; red: the bar)")
    _save(figure, path)


def growth(points: list[dict[str, Any]], axis: str, path: Path) -> None:
    """Messages a second over the number of workers, partitions or processes."""
    shown = [(point["count"], Row.from_dict(point["row"])) for point in points if point["axis"] == axis]
    counts = [count for count, _ in shown]
    figure, axes = plt.subplots(figsize=(7, 4))
    axes.plot(counts, [row.ours for _, row in shown], marker="o", color=_OURS, label="dp_kafka")
    axes.plot(
        counts,
        [row.theirs or 0 for _, row in shown],
        marker="s",
        color=_PLAIN,
        label="poll() + store_offsets(), one thread" + (" per process" if axis == "processes" else ""),
    )
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.set_ylim(bottom=0)
    axes.set_xlabel(axis)
    axes.set_ylabel("messages a second")
    axes.legend()
    _save(figure, path)


def peers(rows: list[Row], path: Path) -> None:
    """What each library sends and handles in a second, as a share of plain confluent-kafka."""
    names = list(dict.fromkeys(row.title.partition(":")[0] for row in rows))
    figure, plots = plt.subplots(1, 2, figsize=(10, 3.2), sharey=True)
    for axes, job, title in zip(plots, ("produce", "consume"), ("send", "handle and commit"), strict=True):
        found = {row.title.partition(":")[0]: row.compared for row in rows if row.case.endswith(job)}
        axes.barh(names[::-1], [found.get(name, 0) for name in names[::-1]], color=_OURS)
        axes.axvline(1, color="grey", linewidth=0.8, linestyle=":")
        axes.set_xlabel(f"{title}: of plain confluent-kafka's rate")
    _save(figure, path)
