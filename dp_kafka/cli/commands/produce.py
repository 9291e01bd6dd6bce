"""`dp-kafka produce`: each line of the input becomes a message."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import TextIO

import click

from dp_kafka.cli.commands import options, showing
from dp_kafka.cli.commands.ending import Terminated, ended_by
from dp_kafka.cli.commands.records import encoder, schema_of
from dp_kafka.errors import DpKafkaError, NotInitialisedError
from dp_kafka.producer.producer import Producer

__all__ = ["produce"]

_INPUT = click.File("r", encoding="utf-8")


@click.command(
    epilog=options.examples(
        """echo '{"id": 1}' | dp-kafka produce content-published""",
        "dp-kafka produce audit --schema audit.avsc < events.jsonl",
        "dp-kafka consume a | dp-kafka produce b --records",
        """printf 'k1:v1\\nk2:v2\\n' | dp-kafka produce audit --key-separator :""",
    )
)
@click.argument("topic", required=False)
@click.option("-k", "--key", help="The key of every message.")
@click.option("--key-separator", metavar="TEXT", help="What stands before it in a line is the key.")
@click.option(
    "-H", "--header", "headers", multiple=True, metavar="NAME=VALUE", help="A header of every message."
)
@click.option("-p", "--partition", type=click.IntRange(min=0), help="By default the key decides.")
@click.option(
    "--schema",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Send Avro by this schema; the lines are JSON.",
)
@click.option("--records", is_flag=True, help="The lines are records, as consume writes them.")
@click.option("-f", "--file", "source", type=_INPUT, default="-", help="By default stdin.")
@options.timeout(30.0)
@options.as_json
@options.brokers
def produce(
    topic: str | None,
    key: str | None,
    key_separator: str | None,
    headers: tuple[str, ...],
    partition: int | None,
    schema: Path | None,
    records: bool,
    source: TextIO,
    timeout: float,
    as_json: bool,
    brokers: str | None,
) -> int:
    """Send each line of the input to TOPIC (by default KAFKA_PRODUCED_TOPIC).

    It waits until the brokers have acknowledged all of them. Exit code 0: they have. 1: not all, or a line
    makes no sense; what stands before such a line is sent.
    """
    if key is not None and (key_separator is not None or records):
        raise click.UsageError("--key goes with neither --key-separator nor --records, which bring their own")
    settings = options.settings_of(brokers)
    config = settings.producer_config(topic=topic or settings.produced_topic, min_brokers_healthy=1)
    own = [_header(each) for each in headers]
    encode = encoder(schema_of(schema), records=records, key_separator=key_separator)
    outcomes = _Outcomes()
    problem = ""
    code = number = 0
    with Producer(config) as producer:
        if not producer.channels.initialised.wait(timeout):
            raise NotInitialisedError(f"no broker answered within {timeout:g} s")
        try:
            for line in source:
                number += 1
                message = encode(line.rstrip("\r\n"))
                producer.send_bytes(
                    message.value,
                    key=key if message.key is None else message.key,
                    headers=[*message.headers, *own],
                    partition=partition,
                    on_delivery=outcomes.add,
                    timeout=timeout,
                )
        except (click.BadParameter, DpKafkaError, UnicodeDecodeError) as error:
            problem = f"line {number}: {_said(error)}"
        except (KeyboardInterrupt, Terminated) as ended:
            # The next line may never come, so a signal ends the reading at once; what was read is delivered.
            code = ended_by(ended)
        left = producer.flush(timeout)
    if left and not problem:
        problem = f"{showing.counted(left, 'message')} not acknowledged within {timeout:g} s"
    return _finish(outcomes, problem, as_json, code, config.topic)


def _said(error: Exception) -> str:
    """What an error says, but not that of a codec, which shows the text."""
    return "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)


def _finish(outcomes: _Outcomes, problem: str, as_json: bool, code: int, topic: str) -> int:
    delivered, failed, first = outcomes.counts
    if as_json:
        error = problem or first or None
        showing.write_json({"topic": topic, "delivered": delivered, "failed": failed, "error": error})
    else:
        sys.stderr.write(f"{showing.counted(delivered, 'message')} delivered to {topic}\n")
    for text in (f"{failed:,} not delivered: {first}" if failed else "", problem):
        if text:
            sys.stderr.write(f"dp-kafka: {text}\n")
    return 1 if problem or failed else code


def _header(text: str) -> tuple[str, str | None]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--header")
    return name, value


class _Outcomes:
    """Counts delivery reports, which come on the producer's thread."""

    def __init__(self) -> None:
        #: Guards the counts.
        self._lock = threading.Lock()
        self._delivered = self._failed = 0
        self._first = ""

    def add(self, error: DpKafkaError | None, _message: object) -> None:
        """Count one."""
        with self._lock:
            if error is None:
                self._delivered += 1
            else:
                self._failed += 1
                self._first = self._first or str(error)

    @property
    def counts(self) -> tuple[int, int, str]:
        """How many were delivered and were not, and the first error."""
        with self._lock:
            return self._delivered, self._failed, self._first
