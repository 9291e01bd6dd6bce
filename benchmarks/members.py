"""Several processes of one consumer group: the side of a scaling case that needs more than one interpreter.

The members join and wait; once the last one has its assignment all begin at the same moment. Each tells how
many messages it has handled, and the time from the beginning to the last message of them all is what counts:
`time.perf_counter()` reads the same clock in every process.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient

from benchmarks.job import PATIENCE
from benchmarks.pairs import Result
from benchmarks.place import Place
from dp_kafka import ConsumerGroup, ConsumerGroupConfig, Message, State
from dp_kafka.config.rdkafka import consumer_properties

__all__ = ["ours", "plain"]

#: How often a member tells its count, in seconds.
TELL_SECONDS = 0.02
#: Threads of each of our members.
WORKERS = 4


class _Tally:
    """What one member has handled; any thread."""

    def __init__(self) -> None:
        # A list, as appending to it needs no lock, and a count that two threads write does.
        self._times: list[float] = []

    def __call__(self, value: bytes | None) -> None:
        if not value:
            raise ValueError("a message of the benchmark lost its value")
        self._times.append(time.perf_counter())

    def told(self) -> tuple[int, float]:
        """How many were handled, and when the last one was."""
        count = len(self._times)
        return count, self._times[count - 1] if count else 0.0

    def tell_until_stop(self, line: Connection) -> None:
        """Send (count, time of the last message) until the parent says stop."""
        while not line.poll(TELL_SECONDS):
            line.send(self.told())
        line.recv()
        line.send(self.told())


def _config(place: Place, group: str) -> ConsumerGroupConfig:
    return ConsumerGroupConfig(place.broker_addrs, place.topic, group, num_workers=WORKERS)


def _say(line: Connection, what: str) -> None:
    """Tell the parent, and wait until it says that all are so far."""
    line.send(what)
    line.recv()


def _our_member(line: Connection, place: Place, group_name: str) -> None:
    tally = _Tally()

    def handler(_worker_id: int, message: Message) -> None:
        tally(message.data)

    with ConsumerGroup(_config(place, group_name)) as group:
        _say(line, "up")
        group.start()
        if not group.state_wait(State.CONSUMING, PATIENCE):
            raise TimeoutError("no assignment came")
        _say(line, "ready")
        group.register_handler(handler)
        tally.tell_until_stop(line)


def _plain_member(line: Connection, place: Place, group_name: str) -> None:
    tally = _Tally()
    client = Consumer(
        {
            **consumer_properties(_config(place, group_name)),
            "enable.auto.commit": True,
            "auto.commit.interval.ms": 50,
        }
    )
    held: list[Any] = []

    def hold(_client: Consumer, partitions: list[Any]) -> None:
        client.pause(partitions)
        held[:] = partitions

    _say(line, "up")
    client.subscribe([place.topic], on_assign=hold)
    while not held:
        client.poll(0.1)
    line.send("ready")
    while not line.poll(0):
        client.poll(0.01)
    line.recv()
    client.resume(held)
    until_tell = 0.0
    while True:
        message = client.poll(TELL_SECONDS)
        if message is not None:
            if message.error():
                raise RuntimeError(str(message.error()))
            tally(message.value())
            client.store_offsets(message=message)
        if time.perf_counter() >= until_tell:
            until_tell = time.perf_counter() + TELL_SECONDS
            line.send(tally.told())
            if line.poll(0):
                line.recv()
                line.send(tally.told())
                break
    client.close()


@contextmanager
def _members(target: Any, place: Place, group: str, count: int) -> Iterator[list[Connection]]:
    context = multiprocessing.get_context("spawn")
    lines, processes = [], []
    for _ in range(count):
        ours_end, theirs_end = context.Pipe()
        process = context.Process(target=target, args=(theirs_end, place, group))
        process.start()
        theirs_end.close()
        lines.append(ours_end)
        processes.append(process)
    try:
        yield lines
    finally:
        for process in processes:
            process.join(PATIENCE)
            if process.is_alive():
                process.kill()


def _hear_all(lines: list[Connection]) -> None:
    for line in lines:
        if not line.poll(PATIENCE):
            raise TimeoutError("a member did not get on in time")
        line.recv()


def _tell_all(lines: list[Connection], what: str) -> None:
    for line in lines:
        line.send(what)


def _wait_for_all(place: Place, group: str, lines: list[Connection]) -> None:
    # They join at the same moment: how long a process takes to start must not cost a rebalance.
    _hear_all(lines)
    _tell_all(lines, "join")
    _hear_all(lines)
    if place.kind == "embedded":
        return  # groups wait there for further members before the first assignment
    admin = AdminClient({"bootstrap.servers": ",".join(place.broker_addrs)})
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        described = admin.describe_consumer_groups([group])[group].result()
        assigned = [len(member.assignment.topic_partitions) for member in described.members]
        if len(assigned) == len(lines) and sum(assigned) == place.spec.partitions and all(assigned):
            return
        time.sleep(0.2)
    raise TimeoutError("the group did not settle")


def _run(target: Any, place: Place, messages: int, count: int) -> Result:
    group = place.new_group()
    with _members(target, place, group, count) as lines:
        _wait_for_all(place, group, lines)
        began = time.perf_counter()
        _tell_all(lines, "go")
        told = [(0, 0.0)] * count
        deadline = time.monotonic() + PATIENCE
        while sum(handled for handled, _ in told) < messages:
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"{messages} messages were not handled within {PATIENCE:g} seconds: {told}"
                )
            for index, line in enumerate(lines):
                while line.poll(0.001):
                    told[index] = line.recv()
        _tell_all(lines, "stop")
    return {"rate": messages / (max(last for _, last in told) - began)}


def ours(place: Place, messages: int, count: int) -> Result:
    """`count` processes with a ConsumerGroup each."""
    return _run(_our_member, place, messages, count)


def plain(place: Place, messages: int, count: int) -> Result:
    """`count` processes with poll() and store_offsets()."""
    return _run(_plain_member, place, messages, count)
