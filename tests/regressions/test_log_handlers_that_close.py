"""`close()` in a log handler hung, on a user's thread, when a thread of the client logged to the same one.

Python's logging holds the lock of a handler round `emit`. So the close waited for a worker, which waited for
the lock; so did a stop, and a close in the handler of a signal that came in the middle of `emit`.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dp_kafka import Message, Producer
from tests.conftest import CommittedFunction, GroupFactory, ProducerFactory, SendFunction, TopicFactory
from tests.sending import on_broker
from tests.waiting import PATIENCE, in_thread

# Without its mend the test would wait for ever in the main thread.
pytestmark = pytest.mark.timeout(4 * PATIENCE, method="signal")

app = logging.getLogger("app")


class Ends(logging.Handler):
    """Ends a client when the application logs that it is over; takes what everybody logs."""

    def __init__(self) -> None:
        super().__init__()
        #: What ends it, and what that gave.
        self.end: Callable[[], object] = lambda: None
        self.gave: list[object] = []
        #: Set when the end is about to be called for.
        self.entered = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "app" and not self.gave:
            self.entered.set()
            self.gave.append(self.end())


@pytest.fixture
def ends() -> Iterator[Ends]:
    handler = Ends()
    logging.getLogger().addHandler(handler)
    yield handler
    logging.getLogger().removeHandler(handler)


@pytest.mark.parametrize(("call", "gives"), [("close", 0), ("stop_and_wait", False)])
def test_a_log_handler_ends_a_consumer_whose_worker_logs_to_it(
    topic: TopicFactory,
    consumer_group: GroupFactory,
    send: SendFunction,
    committed: CommittedFunction,
    ends: Ends,
    call: str,
    gives: object,
) -> None:
    name, began = topic(), threading.Event()
    send(name, "a")
    group = consumer_group(name)

    def fails(worker_id: int, message: Message) -> None:
        began.set()
        ends.entered.wait(PATIENCE)
        raise ValueError("that is logged")

    group.register_handler(fails)
    group.start()
    assert began.wait(PATIENCE)
    ends.end = getattr(group, call)
    in_thread(lambda: app.critical("it is over")).result(PATIENCE)
    assert ends.gave == [gives]
    getattr(group, call)(timeout=PATIENCE)
    assert committed(group.group_name, name) == 1


def test_a_log_handler_closes_a_producer_whose_delivery_callback_logs_to_it(
    topic: TopicFactory, producer: ProducerFactory, ends: Ends, cluster: Any
) -> None:
    name = topic()
    made = producer(name)

    def logs(error: object, message: object) -> None:
        ends.entered.wait(PATIENCE)
        logging.getLogger("callback").error("delivered")

    made.send_bytes(b"v", on_delivery=logs)
    ends.end = made.close
    in_thread(lambda: app.critical("it is over")).result(PATIENCE)
    assert ends.gave == [0]
    assert made.channels.closed.wait(PATIENCE)
    assert on_broker(cluster, name) == 1


def test_a_signal_handler_closes_on_top_of_a_log_handler(
    topic: TopicFactory, producer: ProducerFactory, ends: Ends
) -> None:
    made = producer(topic())
    made.send_bytes(b"v", on_delivery=lambda error, message: logging.getLogger("callback").error("delivered"))
    closed: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda *_: closed.append(made.close()))
    try:
        ends.end = lambda: signal.raise_signal(signal.SIGUSR1)
        app.critical("it is over")
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert closed == [0]
    assert made.channels.closed.wait(PATIENCE)


def test_a_log_handler_that_is_closed_itself_waits_for_the_producer_that_it_sends_with(
    topic: TopicFactory, producer: ProducerFactory
) -> None:
    """As at the end of a process, when logging takes its lock and closes it: what it sent must arrive."""

    class Sends(logging.Handler):
        def __init__(self, made: Producer) -> None:
            super().__init__()
            self._producer = made

        def close(self) -> None:
            self._producer.close()
            super().close()

    made = producer(topic())
    handler = Sends(made)
    handler.acquire()
    try:
        handler.close()
    finally:
        handler.release()
    assert made.channels.closed.is_set()
