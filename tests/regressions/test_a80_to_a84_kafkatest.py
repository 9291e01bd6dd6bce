"""Defects A80 to A84 of the original's test kit: each test fails with the defect."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

import dp_kafka
from dp_kafka import ConsumerGroupConfig, Message, Ordering, ProducerConfig, State, kafkatest
from dp_kafka.health import CheckState, Status
from dp_kafka.kafkatest import Consumer, Producer, new_message
from tests.waiting import PATIENCE, Collected, in_thread

NOBODY = ["127.0.0.1:1"]


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def consumer(closing: ExitStack) -> Callable[..., Consumer]:
    def make(**config: Any) -> Consumer:
        made = Consumer(ConsumerGroupConfig(NOBODY, "in", "group", **config))
        closing.callback(made.close, timeout=PATIENCE / 3)
        return made

    return make


@pytest.mark.parametrize("kind", ["consumer", "producer"])
def test_a80_a_checker_on_a_fake_says_ok_and_when_its_cluster_is_away_critical(
    closing: ExitStack, kind: str
) -> None:
    """A80: the fakes' metadata had no partitions, so a service's health check was CRITICAL on them."""
    fake: Consumer | Producer
    if kind == "consumer":
        fake = Consumer(ConsumerGroupConfig(NOBODY, "in", "group"))
    else:
        fake = Producer(ProducerConfig(NOBODY, "out"))
    closing.callback(fake.close, timeout=PATIENCE / 3)
    state = CheckState()
    fake.checker(state)
    assert state.status is Status.OK
    fake.cluster.down()
    fake.checker(state)
    assert state.status is Status.CRITICAL
    fake.cluster.up()
    fake.checker(state)
    assert state.status is Status.OK


def test_a80_a_fake_that_is_not_initialised_is_a_warning(closing: ExitStack) -> None:
    fake = Producer(ProducerConfig(NOBODY, "out"), initialised=False)
    closing.callback(fake.close, timeout=PATIENCE / 3)
    state = CheckState()
    fake.checker(state)
    assert state.status is Status.WARNING


def test_a81_releasing_a_message_twice_is_as_harmless_as_on_a_real_one() -> None:
    """A81: the fake message panicked at the second release, the real one did not."""
    message = new_message(b"data", 1)
    for _ in range(2):
        message.release()
        message.commit_and_release()
        message.upstream_done.set()
        assert message.is_released


def test_a82_errors_can_be_injected(consumer: Callable[..., Consumer]) -> None:
    """A82: the fakes could inject no errors …"""
    fake = consumer()
    fake.start()
    assert fake.state_wait(State.CONSUMING, PATIENCE)
    fake.fail_next("poll", "TOPIC_AUTHORIZATION_FAILED")
    error = fake.channels.errors.get(timeout=PATIENCE)
    assert isinstance(error, dp_kafka.KafkaClientError)
    assert error.permanent


def test_a82_headers_can_be_set_and_read_and_carry_the_trace_id(consumer: Callable[..., Consumer]) -> None:
    """A82: … set and read no headers, and bypassed tracing, as their handler was not the library's …"""
    fake = consumer()
    seen: Collected[tuple[str, str | None]] = Collected()
    fake.register_handler(
        lambda _worker, message: seen.add((message.get_header("colour"), dp_kafka.current_trace_id()))
    )
    fake.start()
    fake.queue_json({}, headers={"colour": "blue", dp_kafka.TRACE_ID_HEADER: "trace"})
    assert seen.wait(1) == [("blue", "trace")]


def test_a82_commits_are_told_per_partition_and_pass_nothing_unfinished(
    consumer: Callable[..., Consumer],
) -> None:
    """A82: … told of no commits …"""
    fake = consumer(ordering=Ordering.NONE)
    fake.start()
    for _ in range(2):
        fake.queue_bytes(b"", partition=3)
    first, second = (fake.channels.upstream.get(timeout=PATIENCE) for _ in range(2))
    second.commit_and_release()
    assert fake.committed.get(3, 1) == 1, "the first is not finished"
    first.commit_and_release()
    fake.wait_all_committed()
    assert fake.committed == {3: 3}


def test_a82_partitions_are_separate_and_ordered(consumer: Callable[..., Consumer]) -> None:
    """A82: … and had one shared queue: partition 0 for all, and no order with several workers."""
    fake = consumer(num_workers=2)
    held, go_on = threading.Event(), threading.Event()
    seen: Collected[tuple[int, int]] = Collected()

    def handler(_worker: int, message: Message) -> None:
        if message.data == b"slow":
            held.set()
            assert go_on.wait(PATIENCE)
        seen.add((message.partition, message.offset))

    fake.register_handler(handler)
    fake.start()
    fake.queue_bytes(b"slow", partition=1)
    assert held.wait(PATIENCE)
    fake.queue_bytes(b"", partition=1)
    fake.queue_bytes(b"", partition=2)
    assert seen.wait(1) == [(2, 1)], "another partition does not wait, its own does"
    go_on.set()
    assert seen.wait(3) == [(2, 1), (1, 1), (1, 2)]


def test_a83_queueing_never_blocks_and_holds_up_nobody(consumer: Callable[..., Consumer]) -> None:
    """A83: a full queue blocked with the fake's lock held, so that nothing else could be called on it."""
    fake = consumer()
    for number in range(1_000):
        fake.queue_json(number)
    assert in_thread(lambda: fake.rebalance_cluster()).result(PATIENCE) is False
    assert fake.uncommitted == {0: 1_000}


def test_a83_one_fake_s_settings_are_not_another_s(closing: ExitStack) -> None:
    """A83: the default configuration was one shared mutable object."""
    first = Producer(ProducerConfig(NOBODY, "out"))
    second = Producer(ProducerConfig(NOBODY, "out"))
    for fake in (first, second):
        closing.callback(fake.close, timeout=PATIENCE / 3)
    first.add_header("colour", "blue")
    first.cluster.down()
    second.send_bytes(b"")
    assert "colour" not in dict(second.wait_for_sent().headers() or [])
    assert first.cluster is not second.cluster


def test_a83_many_threads_may_use_a_fake(consumer: Callable[..., Consumer]) -> None:
    """A83: data races; here nothing is lost, and rebalances come in between."""
    fake = consumer(num_workers=4, ordering=Ordering.NONE)
    seen: Collected[int] = Collected()
    fake.register_handler(lambda _worker, message: seen.add(int(message.data or b"-1")))
    fake.start()
    assert fake.state_wait(State.CONSUMING, PATIENCE)

    def queue(first: int) -> None:
        for number in range(first, first + 100):
            fake.queue_json(number, partition=number % 4)

    calls = [in_thread(lambda first=first: queue(first)) for first in range(0, 400, 100)]  # type: ignore[misc]
    calls += [in_thread(lambda: fake.rebalance_cluster() and None) for _ in range(4)]
    for call in calls:
        call.result(PATIENCE)
    fake.wait_all_committed()
    assert sorted(seen.items) == list(range(400))


def test_a84_everything_that_the_test_kit_offers_exists_and_is_documented() -> None:
    """A84: the README showed names, results and signatures that were not there."""
    for name in kafkatest.__all__:
        offered = getattr(kafkatest, name)
        if inspect.isclass(offered) or inspect.isfunction(offered):
            assert inspect.getdoc(offered), name
    for cls in (Consumer, Producer, kafkatest.NewMessage, kafkatest.MemoryCluster, kafkatest.EmbeddedCluster):
        for name, member in vars(cls).items():
            if not name.startswith("_") and (callable(member) or isinstance(member, property)):
                assert inspect.getdoc(member), f"{cls.__name__}.{name}"
    assert isinstance(new_message(b"", 1), Message), "one result, not two"
