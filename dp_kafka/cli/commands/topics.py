"""`dp-kafka topics`: list, describe and create topics."""

from __future__ import annotations

import click
from rich.text import Text

from dp_kafka.admin import (
    PartitionInfo,
    create_topic,
    ends_of,
    list_topics,
    new_admin,
    starts_of,
    topic_info,
    topic_settings,
)
from dp_kafka.cli.commands import options, showing
from dp_kafka.errors import KafkaClientError

__all__ = ["topics"]


@click.group()
def topics() -> None:
    """List, describe and create topics."""


@topics.command(
    "list", epilog=options.examples("dp-kafka topics list", "dp-kafka topics list --json | jq -r '.[].topic'")
)
@click.option("--internal", is_flag=True, help="Also those that Kafka keeps for itself.")
@options.timeout(10.0)
@options.as_json
@options.brokers
def list_(internal: bool, timeout: float, as_json: bool, brokers: str | None) -> None:
    """Show all topics, with the number of their partitions and replicas."""
    settings = options.settings_of(brokers)
    admin = new_admin(settings.broker_addrs, settings.admin_config())
    found = [each for each in list_topics(admin, timeout=timeout) if internal or not each.internal]
    if as_json:
        showing.write_json(
            [
                {"topic": each.name, "partitions": len(each.partitions), "replicas": each.replication_factor}
                for each in found
            ]
        )
        return
    numbers = ("PARTITIONS", "REPLICAS", "OUT OF SYNC")
    shown = showing.Rows("TOPIC", *numbers, numbers=numbers)
    for each in found:
        lagging = sum(partition.under_replicated for partition in each.partitions)
        shown.add(
            each.name,
            f"{len(each.partitions):,}",
            f"{each.replication_factor}",
            Text(str(lagging), "red" if lagging else ""),
        )
    showing.console().print(shown)


@topics.command(
    "describe",
    epilog=options.examples(
        "dp-kafka topics describe content-published",
        "dp-kafka topics describe content-published --json | jq '.partitions[].end'",
    ),
)
@click.argument("topic")
@options.timeout(10.0)
@options.as_json
@options.brokers
def describe(topic: str, timeout: float, as_json: bool, brokers: str | None) -> None:
    """Show the partitions of TOPIC, and the settings that it does not take from the broker."""
    settings = options.settings_of(brokers)
    admin = new_admin(settings.broker_addrs, settings.admin_config())
    info = topic_info(admin, topic, timeout=timeout)
    numbers = [(topic, each.partition) for each in info.partitions]
    starts, ends = starts_of(admin, numbers, timeout=timeout), ends_of(admin, numbers, timeout=timeout)
    try:
        own = {each.name: each.value for each in topic_settings(admin, topic) if not each.default}
    except KafkaClientError as error:
        # The partitions are worth showing without the settings, which need an ACL of their own.
        own = None
        showing.notes().print(f"no settings: {error}", soft_wrap=True)
    if as_json:
        partitions = [
            {
                "partition": each.partition,
                "start": starts[topic, each.partition],
                "end": ends[topic, each.partition],
                "leader": each.leader,
                "replicas": list(each.replicas),
                "in_sync": list(each.in_sync),
            }
            for each in info.partitions
        ]
        showing.write_json({"topic": topic, "partitions": partitions, "settings": own})
        return
    out = showing.console()
    columns = ("START", "END", "MESSAGES", "LEADER")
    shown = showing.Rows("PARTITION", *columns, "REPLICAS", "IN SYNC", numbers=("PARTITION", *columns))
    for each in info.partitions:
        start, end = starts[topic, each.partition], ends[topic, each.partition]
        shown.add(
            str(each.partition), f"{start:,}", f"{end:,}", f"{end - start:,}", _leader(each), *_ids(each)
        )
    out.print(shown)
    for name, value in (own or {}).items():
        out.print(f"{name} = {value}", soft_wrap=True)


def _leader(partition: PartitionInfo) -> Text:
    return Text(str(partition.leader)) if partition.leader >= 0 else Text("none", "red")


def _ids(partition: PartitionInfo) -> tuple[str, Text]:
    in_sync = ",".join(map(str, sorted(partition.in_sync)))
    shown = Text(in_sync, "red" if partition.under_replicated else "")
    return ",".join(map(str, partition.replicas)), shown


@topics.command(
    "create",
    epilog=options.examples(
        "dp-kafka topics create audit --partitions 12 --replicas 3",
        "dp-kafka topics create audit --set retention.ms=604800000",
    ),
)
@click.argument("topic")
@click.option("-p", "--partitions", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("-r", "--replicas", type=click.IntRange(min=1), help="By default as the cluster has it.")
@click.option("--set", "settings_", multiple=True, metavar="NAME=VALUE", help="A setting of the topic.")
@click.option("--dry-run", is_flag=True, help="Have the cluster check it, and create nothing.")
@options.timeout(30.0)
@options.as_json
@options.brokers
def create(
    topic: str,
    partitions: int,
    replicas: int | None,
    settings_: tuple[str, ...],
    dry_run: bool,
    timeout: float,
    as_json: bool,
    brokers: str | None,
) -> int:
    """Create TOPIC. Exit code 0: it is there now, or was, with as many partitions. 1: it has others."""
    settings = options.settings_of(brokers)
    admin = new_admin(settings.broker_addrs, settings.admin_config())
    created = create_topic(
        admin,
        topic,
        partitions=partitions,
        replication_factor=replicas,
        settings=dict(_setting(each) for each in settings_),
        validate_only=dry_run,
        timeout=timeout,
    )
    there = partitions if created else len(topic_info(admin, topic, timeout=timeout).partitions)
    if as_json:
        showing.write_json({"topic": topic, "created": created and not dry_run, "partitions": there})
    elif created:
        word = "would be created" if dry_run else "created"
        showing.write_line(f"topic {topic} {word} with {showing.counted(partitions, 'partition')}")
    else:
        showing.write_line(f"topic {topic} is there already, with {showing.counted(there, 'partition')}")
    return 0 if there == partitions else 1


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--set")
    return name, value
