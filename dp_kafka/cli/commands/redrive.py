"""`dp-kafka redrive`: dead letters go back to the topics that they came from."""

from __future__ import annotations

import sys

import click
from rich.progress import TaskID

from dp_kafka.cli.commands import options, showing
from dp_kafka.cli.commands.drain import bars
from dp_kafka.cli.commands.ending import ending
from dp_kafka.redrive import RedriveConfig, RedriveError, RedriveProgress, RedriveResult
from dp_kafka.redrive import redrive as run_redrive

__all__ = ["redrive"]


@click.command(
    epilog=options.examples(
        "dp-kafka redrive audit-dead-letters",
        "dp-kafka redrive audit-dead-letters --limit 10 --json | jq .by_topic",
    )
)
@click.argument("topic")
@click.option("-g", "--group", help="Commit the progress for this group; by default TOPIC.redrive.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many letters.")
@click.option("--skip-unknown", is_flag=True, help="Pass over what can't go back.")
@options.timeout(30.0)
@options.as_json
@options.brokers
def redrive(
    topic: str,
    group: str | None,
    limit: int | None,
    skip_unknown: bool,
    timeout: float,
    as_json: bool,
    brokers: str | None,
) -> int:
    """Send the dead letters that are in TOPIC now back to their original topics.

    The progress is committed, and the next redrive goes on there. Ctrl-C ends it after the batch in hand;
    none is lost. Exit code 0: all went back. 1: one could not.
    """
    settings = options.settings_of(brokers)
    config = RedriveConfig(
        settings.broker_addrs,
        topic,
        group_name=group or "",
        limit=limit,
        skip_unknown=skip_unknown,
        timeout=timeout,
        max_message_bytes=settings.max_bytes,
        kafka_version=settings.version,
        security=settings.security(),
    )
    notes = showing.notes()
    error: RedriveError | None = None
    with ending() as asked, bars(notes) as progress:
        task: TaskID = progress.add_task(topic, total=None, count="")

        def show(now: RedriveProgress) -> None:
            count = f"{now.done:,} of {now.total:,}"
            progress.update(task, total=now.total, completed=now.done, count=count)

        try:
            result: RedriveResult = run_redrive(config, progress=show, stop=asked.asked)
        except RedriveError as stopped:
            error = stopped
            result = stopped.result
    if as_json:
        showing.write_json(_document(result, error))
    else:
        _show(result)
    if error is not None:
        sys.stderr.write(f"dp-kafka: {error}\n")
        return 1
    return asked.code


def _show(result: RedriveResult) -> None:
    out = showing.console()
    shown = showing.Rows("BACK TO", "LETTERS", numbers=("LETTERS",))
    for topic, count in sorted(result.by_topic.items()):
        shown.add(topic, f"{count:,}")
    if result.by_topic:
        out.print(shown)
    text = f"{showing.counted(result.count, 'dead letter')} sent back in {result.seconds:.1f} s"
    text += f", {result.skipped:,} passed over" if result.skipped else ""
    out.print(text + (f", {result.left:,} left" if result.left else ""))


def _document(result: RedriveResult, error: RedriveError | None) -> dict[str, object]:
    return {
        "topic": result.topic,
        "group": result.group_name,
        "count": result.count,
        "by_topic": dict(result.by_topic),
        "skipped": result.skipped,
        "left": result.left,
        "seconds": round(result.seconds, 3),
        "error": None if error is None else str(error),
    }
