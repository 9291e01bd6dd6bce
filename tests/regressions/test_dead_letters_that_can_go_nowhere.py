"""The producer of dead letters died, and nobody saw it: the partition of the next one stood still for ever.

Each try to send it gave a ClosedError, while the consumer was Consuming and healthy.
"""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from dp_kafka import (
    ClosedError,
    ConsumerGroup,
    ConsumerGroupConfig,
    DeadLetter,
    Message,
    Producer,
    ProducerConfig,
)
from dp_kafka.channels import Signal
from dp_kafka.health import CheckState, Status
from dp_kafka.kafkatest import EmbeddedCluster
from tests.conftest import INCREMENTAL, CommittedFunction, SendFunction, TopicFactory
from tests.sending import Breakable, received
from tests.waiting import PATIENCE, Logged, consuming, fields

DIED = "producer of dead letters died, the consumer closes"


class Letters:
    """Makes the one producer of dead letters of a group, and breaks it."""

    def __init__(self) -> None:
        self.client: Breakable | None = None
        self.producer: Producer | None = None

    def __call__(self, config: ProducerConfig) -> Producer:
        self.producer = Producer(config, client_factory=self._client)
        return self.producer

    def _client(self, properties: dict[str, Any]) -> Breakable:
        self.client = Breakable(properties)
        return self.client

    def die(self) -> None:
        """Have its delivery thread die, and wait until it is dead."""
        assert self.client is not None
        assert self.producer is not None
        self.client.broken.set()
        self.producer._delivery.join(PATIENCE)
        assert not self.producer._delivery.is_alive()


class Mail:
    """A topic, a dead letter topic, and members of one group, which each can be told to lose its producer."""

    def __init__(self, cluster: EmbeddedCluster, topic: TopicFactory) -> None:
        self._cluster = cluster
        self.topic, self.dead, self.group_name = topic(), topic(), f"group-{uuid.uuid4().hex[:12]}"
        self.letters = Letters()
        self.groups: list[ConsumerGroup] = []

    def group(self) -> ConsumerGroup:
        config = ConsumerGroupConfig(
            self._cluster.broker_addrs,
            self.topic,
            self.group_name,
            dead_letter=DeadLetter(self.dead, timeout=1.0),
            librdkafka=INCREMENTAL,
        )
        self.groups.append(ConsumerGroup(config, producer_factory=self.letters))
        return self.groups[-1]


@pytest.fixture
def mail(cluster: EmbeddedCluster, topic: TopicFactory) -> Iterator[Mail]:
    made = Mail(cluster, topic)
    yield made
    for group in made.groups:
        group.close(timeout=PATIENCE)


def check(group: ConsumerGroup) -> tuple[Status, str]:
    state = CheckState("group")
    group.checker(state)
    return state.status, state.message


def test_a_producer_of_dead_letters_that_dies_closes_the_group(mail: Mail, logged: Logged) -> None:
    """Before a message had to go there."""
    group = mail.group()
    group.register_handler(lambda worker_id, message: None)
    consuming(group)
    mail.letters.die()
    assert group.channels.closed.wait(PATIENCE)
    assert isinstance(group.channels.errors.get(timeout=0), MemoryError)
    assert fields(logged.of(DIED)[0])["dead_letter_topic"] == mail.dead
    assert group.stuck_or_dead() == ["producer of dead letters died of MemoryError"]
    status, message = check(group)
    assert status == Status.CRITICAL
    assert "producer of dead letters died of MemoryError" in message


def test_a_message_whose_letter_can_go_nowhere_comes_to_another_member(
    mail: Mail,
    cluster: EmbeddedCluster,
    send: SendFunction,
    committed: CommittedFunction,
) -> None:
    def dies(worker_id: int, message: Message) -> None:
        if message.data == b"poison":
            mail.letters.die()
            raise ValueError("never")

    send(mail.topic, "fine", "poison", "behind it")
    group = mail.group()
    group.register_handler(dies)
    group.start()
    assert group.channels.closed.wait(PATIENCE)
    assert committed(mail.group_name, mail.topic) == 1

    def fails(worker_id: int, message: Message) -> None:
        raise ValueError("never")

    group = mail.group()
    group.register_handler(fails)
    group.start()
    assert [letter.value() for letter in received(cluster, mail.dead, 2)] == [b"poison", b"behind it"]


def test_a_producer_of_dead_letters_that_its_maker_closes_closes_the_group(mail: Mail) -> None:
    group = mail.group()
    assert mail.letters.producer is not None
    mail.letters.producer.close()
    assert group.channels.closed.wait(PATIENCE)
    assert isinstance(group.channels.errors.get(timeout=0), ClosedError)
    assert group.stuck_or_dead() == ["producer of dead letters died of ClosedError"]


def test_a_group_that_closes_its_producer_of_dead_letters_says_nothing(mail: Mail, logged: Logged) -> None:
    group = mail.group()
    assert group.close(timeout=PATIENCE) == 0
    assert mail.letters.producer is not None
    assert mail.letters.producer.channels.closed.is_set()
    assert list(group.channels.errors) == []
    assert group.stuck_or_dead() == []
    assert not logged.of(DIED)


def test_a_process_that_ends_without_a_close_has_no_death(cluster: EmbeddedCluster, mail: Mail) -> None:
    """The end of the interpreter closes producers: the group does not close with them, nor is waited for."""
    program = """
import sys, threading
from dp_kafka import *
config = ConsumerGroupConfig([sys.argv[1]], *sys.argv[2:4], dead_letter=DeadLetter(sys.argv[4]))
group = ConsumerGroup(config)
at_work = threading.Event()
def handler(worker_id, message):
    at_work.set()
    threading.Event().wait()
group.register_handler(handler)
group.start()
producer = Producer(ProducerConfig([sys.argv[1]], sys.argv[2]))
assert producer.channels.initialised.wait(15)
producer.send_bytes(b"v")
producer.close()
assert at_work.wait(20)
"""
    command = [sys.executable, "-c", program, cluster.broker_addrs[0], mail.topic, mail.group_name, mail.dead]
    ended = subprocess.run(command, timeout=3 * PATIENCE, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "closing it" in ended.stderr
    assert "the consumer closes" not in ended.stderr


def test_a_callback_of_a_signal_that_is_set_already_runs_at_once() -> None:
    calls: list[str] = []
    signal = Signal(lambda: calls.append("first"))
    signal._then(lambda: calls.append("then"))
    assert calls == []
    signal.set()
    assert sorted(calls) == ["first", "then"]
    signal._then(lambda: calls.append("late"))
    assert calls[2:] == ["late"]
    other = Signal(lambda: calls.append("forgotten"))
    other._forget()
    other.set()
    assert "forgotten" not in calls
