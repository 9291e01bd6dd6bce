"""close() with a deadline returned 0 although a handler still had a message, on a busy machine.

The closing thread and the poll thread both keep the deadline. If the poll thread came first, it ended its
session and forgot what was in hand in it, and the closing thread, which counts it, found nothing. Later it
still was so with a durable commit, which leaves a message in hand that is handled: until it is given up.
"""

from __future__ import annotations

import threading

import confluent_kafka
import pytest

from dp_kafka import Message, State
from dp_kafka.kafkatest import EmbeddedCluster
from tests.conftest import INCREMENTAL, GroupFactory, SendFunction, TopicFactory
from tests.waiting import PATIENCE


@pytest.mark.parametrize("late", ["to count", "to say that it closes"])
def test_close_counts_a_message_in_hand_also_when_the_poll_thread_has_given_it_up_first(
    late: str,
    topic: TopicFactory,
    consumer_group: GroupFactory,
    send: SendFunction,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = topic()
    group = consumer_group(name, librdkafka=INCREMENTAL)
    in_hand, go_on = threading.Event(), threading.Event()

    def handle(_worker_id: int, _message: Message) -> None:
        in_hand.set()
        go_on.wait(4 * PATIENCE)

    group.register_handler(handle)
    group.start()
    send(name, "order")
    try:
        assert in_hand.wait(PATIENCE)
        if late == "to count":
            # The closing thread comes when the poll thread is done.
            count = group._closer._close

            def count_late() -> None:
                group._poller.join(PATIENCE)
                count()

            monkeypatch.setattr(group._closer, "_close", count_late)
        else:
            # The deadline stands, and the poll thread ends its session, before the group is said to close.
            group.stop()
            say = group._control.close

            def say_late() -> bool:
                assert group.state_wait(State.STOPPED, PATIENCE)
                return say()

            monkeypatch.setattr(group._control, "close", say_late)
        group.close(timeout=0.1)
        assert group.channels.closed.wait(PATIENCE)
        assert group.close() == 1
    finally:
        go_on.set()


def test_close_counts_a_message_whose_durable_commit_is_given_up(
    own_cluster: EmbeddedCluster, consumer_group: GroupFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_cluster.create_topic("orders")
    own_cluster.inject_errors("OffsetCommit", *["COORDINATOR_LOAD_IN_PROGRESS"] * 2_000)
    group = consumer_group("orders", broker_addrs=own_cluster.broker_addrs, commit_interval=0)
    handled = threading.Event()
    group.register_handler(lambda _worker_id, _message: handled.set())
    group.start()
    producer = confluent_kafka.Producer({"bootstrap.servers": own_cluster.bootstrap_servers})
    producer.produce("orders", b"order")
    assert producer.flush(PATIENCE) == 0
    assert handled.wait(PATIENCE)
    count = group._closer._close

    def count_late() -> None:
        group._poller.join(PATIENCE)
        count()

    monkeypatch.setattr(group._closer, "_close", count_late)
    group.close(timeout=0.1)
    assert group.channels.closed.wait(PATIENCE)
    assert group.close() == 1
