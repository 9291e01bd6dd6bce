"""Nothing waits without a bound, or somebody to wake it; and no lock is held while users' code runs."""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Callable, Iterator
from concurrent import futures
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dp_kafka import ConsumerGroup, DpKafkaError, Message, Producer
from dp_kafka.health import CheckState, HealthCheck
from tests.conftest import GroupFactory, ProducerFactory, SendFunction, TopicFactory
from tests.waiting import PATIENCE, Collected, in_thread

ROOT = Path(__file__).parents[2]

WAITS = ("acquire", "get", "join", "result", "wait", "wait_for")
#: Waits without a time limit in the call itself, and what ends each of them all the same.
UNLIMITED = {
    "dp_kafka/channels.py: condition.wait()": "a caller without a timeout; close() of the channel wakes it",
    "dp_kafka/channels.py: self.get()": "whoever iterates; close() of the channel wakes it",
    "dp_kafka/producer/channels.py: self.get()": "the output thread; close() of the channel wakes it",
    "dp_kafka/headers.py: _trace.get()": "a context variable",
    "dp_kafka/drain/drain.py: events.get()": "each thread puts its result by the deadline of the drain",
    "dp_kafka/drain/drain.py: thread.join()": "each thread has been told to stop, and keeps the deadline",
    "dp_kafka/kafkatest/_wakeup.py: waker.join()": "its thread has been told to end",
    "dp_kafka/consumer/commits.py: self._condition.wait_for(lambda: self._done >= ticket or self._failed >= "
    "ticket or self._over or is_over())": "the poll thread answers, gives up at a stop, and ends the session",
    "dp_kafka/consumer/committer.py: self._client.commit(offsets=offsets, asynchronous=False)": "librdkafka "
    "gives up by itself, after socket.timeout.ms",
    "dp_kafka/consumer/control.py: self._condition.wait_for(lambda: self.state not in (State.INITIALISING, "
    "State.STOPPED))": "the poll thread; start() and close() wake it",
}


def waits() -> Iterator[str]:
    """Every call in the library of what may wait, without an argument."""
    for path in sorted(ROOT.glob("dp_kafka/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _is_unlimited(node):
                yield f"{path.relative_to(ROOT).as_posix()}: {ast.unparse(node)}"


def _is_unlimited(call: ast.Call) -> bool:
    name, given = call.func.attr, len(call.args) + len(call.keywords)  # type: ignore[attr-defined]
    if name == "commit":
        return any(word.arg == "asynchronous" and not word.value.value for word in call.keywords)  # type: ignore[attr-defined]
    return given == (1 if name == "wait_for" else 0) and name in WAITS


def test_every_wait_has_a_limit_or_a_reason_why_it_ends() -> None:
    assert set(waits()) == set(UNLIMITED)


class Service:
    """A consumer, a producer, and what other threads may ask of them at any time."""

    def __init__(self, consumer: ConsumerGroup, producer: Producer, topic: str) -> None:
        self.consumer, self.producer, self.topic = consumer, producer, topic
        self.health = HealthCheck()
        #: What came of the calls made from inside of users' code: the names of those that did not return.
        self.hung: Collected[list[str]] = Collected()

    def calls(self) -> dict[str, Callable[[], Any]]:
        consumer, producer = self.consumer, self.producer
        return {
            "start": consumer.start,
            "state": lambda: (consumer.state, repr(consumer), consumer.is_initialised),
            "state_wait": lambda: consumer.state_wait(consumer.state, 0),
            "stuck_or_dead": consumer.stuck_or_dead,
            "log_errors": consumer.log_errors,
            "use": lambda: consumer.use(lambda handler: handler),
            "register_handler": lambda: consumer.register_handler(lambda worker_id, message: None),
            "checker": lambda: consumer.checker(CheckState()),
            "on_health_update": lambda: consumer.on_health_update("OK"),
            "channels": lambda: (
                consumer.channels.upstream.qsize(),
                consumer.channels.errors.qsize(),
                producer.channels.output.qsize(),
            ),
            "errors": lambda: consumer.channels.errors.put(ValueError("seen")),
            "send": lambda: producer.send_bytes(b"meanwhile"),
            "flush": lambda: producer.flush(0),
            "add_header": lambda: producer.add_header("", ""),
            "producer": lambda: (repr(producer), producer.stuck_or_dead(), producer.log_errors()),
            "document": lambda: (self.health.to_dict(), self.health.liveness_to_dict()),
            "unsubscribe": lambda: self.health.unsubscribe(consumer),
        }

    def user_code(self, *arguments: object) -> None:
        """Users' code that has other threads make every call, and waits for them to return."""

        def allowed_to_refuse(call: Callable[[], Any]) -> None:
            with contextlib.suppress(DpKafkaError):
                call()

        calls = {name: partial(allowed_to_refuse, call) for name, call in self.calls().items()}
        for message in arguments:
            if isinstance(message, Message):
                calls["mark"] = message.mark
        under_way = {name: in_thread(call) for name, call in calls.items()}
        hung = []
        for name, future in under_way.items():
            try:
                future.result(PATIENCE)
            except futures.TimeoutError:
                hung.append(name)
        self.hung.add(hung)


@pytest.fixture
def service(
    topic: TopicFactory, consumer_group: GroupFactory, producer: ProducerFactory
) -> Iterator[Service]:
    name = topic()
    made = Service(consumer_group(name, batch_wait_time=0.01), producer(topic()), name)
    yield made
    made.health.stop(PATIENCE)


def in_a_handler(service: Service, send: SendFunction) -> None:
    service.consumer.register_handler(service.user_code)
    service.consumer.start()
    send(service.topic, b"one")


def in_a_batch_handler(service: Service, send: SendFunction) -> None:
    service.consumer.register_batch_handler(service.user_code)
    service.consumer.start()
    send(service.topic, b"one")


def in_a_middleware(service: Service, send: SendFunction) -> None:
    def middleware(handler: Callable[..., object]) -> Callable[..., object]:
        def wrapped(worker_id: int, message: Message) -> None:
            service.user_code()
            handler(worker_id, message)

        return wrapped

    service.consumer.use(middleware)
    service.consumer.register_handler(lambda worker_id, message: None)
    service.consumer.start()
    send(service.topic, b"one")


def in_what_makes_a_middleware(service: Service, send: SendFunction) -> None:
    def middleware(handler: Callable[..., object]) -> Callable[..., object]:
        service.user_code()
        return handler

    service.consumer.use(middleware)
    service.consumer.register_handler(lambda worker_id, message: None)


def in_a_hook_of_close(service: Service, send: SendFunction) -> None:
    service.consumer.close(service.user_code, timeout=4 * PATIENCE)


def in_a_delivery_callback(service: Service, send: SendFunction) -> None:
    service.producer.send_bytes(b"one", on_delivery=service.user_code)


def in_a_health_check(service: Service, send: SendFunction) -> None:
    service.health.add_check("check", service.user_code)
    service.health.start()


def in_a_subscriber(service: Service, send: SendFunction) -> None:
    class Subscriber:
        def on_health_update(self, status: object) -> None:
            service.user_code()

    service.health.add_check("check", lambda state: state.update("OK", "it works"))
    service.health.subscribe(Subscriber())
    service.health.start()


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "begin",
    [
        in_a_handler,
        in_a_batch_handler,
        in_a_middleware,
        in_what_makes_a_middleware,
        in_a_hook_of_close,
        in_a_delivery_callback,
        in_a_health_check,
        in_a_subscriber,
    ],
)
def test_no_lock_is_held_while_users_code_runs(
    begin: Callable[[Service, SendFunction], None], service: Service, send: SendFunction
) -> None:
    """What other threads call meanwhile returns; a call that needs a lock held round that code would not."""
    begin(service, send)
    assert service.hung.wait(1, 3 * PATIENCE)[0] == []
