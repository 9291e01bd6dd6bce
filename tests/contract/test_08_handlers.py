"""Contract 8: handlers, the threads that run them, and what becomes of a message when one fails."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

from dp_kafka import (
    ClosedError,
    HandlerError,
    HandlerRegistrationError,
    Message,
    Ordering,
    State,
    current_trace_id,
)
from tests.conftest import (
    INCREMENTAL,
    CommittedAfterFunction,
    CommittedFunction,
    GroupFactory,
    SendFunction,
    TopicFactory,
)
from tests.waiting import PATIENCE, Collected, Logged, fields

AWAY = ["127.0.0.1:1"]


def ignore(worker_id: int, message: Message) -> None:
    """Handles everything at once."""


def ignore_batch(batch: list[Message]) -> None:
    """Handles everything at once."""


def worker_names(topic: str) -> list[str]:
    return sorted(
        thread.name
        for thread in threading.enumerate()
        if thread.name.endswith(f":{topic}") and ("worker" in thread.name or "batch" in thread.name)
    )


# -- registering --------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["register_handler", "register_batch_handler"])
@pytest.mark.parametrize("second", ["register_handler", "register_batch_handler"])
def test_8_1_one_handler_in_total(consumer_group: GroupFactory, first: str, second: str) -> None:
    handlers = {"register_handler": ignore, "register_batch_handler": ignore_batch}
    group = consumer_group("topic", broker_addrs=AWAY)
    getattr(group, first)(handlers[first])
    with pytest.raises(
        HandlerRegistrationError, match="a handler or batch handler had already been"
    ) as caught:
        getattr(group, second)(handlers[second])
    assert str(caught.value).startswith("failed to register handler because")
    assert str(caught.value).endswith("registered, only 1 allowed")


def test_8_1_a_closed_group_takes_no_handler(consumer_group: GroupFactory) -> None:
    group = consumer_group("topic", broker_addrs=AWAY)
    group.close(timeout=PATIENCE)
    with pytest.raises(ClosedError):
        group.register_handler(ignore)


def test_8_2_registering_starts_the_workers_at_once_in_any_state(consumer_group: GroupFactory) -> None:
    single = consumer_group("single", broker_addrs=AWAY, num_workers=3)
    single.register_handler(ignore)
    assert single.state is State.INITIALISING
    assert worker_names("single") == [f"dp-kafka:worker-{number}:single" for number in (1, 2, 3)]
    batch = consumer_group("many", broker_addrs=AWAY, num_workers=3)
    batch.register_batch_handler(ignore_batch)
    assert worker_names("many") == ["dp-kafka:batch:many"]


@pytest.mark.parametrize("kind", ["single", "batch"])
def test_8_2_a_handler_may_be_registered_while_consuming(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction, kind: str
) -> None:
    name = topic()
    send(name, "a", "b", "c")
    group = consumer_group(name, batch_size=3)
    group.start()
    assert group.state_wait(State.CONSUMING, PATIENCE)
    handled: Collected[bytes | None] = Collected()
    batches: list[int] = []

    def batch_handler(batch: list[Message]) -> None:
        batches.append(len(batch))
        for message in batch:
            handled.add(message.data)

    if kind == "single":
        group.register_handler(lambda worker_id, message: handled.add(message.data))
    else:
        group.register_batch_handler(batch_handler)
    assert handled.wait(3) == [b"a", b"b", b"c"]


def test_8_2_workers_are_numbered_from_one(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction
) -> None:
    name = topic(partitions=3)
    for partition in range(3):
        send(name, "a", partition=partition)
    group = consumer_group(name, num_workers=3)
    all_in = threading.Barrier(3)
    workers: Collected[int] = Collected()

    def handler(worker_id: int, message: Message) -> None:
        all_in.wait(PATIENCE)
        workers.add(worker_id)

    group.register_handler(handler)
    group.start()
    assert sorted(workers.wait(3)) == [1, 2, 3]


def test_8_3_and_8_9_partitions_are_handled_side_by_side_and_each_in_order(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction
) -> None:
    """As many at a time as there are workers or partitions, whichever is less."""
    name = topic(partitions=2)
    for partition in range(2):
        send(name, *(f"{number}" for number in range(20)), partition=partition)
    group = consumer_group(name, num_workers=4)
    lock = threading.Lock()
    inside: set[int] = set()
    overlaps: list[int] = []
    both_in = threading.Barrier(2)
    handled: Collected[tuple[int, int]] = Collected()

    def handler(worker_id: int, message: Message) -> None:
        with lock:
            assert message.partition not in inside
            inside.add(message.partition)
            overlaps.append(len(inside))
        if message.offset == 0:
            both_in.wait(PATIENCE)
        with lock:
            inside.discard(message.partition)
        handled.add((message.partition, message.offset))

    group.register_handler(handler)
    group.start()
    seen = handled.wait(40)
    assert max(overlaps) == 2
    for partition in range(2):
        assert [offset for each, offset in seen if each == partition] == list(range(20))


@pytest.mark.parametrize("ordering", [Ordering.KEY, Ordering.NONE])
def test_8_9_with_another_ordering_one_partition_is_handled_side_by_side(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction, ordering: Ordering
) -> None:
    name = topic()
    for key in ("a", "b", "c"):
        send(name, key, key=key)
    group = consumer_group(name, num_workers=3, ordering=ordering)
    all_in = threading.Barrier(3)
    handled: Collected[bytes | None] = Collected()

    def handler(worker_id: int, message: Message) -> None:
        all_in.wait(PATIENCE)
        handled.add(message.data)

    group.register_handler(handler)
    group.start()
    assert sorted(handled.wait(3), key=str) == [b"a", b"b", b"c"]


def test_8_3_batches_are_handled_one_at_a_time(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction
) -> None:
    name = topic(partitions=2)
    for partition in range(2):
        send(name, *"abcdef", partition=partition)
    group = consumer_group(name, num_workers=4, batch_size=2)
    one_at_a_time = threading.Lock()
    handled: Collected[bytes | None] = Collected()

    def handler(batch: list[Message]) -> None:
        assert one_at_a_time.acquire(blocking=False)
        for message in batch:
            handled.add(message.data)
        one_at_a_time.release()

    group.register_batch_handler(handler)
    group.start()
    handled.wait(12)
    assert group.channels.errors.qsize() == 0


# -- outcomes -----------------------------------------------------------------------------------------


class Commits(Exception):
    """Anything with a bool `commit` counts, not only HandlerError."""

    def __init__(self, commit: object) -> None:
        super().__init__("failed")
        self.commit = commit


def raised_from(cause: BaseException) -> RuntimeError:
    error = RuntimeError("the handler wrapped it")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "is_committed"),
    [
        (None, True),
        (ValueError("plain"), True),
        (HandlerError("says nothing"), True),
        (HandlerError("yes", commit=True), True),
        (HandlerError("no", commit=False), False),
        (Commits(False), False),
        (Commits(True), True),
        (Commits("no bool"), True),
        (raised_from(HandlerError("no", commit=False)), False),
        (raised_from(raised_from(Commits(False))), False),
        (KeyboardInterrupt(), True),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["single", "batch"])
def test_8_4_what_is_committed(
    committed_after: CommittedAfterFunction, error: BaseException | None, is_committed: bool, kind: str
) -> None:
    """Nothing raised and a plain error: committed. A `commit` anywhere in the chain of causes decides."""
    assert committed_after(kind, error) == (1 if is_committed else None)


@pytest.mark.parametrize("error", [None, ValueError(), HandlerError(commit=False)], ids=repr)
def test_8_5_the_message_is_released_after_the_handler_whatever_became_of_it(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction, error: Exception | None
) -> None:
    name = topic()
    send(name, "a", "b")
    group = consumer_group(name)
    messages: Collected[Message] = Collected()
    released_inside: list[bool] = []

    def handler(worker_id: int, message: Message) -> None:
        released_inside.append(message.upstream_done.is_set())
        messages.add(message)
        if error is not None:
            raise error

    group.register_handler(handler)
    group.start()
    first, second = messages.wait(2)
    assert first.upstream_done.wait(PATIENCE)
    assert second.upstream_done.wait(PATIENCE)
    assert released_inside == [False, False]


@pytest.mark.parametrize("kind", ["single", "batch"])
def test_8_6_a_failure_is_logged_with_the_merged_log_data_and_no_payload(
    topic: TopicFactory,
    consumer_group: GroupFactory,
    send: SendFunction,
    logged: Logged,
    kind: str,
) -> None:
    name = topic()
    send(name, "the payload", key="the key")
    group = consumer_group(name, batch_wait_time=0.01)

    def handler(*_: Any) -> None:
        cause = HandlerError("inner", commit=False, log_data={"id": 1, "where": "inner"})
        raise HandlerError("outer", log_data={"id": 1, "where": "outer"}, commit=False) from cause

    if kind == "single":
        group.register_handler(handler)
    else:
        group.register_batch_handler(handler)
    group.start()
    event = "failed to handle message" if kind == "single" else "failed to handle message batch"
    record = logged.wait(event)
    assert record.levelno == logging.ERROR
    found = fields(record)
    assert found["event"] == event
    assert found["error"] == "outer"
    assert found["id"] == 1
    assert found["where"] == ["outer", "inner"]
    assert found["topic"] == name
    assert found["commit_message" if kind == "single" else "commit_batch"] is False
    if kind == "single":
        assert (found["partition"], found["offset"], found["worker_id"]) == (0, 0, 1)
    else:
        assert found["batch_size"] == 1
    assert "the payload" not in logged.text
    assert "the key" not in logged.text


def test_8_7_what_is_not_committed_comes_again_after_a_restart_and_not_before(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction, committed: CommittedFunction
) -> None:
    name = topic()
    send(name, "good", "bad", "later")
    group = consumer_group(name, group_name=name, librdkafka=INCREMENTAL)
    handled: Collected[bytes | None] = Collected()

    def handler(worker_id: int, message: Message) -> None:
        handled.add(message.data)
        if message.data == b"bad" and message.attempt == 1 and len(handled.items) < 4:
            raise HandlerError("not this time", commit=False)

    group.register_handler(handler)
    group.start()
    handled.wait(3)
    assert group.stop_and_wait(PATIENCE)
    assert committed(name, name) == 1
    group.start()
    assert handled.wait(4) == [b"good", b"bad", b"later", b"bad"]
    assert group.stop_and_wait(PATIENCE)
    assert committed(name, name) == 3


def test_8_8_workers_end_when_the_group_closes(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction, committed: CommittedFunction
) -> None:
    """A message in hand is handled to its end; what is only buffered is left for the next consumer."""
    name = topic()
    send(name, *(f"{number}" for number in range(1_000)))
    group = consumer_group(name, num_workers=2)
    handled: Collected[int] = Collected()
    group.register_handler(lambda worker_id, message: handled.add(message.offset))
    group.start()
    handled.wait(10)
    assert group.close(timeout=PATIENCE) == 0
    assert worker_names(name) == []
    assert handled.items == list(range(len(handled.items)))
    assert committed(group.group_name, name) == len(handled.items)


def test_the_handler_runs_with_the_trace_id_of_its_message(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction
) -> None:
    """Contract 5.7: a message without one has none, not that of the message before it."""
    name = topic()
    send(name, "a", headers=[("request-id", b"trace-1")])
    send(name, "b")
    group = consumer_group(name)
    seen: Collected[str | None] = Collected()
    group.register_handler(lambda worker_id, message: seen.add(current_trace_id()))
    group.start()
    assert seen.wait(2) == ["trace-1", None]
