"""The end of a process that closes nothing: it ends all the same, whatever its threads and its brokers do."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import IO

import confluent_kafka
import pytest

from dp_kafka.kafkatest import EmbeddedCluster
from tests.unreachable import dead_address
from tests.waiting import PATIENCE

#: Seconds in which a process has to be gone once its main thread is done: producers get five to deliver.
BOUND = 12.0

PROGRAM = """
import logging, sys, threading
from dp_kafka import BytesMessage, ConsumerGroup, ConsumerGroupConfig, Producer, ProducerConfig
logging.disable(logging.CRITICAL)
address, case = sys.argv[1:]
entered = threading.Event()
fast = {"reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 50}
group = ConsumerGroup(ConsumerGroupConfig(
    [address], "exits", case.replace(" ", "-"), commit_interval=0.0 if "durable" in case else 0.05,
    message_consume_timeout=3.1, batch_size=10, librdkafka={"group.protocol": "consumer", **fast},
))
producer = Producer(ProducerConfig([address], "exits", min_brokers_healthy=1, librdkafka=fast))

def handler(*_):
    entered.set()
    if "handler" in case:
        threading.Event().wait()

if "batch" in case:
    group.register_batch_handler(handler)
else:
    group.register_handler(handler)
group.log_errors()
group.start()
if "dead" not in case:
    assert entered.wait(20)
print("ready", flush=True)
sys.stdin.readline()
if "closing" in case:
    threading.Thread(target=group.close, daemon=True).start()
if "close" in case.split():
    print("left", group.close(timeout=0.3), flush=True)
if "send" in case:
    producer.send_bytes(b"never arrives")
"""


@pytest.mark.parametrize(
    "case",
    [
        "consuming",
        "handler at work",
        "batch handler at work",
        "handler at work, closing",
        "handler at work, then close in no time",
        "brokers die",
        "brokers die, handler at work",
        "brokers die with a durable commit",
        "brokers die, send",
    ],
)
def test_a_process_that_closes_nothing_ends(own_cluster: EmbeddedCluster, case: str) -> None:
    own_cluster.create_topic("exits")
    producer = confluent_kafka.Producer({"bootstrap.servers": own_cluster.bootstrap_servers, "linger.ms": 0})
    producer.produce("exits", b"v")
    assert producer.flush(PATIENCE) == 0
    if "durable" in case:
        own_cluster.inject_errors("OffsetCommit", *["COORDINATOR_LOAD_IN_PROGRESS"] * 1_000)
    ended(own_cluster.broker_addrs[0], case, own_cluster if "brokers die" in case else None)


def test_a_process_that_never_reached_a_broker_ends() -> None:
    with dead_address() as address:
        ended(address, "dead brokers", None)


def ended(address: str, case: str, dies: EmbeddedCluster | None) -> None:
    """Run the program to the end of its main thread, and see it go."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, address, case],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    guard = threading.Timer(3 * PATIENCE, process.kill)
    guard.start()
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", read(process.stderr)
        if dies is not None:
            dies.broker_down(1)
        began = time.monotonic()
        process.stdin.write("\n")
        process.stdin.close()
        assert process.wait(BOUND) == 0, read(process.stderr)
        assert time.monotonic() - began < BOUND
        output = process.stdout.read()
        assert "left 1" in output or "no time" not in case
    finally:
        guard.cancel()
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()


def read(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.read()
