"""What users rely on of a RetryPolicy: who is tried again, when, and what waits meanwhile."""

from __future__ import annotations

import contextlib
import threading
import time
from queue import Empty
from typing import Any

import pytest

from dp_kafka import BatchError, HandlerError, Message, Ordering, RetryPolicy
from dp_kafka.consumer.session import Session
from dp_kafka.consumer.unsettled import Unsettled
from dp_kafka.processing.retry import retrying
from tests.conftest import INCREMENTAL, CommittedFunction, GroupFactory, SendFunction, TopicFactory
from tests.lanes import new_session, open_lane, raws
from tests.waiting import PATIENCE, Collected, Logged, fields

#: A pause that a test does not live to see the end of.
FOR_EVER = RetryPolicy(0, 3600.0, 3600.0)
QUICK = RetryPolicy(3, 0.01, 0.02)


def a_message() -> Message:
    """A message in the hand of a worker."""
    session = new_session()
    open_lane(session).add(raws(0))
    return session.upstream.get(block=False)


def outcome(policy: RetryPolicy, error: BaseException, message: Message, random: float = 0.5) -> Unsettled:
    """What a worker hears of a handler that raises `error`."""

    def handler(worker_id: int, message: Message) -> None:
        raise error

    with pytest.raises(Unsettled) as caught:
        retrying(policy, random=lambda: random)(handler)(1, message)
    return caught.value


def test_the_pause_doubles_up_to_the_longest_with_jitter() -> None:
    message = a_message()
    policy = RetryPolicy(0, 1.0, 8.0)
    pauses = []
    for attempt in range(1, 7):
        message.attempt = attempt
        pauses.append(outcome(policy, ValueError(), message).again[0][1])
    assert pauses == [1.0, 2.0, 4.0, 7.0, 7.0, 7.0]
    message.attempt = 1
    assert outcome(policy, ValueError(), message, random=0.0).again[0][1] == 0.75
    assert outcome(policy, ValueError(), message, random=1.0).again[0][1] == 1.25


@pytest.mark.parametrize(
    ("error", "retried"),
    [(OSError(), True), (FileNotFoundError(), False), (ValueError(), False), (SystemExit(), False)],
)
def test_which_errors_are_tried_again(error: BaseException, retried: bool) -> None:
    """`give_up_on` is stronger than `retry_on`; what is neither goes through as it is."""
    policy = RetryPolicy(retry_on=OSError, give_up_on=FileNotFoundError)
    message = a_message()
    if retried:
        assert outcome(policy, error, message).cause is error
        return

    def handler(worker_id: int, message: Message) -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        retrying(policy)(handler)(1, message)
    assert caught.value is error


def test_a_message_that_its_handler_released_is_not_tried_again() -> None:
    """The next message of its partition is under way: it cannot be taken back."""
    message = a_message()

    def handler(worker_id: int, message: Message) -> None:
        message.release()
        raise OSError

    with pytest.raises(OSError):
        retrying(QUICK)(handler)(1, message)


@pytest.mark.parametrize("partitions_or_keys", ["partitions", "keys"])
def test_a_message_that_waits_occupies_no_worker_and_holds_only_what_must_wait(
    topic: TopicFactory,
    consumer_group: GroupFactory,
    send: SendFunction,
    committed: CommittedFunction,
    partitions_or_keys: str,
) -> None:
    """One worker: what is behind the failed message waits for it, everything else is handled."""
    by_key = partitions_or_keys == "keys"
    name = topic(1 if by_key else 2)
    send(name, "poison", "behind", key="a")
    send(name, "other", "another", key="b", partition=0 if by_key else 1)
    handled: Collected[bytes | None] = Collected()

    def handler(worker_id: int, message: Message) -> None:
        if message.data == b"poison":
            raise ValueError("not now")
        handled.add(message.data)

    ordering = Ordering.KEY if by_key else Ordering.PARTITION
    group = consumer_group(name, retry=FOR_EVER, ordering=ordering, librdkafka=INCREMENTAL)
    group.register_handler(handler)
    group.start()
    assert handled.wait(2) == [b"other", b"another"]
    assert group.stop_and_wait(PATIENCE)
    assert handled.items == [b"other", b"another"]
    # By key the position goes along with what is finished beyond it.
    assert committed(group.group_name, name) == (0 if by_key else None)


def test_a_retry_does_not_outlive_its_assignment(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction
) -> None:
    """The pause is an hour, but a stop does not wait for it; after the next start it is a first attempt."""
    name = topic()
    send(name, "v")
    attempts: Collected[int] = Collected()

    def handler(worker_id: int, message: Message) -> None:
        attempts.add(message.attempt)
        raise ValueError("not now")

    group = consumer_group(name, retry=FOR_EVER, librdkafka=INCREMENTAL)
    group.register_handler(handler)
    group.start()
    attempts.wait(1)
    assert group.stop_and_wait(PATIENCE)
    group.start()
    assert attempts.wait(2) == [1, 1]


@pytest.mark.parametrize("commit", [True, False])
def test_after_the_last_attempt_the_failure_is_as_without_a_policy(
    topic: TopicFactory,
    consumer_group: GroupFactory,
    send: SendFunction,
    committed: CommittedFunction,
    logged: Logged,
    commit: bool,
) -> None:
    name = topic()
    send(name, "poison", "v")
    attempts: Collected[tuple[bytes | None, int]] = Collected()

    def handler(worker_id: int, message: Message) -> None:
        attempts.add((message.data, message.attempt))
        if message.data == b"poison":
            raise HandlerError("never", commit=commit)

    group = consumer_group(name, retry=QUICK, librdkafka=INCREMENTAL)
    group.register_handler(handler)
    group.start()
    assert attempts.wait(4) == [(b"poison", 1), (b"poison", 2), (b"poison", 3), (b"v", 1)]
    assert group.stop_and_wait(PATIENCE)
    assert committed(group.group_name, name) == (2 if commit else 0)
    assert fields(logged.wait("failed to handle message"))["commit_message"] is commit
    tried_again = [fields(record) for record in logged.of("handler failed, the message is tried again")]
    assert [line["attempt"] for line in tried_again] == [1, 2]
    assert all(0 < line["retry_in_seconds"] <= 0.02 for line in tried_again)


def test_in_a_batch_the_named_messages_wait_and_what_is_behind_them_too(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction, committed: CommittedFunction
) -> None:
    """The others of the batch are committed; the failed one comes again before its successors."""
    name = topic()
    send(name, "a", "poison", "b", "c", "d")
    batches: Collected[list[tuple[bytes | None, int]]] = Collected()

    def handler(batch: list[Message]) -> None:
        batches.add([(message.data, message.attempt) for message in batch])
        failed = [message for message in batch if message.data == b"poison" and message.attempt == 1]
        if failed:
            raise BatchError(failed)

    group = consumer_group(name, retry=QUICK, batch_size=3, batch_wait_time=0.05, librdkafka=INCREMENTAL)
    group.register_batch_handler(handler)
    group.start()
    batches.wait(2)
    assert group.stop_and_wait(PATIENCE)
    seen = [each for batch in batches.items for each in batch]
    assert seen == [(b"a", 1), (b"poison", 1), (b"b", 1), (b"poison", 2), (b"c", 1), (b"d", 1)]
    assert committed(group.group_name, name) == 5


@pytest.mark.parametrize("named", [False, True], ids=["all failed", "the first failed"])
def test_what_a_handler_takes_out_of_its_batch_is_tried_again_all_the_same(named: bool) -> None:
    """A batch is the handler's own list: who works it off may have nothing left of it when he fails."""
    session = new_session()
    session.set_batched()
    open_lane(session).add(raws(0, 1, 2))
    batch = session.upstream.get_row(3)
    expected = batch[:1] if named else batch[:]

    def handler(batch: list[Message]) -> None:
        first = batch.pop(0)
        batch.clear()
        raise BatchError([first]) if named else OSError

    with pytest.raises(Unsettled) as caught:
        retrying(QUICK)(handler)(batch)
    assert [message for message, _ in caught.value.again] == expected


def batch_of(session: Session, count: int) -> list[int]:
    """The offsets of the next batch, of what is there."""
    offsets: list[int] = []
    with contextlib.suppress(Empty):
        while len(offsets) < count:
            offsets += [message.offset for message in session.upstream.get_row(count - len(offsets))]
    return offsets


@pytest.mark.parametrize("ordering", list(Ordering))
def test_what_is_delivered_while_a_batch_is_handled_does_not_overtake_its_failures(
    ordering: Ordering,
) -> None:
    """Offset 3 is offered before 1 and 2 fail; 2 is due before 1, and waits for it too."""
    session = new_session(ordering)
    session.set_batched()
    lane = open_lane(session)
    lane.add(raws(0, 1, 2))
    first, second, third = session.upstream.get_row(3)
    lane.add(raws(3, 4))
    now = time.monotonic()
    session.defer(second, 20)
    session.defer(third, 10)
    lane.advance_all([first], finish=True)
    waits = ordering is not Ordering.NONE
    assert batch_of(session, 5) == ([] if waits else [3, 4])
    session.serve_retries(now + 15)
    assert batch_of(session, 5) == ([] if waits else [2])
    session.serve_retries(now + 25)
    assert batch_of(session, 5) == ([1, 2, 3, 4] if waits else [1])
    assert lane.offsets.blocking == 1


def test_failures_of_many_partitions_at_once_each_come_again(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction, committed: CommittedFunction
) -> None:
    """Every message fails twice: each is handled three times, in the order of its partition."""
    name = topic(4)
    for partition in range(4):
        send(name, *(f"{number}" for number in range(10)), partition=partition)
    seen: Collected[tuple[int, int, int]] = Collected()

    def handler(worker_id: int, message: Message) -> None:
        seen.add((message.partition, message.offset, message.attempt))
        if message.attempt < 3:
            raise ValueError("not yet")

    group = consumer_group(name, retry=QUICK, num_workers=3, librdkafka=INCREMENTAL)
    group.register_handler(handler)
    group.start()
    seen.wait(4 * 10 * 3)
    assert group.stop_and_wait(PATIENCE)
    for partition in range(4):
        mine = [(offset, attempt) for number, offset, attempt in seen.items if number == partition]
        assert mine == [(offset, attempt) for offset in range(10) for attempt in (1, 2, 3)]
        assert committed(group.group_name, name, partition) == 10


def test_an_exception_whose_text_cannot_be_had_is_tried_again_too(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction, logged: Logged
) -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    name = topic()
    send(name, "v")
    done = threading.Event()

    def handler(worker_id: int, message: Message) -> None:
        if message.attempt == 1:
            raise Odd
        done.set()

    group = consumer_group(name, retry=QUICK)
    group.register_handler(handler)
    group.start()
    assert done.wait(PATIENCE)
    line: Any = fields(logged.wait("handler failed, the message is tried again"))
    assert line["error"] == "<Odd, whose str() raised RuntimeError>"
