"""`dp-kafka lag`: how far a group is behind, once or as a live view."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from dp_kafka.admin import GroupInfo, LagReader, PartitionLag, describe_group, new_admin
from dp_kafka.cli.commands import options, showing
from dp_kafka.cli.commands.ending import ending
from dp_kafka.errors import DpKafkaError, KafkaClientError

__all__ = ["Reading", "lag", "view"]

#: Lines of the live view that are no partition: title, header, rule, total, remark.
_FRAME = 6


@click.command(
    epilog=options.examples(
        "dp-kafka lag importer",
        "dp-kafka lag importer content-published --watch",
        "dp-kafka lag importer --json | jq .lag",
        "dp-kafka lag importer --max-lag 1000 || echo behind",
    )
)
@click.argument("group", required=False)
@click.argument("topics", nargs=-1, metavar="[TOPIC…]")
@click.option("-w", "--watch", is_flag=True, help="Look again and again, until Ctrl-C.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="Between two looks.",
)
@click.option("--max-lag", type=click.IntRange(min=0), help="Exit code 1 when it is further behind.")
@options.timeout(10.0)
@options.as_json
@options.brokers
def lag(
    group: str | None,
    topics: tuple[str, ...],
    watch: bool,
    interval: float,
    max_lag: int | None,
    timeout: float,
    as_json: bool,
    brokers: str | None,
) -> int:
    """Show how far GROUP (by default KAFKA_CONSUMED_GROUP) is behind in each partition.

    Without TOPIC… of all topics in which it has committed something. The lag is in offsets: from where the
    group would go on to the end. With --watch, also how many a second come in and are committed.
    """
    settings = options.settings_of(brokers)
    name = group or settings.consumed_group
    config = settings.admin_config()
    code = 0
    with LagReader(settings.broker_addrs, name, topics, config) as reader:
        looks = _Looks(reader, new_admin(settings.broker_addrs, config), name, timeout)
        reading = looks.first()
        if not watch:
            _write(reading, as_json)
        else:
            with ending() as asked:
                reading = _watch(looks, reading, interval, as_json, asked.asked.wait)
            code = asked.code
    total = reading.lag
    if max_lag is not None and total > max_lag:
        showing.notes().print(f"group {name} is behind by {total:,}, more than {max_lag:,}")
        return 1
    # To watch has no other end than Ctrl-C.
    return 0 if code == 130 else code


class Reading:
    """What one look has found; with the one before it, how fast things move."""

    def __init__(
        self,
        group: str,
        rows: Sequence[PartitionLag],
        info: GroupInfo | None,
        at: float,
        before: Reading | None = None,
        problem: str = "",
    ) -> None:
        self.group = group
        self.rows = list(rows)
        self.info = info
        self.at = at
        self.problem = problem
        self._before = {} if before is None else {(each.topic, each.partition): each for each in before.rows}
        self._seconds = 0.0 if before is None else at - before.at

    @property
    def lag(self) -> int:
        """The sum of all partitions."""
        return sum(each.lag for each in self.rows)

    def rates(self, rows: Sequence[PartitionLag]) -> tuple[float, float] | None:
        """How many a second came into these partitions and were committed there; None at the first look."""
        pairs = [(each, self._before.get((each.topic, each.partition))) for each in rows]
        known = [(now, then) for now, then in pairs if then is not None]
        if not known or self._seconds <= 0:
            return None
        came = sum(now.end - then.end for now, then in known)
        went = sum((now.committed or now.start) - (then.committed or then.start) for now, then in known)
        return came / self._seconds, went / self._seconds

    @property
    def members(self) -> str:
        """The state of the group, as far as brokers tell."""
        if self.info is None:
            return ""
        return f"{self.info.state}, {showing.counted(len(self.info.members), 'member')}"


class _Looks:
    """Looks, one after the other."""

    def __init__(self, reader: LagReader, admin: Any, group: str, timeout: float) -> None:
        self._reader = reader
        self._admin = admin
        self._group = group
        self._timeout = timeout

    def first(self) -> Reading:
        """The first look; what goes wrong is raised."""
        rows = self._reader.read(timeout=self._timeout)
        return Reading(self._group, rows, self._members(), time.monotonic())

    def next(self, before: Reading) -> Reading:
        """The next one; what goes wrong is in it, with what was known before."""
        try:
            rows = self._reader.read(timeout=self._timeout)
        except DpKafkaError as error:
            return Reading(self._group, before.rows, None, time.monotonic(), None, str(error))
        return Reading(self._group, rows, self._members(), time.monotonic(), before)

    def _members(self) -> GroupInfo | None:
        try:
            return describe_group(self._admin, self._group, timeout=self._timeout)
        except KafkaClientError:
            # Not every broker tells, and not everybody may know; the lag is worth showing all the same.
            return None


def _watch(
    looks: _Looks, reading: Reading, interval: float, as_json: bool, wait: Callable[[float], bool]
) -> Reading:
    out = showing.console()
    if as_json or not out.is_terminal:
        _write(reading, as_json)
        while not wait(interval):
            reading = looks.next(reading)
            _write(reading, as_json)
        return reading
    # On a screen of its own, so that what stood on the terminal is there again afterwards.
    with Live(view(reading, out), console=out, screen=True, auto_refresh=False) as live:
        while not wait(interval):
            reading = looks.next(reading)
            live.update(view(reading, out), refresh=True)
    out.print(_table(reading, reading.rows, rates=True))
    return reading


def view(reading: Reading, out: Console) -> RenderableType:
    """The live view, as high as the terminal at most: those that are furthest behind come first then."""
    room = max(1, out.size.height - _FRAME)
    rows = reading.rows
    if len(rows) > room:
        rows = sorted(rows, key=lambda each: -each.lag)[:room]
    title = Text.assemble(("group ", "dim"), (reading.group, "bold"), no_wrap=True, overflow="ellipsis")
    if reading.members:
        title.append(f"   {reading.members}")
    title.append(time.strftime("   %H:%M:%S"), "dim")
    lines: list[RenderableType] = [title, Text(""), _table(reading, rows, rates=True)]
    if len(rows) < len(reading.rows):
        more = len(reading.rows) - len(rows)
        lines.append(Text(f"and {showing.counted(more, 'partition')} that are less behind", "dim"))
    if reading.problem:
        lines.append(Text(f"not up to date: {reading.problem}", "red", no_wrap=True, overflow="ellipsis"))
    else:
        lines.append(Text("Ctrl-C ends it", "dim"))
    return Group(*lines)


def _table(reading: Reading, rows: Sequence[PartitionLag], *, rates: bool) -> RenderableType:
    numbers = ("PART", "COMMITTED", "END", "LAG", *(("IN/S", "OUT/S") if rates else ()))
    shown = showing.Rows("TOPIC", *numbers, numbers=numbers)
    for each in rows:
        moves = _rates(reading.rates([each])) if rates else ()
        number = str(each.partition)
        shown.add(each.topic, number, _committed(each), f"{each.end:,}", _lag(each.lag), *moves)
    end = f"{sum(each.end for each in reading.rows):,}"
    moves = _rates(reading.rates(reading.rows)) if rates else ()
    shown.add("total", "", "", end, f"{reading.lag:,}", *moves, style="bold")
    return shown


def _committed(row: PartitionLag) -> str:
    return "none" if row.committed is None else f"{row.committed:,}"


def _lag(number: int) -> Text:
    return Text(f"{number:,}", style="yellow" if number else "green")


def _rates(rates: tuple[float, float] | None) -> tuple[str, ...]:
    return ("", "") if rates is None else tuple(f"{rate:,.0f}" for rate in rates)


def _write(reading: Reading, as_json: bool) -> None:
    if as_json:
        showing.write_json(_document(reading))
        return
    if not reading.rows:
        showing.write_line(
            f"group {reading.group} has committed nothing here; name a topic to see what awaits it"
        )
        return
    showing.console().print(_table(reading, reading.rows, rates=False))


def _document(reading: Reading) -> dict[str, object]:
    info = reading.info
    return {
        "group": reading.group,
        "lag": reading.lag,
        "state": None if info is None else info.state,
        "members": None if info is None else len(info.members),
        "partitions": [
            {
                "topic": each.topic,
                "partition": each.partition,
                "start": each.start,
                "committed": each.committed,
                "end": each.end,
                "lag": each.lag,
            }
            for each in reading.rows
        ],
        "error": reading.problem or None,
    }
