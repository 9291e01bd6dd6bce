"""Random sequences of start, stop, rebalance, close and faults, from several threads at once, on one group.

    .venv/bin/python -m tests.sequences --count 5000 --seed 1
    .venv/bin/python -m tests.sequences --count 200 --seed 1 --embedded

Each sequence has its own consumer group and ends with it closed. Checked of every one: each call returned
within its bound; nothing but the library's own errors came out of it; afterwards no thread of the group is
left; and no committed offset passes a message that was not handled. The seed gives the calls again, though
not the order in which the threads take their turns. Groups are on `MemoryCluster`, or, with `--embedded`, on
the embedded broker, over TCP. It prints a line for each failure, with its seed, and ends with 1 if there was
one.
"""

from __future__ import annotations

import argparse
import faulthandler
import logging
import random
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import confluent_kafka

from dp_kafka import ConsumerGroup, ConsumerGroupConfig, DpKafkaError, Message, Ordering, State
from dp_kafka.channels import Empty
from dp_kafka.errors import ChannelClosed
from dp_kafka.health import Status
from dp_kafka.kafkatest import EmbeddedCluster
from dp_kafka.kafkatest.memory.cluster import MemoryCluster
from dp_kafka.kafkatest.memory.consumer import MemoryConsumer
from tests.conftest import committed_offset

__all__ = ["Embedded", "InMemory", "Sequence", "run_all"]

PARTITIONS = 3
MESSAGES = 12
ACTORS = 3
CALLS_EACH = 6
#: The longest time in seconds that a call may take beyond what it was told to wait.
BOUND = 10.0
#: How long messages in hand may take when their partitions go: the shortest that there is.
CONSUME_TIMEOUT = 3.01


class InMemory:
    """Groups on a cluster in memory, each on its own."""

    def __init__(self, number: int) -> None:
        self.topic, self.group_name = "topic", f"group-{number}"
        self.cluster = MemoryCluster()
        self.cluster.create_topic(self.topic, PARTITIONS)
        self.properties: dict[str, Any] = {}
        self.addresses = ["memory:9092"]
        #: The clients of the group, newest last; appended by its poll thread.
        self._clients: list[MemoryConsumer] = []

    def client(self, properties: dict[str, Any]) -> MemoryConsumer:
        self._clients.append(MemoryConsumer(self.cluster, properties))
        return self._clients[-1]

    def send(self, values: list[bytes]) -> None:
        producer = self.cluster.producer({})
        for number, value in enumerate(values):
            producer.produce(self.topic, value, partition=number % PARTITIONS)

    def rebalance(self) -> None:
        self.cluster.rebalance(self.group_name)

    def lose(self) -> None:
        with self.cluster.changed:  # a member that has gone meanwhile has nothing to lose
            member = self._clients[-1].member
            if member in self.cluster.group(self.group_name).members:
                self.cluster.lose(self.group_name, member, None)

    def blink(self) -> None:
        """The cluster is away for a moment."""
        self.cluster.down()
        self.cluster.up()

    def committed(self) -> dict[int, int]:
        return dict(self.cluster.committed(self.group_name, self.topic))

    def end(self) -> None:
        """Nothing is left to end."""


class Embedded:
    """Groups on one embedded broker for all; a rebalance is a second member that comes and goes."""

    cluster: EmbeddedCluster | None = None

    def __init__(self, number: int) -> None:
        if Embedded.cluster is None:
            Embedded.cluster = EmbeddedCluster()
        self._kafka = Embedded.cluster
        self.topic, self.group_name = f"topic-{number}", f"group-{number}"
        self._kafka.create_topic(self.topic, PARTITIONS)
        self.properties: dict[str, Any] = {
            "group.protocol": "consumer",
            "fetch.wait.max.ms": 10,
            "reconnect.backoff.ms": 10,
            "reconnect.backoff.max.ms": 50,
            "log_level": 0,
        }
        self.addresses = self._kafka.broker_addrs
        self._others: list[confluent_kafka.Consumer] = []
        self._lock = threading.Lock()  # guards the list

    client = None

    def send(self, values: list[bytes]) -> None:
        producer = confluent_kafka.Producer(
            {"bootstrap.servers": self._kafka.bootstrap_servers, "linger.ms": 0}
        )
        for number, value in enumerate(values):
            producer.produce(self.topic, value, partition=number % PARTITIONS)
        assert producer.flush(BOUND) == 0

    def rebalance(self) -> None:
        other = confluent_kafka.Consumer(
            {
                "bootstrap.servers": self._kafka.bootstrap_servers,
                "group.id": self.group_name,
                "enable.auto.commit": False,
                **self.properties,
            }
        )
        other.subscribe([self.topic])
        until = time.monotonic() + 0.3
        while not other.assignment() and time.monotonic() < until:
            other.poll(0.01)
        # See Poller._leave for why: librdkafka may hang in a close that has rebalances to serve.
        other.unsubscribe()
        while other.assignment():
            other.poll(0.01)
        other.close()

    def lose(self) -> None:
        self._kafka.inject_errors("ConsumerGroupHeartbeat", "FENCED_MEMBER_EPOCH")

    def blink(self) -> None:
        """Requests are answered with a disconnect."""
        self._kafka.inject_errors("OffsetCommit", "COORDINATOR_NOT_AVAILABLE")

    def committed(self) -> dict[int, int]:
        found = {p: committed_offset(self._kafka, self.group_name, self.topic, p) for p in range(PARTITIONS)}
        return {partition: offset for partition, offset in found.items() if offset is not None}

    def end(self) -> None:
        """What no request has met must not meet the next group."""
        for request in ("ConsumerGroupHeartbeat", "OffsetCommit"):
            self._kafka.clear_errors(request)


@dataclass
class Sequence:
    """One group, what is done to it, and what came of it."""

    seed: int
    kind: Callable[[int], Any] = InMemory
    calls: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def run(self) -> list[str]:
        """Do it all; what was wrong, one sentence each."""
        chance = random.Random(self.seed)
        self._handled: dict[int, set[int]] = defaultdict(set)
        self._lock = threading.Lock()  # guards what was handled, and the problems
        self.kafka = self.kind(self.seed)
        durable = chance.random() < 0.25
        config = ConsumerGroupConfig(
            self.kafka.addresses,
            self.kafka.topic,
            self.kafka.group_name,
            num_workers=chance.choice([1, 2, 4]),
            batch_size=chance.choice([1, 4, 100]),
            batch_wait_time=chance.choice([0.001, 0.05]),
            ordering=chance.choice(list(Ordering)),
            commit_interval=0.0 if durable else chance.choice([0.001, 0.05]),
            message_consume_timeout=CONSUME_TIMEOUT,
            min_retry_period=0.01,
            max_retry_period=0.02,
            librdkafka=self.kafka.properties,
        )
        more = {} if self.kafka.client is None else {"client_factory": self.kafka.client}
        self.group = ConsumerGroup(config, **more)
        self._how = chance.choice(["handler", "handler", "batch", "upstream", "nobody"])
        self._seconds = chance.choice([0.0, 0.0, 0.002, 0.02])
        self._fails = chance.random() < 0.3
        if self._how == "handler":
            self.group.register_handler(self._handle)
        elif self._how == "batch":
            self.group.register_batch_handler(self._handle_batch)
        reader = threading.Thread(target=self._read, name=f"test:reader-{self.seed}")
        if self._how == "upstream":
            reader.start()
        self.kafka.send([b"%d" % number for number in range(MESSAGES)])
        seeds = [chance.random() for _ in range(ACTORS)]
        actors = [
            threading.Thread(target=self._act, args=(random.Random(seed),), name=f"test:actor-{self.seed}")
            for seed in seeds
        ]
        for actor in actors:
            actor.start()
        for actor in actors:
            actor.join(BOUND * CALLS_EACH)
            if actor.is_alive():
                self.problems.append(f"{actor.name} did not come back")
        self._call("close", lambda: self.group.close(timeout=BOUND / 2), BOUND / 2)
        if reader.ident is not None:
            reader.join(BOUND)
        self.kafka.end()
        self._judge()
        return [f"seed {self.seed}: {problem}" for problem in self.problems]

    # -- handlers -----------------------------------------------------------------------------------

    def _handle(self, _worker: int, message: Message) -> None:
        self._handle_batch([message])

    def _handle_batch(self, batch: list[Message]) -> None:
        if self._seconds:
            threading.Event().wait(self._seconds)
        with self._lock:
            for message in batch:
                self._handled[message.partition].add(message.offset)
        if self._fails and batch[0].offset % 5 == 0:
            raise ValueError("now and then")

    def _read(self) -> None:
        while True:
            try:
                message = self.group.channels.upstream.get(timeout=0.05)
            except Empty:
                continue
            except ChannelClosed:
                return
            with self._lock:
                self._handled[message.partition].add(message.offset)
            message.commit_and_release()

    # -- calls --------------------------------------------------------------------------------------

    def _act(self, chance: random.Random) -> None:
        group, kafka = self.group, self.kafka
        for _ in range(chance.randint(1, CALLS_EACH)):
            timeout = chance.choice([0.0, 0.01, 0.3])
            calls: dict[str, tuple[int, Callable[[], object], float]] = {
                "start": (6, group.start, 0),
                "stop": (4, group.stop, 0),
                "stop_and_wait": (3, group.stop_and_wait, CONSUME_TIMEOUT),
                "stop_and_wait, bounded": (3, lambda: group.stop_and_wait(timeout), timeout),  # noqa: B023
                "consume": (2, lambda: group.channels.consume.put(chance.random() < 0.7), 0),
                "health": (2, lambda: group.on_health_update(chance.choice([Status.OK, Status.WARNING])), 0),
                "state_wait": (2, lambda: group.state_wait(State.CONSUMING, timeout), timeout),  # noqa: B023
                "rebalance": (3, kafka.rebalance, CONSUME_TIMEOUT),
                "lose": (1, kafka.lose, 0),
                "blink": (1, kafka.blink, 0),
                "initialise": (1, group.initialise, 0),
                "close": (1, lambda: group.close(lambda: None), CONSUME_TIMEOUT),
                "close, bounded": (1, lambda: group.close(timeout=timeout), timeout),  # noqa: B023
                "close, by signal": (1, group.channels.closer.set, 0),
            }
            name = chance.choices(list(calls), [weight for weight, _, _ in calls.values()])[0]
            self._call(name, *calls[name][1:])

    def _call(self, name: str, call: Callable[[], object], seconds: float) -> None:
        with self._lock:
            self.calls[name] += 1
        began = time.monotonic()
        try:
            call()
        except DpKafkaError:
            pass  # ClosedError, mostly: the group may be closed at any time
        except BaseException as error:
            self._problem(f"{name} raised {error!r}")
        took = time.monotonic() - began
        if took > seconds + BOUND:
            self._problem(f"{name} took {took:.1f} seconds, of at most {seconds:.1f}")

    def _problem(self, text: str) -> None:
        with self._lock:
            self.problems.append(text)

    # -- what came of it ------------------------------------------------------------------------------

    def _judge(self) -> None:
        group = self.group
        if not group.channels.closed.wait(BOUND):
            self._problem("it is not closed")
        if group.state is not State.CLOSING:
            self._problem(f"it is closed, and {group.state}")
        until = time.monotonic() + BOUND
        threads = [group._poller, group._closer, *group._context.workers]
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
            if thread.is_alive():
                self._problem(f"{thread.name} is left")
        for thread in group._context.workers:
            if thread.crash is not None:
                self._problem(f"{thread.name} died of {thread.crash!r}")
        if group._context.pulse.crash is not None:
            self._problem(f"the poll thread died of {group._context.pulse.crash!r}")
        for error in list(group.channels.errors.queue):
            if not isinstance(error, (DpKafkaError, ValueError)):
                self._problem(f"{error!r} came on errors")
        for partition, offset in self.kafka.committed().items():
            unhandled = set(range(offset)) - self._handled[partition]
            if unhandled:
                self._problem(f"{offset} is committed of partition {partition} without {sorted(unhandled)}")


def run_all(
    count: int, seed: int, kind: Callable[[int], Any], side_by_side: int = 4
) -> tuple[list[str], Counter[str]]:
    """Run sequences, some of them at the same time; the problems, and how often each call was made."""
    problems: list[str] = []
    calls: Counter[str] = Counter()
    lock = threading.Lock()  # guards both, and the numbers that are left
    left = iter(range(seed * 1_000_000, seed * 1_000_000 + count))

    def work() -> None:
        while True:
            with lock:
                number = next(left, None)
            if number is None:
                return
            sequence = Sequence(number, kind)
            try:
                found = sequence.run()
            except BaseException as error:
                found = [f"seed {number}: the sequence itself raised {error!r}"]
            with lock:
                problems.extend(found)
                calls.update(sequence.calls)

    workers = [threading.Thread(target=work, name="test:sequences") for _ in range(side_by_side)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return problems, calls


def main() -> int:
    """Parse the arguments, run, and report; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.sequences", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--count", type=int, default=5_000, help="how many sequences (5000)")
    parser.add_argument("--seed", type=int, default=1, help="decides what they do (1)")
    parser.add_argument("--side-by-side", type=int, default=4, help="how many at the same time (4)")
    parser.add_argument("--embedded", action="store_true", help="on the embedded broker, not in memory")
    options = parser.parse_args()
    logging.getLogger("dp_kafka").setLevel(logging.CRITICAL)
    faulthandler.dump_traceback_later(options.count * 2 + 120, exit=True)
    began = time.monotonic()
    kind = Embedded if options.embedded else InMemory
    problems, calls = run_all(options.count, options.seed, kind, options.side_by_side)
    faulthandler.cancel_dump_traceback_later()
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith("dp-kafka:")]
    problems += [f"at the end: {name} is left" for name in left]
    for problem in problems:
        print(problem)
    print(f"{options.count} sequences in {time.monotonic() - began:.0f} seconds, {len(problems)} problems")
    print(", ".join(f"{name}: {number}" for name, number in calls.most_common()))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
