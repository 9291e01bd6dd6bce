"""The demo: messages from a Producer to a ConsumerGroup on an embedded broker, and what became of them."""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

# A plain client, not this library, reads back what the broker keeps: it is the witness.
from confluent_kafka import Consumer, TopicPartition  # noqa: TID251

from dp_kafka import (
    ConsumerGroup,
    ConsumerGroupConfig,
    DpKafkaError,
    Message,
    Producer,
    ProducerConfig,
)
from dp_kafka.kafkatest import EmbeddedCluster

__all__ = ["Counts", "Progress", "Report", "main", "run"]

TOPIC = "demo"
GROUP = "demo-group"
#: How many different keys the messages have; a key decides the partition.
KEYS = 1_000
#: Most messages that are sent and not yet handled: the embedded broker keeps about 5 MB of a partition.
AHEAD = 20_000
#: Seconds without any progress after which the demo gives up, and shows what it has.
PATIENCE = 20.0
#: Seconds between two looks at the progress.
REFRESH = 0.04
#: Elsewhere than on a terminal: a line for each tenth that is done, and after so many seconds anyway.
LINE_EVERY = 1.0
_BAR = 30


def main(arguments: Sequence[str] | None = None) -> int:
    """`dp-kafka demo`: 0 when everything sent was handled and committed, 1 when not, 130 for Ctrl-C."""
    options = _parser().parse_args(arguments)
    out, err = sys.stdout, sys.stderr
    try:
        report = run(options.messages, options.partitions, options.workers, out)
        print(report, file=out, flush=True)
    except DpKafkaError as error:
        print(f"dp-kafka demo: {error}", file=err)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted", file=err)
        return 130
    except BrokenPipeError:
        # Whoever read the output has gone, as in `demo | head`; Python writes what is left when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        return 1
    return 0 if report.agrees else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dp-kafka demo",
        description="Send messages, consume them and read the commits back, on a broker in this process.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--messages", type=_from_1_to(10_000_000), default=20_000, help="how many to send")
    parser.add_argument("--partitions", type=_from_1_to(100), default=6, help="of the topic")
    parser.add_argument("--workers", type=_from_1_to(100), default=4, help="threads that handle messages")
    return parser


def _from_1_to(most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {most:,}")
        return int(text)

    return parse


class Counts:
    """What the broker acknowledged and what was handled, by partition. Any thread may call any method."""

    def __init__(self, messages: int, partitions: int) -> None:
        self.messages = messages
        #: Guards the rest, and is notified of every message. Partitions are the indexes of the lists.
        self._changed = threading.Condition()
        self._sent = [0] * partitions
        self._handled = [0] * partitions
        self._next_offset = [0] * partitions
        self._total_handled = 0
        self._out_of_turn = 0
        self._failed = 0

    def on_delivery(self, error: DpKafkaError | None, message: Any) -> None:
        """Count one message that the broker has acknowledged, or refused."""
        with self._changed:
            if error is not None:
                self._failed += 1
            else:
                self._sent[message.partition()] += 1

    def handle(self, _worker_id: int, message: Message) -> None:
        """The handler: count one message, and whether it came in its turn."""
        partition, offset = message.partition, message.offset
        with self._changed:
            self._handled[partition] += 1
            self._total_handled += 1
            self._out_of_turn += offset != self._next_offset[partition]
            self._next_offset[partition] = offset + 1
            self._changed.notify_all()

    def wait_handled(self, at_least: int, timeout: float) -> bool:
        """Wait until so many messages were handled, `timeout` seconds at most; whether it is so."""
        with self._changed:
            return self._changed.wait_for(lambda: self._total_handled >= at_least, timeout)

    @property
    def handled(self) -> int:
        """How many were handled so far."""
        with self._changed:
            return self._total_handled

    def report(self, committed: Sequence[int], workers: int, seconds: float) -> Report:
        """The outcome, with `committed` as the broker tells it."""
        with self._changed:
            return Report(
                messages=self.messages,
                sent=tuple(self._sent),
                handled=tuple(self._handled),
                committed=tuple(committed),
                out_of_turn=self._out_of_turn,
                failed=self._failed,
                workers=workers,
                seconds=seconds,
            )


@dataclass(frozen=True)
class Report:
    """The outcome of a demo; `str()` is the table that it prints.

    `sent` (acknowledged by the broker), `handled` and `committed` have a number for each partition.
    `seconds` run from the first send until the last message was handled.
    """

    messages: int
    sent: tuple[int, ...]
    handled: tuple[int, ...]
    committed: tuple[int, ...]
    out_of_turn: int
    failed: int
    workers: int
    seconds: float

    @property
    def agrees(self) -> bool:
        """Whether every message was sent, handled once and in its turn, and committed."""
        return (
            sum(self.sent) == self.messages
            and self.sent == self.handled == self.committed
            and not self.out_of_turn
        )

    def __str__(self) -> str:
        rule = "-" * 50
        rows = enumerate(zip(self.sent, self.handled, self.committed, strict=True))
        lines = [
            _row("partition", "sent", "handled", "committed"),
            rule,
            *(_row(str(partition), *counts) for partition, counts in rows),
            rule,
            _row("total", sum(self.sent), sum(self.handled), sum(self.committed)),
            "",
            *(self._good() if self.agrees else self._bad()),
        ]
        return "\n".join(lines)

    def _good(self) -> list[str]:
        return [
            "Every message was handled once, in the order of its partition, and committed.",
            f"{self.messages:,} messages in {self.seconds:.2f} s: "
            f"{self.messages / self.seconds:,.0f} a second, with {_count(self.workers, 'worker')}",
        ]

    def _bad(self) -> list[str]:
        found = [
            (sum(self.sent) != self.messages, f"{sum(self.sent):,} of {self.messages:,} were sent"),
            (self.failed > 0, f"{self.failed:,} could not be delivered"),
            (self.sent != self.handled, "sent and handled differ"),
            (self.handled != self.committed, "handled and committed differ"),
            (self.out_of_turn > 0, f"{self.out_of_turn:,} were handled out of turn"),
        ]
        return ["The counts disagree:", *(f"- {what}" for is_so, what in found if is_so)]


def _row(first: str, *columns: str | int) -> str:
    cells = (f"{cell:,}" if isinstance(cell, int) else cell for cell in columns)
    return f"{first:>11}" + "".join(f"{cell:>13}" for cell in cells)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


class Progress:
    """Shows how far the demo is: one line that changes on a terminal, a line now and then elsewhere."""

    def __init__(self, counts: Counts, stream: TextIO) -> None:
        self._counts = counts
        self._stream = stream
        #: How many messages the producer has taken.
        self.sent = 0
        self._moving = stream.isatty()
        self._next_look = self._next_line = 0.0
        self._tenth = -1

    def show(self, *, final: bool = False) -> None:
        """Show it, if it is time, or because it is the end. Called by the main thread alone."""
        now = time.monotonic()
        if now < self._next_look and not final:
            return
        self._next_look = now + REFRESH
        handled = self._counts.handled
        text = f"sent {self.sent:>10,}   handled {handled:>10,}"
        if self._moving:
            filled = _BAR * handled // self._counts.messages
            self._write(f"\r[{'#' * filled}{'.' * (_BAR - filled)}]  {text}" + ("\n" if final else ""))
            return
        tenth = 10 * handled // self._counts.messages
        if final or tenth > self._tenth or now >= self._next_line:
            self._tenth, self._next_line = tenth, now + LINE_EVERY
            self._write(f"{text}\n")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def run(messages: int, partitions: int, workers: int, stream: TextIO) -> Report:
    """Send `messages` to a topic of `partitions`, consume them with `workers`; progress goes to `stream`.

    Blocks until all is handled, or nothing has moved for `PATIENCE`, and all that it started is closed.
    Raises `DpKafkaError` where no embedded broker can be had.
    """
    counts = Counts(messages, partitions)
    with EmbeddedCluster() as cluster:
        cluster.create_topic(TOPIC, partitions=partitions)
        print(
            f"A Kafka broker runs in this process, at {cluster.bootstrap_servers}.\n"
            f"Sending {_count(messages, 'message')} over {_count(partitions, 'partition')}, "
            f"handling them with {_count(workers, 'worker')}.\n",
            file=stream,
        )
        group = ConsumerGroupConfig(cluster.broker_addrs, TOPIC, GROUP, num_workers=workers)
        topic = ProducerConfig(cluster.broker_addrs, TOPIC)
        with Producer(topic) as producer, ConsumerGroup(group) as consumer:
            consumer.register_handler(counts.handle)
            consumer.start()
            started = time.monotonic()
            _send_and_wait(producer, counts, Progress(counts, stream))
            seconds = time.monotonic() - started
            # After this nothing is in hand, and what was handled is on the broker.
            consumer.stop_and_wait(timeout=PATIENCE)
        committed = _committed(cluster.bootstrap_servers, partitions)
    print(file=stream)
    return counts.report(committed, workers, seconds)


def _send_and_wait(producer: Producer, counts: Counts, progress: Progress) -> None:
    """Send everything, and wait until as much was handled, or until nothing moves any more."""
    for number in range(counts.messages):
        if not _wait_handled(counts, number - AHEAD, progress):
            return
        producer.send_json(
            {"number": number, "text": "hello"},
            key=f"key-{number % KEYS}",
            on_delivery=counts.on_delivery,
            timeout=PATIENCE,
        )
        progress.sent += 1
        progress.show()
    _wait_handled(counts, counts.messages, progress)
    progress.show(final=True)


def _wait_handled(counts: Counts, at_least: int, progress: Progress) -> bool:
    """Wait until so many messages were handled, showing the progress; False when nothing moved any more."""
    before, until = -1, 0.0
    while at_least > 0 and not counts.wait_handled(at_least, REFRESH):
        progress.show()
        handled = counts.handled
        if handled > before:
            before, until = handled, time.monotonic() + PATIENCE
        elif time.monotonic() >= until:
            return False
    return True


def _committed(bootstrap_servers: str, partitions: int) -> list[int]:
    """What the broker keeps as the group's offsets; where it has none, nothing was committed: 0."""
    client = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": GROUP})
    try:
        asked = [TopicPartition(TOPIC, partition) for partition in range(partitions)]
        return [max(0, found.offset) for found in client.committed(asked, timeout=10.0)]
    finally:
        client.close()
