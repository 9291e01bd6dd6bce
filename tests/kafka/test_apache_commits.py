"""Commits on Apache Kafka, which answers the requests of a connection one after the other."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack

import confluent_kafka
import pytest
from confluent_kafka.admin import NewTopic

from dp_kafka import ConsumerGroup, ConsumerGroupConfig, Message
from tests.faults.service import until
from tests.waiting import Collected, Logged

from .apache import ApacheKafka
from .conftest import need_brokers

PATIENCE = 60.0
TOPIC, GROUP = "overtaken", "overtaken-group"


@pytest.fixture(scope="module")
def kafka() -> Iterator[ApacheKafka]:
    """Three brokers of this module's own, to be paused."""
    need_brokers()
    # A second until a commit is answered that a replica does not take; before a paused broker is fenced.
    with ApacheKafka(brokers=3, broker_properties={"offsets.commit.timeout.ms": 1_000}) as three:
        # Both partitions on the first broker alone: whatever else is paused, they can be produced to.
        admin = three.admin()
        for future in admin.create_topics([NewTopic(TOPIC, 2, replica_assignment=[[1], [1]])]).values():
            future.result(PATIENCE)
        yield three


def test_a_commit_that_librdkafka_tries_again_does_not_undo_that_of_a_revoke(
    kafka: ApacheKafka, logged: Logged
) -> None:
    """The broker takes the last commit that comes, and an old one that is tried again comes last.

    a replica hangs -> the round under way is answered late, with an error -> the partitions go, and their
    revoke commits more -> librdkafka tries the round again -> whoever gets the partition starts too early
    """
    first_handled: Collected[tuple[int, int]] = Collected()
    others_handled: Collected[tuple[int, int]] = Collected()
    held, release = threading.Event(), threading.Event()

    def handle(_worker: int, message: Message) -> None:
        first_handled.add((message.partition, message.offset))

    def hold(_worker: int, message: Message) -> None:
        held.set()
        assert release.wait(PATIENCE)
        others_handled.add((message.partition, message.offset))

    with ExitStack() as stack:

        def join(handler: object, **librdkafka: object) -> ConsumerGroup:
            config = ConsumerGroupConfig(
                kafka.broker_addrs,
                TOPIC,
                group_name=GROUP,
                commit_interval=0.01,
                message_consume_timeout=PATIENCE / 2,
                librdkafka={"heartbeat.interval.ms": 200, **librdkafka},
            )
            group = ConsumerGroup(config)
            stack.callback(group.close, timeout=PATIENCE)
            group.register_handler(handler)  # type: ignore[arg-type]
            group.start()
            return group

        first = join(handle, **{"debug": "protocol", "retry.backoff.ms": 500, "retry.backoff.max.ms": 1000})
        assert until(lambda: len(owned(first)) == 2, PATIENCE)
        second = join(hold)
        assert until(lambda: len(owned(first)) == len(owned(second)) == 1, PATIENCE)
        (ours,), (theirs,) = owned(first), owned(second)
        # It is to hold up the rebalance, so that the generation, which would refuse an old commit, stays.
        send(kafka, theirs)
        assert held.wait(PATIENCE)

        replica = next(broker for broker in (2, 3) if broker != coordinator(kafka))
        kafka.pause(replica)
        stack.callback(kafka.resume, replica)
        send(kafka, ours)
        first_handled.wait(1, PATIENCE)
        session = first._poller.session
        assert session is not None
        assert until(lambda: session.commits.in_flight, PATIENCE)
        send(kafka, ours)
        first_handled.wait(2, PATIENCE)
        lane = session.lanes[ours]
        third = join(hold)
        stack.callback(release.set)
        assert until(lambda: lane.phase.value != "open", PATIENCE)  # the round was answered: here it revokes
        kafka.resume(replica)
        # The round, the commit of the revoke, and the round again.
        answered = "Received OffsetCommitResponse"
        assert until(lambda: sum(answered in line for line in logged.text.splitlines()) >= 3, PATIENCE)
        release.set()
        assert until(lambda: all(map(owned, (second, third))) or bool(owned(first)), PATIENCE)
        send(kafka, ours)
        assert until(lambda: (ours, 2) in first_handled.items + others_handled.items, PATIENCE), (
            "what came later was not handled"
        )
        handled = sorted(first_handled.items + others_handled.items)
        assert [offset for partition, offset in handled if partition == ours] == [0, 1, 2]


def owned(group: ConsumerGroup) -> set[int]:
    """The partitions of a member."""
    session = group._poller.session
    return set() if session is None else set(session.lanes)


def coordinator(kafka: ApacheKafka) -> int:
    """The broker that coordinates the group."""
    admin = kafka.admin()  # held until the answer
    (future,) = admin.describe_consumer_groups([GROUP]).values()
    found: int = future.result(PATIENCE).coordinator.id
    return found


def send(kafka: ApacheKafka, partition: int) -> None:
    """One message."""
    producer = confluent_kafka.Producer({"bootstrap.servers": ",".join(kafka.broker_addrs)})
    producer.produce(TOPIC, b"value", partition=partition)
    assert producer.flush(PATIENCE) == 0
