"""Redriving on both kinds of broker, also when the process is killed in the middle."""

from __future__ import annotations

import subprocess
import sys

import confluent_kafka
import pytest

from dp_kafka.processing.deadletter import PREFIX
from dp_kafka.redrive import RedriveConfig, redrive

from .conftest import BROKERS, Kafka

pytestmark = pytest.mark.parametrize("kafka", BROKERS, indirect=True)

#: A killed member is waited for until its session ends.
TIMEOUT = 60.0
#: A join that the embedded broker forgot, as the process stood still, is asked for again soon and not after
#: five minutes.
QUICK = {"max.poll.interval.ms": 10_000}
LETTERS = 5_000
PARTITIONS = 2


def fill(kafka: Kafka, dead: str, original: str) -> None:
    """Dead letters of messages from both partitions of the original topic, numbered."""
    producer = confluent_kafka.Producer({"bootstrap.servers": ",".join(kafka.broker_addrs)})
    for number in range(LETTERS):
        partition = number % PARTITIONS
        headers = {PREFIX + "topic": original, PREFIX + "partition": str(partition), "own": "1"}
        producer.produce(dead, str(number), key="k", partition=partition, headers=headers)
    assert producer.flush(TIMEOUT) == 0


def values(kafka: Kafka, topic: str) -> dict[int, list[int]]:
    """What lies in each partition, in its order."""
    ends = kafka.ends(topic, PARTITIONS)
    client = kafka.client("looks-only")
    try:
        client.assign([confluent_kafka.TopicPartition(topic, number, 0) for number in ends])
        found: dict[int, list[int]] = {number: [] for number in ends}
        while sum(map(len, found.values())) < sum(ends.values()):
            message = client.poll(TIMEOUT)
            assert message is not None
            assert message.error() is None, message.error()
            assert message.headers() is not None
            assert not any(name.startswith(PREFIX) for name, _ in message.headers() or [])
            found[message.partition()].append(int(message.value() or b""))
        return found
    finally:
        client.close()


def test_all_letters_go_back_once_and_in_order(kafka: Kafka) -> None:
    original, dead = kafka.create_topic(PARTITIONS), kafka.create_topic(PARTITIONS)
    fill(kafka, dead, original)
    result = redrive(RedriveConfig(kafka.broker_addrs, dead, timeout=TIMEOUT))
    assert (result.by_topic, result.left) == ({original: LETTERS}, 0)
    back = values(kafka, original)
    assert back == {number: list(range(number, LETTERS, PARTITIONS)) for number in range(PARTITIONS)}
    assert kafka.committed(dead, PARTITIONS, f"{dead}.redrive") == kafka.ends(dead, PARTITIONS)


_KILLED = """
import sys
from dp_kafka.redrive import RedriveConfig, redrive
addresses, topic = sys.argv[1:]
redrive(
    RedriveConfig(addresses.split(","), topic, timeout=60, librdkafka={"max.poll.interval.ms": 10_000}),
    progress=lambda now: print(now.done, flush=True),
)
"""


@pytest.mark.early
@pytest.mark.timeout(240)
def test_a_redrive_that_is_killed_loses_none(kafka: Kafka) -> None:
    """SIGKILL after some batches: those whose progress is not committed go back again, no other."""
    original, dead = kafka.create_topic(PARTITIONS), kafka.create_topic(PARTITIONS)
    fill(kafka, dead, original)
    command = [sys.executable, "-c", _KILLED, ",".join(kafka.broker_addrs), dead]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert 0 < int(process.stdout.readline()) < LETTERS
        finally:
            process.kill()
    result = redrive(RedriveConfig(kafka.broker_addrs, dead, timeout=TIMEOUT, librdkafka=QUICK))
    assert result.left == 0
    back = values(kafka, original)
    for number, found in back.items():
        assert set(found) == set(range(number, LETTERS, PARTITIONS)), "none is lost"
    twice = sum(map(len, back.values())) - LETTERS
    assert 0 <= twice <= 500, "no more than a batch goes back twice"
