"""With `commit_interval=0` a turn of the poll thread that had messages in hand took a short cut.

It ended before it looked whether the client had come to a fatal error. And after a round that the broker
refused it waited for somebody to ask for a commit, where somebody had: it took 65,000 turns a second until
the next round was due.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from confluent_kafka import KafkaError

from dp_kafka import Ordering, Producer
from dp_kafka.consumer import membership
from dp_kafka.consumer.client import confluent_consumer
from dp_kafka.consumer.commits import RETRY_SECONDS
from dp_kafka.kafkatest import EmbeddedCluster
from tests.conftest import INCREMENTAL, GroupFactory, SendFunction, TopicFactory
from tests.faults.service import producer_config
from tests.sending import ready
from tests.waiting import Collected, Held, Logged, fields


class Told:
    """A real consumer client that calls `before(name)` before each call of a method, on the poll thread."""

    def __init__(self, properties: dict[str, Any], before: Callable[[str], None]) -> None:
        self._client = confluent_consumer(properties)
        self._before = before

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._client, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self._before(name)
            return real(*args, **kwargs)

        return call


def test_a_fatal_error_ends_a_session_that_has_messages_in_hand(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction, logged: Logged
) -> None:
    """It comes as librdkafka's errors do: from a callback, within a call that brings no message."""
    name = topic()
    held = Held()
    told: list[str] = []

    def client(properties: dict[str, Any]) -> Told:
        def before(method: str) -> None:
            if method == "consume" and held.entered.is_set() and not told:
                told.append(method)
                properties["error_cb"](KafkaError(KafkaError._FATAL, "of the test", fatal=True))

        return Told(properties, before)

    group = consumer_group(name, commit_interval=0, librdkafka=INCREMENTAL, client_factory=client)
    group.register_handler(held)
    group.start()
    send(name, "a")
    try:
        failed = logged.wait("consuming failed, it is begun again")
        assert not held.handled.items, "it was seen only when nothing was in hand any more"
    finally:
        held.finish.set()
    assert "of the test" in fields(failed)["error"]


@pytest.mark.parametrize("error", ["NOT_COORDINATOR", "TOPIC_AUTHORIZATION_FAILED"])
def test_the_poll_thread_rests_until_a_refused_round_is_tried_again(
    own_cluster: EmbeddedCluster, consumer_group: GroupFactory, error: str
) -> None:
    """Whether the refusal is for now or for good; and there is always somebody who asks."""
    own_cluster.create_topic("orders")
    turns = 0
    #: How many turns there had been at each round.
    at_rounds: Collected[int] = Collected()

    def client(properties: dict[str, Any]) -> Told:
        def before(method: str) -> None:
            nonlocal turns
            if method == "consume":
                turns += 1
            elif method == "commit":
                at_rounds.add(turns)

        return Told(properties, before)

    group = consumer_group(
        "orders",
        broker_addrs=own_cluster.broker_addrs,
        commit_interval=0,
        ordering=Ordering.NONE,
        librdkafka=INCREMENTAL,
        client_factory=client,
    )
    # Each asks for its commit when a round has begun that does not answer it.
    group.register_handler(lambda _worker_id, message: at_rounds.wait(message.offset))
    own_cluster.inject_errors("OffsetCommit", *[error] * 200)
    with ready(Producer(producer_config(own_cluster, "orders"))) as producer:
        for _ in range(4):
            producer.send_bytes(b"order")
    group.start()
    counts = at_rounds.wait(4)
    own_cluster.clear_errors("OffsetCommit")
    # Some hundred of SHORT_SECONDS; ten times as many while a busy machine takes longer for an answer.
    bound = 10 * RETRY_SECONDS / membership.SHORT_SECONDS
    assert all(after - before < bound for before, after in pairwise(counts)), counts
