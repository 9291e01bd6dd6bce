"""Offsets that went back within an assignment counted as those of the messages that were handled before.

A topic that is deleted and made again, or one fetch that is answered with OFFSET_OUT_OF_RANGE, lets a member
read from the first offset on. In the books that was below the position: a message that failed was taken for
finished, and got no dead letter; one that a user released stayed in hand for ever; one that was finished did
not count, and the commit stood still.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from dp_kafka import DeadLetter, Message, Ordering, Producer, RetryPolicy
from dp_kafka.consumer.client import confluent_consumer
from dp_kafka.kafkatest import EmbeddedCluster
from tests.conftest import INCREMENTAL, CommittedFunction, GroupFactory, SendFunction, TopicFactory
from tests.faults.service import producer_config
from tests.looking import eventually
from tests.sending import on_broker, ready
from tests.waiting import PATIENCE, Collected, Logged, fields

EVENT = "offsets went back: the partition begins again there"
#: With a refreshed view of a topic that was made again.
QUICK = {**INCREMENTAL, "topic.metadata.refresh.interval.ms": 100}

#: Makes the offsets of a topic go back to 0, from 30 or beyond it; there are ten or more messages then.
GoBack = Callable[[str], None]


@pytest.fixture(params=["made again", "out of range"])
def go_back(request: pytest.FixtureRequest, cluster: EmbeddedCluster) -> GoBack:
    def make_again(name: str) -> None:
        cluster.delete_topic(name)
        cluster.create_topic(name)
        with ready(Producer(producer_config(cluster, name))) as producer:
            for _ in range(10):
                producer.send_bytes(b"new")

    def out_of_range(name: str) -> None:
        # Twice: to the first fetch at the end of the partition librdkafka sees that end, and not its error.
        cluster.inject_partition_errors(name, 0, "Fetch", *["OFFSET_OUT_OF_RANGE"] * 2)

    return make_again if request.param == "made again" else out_of_range


def test_a_message_that_fails_then_gets_its_dead_letter(
    topic: TopicFactory,
    consumer_group: GroupFactory,
    send: SendFunction,
    cluster: EmbeddedCluster,
    go_back: GoBack,
) -> None:
    name, dead = topic(), topic()
    send(name, *map(str, range(30)))
    group = consumer_group(
        name, librdkafka=QUICK, retry=RetryPolicy(max_attempts=1), dead_letter=DeadLetter(dead)
    )
    handled: Collected[int] = Collected()
    failing = threading.Event()

    def handle(_worker: int, message: Message) -> None:
        handled.add(message.offset)
        if failing.is_set() and message.offset == 0:
            raise ValueError("poison")

    group.register_handler(handle)
    group.start()
    handled.wait(30)
    failing.set()
    go_back(name)
    handled.wait(40)
    eventually(lambda: on_broker(cluster, dead), 1)


def test_messages_that_are_taken_then_are_released_and_committed(
    topic: TopicFactory,
    consumer_group: GroupFactory,
    send: SendFunction,
    cluster: EmbeddedCluster,
    committed: CommittedFunction,
    go_back: GoBack,
) -> None:
    name = topic()
    send(name, *map(str, range(30)))
    group = consumer_group(name, librdkafka=QUICK)
    group.start()
    upstream = group.channels.upstream
    for _ in range(30):
        assert upstream.get(timeout=PATIENCE).commit_and_release()
    go_back(name)
    end = on_broker(cluster, name)
    for offset in range(end):
        message = upstream.get(timeout=PATIENCE)
        assert message.offset == offset
        assert message.commit_and_release()
    assert group.close(timeout=PATIENCE) == 0
    assert committed(group.group_name, name) == end


def test_a_message_in_hand_then_is_refused_and_holds_nothing_up(
    topic: TopicFactory,
    consumer_group: GroupFactory,
    send: SendFunction,
    cluster: EmbeddedCluster,
    committed: CommittedFunction,
    logged: Logged,
    go_back: GoBack,
) -> None:
    name = topic()
    send(name, *map(str, range(30)))
    group = consumer_group(name, librdkafka=QUICK, ordering=Ordering.NONE)
    group.start()
    upstream = group.channels.upstream
    for _ in range(29):
        assert upstream.get(timeout=PATIENCE).commit_and_release()
    old = upstream.get(timeout=PATIENCE)
    go_back(name)
    end = on_broker(cluster, name)
    for _ in range(end):
        assert upstream.get(timeout=PATIENCE).commit_and_release()
    assert not old.commit_and_release()
    assert group.close(timeout=PATIENCE) == 0
    assert committed(group.group_name, name) == end
    (record,) = logged.of(EVENT)
    assert record.levelno == logging.WARNING
    assert fields(record) == {"event": EVENT, "topic": name, "partition": 0, "offset": 0, "in_hand": 1}


def test_a_group_that_starts_beyond_the_end_of_a_topic_that_was_made_again_passes_over_nothing(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction, cluster: EmbeddedCluster
) -> None:
    """What is finished beyond the committed offset says nothing of the messages that are there now."""
    name = topic()
    send(name, *map(str, range(8)))
    group = consumer_group(name, librdkafka=QUICK, ordering=Ordering.NONE)
    group.start()
    upstream = group.channels.upstream
    for offset in range(8):
        message = upstream.get(timeout=PATIENCE)
        if offset != 3:
            assert message.commit_and_release()
        else:
            message.release()
    assert group.stop_and_wait(PATIENCE)  # 3 is committed, and 4 to 7 as finished beyond it
    cluster.delete_topic(name)
    cluster.create_topic(name)
    send(name, "new")
    group.start()
    send(name, *["new"] * 9)
    for offset in range(10):
        again = upstream.get(timeout=PATIENCE)
        assert (again.offset, again.data) == (offset, b"new")
        assert again.commit_and_release()


class Repeats:
    """A real client that gives once more what it gave, from an offset on, when it is told to."""

    def __init__(self, properties: dict[str, Any]) -> None:
        self._client = confluent_consumer(properties)
        self._given: list[Any] = []
        #: From which offset on; taken by the next consume() that would bring nothing.
        self.again_from: int | None = None

    def consume(self, count: int, timeout: float) -> list[Any]:
        messages: list[Any] = self._client.consume(count, timeout)
        if not messages and self.again_from is not None:
            messages = [message for message in self._given if message.offset() >= self.again_from]
            self.again_from = None
        self._given += messages
        return messages

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def test_what_lies_unfinished_before_the_first_offset_that_came_is_fetched_again(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction, committed: CommittedFunction
) -> None:
    """As with a leader that had not all of the log: what comes replaces a part of what is buffered."""
    name = topic()
    send(name, *map(str, range(30)))
    clients: list[Repeats] = []

    def factory(properties: dict[str, Any]) -> Repeats:
        clients.append(Repeats(properties))
        return clients[-1]

    group = consumer_group(name, client_factory=factory, librdkafka=QUICK)
    handled: Collected[int] = Collected()
    entered, may_go = threading.Event(), threading.Event()

    def handle(_worker: int, message: Message) -> None:
        handled.add(message.offset)
        if message.offset == 5 and not entered.is_set():
            entered.set()
            assert may_go.wait(PATIENCE)

    group.register_handler(handle)
    group.start()
    assert entered.wait(PATIENCE)
    membership = group._poller.membership
    assert membership is not None
    session = membership.session
    before = session.lanes[0]
    eventually(lambda: len(before.offsets), 25)
    clients[-1].again_from = 20
    eventually(lambda: session.lanes[0] is not before)
    may_go.set()
    eventually(lambda: set(handled.items) == set(range(30)))
    assert handled.items[:6] == list(range(6))
    assert group.stop_and_wait(PATIENCE)
    assert committed(group.group_name, name) == 30
