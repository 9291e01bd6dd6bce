"""Several processes of one consumer group: the side of a scaling case that needs more than one interpreter.

The members join and wait; once the last one has its assignment all begin at the same moment. Each tells how
many messages it has handled, and the time from the beginning to the last message of them all is what counts:
`time.perf_counter()` reads the same clock in every process.
"""

from __future__ import annotations

import math
import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from typing import Any

from confluent_kafka import Consumer

from benchmarks.job import PATIENCE
from benchmarks.pairs import Result
from benchmarks.place import Place
from dp_kafka import ConsumerGroup, ConsumerGroupConfig, Message
from dp_kafka.config.rdkafka import consumer_properties

__all__ = ["ours", "plain"]

#: How often a member tells its count, in seconds.
TELL_SECONDS = 0.02
#: How long every member has to have owned its partitions before they begin.
SETTLED_SECONDS = 1.0
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


def _tell_owned(line: Connection, owned: Callable[[], int]) -> None:
    """Tell the parent how many partitions this member owns, until it says that all may begin."""
    while not line.poll(TELL_SECONDS):
        line.send(owned())
    line.recv()


def _our_member(line: Connection, place: Place, group_name: str) -> None:
    tally = _Tally()

    def handler(_worker_id: int, message: Message) -> None:
        tally(message.data)

    with ConsumerGroup(_config(place, group_name)) as group:

        def owned() -> int:
            session = group._poller.session
            return 0 if session is None else len(session.lanes)

        _say(line, "up")
        group.start()
        _tell_owned(line, owned)
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
    begun = False

    def hold(_client: Consumer, partitions: list[Any]) -> None:
        held[:] = partitions
        # Before the pause: what is not assigned can't be paused.
        client.assign(partitions)
        # A rebalance later on must not pause what nobody would resume.
        if not begun:
            client.pause(partitions)

    def owned() -> int:
        message = client.poll(0)
        if message is not None:
            raise RuntimeError(f"a message came before the beginning: {message.error() or message.offset()}")
        return len(held)

    _say(line, "up")
    client.subscribe([place.topic], on_assign=hold, on_revoke=lambda _client, _partitions: held.clear())
    _tell_owned(line, owned)
    begun = True
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


def _wait_for_all(place: Place, lines: list[Connection]) -> None:
    """Wait until every member owns its share, and has for a while: a rebalance must not cost the rate."""
    # They join at the same moment: how long a process takes to start must not cost a rebalance either.
    _hear_all(lines)
    _tell_all(lines, "join")
    owned = [0] * len(lines)
    deadline = time.monotonic() + PATIENCE
    settled_at = math.inf
    while time.monotonic() < settled_at:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the group did not settle: its members own {owned} partitions")
        for index, line in enumerate(lines):
            while line.poll(0):
                owned[index] = line.recv()
        if sum(owned) != place.spec.partitions or not all(owned):
            settled_at = math.inf
        elif settled_at == math.inf:
            settled_at = time.monotonic() + SETTLED_SECONDS
        wait(lines, TELL_SECONDS)


def _run(target: Any, place: Place, messages: int, count: int) -> Result:
    group = place.new_group()
    with _members(target, place, group, count) as lines:
        _wait_for_all(place, lines)
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
                while line.poll(0):
                    heard = line.recv()
                    if isinstance(heard, tuple):  # not what it owned, a moment ago
                        told[index] = heard
            wait(lines, TELL_SECONDS)
        _tell_all(lines, "stop")
    return {"rate": messages / (max(last for _, last in told) - began)}


def ours(place: Place, messages: int, count: int) -> Result:
    """`count` processes with a ConsumerGroup each."""
    return _run(_our_member, place, messages, count)


def plain(place: Place, messages: int, count: int) -> Result:
    """`count` processes with poll() and store_offsets()."""
    return _run(_plain_member, place, messages, count)
