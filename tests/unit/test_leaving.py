"""The end of a session: the group is left before the client closes, so that its close waits for nothing.

A rebalance callback that is served inside of librdkafka's close can hang there for ever, with the GIL held.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from dp_kafka import ConsumerGroup, State
from dp_kafka.consumer.poller import confluent_consumer
from tests.conftest import CLASSIC, INCREMENTAL, GroupFactory, TopicFactory
from tests.waiting import PATIENCE, in_thread


class TellsOfRebalances:
    """A client that notes each rebalance callback which runs inside of its close()."""

    def __init__(self, properties: dict[str, Any], inside: list[str]) -> None:
        self._client = confluent_consumer(properties)
        self._inside = inside
        self._closing = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def subscribe(self, topics: list[str], **callbacks: Callable[[Any, list[Any]], None]) -> None:
        def noting(name: str, callback: Callable[[Any, list[Any]], None]) -> Callable[[Any, list[Any]], None]:
            def call(client: Any, partitions: list[Any]) -> None:
                if self._closing:
                    self._inside.append(name)
                callback(client, partitions)

            return call

        self._client.subscribe(topics, **{name: noting(name, each) for name, each in callbacks.items()})

    def close(self) -> None:
        self._closing = True
        self._client.close()


@pytest.mark.parametrize("protocol", [CLASSIC, INCREMENTAL], ids=["classic", "incremental"])
def test_no_rebalance_is_served_while_the_client_closes(
    topic: TopicFactory, consumer_group: GroupFactory, protocol: dict[str, Any]
) -> None:
    """Three members that stop at the same moment, as those of a service do that is shut down."""
    name = topic(partitions=3)
    inside: list[str] = []

    def member() -> ConsumerGroup:
        group = consumer_group(
            name,
            group_name=name,
            librdkafka=protocol,
            message_consume_timeout=3.01,
            client_factory=lambda properties: TellsOfRebalances(properties, inside),
        )
        group.start()
        return group

    groups = [member() for _ in range(3)]
    for group in groups:
        assert group.state_wait(State.CONSUMING, PATIENCE)
    together = threading.Barrier(len(groups))

    def stop(group: ConsumerGroup) -> bool:
        together.wait(PATIENCE)
        return group.stop_and_wait(PATIENCE)

    assert all(
        each.result(PATIENCE) for each in [in_thread(lambda group=group: stop(group)) for group in groups]
    )
    assert inside == []


def test_a_group_that_cannot_be_left_is_told_and_the_client_closes_all_the_same(
    topic: TopicFactory, consumer_group: GroupFactory
) -> None:
    failure = KafkaException(KafkaError(KafkaError._STATE))
    closed: list[bool] = []

    class CannotLeave(TellsOfRebalances):
        def unsubscribe(self) -> None:
            raise failure

        def close(self) -> None:
            super().close()
            closed.append(True)

    group = consumer_group(topic(), client_factory=lambda properties: CannotLeave(properties, []))
    group.start()
    assert group.state_wait(State.CONSUMING, PATIENCE)
    assert group.stop_and_wait(PATIENCE)
    assert closed == [True]
    assert group.channels.errors.get(timeout=PATIENCE) is failure
