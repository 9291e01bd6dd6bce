"""Sends letters back: a producer for each original topic, and the wait for what the broker acknowledges."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from types import TracebackType

from dp_kafka.errors import DpKafkaError
from dp_kafka.producer.producer import Producer
from dp_kafka.redrive.config import RedriveConfig
from dp_kafka.redrive.letters import Letter

__all__ = ["Sender"]


#: Seconds after which a delivery report is given up that librdkafka should have made long before.
_GRACE = 5.0


class Sender:
    """Used by one thread. A context manager: its producers are closed at the end.

    Args:
        partitions: how many each topic of the cluster has.
    """

    def __init__(self, config: RedriveConfig, partitions: Mapping[str, int]) -> None:
        self._config = config
        self._partitions = partitions
        self._producers: dict[str, Producer] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Sender:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._stack.close()

    def why_not(self, letter: Letter) -> str:
        """Why a letter can't go back, or ""."""
        if not letter.original_topic:
            return "it is no dead letter: it has no header that names its topic"
        if letter.original_topic == self._config.topic:
            return "its original topic is the one that it lies in"
        if letter.original_topic not in self._partitions:
            return f"its original topic {letter.original_topic!r} is not on this cluster"
        return ""

    def send(self, letters: Sequence[Letter]) -> list[DpKafkaError | None]:
        """Send letters, and wait until the broker has acknowledged or refused each; what became of each."""
        outcomes = _Outcomes(len(letters))
        for index, letter in enumerate(letters):
            try:
                self._producer(letter.original_topic).send_bytes(
                    letter.value,
                    key=letter.key,
                    headers=letter.headers,
                    partition=self._partition(letter),
                    on_delivery=partial(outcomes.report, index),
                    timeout=self._config.timeout,
                )
            except DpKafkaError as error:
                outcomes.put(index, error)
        return outcomes.wait(self._config.timeout + _GRACE)

    def _producer(self, topic: str) -> Producer:
        if topic not in self._producers:
            producer = Producer(self._config.producer(topic))
            self._stack.callback(producer.close, self._config.timeout)
            self._producers[topic] = producer
        return self._producers[topic]

    def _partition(self, letter: Letter) -> int | None:
        """Its own, so that a key stays where it was whoever had put it there; if it is still there."""
        own = letter.original_partition
        return own if own is not None and own < self._partitions[letter.original_topic] else None


class _Outcomes:
    """What became of the letters of a batch, by index. Delivery threads put, the sending thread waits."""

    def __init__(self, count: int) -> None:
        self._count = count
        #: Guards the dict, and is notified when it is full.
        self._full = threading.Condition()
        self._found: dict[int, DpKafkaError | None] = {}

    def report(self, index: int, error: DpKafkaError | None, _message: object) -> None:
        """A delivery report."""
        self.put(index, error)

    def put(self, index: int, error: DpKafkaError | None) -> None:
        """Set what became of a letter."""
        with self._full:
            self._found[index] = error
            if len(self._found) == self._count:
                self._full.notify_all()

    def wait(self, timeout: float) -> list[DpKafkaError | None]:
        """Wait until all are known, and give them."""
        until = time.monotonic() + timeout
        with self._full:
            self._full.wait_for(lambda: len(self._found) == self._count, max(0.0, until - time.monotonic()))
            late = DpKafkaError(f"not acknowledged within {timeout:g} s")
            return [self._found.get(index, late) for index in range(self._count)]
