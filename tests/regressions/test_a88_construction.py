"""Defect A88 of the original: what begins while a client is still being made finds a part of it missing."""

from __future__ import annotations

from typing import Any

from dp_kafka import ConsumerGroup, ConsumerGroupConfig, Producer, ProducerConfig
from dp_kafka.consumer.client import confluent_consumer
from dp_kafka.health import CheckState, Status
from tests.sending import Wrapped, nobody
from tests.waiting import PATIENCE, Logged


class FailsAtOnce(Wrapped):
    """A producer client whose first use ends the thread that owns it, while the constructor still runs."""

    def list_topics(self, *_args: object, **_kwargs: object) -> Any:
        raise MemoryError("at once")


class ConsumerFailsAtOnce:
    """The same of a consumer."""

    def __init__(self, properties: dict[str, Any]) -> None:
        self._client = confluent_consumer(properties)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def list_topics(self, *_args: object, **_kwargs: object) -> Any:
        raise SystemExit("at once")


def test_a88_a_producer_that_closes_while_it_is_made_is_whole(logged: Logged) -> None:
    producer = Producer(ProducerConfig([nobody()], "t"), client_factory=FailsAtOnce)
    assert producer.channels.closed.wait(PATIENCE)
    state = CheckState("Kafka")
    producer.checker(state)
    assert state.status == Status.CRITICAL
    assert MemoryError in [type(error) for error in producer.channels.errors]
    assert "AttributeError" not in logged.text


def test_a88_a_consumer_group_that_closes_while_it_is_made_is_whole(logged: Logged) -> None:
    group = ConsumerGroup(ConsumerGroupConfig([nobody()], "t", "g"), client_factory=ConsumerFailsAtOnce)
    assert group.channels.closed.wait(PATIENCE)
    state = CheckState("Kafka")
    group.checker(state)
    assert state.status == Status.CRITICAL
    assert SystemExit in [type(error) for error in group.channels.errors]
    assert "AttributeError" not in logged.text
