"""`stop_and_wait()` gave True while a handler was at work, or before what was handled was committed.

While somebody else's `close(timeout=…)` was under way, True meant that the closing had gone on to its hooks:
before the last commit, and at its deadline whatever was in hand. And a handler whose partition was revoked or
lost, or whose session failed, was in no session any more: no stop waited for it. A stop gave True, too, when
the broker had refused its last commit.
"""

from __future__ import annotations

import threading
from typing import Any

import pytest
from confluent_kafka import KafkaError

from dp_kafka import ConsumerGroup, Message, Producer, State
from dp_kafka.kafkatest import EmbeddedCluster
from tests.conftest import CLASSIC, INCREMENTAL, CommittedFunction, GroupFactory, SendFunction, TopicFactory
from tests.faults.service import producer_config
from tests.looking import eventually
from tests.sending import ready
from tests.waiting import PATIENCE, Collected, Held, Logged, consuming, fields, in_thread, wait_entered


def refused(cluster: EmbeddedCluster, consumer_group: GroupFactory) -> tuple[ConsumerGroup, Collected[int]]:
    """A group that has handled a message, of which the broker refuses the commit; the offsets handled."""
    cluster.create_topic("orders")
    cluster.inject_errors("OffsetCommit", *["TOPIC_AUTHORIZATION_FAILED"] * 200)
    handled: Collected[int] = Collected()
    group = consumer_group("orders", broker_addrs=cluster.broker_addrs, librdkafka=INCREMENTAL)
    group.register_handler(lambda _worker_id, message: handled.add(message.offset))
    group.start()
    with ready(Producer(producer_config(cluster, "orders"))) as producer:
        producer.send_bytes(b"order")
    handled.wait(1)
    return group, handled


def test_it_is_false_when_a_close_leaves_a_handler_at_its_deadline(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction
) -> None:
    name = topic()
    group = consumer_group(name, librdkafka=INCREMENTAL)
    send(name, "a")
    held = Held.by(group)
    try:
        closing = in_thread(lambda: group.close(timeout=0.3))
        assert group.state_wait(State.CLOSING, PATIENCE)
        assert not group.stop_and_wait(PATIENCE)
        assert not held.handled.items
        assert closing.result(PATIENCE) == 1
    finally:
        held.finish.set()
    held.handled.wait(1)
    assert not group.stop_and_wait(PATIENCE), "the commit of what was left is refused"


def test_while_hooks_run_it_waits_for_the_commit_of_what_is_handled(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction, committed: CommittedFunction
) -> None:
    """But not for the hooks: one may wait for the thread that waits for the stop, as here."""
    name = topic()
    handled: Collected[int] = Collected()
    # The first commit waits for no interval; once it is there, the next is far away.
    group = consumer_group(name, commit_interval=600.0, librdkafka=INCREMENTAL)
    group.register_handler(lambda _worker_id, message: handled.add(message.offset))
    group.start()
    send(name, "a")
    eventually(lambda: committed(group.group_name, name), 1)
    send(name, "b")
    handled.wait(2)
    found: list[object] = []

    def hook() -> None:
        found.append(in_thread(lambda: group.stop_and_wait(PATIENCE)).result(PATIENCE))
        found.append(committed(group.group_name, name))

    assert group.close(hook, timeout=2 * PATIENCE) == 0
    assert found == [True, 2]


def test_it_is_false_when_the_broker_refuses_the_last_commit_of_a_close(
    own_cluster: EmbeddedCluster, consumer_group: GroupFactory
) -> None:
    group, _ = refused(own_cluster, consumer_group)
    found: list[bool] = []

    def hook() -> None:
        found.append(in_thread(lambda: group.stop_and_wait(PATIENCE)).result(PATIENCE))

    group.close(hook, timeout=2 * PATIENCE)
    assert [*found, group.stop_and_wait(0)] == [False, False]


def test_it_is_false_when_the_broker_refuses_the_last_commit_of_a_stop(
    own_cluster: EmbeddedCluster, consumer_group: GroupFactory
) -> None:
    """And true again after a stop that has nothing to leave."""
    group, handled = refused(own_cluster, consumer_group)
    assert not group.stop_and_wait(PATIENCE)
    assert group.state is State.STOPPED
    assert not group.stop_and_wait(PATIENCE), "nothing has changed since"
    own_cluster.clear_errors("OffsetCommit")
    consuming(group)
    handled.wait(2)
    assert group.stop_and_wait(PATIENCE)


def test_it_stays_false_when_the_consumer_is_closed_behind_a_stop_without_its_commit(
    own_cluster: EmbeddedCluster, consumer_group: GroupFactory
) -> None:
    group, _ = refused(own_cluster, consumer_group)
    assert not group.stop_and_wait(PATIENCE)
    group.close(timeout=PATIENCE)
    assert not group.stop_and_wait(PATIENCE)


def test_it_is_false_when_a_revoke_within_the_stop_is_not_committed(
    own_cluster: EmbeddedCluster, consumer_group: GroupFactory
) -> None:
    """Its lanes are gone when the stop ends, and with them what told of the commit that is missing."""
    own_cluster.create_topic("orders")
    held = Held()
    settings: Any = {"broker_addrs": own_cluster.broker_addrs, "group_name": "g", "librdkafka": CLASSIC}
    group = consumer_group("orders", message_consume_timeout=PATIENCE, **settings)
    group.register_handler(held)
    consuming(group)
    with ready(Producer(producer_config(own_cluster, "orders"))) as producer:
        producer.send_bytes(b"order")
    assert held.entered.wait(PATIENCE)
    stopping = in_thread(lambda: group.stop_and_wait(2 * PATIENCE))
    assert group.state_wait(State.STOPPING, PATIENCE)
    membership = group._poller.membership
    assert membership is not None
    served = membership.rebalances.served
    consumer_group("orders", **settings).start()
    eventually(lambda: membership.rebalances.served > served)
    own_cluster.inject_errors("OffsetCommit", *["TOPIC_AUTHORIZATION_FAILED"] * 200)
    held.finish.set()
    assert not stopping.result(2 * PATIENCE)


@pytest.mark.parametrize("end", ["stop", "close", "stop of the next session"])
def test_it_is_false_when_a_session_that_failed_had_not_committed(
    own_cluster: EmbeddedCluster, consumer_group: GroupFactory, logged: Logged, end: str
) -> None:
    own_cluster.create_topic("orders")
    pause = 0.01 if end == "stop of the next session" else 60.0
    group = consumer_group(
        "orders",
        broker_addrs=own_cluster.broker_addrs,
        librdkafka=INCREMENTAL,
        commit_interval=600.0,
        min_retry_period=pause,
        max_retry_period=pause,
    )
    handled: Collected[int] = Collected()
    group.register_handler(lambda _worker_id, message: handled.add(message.offset))
    consuming(group)
    with ready(Producer(producer_config(own_cluster, "orders"))) as producer:
        producer.send_bytes(b"a")
        handled.wait(1)
        producer.send_bytes(b"b")  # the first commit waits for no interval
        handled.wait(2)
    # So that no further session gets partitions.
    own_cluster.inject_errors("ConsumerGroupHeartbeat", *["COORDINATOR_LOAD_IN_PROGRESS"] * 2_000)
    own_cluster.inject_errors("JoinGroup", *["COORDINATOR_LOAD_IN_PROGRESS"] * 2_000)
    seen = group.channels.state.entries(State.STARTING)
    group._poller._errors.take(KafkaError(KafkaError._FATAL, "of the test", fatal=True))
    logged.wait("consuming failed, it is begun again")
    if end == "close":
        group.close(timeout=PATIENCE)
    elif end == "stop of the next session":
        assert wait_entered(group, State.STARTING, seen)
        eventually(lambda: group._poller.membership is not None)
    assert not group.stop_and_wait(PATIENCE)


def test_a_handler_of_a_session_that_failed_is_waited_for(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction, logged: Logged
) -> None:
    name = topic()
    # So that no session follows before the stop.
    group = consumer_group(name, librdkafka=INCREMENTAL, min_retry_period=60.0, max_retry_period=60.0)
    send(name, "a")
    held = Held.by(group)
    try:
        group._poller._errors.take(KafkaError(KafkaError._FATAL, "of the test", fatal=True))
        logged.wait("consuming failed, it is begun again")
        group.stop()
        assert group.state_wait(State.STOPPED, PATIENCE)
        assert not group.stop_and_wait(timeout=0)
    finally:
        held.finish.set()
    assert group.stop_and_wait(PATIENCE)
    assert held.handled.items == [b"a"]


def test_a_handler_whose_partition_was_not_given_back_in_time_is_waited_for(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction, logged: Logged
) -> None:
    """Two partitions, each with a handler at work; one partition goes to a second member."""
    name = topic(partitions=2)
    finish = [threading.Event(), threading.Event()]
    begun: Collected[int] = Collected()
    ended: Collected[int] = Collected()

    def handle(_worker_id: int, message: Message) -> None:
        begun.add(message.partition)
        assert finish[message.partition].wait(2 * PATIENCE)
        ended.add(message.partition)

    member = {"group_name": name, "librdkafka": INCREMENTAL, "message_consume_timeout": 3.01}
    group = consumer_group(name, num_workers=2, **member)
    group.register_handler(handle)
    for partition in (0, 1):
        send(name, "a", partition=partition)
    group.start()
    try:
        begun.wait(2)
        consumer_group(name, **member).start()
        revoked = fields(logged.wait("partitions revoked"))
        assert revoked["in_hand"] == 1
        (gone,) = revoked["partitions"]
        finish[1 - gone].set()
        group.stop()
        assert group.state_wait(State.STOPPED, PATIENCE)
        assert not group.stop_and_wait(timeout=0)
    finally:
        for event in finish:
            event.set()
    assert group.stop_and_wait(PATIENCE)
    assert sorted(ended.items) == [0, 1]


def test_a_message_that_a_user_keeps_beyond_its_partition_holds_no_stop(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction, logged: Logged
) -> None:
    name = topic()
    group = consumer_group(name, librdkafka=INCREMENTAL, min_retry_period=60.0, max_retry_period=60.0)
    group.start()
    send(name, "a")
    kept: Message = group.channels.upstream.get(timeout=PATIENCE)
    group._poller._errors.take(KafkaError(KafkaError._FATAL, "of the test", fatal=True))
    logged.wait("consuming failed, it is begun again")
    group.stop()
    assert group.state_wait(State.STOPPED, PATIENCE)
    assert group.stop_and_wait(timeout=0)
    assert not kept.commit()
