"""What users rely on of middleware: its place round the handler, and clear errors for a wrong one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dp_kafka import ConsumerGroup, DeadLetter, HandlerRegistrationError, Message, RetryPolicy
from dp_kafka.consumer.workerthread import WorkerThread
from dp_kafka.kafkatest import EmbeddedCluster
from tests.conftest import CommittedFunction, GroupFactory, SendFunction, TopicFactory
from tests.sending import received
from tests.waiting import PATIENCE, Collected

AWAY = ["127.0.0.1:1"]
Handler = Callable[..., object]


def noting(name: str, seen: Collected[str]) -> Callable[[Handler], Handler]:
    """A middleware that notes when its handler begins, ends and fails."""

    def middleware(handler: Handler) -> Handler:
        def wrapper(*args: Any) -> object:
            seen.add(f"{name} begins")
            try:
                return handler(*args)
            except Exception as error:
                seen.add(f"{name} sees {error}")
                raise
            finally:
                seen.add(f"{name} ends")

        return wrapper

    return middleware


@pytest.mark.parametrize("kind", ["single", "batch"])
def test_the_first_one_used_is_the_outermost(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction, kind: str
) -> None:
    name = topic()
    send(name, "v")
    seen: Collected[str] = Collected()
    group = consumer_group(name)
    group.use(noting("outer", seen))
    group.use(noting("inner", seen))
    if kind == "single":
        group.register_handler(lambda worker_id, message: seen.add(f"handler {worker_id} {message.data!r}"))
        handled = "handler 1 b'v'"
    else:
        group.register_batch_handler(lambda batch: seen.add(f"handler {[each.data for each in batch]}"))
        handled = "handler [b'v']"
    group.start()
    assert seen.wait(5) == ["outer begins", "inner begins", handled, "inner ends", "outer ends"]


def test_it_sees_each_attempt_and_what_it_raises_is_the_failure(
    cluster: EmbeddedCluster, topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction
) -> None:
    """Retries and dead letters are outside of it."""
    name, dead = topic(), topic()
    send(name, "v")
    seen: Collected[str] = Collected()

    def translating(handler: Handler) -> Handler:
        def wrapper(*args: Any) -> object:
            try:
                return handler(*args)
            except KeyError as error:
                raise LookupError("translated") from error

        return wrapper

    def handler(worker_id: int, message: Message) -> None:
        seen.add(f"attempt {message.attempt}")
        raise KeyError("k")

    group = consumer_group(name, retry=RetryPolicy(2, 0.01, 0.01), dead_letter=DeadLetter(dead))
    group.use(translating)
    group.register_handler(handler)
    group.start()
    (letter,) = received(cluster, dead, 1)
    assert dict(letter.headers() or ())["dead-letter.exception.type"] == b"builtins.LookupError"  # type: ignore[arg-type]
    assert seen.items == ["attempt 1", "attempt 2"]


def test_what_it_swallows_is_a_success(
    topic: TopicFactory,
    consumer_group: GroupFactory,
    send: SendFunction,
    committed: CommittedFunction,
) -> None:
    name, dead = topic(), topic()
    send(name, "v")
    seen: Collected[BaseException] = Collected()

    def swallowing(handler: Handler) -> Handler:
        def wrapper(*args: Any) -> None:
            try:
                handler(*args)
            except ValueError as error:
                seen.add(error)

        return wrapper

    def handler(worker_id: int, message: Message) -> None:
        raise ValueError("not so bad")

    group = consumer_group(name, dead_letter=DeadLetter(dead))
    group.use(swallowing)
    group.register_handler(handler)
    group.start()
    seen.wait(1)
    assert group.stop_and_wait(PATIENCE)
    assert committed(group.group_name, name) == 1


@pytest.fixture
def group(consumer_group: GroupFactory) -> ConsumerGroup:
    return consumer_group("topic", broker_addrs=AWAY)


@pytest.mark.parametrize("wrong", [None, 1, "timed"])
def test_it_must_be_callable(group: ConsumerGroup, wrong: Any) -> None:
    with pytest.raises(HandlerRegistrationError, match=r"callable, but got (NoneType|int|str)"):
        group.use(wrong)


def test_it_must_give_a_handler(group: ConsumerGroup) -> None:
    """The usual slip: a wrapper that is not returned. Nothing is registered, so it can be put right."""

    def forgetful(handler: Handler) -> Any:
        """Returns nothing."""

    group.use(forgetful)
    with pytest.raises(HandlerRegistrationError, match="forgetful returned NoneType"):
        group.register_handler(lambda worker_id, message: None)


def test_one_that_fails_registers_nothing(group: ConsumerGroup) -> None:
    """What its handler needs may be there at the next try."""
    fails = [True]

    def middleware(handler: Handler) -> Handler:
        if fails.pop():
            raise OSError("its settings cannot be read")
        return handler

    group.use(middleware)
    with pytest.raises(OSError, match="settings"):
        group.register_handler(lambda *_: None)
    fails.append(False)
    group.use(lambda handler: handler)
    group.register_handler(lambda *_: None)


def test_where_no_worker_can_be_started_there_is_no_handler(
    group: ConsumerGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the system has no more threads: else messages would wait for workers that do not run."""

    def start(_self: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(WorkerThread, "start", start)
    with pytest.raises(RuntimeError, match="thread"):
        group.register_handler(lambda *_: None)
    monkeypatch.undo()
    group.register_handler(lambda *_: None)
    assert all(worker.is_alive() for worker in group._handlers.workers)


def test_it_comes_before_the_handler(group: ConsumerGroup) -> None:
    group.register_handler(lambda worker_id, message: None)
    with pytest.raises(HandlerRegistrationError, match="before the handler is registered"):
        group.use(lambda handler: handler)
