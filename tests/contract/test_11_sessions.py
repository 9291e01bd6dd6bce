"""Contract 11: sessions: what a group does between two assignments, and what it gives up with one."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from dp_kafka import ConsumerGroup, State
from dp_kafka.consumer.control import Control
from dp_kafka.kafkatest import EmbeddedCluster
from tests.conftest import (
    INCREMENTAL,
    REJOINING,
    CommittedFunction,
    GroupFactory,
    ReadingFactory,
    SendFunction,
    TakeFunction,
    TopicFactory,
)
from tests.looking import eventually
from tests.waiting import PATIENCE, Collected, Held, consuming, in_thread, wait_entered

#: With the classic protocol the embedded broker ends a rebalance by time: the shortest that it allows.
SHORT = {"message_consume_timeout": 3.01}
#: Of members of that protocol that rebalance.
SHORT_CLASSIC: dict[str, Any] = {**SHORT, "librdkafka": REJOINING}


def entries(group: ConsumerGroup, state: State) -> int:
    return group.channels.state.entries(state)


def test_11_1_an_assignment_is_consuming_also_of_no_partitions(
    topic: TopicFactory, consumer_group: GroupFactory
) -> None:
    """One partition, two members, of the classic protocol: the newer one tells nobody that it got none."""
    name = topic()
    first = consuming(consumer_group(name, group_name=name, **SHORT_CLASSIC))
    before = entries(first, State.CONSUMING)
    second = consuming(consumer_group(name, group_name=name, **SHORT_CLASSIC))
    assert wait_entered(first, State.CONSUMING, before)
    eventually(lambda: (first.state, second.state), (State.CONSUMING, State.CONSUMING))
    for group in (first, second):
        assert group.stop_and_wait(PATIENCE)
        assert group.state is State.STOPPED


def test_11_1_a_session_is_begun_by_start_only(topic: TopicFactory, consumer_group: GroupFactory) -> None:
    """What the original refuses as a wrong state to start consuming in: an assignment without a start."""
    control = Control({})
    control.set_initialised()
    control.set_assigned()
    assert control.state is State.STOPPED
    control.start()
    control.stop()
    control.set_assigned()
    assert control.state is State.STOPPING
    control.close()
    control.set_assigned()
    assert control.state is State.CLOSING


def test_11_2_one_message_of_each_partition_is_out_at_a_time(reading: ReadingFactory) -> None:
    it = reading("a", "b", partitions=2)
    messages = {message.partition: message for message in (it.take(), it.take())}
    assert set(messages) == {0, 1}
    assert {message.data for message in messages.values()} == {b"a"}
    assert it.group.channels.upstream.empty()
    messages[1].release()
    following = it.take()
    assert (following.partition, following.data) == (1, b"b")
    assert it.group.channels.upstream.empty()


def test_11_3_what_nobody_has_taken_when_a_session_ends_comes_again(reading: ReadingFactory) -> None:
    """Dropped uncommitted: the message that was offered, and those that were buffered behind it."""
    it = reading("a", "b", "c", librdkafka=INCREMENTAL)
    it.take().commit_and_release()
    assert it.group.stop_and_wait(PATIENCE)
    assert it.committed() == 1
    consuming(it.group)
    assert it.take().data == b"b"


@pytest.mark.parametrize("how", ["stop", "closer"])
def test_11_4_what_was_taken_is_waited_for_when_its_session_ends(
    topic: TopicFactory,
    consumer_group: GroupFactory,
    send: SendFunction,
    committed: CommittedFunction,
    how: str,
) -> None:
    """A handler as long as it takes, also after a stop or closer; its message is committed."""
    name = topic()
    send(name, "a", "b")
    group = consumer_group(name)
    held = Held.by(group)
    if how == "stop":
        group.stop()
    else:
        group.channels.closer.set()
    assert group.state_wait(State.STOPPING if how == "stop" else State.CLOSING, PATIENCE)
    assert not group.channels.closed.wait(0.2)
    assert group.state in (State.STOPPING, State.CLOSING)
    held.finish.set()
    if how == "stop":
        assert group.state_wait(State.STOPPED, PATIENCE)
    else:
        assert group.channels.closed.wait(PATIENCE)
    assert held.handled.items[0] == b"a"
    assert committed(group.group_name, name) == len(held.handled.items)


def test_11_4_what_a_user_holds_is_waited_for_within_message_consume_timeout(reading: ReadingFactory) -> None:
    """Changed: the original waits without limit. What comes later is refused and delivered again."""
    it = reading("a", librdkafka=INCREMENTAL, **SHORT)
    message = it.take()
    assert not it.group.stop_and_wait(timeout=0.2)
    assert it.group.stop_and_wait(PATIENCE)
    assert message.commit() is False
    assert it.committed() is None


def test_11_4_what_a_user_holds_of_a_partition_that_is_to_go_is_waited_for_within_message_consume_timeout(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction
) -> None:
    """Then another member gets the partition, and the message; what the user makes of it is refused."""
    name = topic(partitions=2)
    for partition in range(2):
        send(name, str(partition), partition=partition)
    settings = {"group_name": name, "message_consume_timeout": 3.1, "librdkafka": INCREMENTAL}
    first = consuming(consumer_group(name, **settings))
    kept = {
        message.partition: message
        for message in (first.channels.upstream.get(timeout=PATIENCE) for _ in range(2))
    }
    second = consumer_group(name, **settings)
    second.start()
    again = second.channels.upstream.get(timeout=PATIENCE)
    assert again.commit_and_release()
    assert not kept.pop(again.partition).commit()
    assert kept.popitem()[1].commit()


def test_11_5_what_comes_when_the_upstream_channel_is_closed_is_left_for_the_next_consumer(
    reading: ReadingFactory,
) -> None:
    """Changed: nothing is sent to a closed channel, so there is no error, and nothing on `errors`."""
    it = reading(*"abc", partitions=3)
    message = it.take()
    closer = in_thread(lambda: it.group.close(timeout=PATIENCE))
    assert it.group.state_wait(State.CLOSING, PATIENCE)
    message.commit_and_release()
    assert closer.result(PATIENCE) == 0
    assert list(it.group.channels.errors) == []
    found = {partition: it.committed(partition) for partition in range(3)}
    assert found == {**dict.fromkeys(range(3)), message.partition: 1}


def test_11_6_in_a_session_true_is_ignored_false_stops_and_closing_the_channel_closes(
    topic: TopicFactory, consumer_group: GroupFactory
) -> None:
    group = consuming(consumer_group(topic(), librdkafka=INCREMENTAL))
    group.channels.consume.put(True)
    assert group.state is State.CONSUMING
    assert entries(group, State.STARTING) == entries(group, State.CONSUMING) == 1
    group.channels.consume.put(False)
    assert group.state_wait(State.STOPPED, PATIENCE)
    group.channels.consume.put(True)
    assert group.state_wait(State.CONSUMING, PATIENCE)
    assert group.channels.consume.close()
    assert group.channels.closed.wait(PATIENCE)
    assert group.state is State.CLOSING


def test_11_7_the_end_of_a_session_is_starting_again_if_it_was_consuming_and_else_changes_nothing() -> None:
    control = Control({})
    control.set_initialised()
    control.set_unassigned()
    assert control.state is State.STOPPED
    control.start()
    control.set_unassigned()
    assert control.state is State.STARTING
    control.set_assigned()
    control.set_unassigned()
    assert control.state is State.STARTING
    control.set_assigned()
    control.stop()
    control.set_unassigned()
    assert control.state is State.STOPPING
    control.close()
    control.set_unassigned()
    assert control.state is State.CLOSING


@pytest.mark.parametrize("protocol", [REJOINING, INCREMENTAL], ids=["classic", "incremental"])
def test_11_8_after_a_rebalance_the_group_goes_on_with_what_it_then_owns(
    topic: TopicFactory,
    consumer_group: GroupFactory,
    send: SendFunction,
    committed: CommittedFunction,
    protocol: dict[str, Any],
) -> None:
    """A second member comes and goes; every message is handled once, by the one or the other."""
    name = topic(partitions=2)
    handled: Collected[tuple[str, int, bytes | None]] = Collected()

    def joining(who: str) -> ConsumerGroup:
        group = consumer_group(name, group_name=name, librdkafka=protocol, **SHORT)
        group.register_handler(lambda _id, message: handled.add((who, message.partition, message.data)))
        return consuming(group)

    def send_round(number: int, value: str) -> None:
        for partition in range(2):
            send(name, value, partition=partition)
        handled.wait(2 * number)
        # The embedded broker refuses the commits that a classic group makes in a rebalance; Kafka takes them.
        for partition in range(2):
            eventually(lambda partition=partition: committed(name, name, partition), number)

    first = joining("first")
    send_round(1, "alone")
    before = entries(first, State.CONSUMING)
    second = joining("second")
    assert wait_entered(first, State.CONSUMING, before)
    send_round(2, "together")
    before = entries(first, State.CONSUMING)
    second.close(timeout=PATIENCE)
    assert wait_entered(first, State.CONSUMING, before)
    send_round(3, "alone again")
    seen = handled.items
    counted = Counter((partition, value) for _, partition, value in seen)
    assert counted == {
        (number, value): 1 for number in range(2) for value in (b"alone", b"together", b"alone again")
    }
    assert {who for who, _, value in seen if value != b"together"} == {"first"}


def test_11_9_offsets_are_committed_a_last_time_before_partitions_are_given_up(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction
) -> None:
    """With a commit interval of an hour only the end of the session can have committed them.

    For the classic protocol tests/scenarios has it on Apache Kafka: the embedded broker refuses commits
    while it rebalances such a group.
    """
    name = topic(partitions=2)
    handled: Collected[tuple[int, bytes | None]] = Collected()

    def joining() -> ConsumerGroup:
        group = consumer_group(name, group_name=name, librdkafka=INCREMENTAL, commit_interval=3600)
        group.register_handler(lambda _id, message: handled.add((message.partition, message.data)))
        return consuming(group)

    first = joining()
    for partition in range(2):
        send(name, *(f"{number}" for number in range(10)), partition=partition)
    handled.wait(20)
    second = joining()
    for partition in range(2):
        send(name, "later", partition=partition)
    assert first.close(timeout=PATIENCE) == 0
    seen = handled.wait(22)
    assert max(Counter(seen).values()) == 1
    assert second.close(timeout=PATIENCE) == 0
    assert len(handled.items) == 22


def test_11_9_partitions_that_are_lost_are_dropped_at_once(
    own_cluster: EmbeddedCluster, consumer_group: GroupFactory, take: TakeFunction, logged: Any
) -> None:
    """The broker does not know the member any more: it joins anew."""
    own_cluster.create_topic("topic")
    group = consuming(consumer_group("topic", broker_addrs=own_cluster.broker_addrs, **SHORT_CLASSIC))
    own_cluster.inject_errors("Heartbeat", *["UNKNOWN_MEMBER_ID"] * 2)
    logged.wait("partitions lost")
    assert wait_entered(group, State.CONSUMING, 1)
