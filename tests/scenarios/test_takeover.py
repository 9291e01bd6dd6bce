"""A service that is told to end hands over to the next: what is in hand is finished, and not replayed."""

from __future__ import annotations

import re
import signal
from collections import Counter
from pathlib import Path

import pytest

from dp_kafka import Producer, ProducerConfig
from tests.examples.running import EXAMPLES, Example
from tests.scenarios.conftest import Kafka
from tests.sending import ready

PARTITIONS = 3
EACH = 2
#: Seconds that each handler takes.
WORK = 2.0
#: Seconds that the service has to end in, as its default is, and what a Python needs beside.
GRACEFUL, OVERHEAD = 5.0, 3.0

#: The example as it is, but for how long its work takes.
SLOW = f"""
import runpy, sys, time
sys.path.insert(0, {str(EXAMPLES)!r})
import _graceful
_graceful.work = lambda settings: time.sleep({WORK})
runpy.run_path({str(EXAMPLES / "consumer.py")!r}, run_name="__main__")
"""


def numbers(example: Example, what: str) -> Counter[tuple[int, int]]:
    """Partition and offset of each message of which the log says that the service `what`."""
    lines = (re.search(rf"{what} partition (\d+), offset (\d+)", line) for line in example.log)
    return Counter((int(found[1]), int(found[2])) for found in lines if found)


@pytest.mark.parametrize("kafka", [pytest.param("apache", marks=[pytest.mark.kafka])], indirect=True)
@pytest.mark.timeout(240)
def test_sigterm_finishes_what_is_in_hand_and_the_next_service_goes_on_from_there(
    kafka: Kafka, tmp_path: Path
) -> None:
    """examples/consumer.py with handlers of two seconds, three of them at work when the signal comes."""
    topic = kafka.create_topic(PARTITIONS)
    with ready(Producer(ProducerConfig(kafka.broker_addrs, topic))) as producer:
        for number in range(PARTITIONS * EACH):
            producer.send_bytes(b"%d" % number, partition=number % PARTITIONS)
    program = tmp_path / "slow_consumer.py"
    program.write_text(SLOW)
    variables = {
        "KAFKA_ADDR": ",".join(kafka.broker_addrs),
        "KAFKA_CONSUMED_TOPIC": topic,
        "KAFKA_CONSUMED_GROUP": topic,
        "KAFKA_PARALLEL_MESSAGES": str(PARTITIONS),
    }
    with Example(str(program), **variables) as first:
        for _ in range(PARTITIONS):
            first.expect_log(r"handles partition")
        assert first.end(signal.SIGTERM, within=GRACEFUL + OVERHEAD) == 0
    begun, done = numbers(first, "handles"), numbers(first, "is done with")
    assert begun == done
    assert set(done) == {(partition, 0) for partition in range(PARTITIONS)}
    assert kafka.committed(topic, PARTITIONS) == dict.fromkeys(range(PARTITIONS), 1)
    with Example(str(program), **variables) as second:
        # At once: the first one has left the group, so nobody waits for its session to time out.
        for _ in range(PARTITIONS * (EACH - 1)):
            second.expect_log(r"is done with")
        assert second.end(signal.SIGTERM, within=GRACEFUL + OVERHEAD) == 0
    assert numbers(first, "is done with") + numbers(second, "is done with") == Counter(
        {(partition, offset): 1 for partition in range(PARTITIONS) for offset in range(EACH)}
    )
    assert kafka.committed(topic, PARTITIONS) == kafka.ends(topic, PARTITIONS)
