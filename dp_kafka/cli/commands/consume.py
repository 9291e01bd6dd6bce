"""`dp-kafka consume`: messages as JSON lines, from a topic as it lies there or as a member of a group."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from dp_kafka.admin import Admin, ends_of, new_admin, starts_of, topic_info
from dp_kafka.cli.commands import options, showing
from dp_kafka.cli.commands.ending import Ending, ending
from dp_kafka.cli.commands.records import FORMATS, decoder, line_of, schema_of
from dp_kafka.config import KafkaSettings, Offset
from dp_kafka.errors import KafkaClientError
from dp_kafka.reading import GroupReader, Reader, Record, TopicReader

__all__ = ["consume"]

#: Records that are written before the next commit of a group.
_AT_ONCE = 100
#: Seconds after which a loop looks whether it shall end.
_LOOK = 0.5
#: librdkafka's number for it.
_TIMED_OUT = -185


@click.command(
    epilog=options.examples(
        "dp-kafka consume content-published | jq .value.id",
        "dp-kafka consume content-published --from newest --follow",
        "dp-kafka consume content-published --partition 3 --from 1200 --max 1",
        "dp-kafka consume audit --schema audit.avsc --group auditors --max 10",
    )
)
@click.argument("topic", required=False)
@click.option("-g", "--group", help="Consume as a member, and commit what was written.")
@click.option(
    "--from",
    "begin",
    metavar="OFFSET",
    help="oldest, newest, an offset, or -N for the last N of each partition.  [default: oldest]",
)
@click.option("-p", "--partition", "only", type=click.IntRange(min=0), multiple=True, help="Only this one.")
@click.option("-n", "--max", "most", type=click.IntRange(min=1), help="Stop after so many.")
@click.option("-F", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option(
    "--schema",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The values are Avro by this schema.",
)
@click.option(
    "--value", "form", type=click.Choice(FORMATS), default="auto", show_default=True, help="What values are."
)
@options.timeout(10.0)
@options.brokers
def consume(
    topic: str | None,
    group: str | None,
    begin: str | None,
    only: tuple[int, ...],
    most: int | None,
    follow: bool,
    schema: Path | None,
    form: str,
    timeout: float,
    brokers: str | None,
) -> int:
    """Write the messages of TOPIC (by default KAFKA_CONSUMED_TOPIC), each as a line of JSON.

    It ends with what is there now, unless told to --follow. Without --group nothing is committed, and no
    service is disturbed. Timestamps are milliseconds since the epoch.
    """
    settings = options.settings_of(brokers)
    name = topic or settings.consumed_topic
    if group is not None and (begin or only):
        raise click.UsageError("--from and --partition go without --group, which has its own place")
    decode = decoder(form, schema_of(schema))
    admin = new_admin(settings.broker_addrs, settings.admin_config())
    count = len(topic_info(admin, name, timeout=timeout).partitions)
    chosen = sorted(set(only)) or list(range(count))
    if chosen[-1] >= count:
        raise click.BadParameter(f"topic {name} has {count}, from 0 on", param_hint="--partition")
    ends = _by_number(ends_of(admin, [(name, number) for number in chosen], timeout=timeout))
    with ending() as asked:
        if group is None:
            starts = _starts(admin, name, ends, begin or "oldest", timeout)
            reader: Reader = TopicReader(
                settings.broker_addrs, name, starts, None if follow else ends, settings.admin_config()
            )
            with reader:
                _write(reader, decode, most, asked)
        else:
            _as_member(settings, name, group, None if follow else ends, asked, decode, most, timeout)
    # To follow has no other end than being told to.
    return 0 if follow and asked.code == 130 else asked.code


def _as_member(
    settings: KafkaSettings,
    topic: str,
    group: str,
    ends: dict[int, int] | None,
    asked: Ending,
    decode: Callable[[bytes | None], dict[str, Any]],
    most: int | None,
    timeout: float,
) -> None:
    config = settings.consumer_config(topic=topic, group_name=group, offset=Offset.OLDEST)
    with GroupReader(config, asked.asked, ends) as member:
        # A broker that waits for members that fell silent waits for their session's end.
        if not member.join(time.monotonic() + timeout + config.message_consume_timeout):
            if asked.asked.is_set():
                return
            raise KafkaClientError(
                f"the group gave no assignment within {timeout:g} s", code=_TIMED_OUT, name="_TIMED_OUT"
            )

        def commit(records: list[Record]) -> None:
            offsets = {record.partition: record.offset + 1 for record in records}
            member.commit(offsets, time.monotonic() + timeout)

        _write(member, decode, most, asked, commit)


def _write(
    reader: Reader,
    decode: Callable[[bytes | None], dict[str, Any]],
    most: int | None,
    asked: Ending,
    written: Callable[[list[Record]], None] | None = None,
) -> None:
    left = most
    while not reader.finished and not asked.asked.is_set() and (left is None or left > 0):
        records = reader.take(_AT_ONCE if left is None else min(left, _AT_ONCE), time.monotonic() + _LOOK)
        for record in records:
            showing.write_line(line_of(record, decode))
        if records and written is not None:
            written(records)
        left = None if left is None else left - len(records)


def _starts(admin: Admin, topic: str, ends: dict[int, int], begin: str, timeout: float) -> dict[int, int]:
    if begin == "newest":
        return ends
    first = _by_number(starts_of(admin, [(topic, number) for number in ends], timeout=timeout))
    if begin == "oldest":
        return first
    try:
        offset = int(begin)
    except ValueError:
        raise click.BadParameter(
            f"{begin!r} is neither oldest nor newest nor an offset", param_hint="--from"
        ) from None
    if offset < 0:
        return {number: max(first[number], end + offset) for number, end in ends.items()}
    return {number: min(max(first[number], offset), end) for number, end in ends.items()}


def _by_number(offsets: dict[tuple[str, int], int]) -> dict[int, int]:
    return {number: offset for (_, number), offset in offsets.items()}
