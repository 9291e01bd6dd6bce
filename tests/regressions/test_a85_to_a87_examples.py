"""Defects A85 to A87, of the original's examples: loops that spin, lines that are lost, wrong pages."""

from __future__ import annotations

import importlib
import re
import signal
import sys
import threading
import time
import types
from collections.abc import Iterator

import pytest

from dp_kafka import ConsumerGroup, KafkaSettings, Message, State
from dp_kafka.config.rdkafka import consumer_properties
from dp_kafka.kafkatest import EmbeddedCluster
from dp_kafka.shutdown import SignalEvent
from tests.conftest import CommittedFunction, GroupFactory, SendFunction, TopicFactory
from tests.examples.running import EXAMPLES, PATIENCE, Example


@pytest.fixture
def examples(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.SimpleNamespace]:
    """The modules of examples/, as they import each other; afterwards signals are the test's own again."""
    monkeypatch.syspath_prepend(EXAMPLES)
    names = ["_graceful", "_embedded", "consumer", "consumer_batch", "producer"]
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield types.SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    for number, handler in handlers.items():
        signal.signal(number, handler)
    for name in names:
        sys.modules.pop(name)


# -- A85 ----------------------------------------------------------------------------------------------


def test_a85_the_settings_of_the_environment_are_those_that_an_example_uses(
    cluster: EmbeddedCluster, topic: TopicFactory, send: SendFunction, committed: CommittedFunction
) -> None:
    """The original kept its configuration in a shadowed variable, and read it anew each time."""
    name = topic()
    send(name, "a", "b")
    variables = {
        "KAFKA_ADDR": cluster.bootstrap_servers,
        "KAFKA_CONSUMED_TOPIC": name,
        "KAFKA_CONSUMED_GROUP": f"group-of-{name}",
        "SNOOZE": "false",
    }
    with Example("consumer.py", **variables) as example:
        example.expect_log("is done with partition 0, offset 1")
        assert example.end() == 0
    assert committed(f"group-of-{name}", name) == 2


def test_a85_kafka_max_bytes_reaches_the_consumer() -> None:
    settings = KafkaSettings.from_env({"KAFKA_MAX_BYTES": "200000000"})
    assert consumer_properties(settings.consumer_config())["receive.message.max.bytes"] > 200_000_000


def test_a85_a_consumer_that_has_closed_ends_the_loop_of_its_service(
    examples: types.SimpleNamespace, topic: TopicFactory, send: SendFunction, consumer_group: GroupFactory
) -> None:
    """The original's ticker and its start-stop loop went on for ever, and turned as fast as they could."""
    name = topic()
    send(name, "the message that closes the group")
    group = consumer_group(name)
    group.register_handler(lambda worker_id, message: group.channels.closer.set())
    began = time.monotonic()
    assert examples._graceful.serve(group, KafkaSettings(), SignalEvent()) == 1
    assert group.channels.closed.is_set()
    assert time.monotonic() - began < PATIENCE


def test_a85_start_stop_leaves_a_closed_consumer_alone(
    examples: types.SimpleNamespace, topic: TopicFactory, consumer_group: GroupFactory
) -> None:
    group: ConsumerGroup = consumer_group(topic())
    group.close(timeout=PATIENCE)
    cycle = examples._graceful.StartStop()
    for _ in range(10):
        cycle.check(group)
    assert group.state is State.CLOSING


def test_a85_the_count_of_handled_messages_is_right_with_several_workers(
    examples: types.SimpleNamespace, topic: TopicFactory, send: SendFunction, consumer_group: GroupFactory
) -> None:
    """A worker that counts while another one is in the middle of counting must not undo its count."""
    handler = examples.consumer.Handler(KafkaSettings(snooze=False, log_quiet=True))
    seen: list[Message] = []
    received = threading.Event()

    def keep(worker_id: int, message: Message) -> None:
        seen.append(message)
        received.set()

    name = topic()
    send(name, "counted twice")
    group = consumer_group(name)
    group.register_handler(keep)
    group.start()
    assert received.wait(PATIENCE)
    others: list[threading.Thread] = []

    class Slow(int):
        """A number to which another worker also adds, in the middle of an addition."""

        def __add__(self, other: int) -> int:
            if not others:
                others.append(threading.Thread(target=handler, args=(2, seen[0])))
                others[0].start()
                others[0].join(0.3)  # it ends in this time, unless it is made to wait for its turn
            return int(self) + other

    handler.handled = Slow(0)
    handler(1, seen[0])
    others[0].join(PATIENCE)
    assert handler.handled == 2


# -- A86 ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [b"only", b"one\nlast", b"one\ntwo\n"])
def test_a86_the_producer_ends_by_itself_and_loses_no_last_line(
    text: bytes, cluster: EmbeddedCluster, topic: TopicFactory, send: SendFunction
) -> None:
    """The original lost a line without a newline, and waited for a signal after the end of its input."""
    lines = text.splitlines(keepends=True)
    name = topic()
    with Example("producer.py", KAFKA_ADDR=cluster.bootstrap_servers, KAFKA_PRODUCED_TOPIC=name) as example:
        example.feed(text, and_close=True)
        assert example.wait() == 0
    assert example.output == [f"delivered {len(lines)} messages to {name}"]


def test_a86_undelivered_lines_are_no_success(cluster: EmbeddedCluster, topic: TopicFactory) -> None:
    """The original closed twice under a context that had ended, and reported success."""
    variables = {"KAFKA_PRODUCED_TOPIC": topic(), "KAFKA_MAX_BYTES": "1000"}
    with Example("producer.py", KAFKA_ADDR=cluster.bootstrap_servers, **variables) as example:
        example.feed(b"x" * 2000, and_close=True)
        assert example.wait() == 1
    assert "delivered 0 messages" in example.output[-1]


# -- A87 ----------------------------------------------------------------------------------------------


def test_a87_the_page_names_the_variables_that_are_read_and_no_others() -> None:
    page = (EXAMPLES / "README.md").read_text()
    in_tables = set(re.findall(r"^\| `([A-Z_]+)` \|", page, flags=re.MULTILINE))
    read = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b|\bSNOOZE\b|\bOVERSLEEP\b", KafkaSettings.__doc__ or ""))
    assert in_tables == read


def test_a87_the_page_tells_the_defaults_that_are_true() -> None:
    page = (EXAMPLES / "README.md").read_text()
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| ([^|]+?) \|", page, flags=re.MULTILINE))
    rows = {variable: default for variable, default in rows.items() if default != "the system's"}
    assert KafkaSettings.from_env(rows) == KafkaSettings()


def test_a87_the_page_names_the_files_that_there_are() -> None:
    page = (EXAMPLES / "README.md").read_text()
    named = set(re.findall(r"^\| `(\S+\.py)` \|", page, flags=re.MULTILINE))
    assert named == {path.name for path in EXAMPLES.glob("*.py")}


def test_a87_oversleep_is_two_seconds_longer_than_a_shutdown_waits(
    examples: types.SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the page says; the original's comment said half a second."""
    settings = KafkaSettings(snooze=False, oversleep=True, graceful_shutdown_timeout=0.1)
    slept: list[float] = []
    monkeypatch.setattr(examples._graceful, "time", types.SimpleNamespace(sleep=slept.append))
    examples._graceful.work(settings)
    assert slept == [pytest.approx(2.1)]
    assert "2 s longer" in (EXAMPLES / "README.md").read_text()
