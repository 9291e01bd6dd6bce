"""The examples (contract 21), as processes: alone with --embedded, and on a cluster of the test."""

from __future__ import annotations

import itertools
import re
import signal
import time
import uuid
from collections.abc import Callable

import confluent_kafka
import pytest

from dp_kafka import State
from dp_kafka.kafkatest import EmbeddedCluster
from tests.conftest import CommittedFunction, GroupFactory, SendFunction, TopicFactory, committed_offset

from .running import EXAMPLES, PATIENCE, Example

#: Seconds that an example needs beside what its settings say: to start and to end a Python.
OVERHEAD = 3.0

ReadBack = Callable[[str, int], "list[bytes | None]"]


@pytest.fixture
def read_back(cluster: EmbeddedCluster) -> ReadBack:
    """Reads a topic's first messages with a plain client: `read_back(topic, 3)`."""

    def read(topic: str, count: int) -> list[bytes | None]:
        client = confluent_kafka.Consumer(
            {
                "bootstrap.servers": cluster.bootstrap_servers,
                "group.id": f"read-{uuid.uuid4().hex}",
                "auto.offset.reset": "earliest",
            }
        )
        try:
            client.subscribe([topic])
            values: list[bytes | None] = []
            until = time.monotonic() + PATIENCE
            while len(values) < count and time.monotonic() < until:
                values += [message.value() for message in client.consume(count - len(values), 0.2)]
            return values
        finally:
            client.close()

    return read


def consumer_variables(cluster: EmbeddedCluster, topic: str, **more: str) -> dict[str, str]:
    return {
        "KAFKA_ADDR": cluster.bootstrap_servers,
        "KAFKA_CONSUMED_TOPIC": topic,
        "KAFKA_CONSUMED_GROUP": f"group-{uuid.uuid4().hex[:12]}",
        **more,
    }


# -- the producer -----------------------------------------------------------------------------------


def test_the_producer_alone_shows_what_arrived_in_order_and_ends_at_the_end_of_its_input() -> None:
    with Example("producer.py", "--embedded") as example:
        example.feed(b"one\ntwo\nthree", and_close=True)
        assert example.wait() == 0
    shown = [line.partition(": ")[2] for line in example.output if line.startswith("arrived")]
    assert sorted(shown) == ["b'one\\n'", "b'three'", "b'two\\n'"]
    assert example.output[-1] == "delivered 3 messages to myTopic"


@pytest.mark.parametrize(
    ("chomp", "values"),
    [
        ("false", [b"one\n", b"\n", "zwölf\r\n".encode(), b"last"]),
        ("true", [b"one", b"", "zwölf".encode(), b"last"]),
    ],
)
def test_21_3_each_line_of_stdin_is_a_message_and_chomp_msg_strips_its_end(
    chomp: str, values: list[bytes], cluster: EmbeddedCluster, topic: TopicFactory, read_back: ReadBack
) -> None:
    """Contract 21.3: each line is a message; also the last, which has no newline."""
    name = topic()
    variables = {"KAFKA_PRODUCED_TOPIC": name, "CHOMP_MSG": chomp}
    with Example("producer.py", KAFKA_ADDR=cluster.bootstrap_servers, **variables) as example:
        example.feed("one\n\nzwölf\r\nlast".encode(), and_close=True)
        assert example.wait() == 0
    assert read_back(name, 4) == values
    assert example.output == [f"delivered 4 messages to {name}"]


def test_the_producer_sends_lines_that_are_longer_than_one_read(
    cluster: EmbeddedCluster, topic: TopicFactory, read_back: ReadBack
) -> None:
    name = topic()
    lines = [b"a" * 300_000 + b"\n", b"b\n", b"c" * 70_000]
    with Example("producer.py", KAFKA_ADDR=cluster.bootstrap_servers, KAFKA_PRODUCED_TOPIC=name) as example:
        example.feed(b"".join(lines), and_close=True)
        assert example.wait() == 0
    assert read_back(name, 3) == lines


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_producer_after_what_it_has_read_is_delivered(
    number: int, cluster: EmbeddedCluster, topic: TopicFactory, read_back: ReadBack
) -> None:
    """Contract 21.5: while its input is still open."""
    name = topic()
    with Example("producer.py", KAFKA_ADDR=cluster.bootstrap_servers, KAFKA_PRODUCED_TOPIC=name) as example:
        example.feed(b"one\ntwo\n")
        assert read_back(name, 2) == [b"one\n", b"two\n"]
        assert example.end(number, within=5.0 + OVERHEAD) == 0
    assert example.output == [f"delivered 2 messages to {name}"]


def test_21_3_the_producer_waits_for_a_broker_before_it_reads(own_cluster: EmbeddedCluster) -> None:
    """Contract 21.3: KAFKA_WAIT_PRODUCER_READY, which the original never reads."""
    own_cluster.create_topic("late")
    own_cluster.broker_down(1)
    variables = {"KAFKA_ADDR": own_cluster.bootstrap_servers, "KAFKA_PRODUCED_TOPIC": "late"}
    with Example("producer.py", **variables) as example:
        example.feed(b"one\n", and_close=True)
        example.expect_log("waiting for a broker")
        own_cluster.broker_up(1)
        assert example.wait() == 0
    assert example.output == ["delivered 1 messages to late"]


def test_a_line_that_the_producer_has_not_read_is_not_lost(own_cluster: EmbeddedCluster) -> None:
    """A signal while it waits for a broker: nothing was left undone."""
    own_cluster.broker_down(1)
    with Example("producer.py", KAFKA_ADDR=own_cluster.bootstrap_servers) as example:
        example.feed(b"one\n")
        example.expect_log("waiting for a broker")
        assert example.end(within=5.0 + OVERHEAD) == 0


def test_the_producer_says_when_a_signal_left_something_unsent(own_cluster: EmbeddedCluster) -> None:
    """It has read lines, and no broker came: it ends within its limit, and the exit code is 1."""
    own_cluster.broker_down(1)
    variables = {"KAFKA_ADDR": own_cluster.bootstrap_servers, "KAFKA_WAIT_PRODUCER_READY": "false"}
    with Example("producer.py", GRACEFUL_SHUTDOWN_TIMEOUT="1s", **variables) as example:
        example.feed(b"one\n" * 25_000)  # more than a pipe holds: this returns when some of it was read
        assert example.end(within=1.0 + OVERHEAD) == 1
    assert any("not initialised" in line for line in example.log)


def test_21_1_a_line_larger_than_kafka_max_bytes_fails_alone(
    cluster: EmbeddedCluster, topic: TopicFactory, read_back: ReadBack
) -> None:
    """Contract 21.1: the error names the limit; the exit code tells of it."""
    name = topic()
    variables = {"KAFKA_PRODUCED_TOPIC": name, "KAFKA_MAX_BYTES": "5000"}
    with Example("producer.py", KAFKA_ADDR=cluster.bootstrap_servers, **variables) as example:
        example.feed(b"small\n" + b"x" * 6000 + b"\nlast\n", and_close=True)
        assert example.wait() == 1
    assert read_back(name, 2) == [b"small\n", b"last\n"]
    assert any("limit of 5000 bytes" in line for line in example.log)
    assert not any("xxx" in line for line in example.log)


# -- the consumers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("name", ["consumer.py", "consumer_batch.py"])
def test_a_consumer_alone_handles_its_own_messages_until_a_signal(name: str, number: int) -> None:
    with Example(name, "--embedded", SNOOZE="false", KAFKA_BATCH_SIZE="10") as example:
        for _ in range(10 if name == "consumer.py" else 1):
            example.expect_log("is done")
        assert example.end(number, within=5.0 + OVERHEAD) == 0
    assert "handled 10 messages" in example.log[-1]


def test_21_5_sigterm_in_the_middle_of_handlers_lets_them_finish_and_commits(
    cluster: EmbeddedCluster, topic: TopicFactory, send: SendFunction
) -> None:
    """Contract 21.2 and 21.5: with three at work, for 500 ms each (SNOOZE), it ends with 0 in time."""
    name = topic(partitions=3)
    for partition in range(3):
        send(name, *(f"m{number}" for number in range(5)), partition=partition)
    variables = consumer_variables(cluster, name)
    with Example("consumer.py", **variables) as example:
        started = {example.expect_log(r"handles partition (\d), offset 0")[1] for _ in range(3)}
        assert started == {"0", "1", "2"}
        assert example.end(within=5.0 + OVERHEAD) == 0
    handled = [line for line in example.log if "handles" in line]
    done = [line for line in example.log if "is done with" in line]
    assert len(handled) == len(done) >= 3
    for partition in range(3):
        finished = sum(f"partition {partition}," in line for line in done)
        group = variables["KAFKA_CONSUMED_GROUP"]
        assert committed_offset(cluster, group, name, partition) == finished


def test_21_2_oversleep_outlasts_the_shutdown_and_the_exit_code_tells(
    cluster: EmbeddedCluster, topic: TopicFactory, send: SendFunction, committed: CommittedFunction
) -> None:
    """Contract 21.2 and 21.5: the process ends by its limit all the same, and commits nothing unfinished."""
    name = topic()
    send(name, "never finished")
    variables = consumer_variables(cluster, name, OVERSLEEP="true", GRACEFUL_SHUTDOWN_TIMEOUT="500ms")
    with Example("consumer.py", **variables) as example:
        example.expect_log("handles partition 0, offset 0")
        assert example.end(within=0.5 + 2.0) == 1
    assert not any("is done" in line for line in example.log)
    assert committed(variables["KAFKA_CONSUMED_GROUP"], name) is None


@pytest.mark.parametrize("in_hand", ["whole", "part"])
def test_21_5_sigterm_lets_a_batch_finish_and_handles_a_part_of_one(
    in_hand: str,
    cluster: EmbeddedCluster,
    topic: TopicFactory,
    send: SendFunction,
    committed: CommittedFunction,
) -> None:
    """Contract 21.2 and 21.5: in the middle of a batch of three; and while a batch of ten has only five."""
    name = topic()
    send(name, *(f"m{number}" for number in range(5)))
    size, wait = ("3", "1s") if in_hand == "whole" else ("10", "10m")
    variables = consumer_variables(cluster, name, KAFKA_BATCH_SIZE=size, KAFKA_BATCH_WAIT_TIME=wait)
    with Example("consumer_batch.py", **variables) as example:
        if in_hand == "whole":
            example.expect_log("handles batch 1 .*: 0/0, 0/1, 0/2$")
        else:
            example.expect_log("partitions assigned")
        assert example.end(within=5.0 + OVERHEAD) == 0
    done = sum("is done with" in line for line in example.log)
    assert done == sum("handles batch" in line for line in example.log)
    handled = _handled(example)
    assert (committed(variables["KAFKA_CONSUMED_GROUP"], name) or 0) == handled
    assert handled >= 3 or in_hand == "part"


@pytest.mark.parametrize("name", ["consumer.py", "consumer_batch.py", "producer.py"])
def test_a_wrong_variable_is_named_and_no_stack_is_shown(name: str) -> None:
    with Example(name, KAFKA_BATCH_SIZE="many") as example:
        assert example.wait() == 1
    assert len(example.log) == 1
    assert "KAFKA_BATCH_SIZE" in example.log[0]


@pytest.mark.parametrize("name", ["consumer.py", "consumer_batch.py"])
def test_21_2_log_quiet_prints_no_line_for_each_message(
    name: str, cluster: EmbeddedCluster, topic: TopicFactory, send: SendFunction, committed: CommittedFunction
) -> None:
    """Contract 21.2: LOG_QUIET."""
    topic_name = topic()
    send(topic_name, "a", "b", "c")
    variables = consumer_variables(cluster, topic_name, LOG_QUIET="true", SNOOZE="false")
    with Example(name, **variables) as example:
        _until(lambda: committed(variables["KAFKA_CONSUMED_GROUP"], topic_name) == 3)
        assert example.end() == 0
    assert not any("handles" in line or "is done" in line for line in example.log)
    assert _handled(example) == 3


def test_21_4_start_stop_turns_a_consumer_after_four_and_two_checks(
    monkeypatch: pytest.MonkeyPatch, topic: TopicFactory, consumer_group: GroupFactory
) -> None:
    """Contract 21.4: stop after four checks consuming, start after two stopped."""
    monkeypatch.syspath_prepend(EXAMPLES)
    from _graceful import StartStop

    # With the classic protocol the embedded broker lets a group in again only after its session timeout.
    group = consumer_group(topic(), librdkafka={"group.protocol": "consumer"})
    group.register_handler(lambda worker_id, message: None)
    group.start()
    cycle = StartStop()
    for _ in range(2):
        assert group.state_wait(State.CONSUMING, PATIENCE)
        for _ in range(4):
            assert group.state is State.CONSUMING
            cycle.check(group)
        assert group.state_wait(State.STOPPED, PATIENCE)
        for _ in range(2):
            assert group.state is State.STOPPED
            cycle.check(group)


def _handled(example: Example) -> int:
    """How many messages it says that it has handled, in its last line."""
    found = re.search(r"handled (\d+) messages", example.log[-1])
    assert found is not None, example.log
    return int(found[1])


def _until(is_so: Callable[[], bool]) -> None:
    """Ask until it is so; each question is a round trip to the broker, so this is no busy loop."""
    until = time.monotonic() + PATIENCE
    for _ in itertools.takewhile(lambda _: not is_so(), itertools.count()):
        assert time.monotonic() < until, "it never came to be so"
