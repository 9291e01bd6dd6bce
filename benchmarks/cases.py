"""The cases of the table: what each compares, on which topic, and the bar that it is held against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import consuming, latency, producing, resources
from benchmarks.pairs import Bar, Result
from benchmarks.place import Place, TopicSpec

__all__ = ["CASES", "Case"]

#: Messages of a consuming run.
FULL = 120_000
COMMITS = 4_000
_FILLED = TopicSpec(partitions=32, messages=FULL)
_TWELVE = TopicSpec(partitions=12, messages=FULL)
_POLL_AND_STORE = "poll() + store_offsets()"
_POLL_AND_COMMIT = "poll() + commit(asynchronous=False)"


@dataclass(frozen=True)
class Case:
    """Two sides and how they are compared."""

    name: str
    title: str
    theirs_title: str
    spec: TopicSpec
    bars: tuple[Bar, ...]
    ours: Callable[[Place], Result]
    #: None where our value stands alone.
    theirs: Callable[[Place], Result] | None
    #: At most so many pairs; 0 is no limit.
    most_pairs: int = 0
    #: Whether two throw-away runs come first: the first run of a process is slower than those that follow.
    warm_up: bool = True


def _rate(limit: float | None) -> tuple[Bar, ...]:
    """The rate, and what of it is left when only CPU time counts: that shows what a busy broker hides."""
    return (
        Bar("rate", "ratio", limit, "msg/s"),
        Bar("cpu_rate", "ratio", None, "msg/CPU s", label="CPU time"),
    )


def _sending(size: int, limit: float | None, label: str = "") -> Case:
    return Case(
        f"send-{label or size}",
        f"send_bytes, {label or 'delivery callback'}, {_size(size)}",
        "produce(value, headers, on_delivery), poll thread",
        TopicSpec(partitions=12, size=size),
        _rate(limit),
        producing.ours_send_new_ids if label else producing.ours_send,
        producing.plain_send,
    )


def _handling(workers: int, size: int, messages: int, limit: float | None) -> Case:
    return Case(
        f"handler-{workers}" + ("" if size == 100 else f"-{size}"),
        f"handler, {workers} worker{'s' * (workers > 1)}, commit per message, {_size(size)}",
        _POLL_AND_STORE,
        TopicSpec(partitions=32, messages=messages, size=size),
        _rate(limit),
        lambda place: consuming.ours(place, messages, num_workers=workers),
        lambda place: consuming.plain(place, messages),
    )


def _size(size: int) -> str:
    return f"{size} B" if size < 1_000 else f"{size // 1_000} KB"


CASES: tuple[Case, ...] = (
    _sending(100, 0.65),
    _sending(1_000, 0.65),
    _sending(10_000, 0.65),
    _sending(100, None, "new trace ids"),
    Case(
        "send-avro",
        "send, Avro, three fields",
        "fastavro + produce()",
        TopicSpec(partitions=12),
        _rate(0.65),
        producing.ours_send_avro,
        producing.plain_send_avro,
    ),
    Case(
        "channels-output",
        "channels.output",
        "queue.Queue and a thread that produces",
        TopicSpec(partitions=12),
        _rate(0.9),
        producing.ours_channel,
        producing.plain_channel,
    ),
    _handling(1, 100, FULL, 0.70),
    _handling(4, 100, FULL, 0.65),
    _handling(16, 100, FULL, 0.65),
    _handling(32, 100, FULL, 0.65),
    Case(
        "workers-32-to-1",
        "handler, 32 workers",
        "the same with 1 worker",
        _FILLED,
        _rate(0.85),
        lambda place: consuming.ours(place, FULL, num_workers=32),
        lambda place: consuming.ours(place, FULL, num_workers=1),
    ),
    _handling(1, 1_000, 60_000, 0.70),
    _handling(1, 10_000, 12_000, 0.70),
    Case(
        "batch-500",
        "batch handler of 500",
        "consume(500) + one store_offsets()",
        _TWELVE,
        _rate(0.85),
        lambda place: consuming.ours_batches(place, FULL, 500),
        lambda place: consuming.plain_batches(place, FULL, 500),
    ),
    Case(
        "durable-commit",
        "durable commit (commit_interval=0), 16 workers, 12 partitions",
        _POLL_AND_COMMIT,
        _TWELVE,
        (Bar("rate", "ratio", 3.0, "msg/s"),),
        lambda place: consuming.ours(place, 4 * COMMITS, num_workers=16, commit_interval=0),
        lambda place: consuming.plain_commits(place, COMMITS),
    ),
    Case(
        "group-commit",
        "handler with group commit",
        _POLL_AND_COMMIT,
        _TWELVE,
        (Bar("rate", "ratio", 15.0, "msg/s"),),
        lambda place: consuming.ours(place, FULL),
        lambda place: consuming.plain_commits(place, COMMITS),
    ),
    Case(
        "latency",
        "send to handler at 1,000 a second",
        "produce() + poll()",
        TopicSpec(partitions=1),
        (
            Bar("p50", "difference", 0.5, "ms", "p50", 1000),
            Bar("p99", "difference", 3.0, "ms", "p99", 1000),
        ),
        latency.ours,
        latency.plain,
        warm_up=False,
    ),
    Case(
        "io-bound",
        "I/O-bound handler (sleep 5 ms), 32 workers, 32 partitions",
        "ideal: 32 / 0.005 s",
        _FILLED,
        (Bar("rate", "ratio", 0.9, "msg/s"),),
        lambda place: consuming.ours_sleeping(place, 10_000, 0.005, 32),
        lambda _place: {"rate": 32 / 0.005},
        warm_up=False,
    ),
    Case(
        "memory",
        "memory behind a stalled handler, 1,000,000 waiting messages of 1 KB",
        "",
        TopicSpec(partitions=240, messages=1_000_000, size=1_000),
        (Bar("growth", "value", 2.0, "x max_buffered_bytes"),),
        resources.memory_of_stalled,
        None,
        most_pairs=1,
        warm_up=False,
    ),
    Case(
        "idle",
        "idle",
        "poll(0.1) in a loop",
        TopicSpec(partitions=1),
        (
            Bar("consumer", "value", 1.0, "% of a core", "consumer"),
            Bar("producer", "value", 1.0, "% of a core", "producer"),
        ),
        resources.ours_idle,
        resources.plain_idle,
        most_pairs=1,
        warm_up=False,
    ),
    Case(
        "import",
        "import dp_kafka",
        "import confluent_kafka",
        TopicSpec(partitions=1),
        (Bar("seconds", "difference", 60.0, "ms", factor=1000),),
        lambda _place: resources.import_time("dp_kafka"),
        lambda _place: resources.import_time("confluent_kafka"),
    ),
)
