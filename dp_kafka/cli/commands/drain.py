"""`dp-kafka drain`: commit what is in topics as consumed, with a bar for each."""

from __future__ import annotations

import sys

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column

from dp_kafka.cli.commands import options, showing
from dp_kafka.drain import DrainProgress, DrainResult, DrainTopicConfig, DrainTopicInput, drain_topics

__all__ = ["bars", "drain"]


@click.command(
    epilog=options.examples(
        "dp-kafka drain --group importer content-published",
        "dp-kafka drain -g importer --yes --json topic-1 topic-2 | jq .[].count",
    )
)
@click.argument("topics", nargs=-1, required=True, metavar="TOPIC…")
@click.option("-g", "--group", help="The group; by default KAFKA_CONSUMED_GROUP.")
@click.option("--live-members", is_flag=True, help="Also if the group has live members: join them.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@options.timeout(60.0)
@options.as_json
@options.brokers
def drain(
    topics: tuple[str, ...],
    group: str | None,
    live_members: bool,
    yes: bool,
    timeout: float,
    as_json: bool,
    brokers: str | None,
) -> int:
    """Commit as consumed what TOPIC… have now, for a group; nothing is handled.

    What comes after the start is left. A group with live members is refused, as they would go on from where
    they are: stop the service first. Exit code 0: all is drained. 1: not all.
    """
    settings = options.settings_of(brokers)
    name = group or settings.consumed_group
    config = DrainTopicConfig(
        settings.broker_addrs,
        timeout=timeout,
        kafka_version=settings.version,
        live_members=live_members,
        security=settings.security(),
    )
    inputs = [DrainTopicInput(topic, name) for topic in topics]
    if not yes and sys.stdin.isatty():
        what = topics[0] if len(topics) == 1 else f"{len(topics)} topics"
        click.confirm(f"Commit everything in {what} as consumed by group {name}?", abort=True, err=True)
    notes = showing.notes()
    with bars(notes) as progress:
        tasks: dict[str, TaskID] = {topic: progress.add_task(topic, total=None, count="") for topic in topics}

        def show(now: DrainProgress) -> None:
            count = f"{now.done:,} of {now.total:,}"
            progress.update(tasks[now.topic], total=now.total, completed=now.done, count=count)

        results = drain_topics(config, *inputs, progress=show)
    if as_json:
        showing.write_json([_document(result) for result in results])
    else:
        _show(results)
    return 0 if all(result.ok for result in results) else 1


def bars(console: Console) -> Progress:
    """Bars that fit into 80 columns: a name, the bar, the task's field `count`, the time."""
    name = Column(no_wrap=True, overflow="ellipsis", max_width=28)
    count = Column(no_wrap=True, justify="right", min_width=12)
    return Progress(
        TextColumn("{task.description}", table_column=name, markup=False),
        BarColumn(bar_width=16),
        TextColumn("{task.fields[count]}", table_column=count, markup=False),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _show(results: list[DrainResult]) -> None:
    out = showing.console()
    numbers = ("DRAINED", "FROM", "TO", "SECONDS")
    shown = showing.Rows("TOPIC", "GROUP", *numbers, numbers=numbers)
    for result in results:
        shown.add(
            result.topic,
            result.group_name,
            f"{result.count:,}",
            f"{sum(result.from_offsets.values()):,}",
            f"{sum(result.to_offsets.values()):,}",
            f"{result.seconds:.1f}",
        )
    out.print(shown)
    for result in results:
        if result.error is not None:
            # What the library calls it, and what this command does.
            said = str(result.error).replace("live_members=True", "--live-members")
            showing.notes().print(f"{result.topic}: {said}", soft_wrap=True, style="red")


def _document(result: DrainResult) -> dict[str, object]:
    return {
        "topic": result.topic,
        "group": result.group_name,
        "ok": result.ok,
        "count": result.count,
        "from": {str(number): offset for number, offset in result.from_offsets.items()},
        "to": {str(number): offset for number, offset in result.to_offsets.items()},
        "seconds": round(result.seconds, 3),
        "error": None if result.error is None else str(result.error),
    }
