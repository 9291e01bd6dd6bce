"""Waiting in tests: calls in threads of their own, conditions that will become true, lists that fill."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from dp_kafka import ConsumerGroup, Message, Producer, State

T = TypeVar("T")

#: Seconds after which a test gives up waiting for something that is sure to come, on a busy machine too.
PATIENCE = 15.0


def in_thread(call: Callable[[], T]) -> Future[T]:
    """Call something in a thread of its own; `.result(PATIENCE)` gives or raises what came of it."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="test", daemon=True).start()
    return future


class WatchedCondition(threading.Condition):
    """A condition that tells when a thread waits on it.

    `waiting` is set under the lock, which the waiter gives up only once it is sure to be notified: so
    whoever sees it set, and then takes the lock, finds the other thread waiting.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waiting = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        self.waiting.set()
        return super().wait(timeout)


def wait_entered(group: ConsumerGroup, state: State, seen: int) -> bool:
    """Wait until the group has entered `state` more than `seen` times, though it may have left it again."""
    machine = group.channels.state
    with machine.condition:
        return machine.condition.wait_for(lambda: machine.entries(state) > seen, PATIENCE)


def consuming(group: ConsumerGroup) -> ConsumerGroup:
    """Start a group, and wait until it consumes."""
    group.start()
    assert group.state_wait(State.CONSUMING, PATIENCE)
    return group


class Collected(Generic[T]):
    """What handlers saw, in order; any thread may add, and a test waits until there is enough."""

    def __init__(self) -> None:
        self._items: list[T] = []
        self._condition = threading.Condition()  # guards the list

    def add(self, item: T) -> None:
        """Add one, and wake whoever waits."""
        with self._condition:
            self._items.append(item)
            self._condition.notify_all()

    @property
    def items(self) -> list[T]:
        """A copy of what was added so far."""
        with self._condition:
            return list(self._items)

    def wait(self, count: int, timeout: float = PATIENCE) -> list[T]:
        """Wait until there are `count` items, and give all; fails the test if they do not come."""
        with self._condition:
            came = self._condition.wait_for(lambda: len(self._items) >= count, timeout)
            assert came, f"{count} were expected, but only {len(self._items)} came: {self._items!r}"
            return list(self._items)


class Held:
    """A handler that is at work, once `entered` is set, until the test sets `finish`.

    `handled` has the values of the messages that it is done with.
    """

    def __init__(self) -> None:
        self.entered, self.finish = threading.Event(), threading.Event()
        self.handled: Collected[bytes | None] = Collected()

    def __call__(self, _worker_id: int, message: Message) -> None:
        self.entered.set()
        assert self.finish.wait(PATIENCE)
        self.handled.add(message.data)

    @classmethod
    def by(cls, group: ConsumerGroup) -> Held:
        """Start a group that has messages, and wait until its handler is at work."""
        held = cls()
        group.register_handler(held)
        group.start()
        assert held.entered.wait(PATIENCE)
        return held


class Logged(logging.Handler):
    """What the library logs, from any thread, by event."""

    def __init__(self) -> None:
        super().__init__()
        self._records: list[logging.LogRecord] = []
        self._came = threading.Condition()  # guards the list

    def emit(self, record: logging.LogRecord) -> None:
        with self._came:
            self._records.append(record)
            self._came.notify_all()

    def of(self, event: str) -> list[logging.LogRecord]:
        """The records of an event so far."""
        with self._came:
            return [record for record in self._records if record.getMessage().startswith(event)]

    def wait(self, event: str) -> logging.LogRecord:
        """Wait for an event, and give its first record; fails the test if it does not come."""
        with self._came:
            assert self._came.wait_for(lambda: self.of(event), PATIENCE), f"never logged: {event!r}"
            return self.of(event)[0]

    @property
    def text(self) -> str:
        """Everything that was logged, as text."""
        with self._came:
            return "\n".join(logging.Formatter().format(record) for record in self._records)


def fields(record: logging.LogRecord) -> dict[str, Any]:
    """The fields of an event, as a structured formatter gets them."""
    found: dict[str, Any] = record.__dict__["dp_kafka"]
    return found


class ClosesWhenPrinted(RuntimeError):
    """An error whose text closes a client, as a log handler may; `left` has what the close returned."""

    def __init__(self, client: ConsumerGroup | Producer) -> None:
        super().__init__()
        self._client = client
        self.left: list[int] = []

    def __str__(self) -> str:
        self.left.append(self._client.close())
        return "read"
