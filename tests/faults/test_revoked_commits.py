"""What is committed when a partition is taken away, on brokers that answer late, wrongly, or not at all."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import confluent_kafka
import pytest

from dp_kafka import ConsumerGroup, Message, State
from dp_kafka.consumer.batch import BatchWorker
from dp_kafka.consumer.lane import Lane
from dp_kafka.kafkatest import EmbeddedCluster
from tests.conftest import committed_offset
from tests.faults.service import consumer_config
from tests.lanes import new_session, open_lane, raws
from tests.looking import eventually
from tests.waiting import PATIENCE, Collected, Held, Logged, consuming, in_thread, wait_entered

TOPIC, GROUP = "revoked", "revoked-group"


@pytest.fixture
def kafka(own_cluster: EmbeddedCluster) -> EmbeddedCluster:
    """A broker of the test's own, with a topic of two partitions."""
    own_cluster.create_topic(TOPIC, partitions=2)
    return own_cluster


@contextmanager
def member(kafka: EmbeddedCluster, handler: object = None, **fields: object) -> Iterator[ConsumerGroup]:
    """A member of the group, closed at the end; it handles with `handler`, if it is given."""
    config = consumer_config(kafka, TOPIC, group_name=GROUP, **fields)
    with ExitStack() as stack:
        group = ConsumerGroup(config)
        stack.callback(group.close, timeout=PATIENCE / 3)
        if handler is not None:
            group.register_handler(handler)  # type: ignore[arg-type]
        yield group


def send(kafka: EmbeddedCluster, value: bytes, *partitions: int) -> None:
    producer = confluent_kafka.Producer({"bootstrap.servers": kafka.bootstrap_servers, "linger.ms": 0})
    for partition in partitions:
        producer.produce(TOPIC, value, partition=partition)
    assert producer.flush(PATIENCE) == 0


def committed(kafka: EmbeddedCluster) -> list[int | None]:
    return [committed_offset(kafka, GROUP, TOPIC, partition) for partition in range(2)]


def owned(group: ConsumerGroup) -> set[int]:
    session = group._poller.session
    return set() if session is None else set(session.lanes)


def test_a_revoke_commits_what_is_finished_on_the_partitions_that_stay_too(kafka: EmbeddedCluster) -> None:
    """It counts as the round that was due for them, and nothing else may come to set off another one."""
    handled: Collected[int] = Collected()
    with (
        member(kafka, lambda _worker, message: handled.add(message.partition), commit_interval=60.0) as first,
        member(kafka) as second,
    ):
        consuming(first)
        eventually(lambda: owned(first), {0, 1})
        send(kafka, b"first round", 0)
        eventually(lambda: committed(kafka), [1, None])
        send(kafka, b"next round, in a minute", 0, 1)
        handled.wait(3)
        consuming(second)
        eventually(lambda: len(owned(first)), 1)
        eventually(lambda: committed(kafka), [2, 1])


def test_a_coordinator_that_is_not_ready_at_a_revoke_costs_no_commit(kafka: EmbeddedCluster) -> None:
    """As after a broker's end, when the coordinator moves and the group rebalances at the same time."""
    entered, finish = threading.Event(), threading.Event()
    handled: Collected[int] = Collected()

    def handler(_worker: int, message: Message) -> None:
        entered.set()
        assert finish.wait(PATIENCE)
        handled.add(message.partition)

    with (
        # The revoke must not give up though the process stands still meanwhile.
        member(kafka, handler, num_workers=2, message_consume_timeout=PATIENCE) as first,
        member(kafka, lambda _worker, message: handled.add(message.partition)) as second,
    ):
        consuming(first)
        eventually(lambda: owned(first), {0, 1})
        send(kafka, b"in hand", 0, 1)
        assert entered.wait(PATIENCE)
        second.start()
        eventually(lambda: bool(first._poller.session and _draining(first)))
        kafka.inject_errors("OffsetCommit", *["COORDINATOR_LOAD_IN_PROGRESS"] * 4)
        finish.set()
        assert second.state_wait(State.CONSUMING, PATIENCE)
        eventually(lambda: len(owned(second)), 1)
        eventually(lambda: committed(kafka), [1, 1])
        send(kafka, b"later", 0, 1)
        handled.wait(4)
        assert sorted(handled.items) == [0, 0, 1, 1], "what was finished before the revoke was handled again"


def _draining(group: ConsumerGroup) -> bool:
    session = group._poller.session
    return session is not None and any(
        lane.phase.value == "draining" for lane in list(session.lanes.values())
    )


def test_a_durable_commit_that_the_broker_does_not_have_is_never_called_committed(
    kafka: EmbeddedCluster, logged: Logged
) -> None:
    """The partition goes while the commit waits for an answer: False, and a warning, not True."""
    answers: Collected[tuple[int, bool]] = Collected()
    handed: Collected[Message] = Collected()

    def handler(_worker: int, message: Message) -> None:
        handed.add(message)
        answers.add((message.partition, message.commit()))

    with (
        member(kafka, handler, num_workers=2, commit_interval=0) as first,
        member(kafka) as second,
    ):
        consuming(first)
        eventually(lambda: owned(first), {0, 1})
        kafka.inject_errors("OffsetCommit", *["COORDINATOR_LOAD_IN_PROGRESS"] * 2_000)
        send(kafka, b"in hand", 0, 1)
        handed.wait(2)
        second.start()
        eventually(lambda: len(owned(first)), 1)
        (stays,) = owned(first)
        assert answers.wait(1)[0] == (1 - stays, False)
        assert logged.wait("commit refused: the partition was revoked or lost")
        assert answers.items == [(1 - stays, False)], "that of the partition that stays waits on"
        kafka.clear_errors("OffsetCommit")
        assert answers.wait(2)[1] == (stays, True)
        assert committed(kafka)[stays] == 1


def test_durable_commits_on_partitions_that_stay_are_answered_for_what_was_sent(
    kafka: EmbeddedCluster,
) -> None:
    """True means that the broker has it, also when a revoke's own commit is what answers."""
    answers: Collected[tuple[int, bool, int | None]] = Collected()
    handed: Collected[Message] = Collected()
    go_on = threading.Event()

    def handler(_worker: int, message: Message) -> None:
        handed.add(message)
        assert go_on.wait(PATIENCE)
        done = message.commit()
        answers.add((message.partition, done, committed_offset(kafka, GROUP, TOPIC, message.partition)))

    with (
        # As above.
        member(kafka, handler, num_workers=2, message_consume_timeout=PATIENCE, commit_interval=0) as first,
        member(kafka) as second,
    ):
        consuming(first)
        eventually(lambda: owned(first), {0, 1})
        send(kafka, b"in hand", 0, 1)
        handed.wait(2)
        second.start()
        eventually(lambda: _draining(first))
        go_on.set()
        for _partition, done, offset in answers.wait(2):
            assert done
            assert offset == 1


@pytest.mark.early
def test_a_durable_commit_without_a_broker_does_not_hold_up_the_end_for_ever(kafka: EmbeddedCluster) -> None:
    """Nobody gave a timeout: the stop waits for handlers, but not for a broker that does not come back."""
    answers: Collected[bool] = Collected()
    entered = threading.Event()

    def handler(_worker: int, message: Message) -> None:
        entered.set()
        answers.add(message.commit())

    with member(kafka, handler, commit_interval=0) as group:
        consuming(group)
        kafka.inject_errors("OffsetCommit", *["COORDINATOR_LOAD_IN_PROGRESS"] * 2_000)
        send(kafka, b"in hand", 0)
        assert entered.wait(PATIENCE)
        # message_consume_timeout for the answer to the handler's commit, and once more for the last try.
        assert not in_thread(group.stop_and_wait).result(2 * PATIENCE), "the broker has no commit"
        assert group.state is State.STOPPED
        assert answers.items == [False]
    assert committed(kafka)[0] is None
    kafka.clear_errors("OffsetCommit")


@pytest.mark.parametrize("commit_interval", [0.05, 0], ids=["interval", "durable"])
def test_a_member_that_was_expelled_does_not_insist_on_its_commit(
    kafka: EmbeddedCluster, commit_interval: float
) -> None:
    """The group goes on without it: the revoke ends at once, and not after all of its patience."""
    held = Held()
    with (
        member(
            kafka,
            held,
            num_workers=2,
            message_consume_timeout=PATIENCE,
            commit_interval=commit_interval,
        ) as first,
        member(kafka) as second,
    ):
        consuming(first)
        eventually(lambda: owned(first), {0, 1})
        send(kafka, b"in hand", 0, 1)
        assert held.entered.wait(PATIENCE)
        second.start()
        eventually(lambda: _draining(first))
        kafka.inject_errors("OffsetCommit", *["UNKNOWN_MEMBER_ID"] * 100)
        seen = first.channels.state.entries(State.CONSUMING)
        began = time.monotonic()
        held.finish.set()
        assert wait_entered(first, State.CONSUMING, seen)
        assert time.monotonic() - began < PATIENCE / 2
        kafka.clear_errors("OffsetCommit")


def test_a_batch_is_handled_at_once_when_its_partition_goes_though_others_bring_more() -> None:
    """Else it would wait for its size, or its time, while the other partition never runs dry."""
    batches: Collected[list[int]] = Collected()
    session = new_session()
    going, staying = open_lane(session, 0), open_lane(session, 1)
    session.set_batched()
    worker = BatchWorker(
        "topic",
        lambda batch: batches.add([message.partition for message in batch]),
        session.upstream,
        lambda *_: None,
        batch_size=1_000,
        batch_wait_time=10 * PATIENCE,
        durable=False,
    )
    going.add(raws(1, partition=0))
    worker.start()
    try:
        eventually(lambda: going.in_hand, 1)
        with session.upstream.mutex:  # the flush, and a message of the other partition, at the same moment
            going.drain()
            session.upstream.flushes += 1
            offered = staying_message(staying)
            session.upstream.queue.append(offered)
            session.upstream.not_empty.notify_all()
        assert session.wait_idle([going], PATIENCE)
        assert batches.items[0] == [0]
    finally:
        session.upstream.close()
        worker.join(PATIENCE)


def staying_message(lane: Lane) -> Message:
    """A message that a lane offers, and that is put into the channel by the test."""
    with lane._lock:
        lane.offsets.add([1])
        lane._queued += 1
    return Message(raws(1, partition=lane.partition)[0], lane)
