"""Two hundred times started and stopped, opened and closed: nothing is left behind, and nothing hangs."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from dp_kafka import ConsumerGroup, ConsumerGroupConfig, Producer, ProducerConfig, State
from dp_kafka.kafkatest import EmbeddedCluster
from tests.conftest import INCREMENTAL, committed_offset
from tests.looking import eventually
from tests.sending import PLAIN, ready
from tests.waiting import PATIENCE, Collected

CYCLES = 200
#: After so many cycles whatever is made once has been made, by librdkafka and by the broker in this process.
WARM = 20

pytestmark = [pytest.mark.timeout(300), pytest.mark.early]


def files() -> int:
    """How many file descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))


def native_threads() -> int:
    """How many threads this process has, those of librdkafka too."""
    return len(list(Path("/proc/self/task").iterdir()))


class Leftovers:
    """What was there once warm; at the end no more of it may be."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self.count = 0
        self._files = self._threads = 0

    def cycle_done(self) -> None:
        self.count += 1
        if self.count == WARM:
            self._files, self._threads = files(), native_threads()

    def check(self) -> None:
        """The broker in this process closes its ends of connections a little later, hence eventually."""
        assert self.count == CYCLES
        eventually(lambda: files() <= self._files)
        eventually(lambda: native_threads() <= self._threads)

    def threads(self) -> list[str]:
        """This library's threads of the topic that run now."""
        return sorted(each.name for each in threading.enumerate() if each.name.endswith(f":{self._topic}"))


def test_two_hundred_starts_and_stops(own_cluster: EmbeddedCluster) -> None:
    """Each cycle handles a message, once, and has its offset on the broker when the stop returns."""
    own_cluster.create_topic("cycles")
    handled: Collected[int] = Collected()
    config = ConsumerGroupConfig(own_cluster.broker_addrs, "cycles", "cycles", librdkafka=INCREMENTAL)
    leftovers = Leftovers("cycles")
    with (
        ConsumerGroup(config) as group,
        ready(Producer(ProducerConfig(own_cluster.broker_addrs, "cycles", librdkafka=PLAIN))) as producer,
    ):
        group.register_handler(lambda _worker_id, message: handled.add(message.offset))
        assert producer.channels.initialised.wait(PATIENCE)
        assert group.channels.initialised.wait(PATIENCE)
        running = leftovers.threads()
        for cycle in range(1, CYCLES + 1):
            group.start()
            producer.send_bytes(b"%d" % cycle)
            handled.wait(cycle)
            assert group.stop_and_wait(PATIENCE)
            assert group.state is State.STOPPED
            assert leftovers.threads() == running
            leftovers.cycle_done()
            if cycle % 50 == 0:
                assert committed_offset(own_cluster, "cycles", "cycles") == cycle
        assert handled.items == list(range(CYCLES))
        leftovers.check()
    assert [name for name in leftovers.threads() if "close" not in name] == []


def test_two_hundred_clients_opened_and_closed(own_cluster: EmbeddedCluster) -> None:
    """A producer and a consumer group, both in use; each second one is closed while it consumes."""
    own_cluster.create_topic("cycles")
    leftovers = Leftovers("cycles")
    config = ConsumerGroupConfig(
        own_cluster.broker_addrs, "cycles", "cycles", num_workers=2, librdkafka=INCREMENTAL
    )
    handled: Collected[int] = Collected()
    for cycle in range(1, CYCLES + 1):
        group = ConsumerGroup(config)
        producer = ready(Producer(ProducerConfig(own_cluster.broker_addrs, "cycles", librdkafka=PLAIN)))
        group.register_handler(lambda _worker_id, message: handled.add(message.offset))
        group.log_errors()
        producer.log_errors()
        if cycle % 2:
            group.start()
            assert producer.channels.initialised.wait(PATIENCE)
            producer.send_bytes(b"v")
            handled.wait((cycle + 1) // 2)
        assert producer.close(timeout=PATIENCE) == 0
        assert group.close(timeout=PATIENCE) == 0
        assert [name for name in leftovers.threads() if "close" not in name] == []
        del group, producer
        leftovers.cycle_done()
    assert handled.items == list(range(CYCLES // 2))
    assert committed_offset(own_cluster, "cycles", "cycles") == CYCLES // 2
    leftovers.check()
