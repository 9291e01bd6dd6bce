"""Kafka clients of which a test hears what is called, and of which it can break a method."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from dp_kafka.consumer.client import confluent_consumer
from tests.waiting import PATIENCE

__all__ = ["WatchedConsumer", "WatchedConsumers"]


class WatchedConsumer:
    """A real consumer client that tells of each call that has returned."""

    def __init__(self, properties: dict[str, Any], returned: Callable[[str], None]) -> None:
        self._client = confluent_consumer(properties)
        self._returned = returned

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._client, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            result = real(*args, **kwargs)
            self._returned(name)
            return result

        return call


class WatchedConsumers:
    """A client factory for consumer groups: counts the calls of all clients that it has made."""

    def __init__(self) -> None:
        self.made = 0
        self._counts: dict[str, int] = {}
        self._condition = threading.Condition()  # guards the counts

    def __call__(self, properties: dict[str, Any]) -> WatchedConsumer:
        self.made += 1
        return WatchedConsumer(properties, self._returned)

    def _returned(self, name: str) -> None:
        with self._condition:
            self._counts[name] = self._counts.get(name, 0) + 1
            self._condition.notify_all()

    def count(self, name: str) -> int:
        """How many calls of a method have returned."""
        with self._condition:
            return self._counts.get(name, 0)

    @property
    def total(self) -> int:
        """How many calls have returned."""
        with self._condition:
            return sum(self._counts.values())

    def wait(self, name: str, count: int = 1) -> None:
        """Wait until so many calls of a method have returned."""
        with self._condition:
            came = self._condition.wait_for(lambda: self._counts.get(name, 0) >= count, PATIENCE)
            assert came, f"{name} was called {self._counts.get(name, 0)} times, not {count}"
