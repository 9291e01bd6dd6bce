"""With `commit_interval=0` a turn of the poll thread that had messages in hand took a short cut.

It ended before it looked whether the client had come to a fatal error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError

from dp_kafka.consumer.client import confluent_consumer
from tests.conftest import INCREMENTAL, GroupFactory, SendFunction, TopicFactory
from tests.waiting import Held, Logged, fields


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
