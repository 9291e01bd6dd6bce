"""The end of a session: the group is left before the client closes, so that its close waits for nothing.

A rebalance callback that is served inside of librdkafka's close can hang there for ever, with the GIL held.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from dp_kafka import ConsumerGroup, State
from dp_kafka.consumer.client import confluent_consumer
from dp_kafka.kafkatest import EmbeddedCluster
from tests.conftest import CLASSIC, INCREMENTAL, REJOINING, GroupFactory, TopicFactory
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


@pytest.mark.parametrize("protocol", [REJOINING, INCREMENTAL], ids=["classic", "incremental"])
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


@pytest.mark.parametrize(
    ("protocol", "leaves"), [(CLASSIC, False), (INCREMENTAL, True)], ids=["classic", "incremental"]
)
def test_a_static_member_of_the_classic_protocol_stays_in_the_group_when_it_stops(
    topic: TopicFactory, consumer_group: GroupFactory, protocol: dict[str, Any], leaves: bool
) -> None:
    """To unsubscribe would be to leave. With the newer protocol the broker knows that it may come back."""
    left: list[str] = []

    class TellsOfLeaving(TellsOfRebalances):
        def unsubscribe(self) -> None:
            left.append("unsubscribe")
            self._client.unsubscribe()

    group = consumer_group(
        topic(),
        librdkafka={**protocol, "group.instance.id": "one"},
        client_factory=lambda properties: TellsOfLeaving(properties, []),
    )
    group.start()
    assert group.state_wait(State.CONSUMING, PATIENCE)
    assert group.stop_and_wait(PATIENCE)
    assert bool(left) == leaves


CLOSE_TOGETHER = """
import logging, random, sys, threading
from dp_kafka import ConsumerGroup, ConsumerGroupConfig, State
logging.disable(logging.CRITICAL)
chance = random.Random(1)
properties = {"group.protocol": "consumer", "fetch.wait.max.ms": 10}

def live(group_name, pause):
    config = ConsumerGroupConfig([sys.argv[1]], "together", group_name, librdkafka=properties)
    group = ConsumerGroup(config)
    group.start()
    group.state_wait(State.CONSUMING, 10)
    threading.Event().wait(pause)
    group.close()

for number in range(10):
    members = [threading.Thread(target=live, args=(str(number), chance.random() / 10)) for _ in range(4)]
    for member in members:
        member.start()
    for member in members:
        member.join()
print("ended")
"""


def test_members_that_close_at_the_same_time_do_not_hang_the_process(cluster: EmbeddedCluster) -> None:
    """In a process of its own: where it hangs, no thread of it runs any more, nor does a test's timeout."""
    cluster.create_topic("together", partitions=4)
    done = subprocess.run(
        [sys.executable, "-c", CLOSE_TOGETHER, cluster.broker_addrs[0]],
        timeout=3 * PATIENCE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "ended\n", done.stderr
