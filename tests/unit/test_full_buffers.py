"""Buffers that are full, on a broker: who is paused, who goes on, and that nothing is lost or comes twice."""

from __future__ import annotations

import threading

import confluent_kafka

from dp_kafka import Message
from tests.conftest import INCREMENTAL, CommittedFunction, GroupFactory, SendFunction, TopicFactory
from tests.looking import eventually
from tests.waiting import PATIENCE, Collected


def test_a_partition_whose_handler_is_stuck_is_paused_and_goes_on_where_it_was(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction, committed: CommittedFunction
) -> None:
    """Invariant 7: the other partition is handled meanwhile; then each message comes once, in order."""
    paused, go = threading.Event(), threading.Event()

    class Client(confluent_kafka.Consumer):
        """The real client; it tells when it pauses something."""

        def pause(self, partitions: list[confluent_kafka.TopicPartition]) -> None:
            super().pause(partitions)
            paused.set()

    stuck: Collected[int] = Collected()
    other: Collected[int] = Collected()

    def handler(worker_id: int, message: Message) -> None:
        if message.partition == 0:
            assert go.wait(4 * PATIENCE)
        (other if message.partition else stuck).add(message.offset)

    name = topic(2)
    send(name, *map(str, range(300)))
    group = consumer_group(
        name, num_workers=2, max_buffered_messages=20, client_factory=Client, librdkafka=INCREMENTAL
    )
    group.register_handler(handler)
    group.start()
    assert paused.wait(PATIENCE)
    send(name, *map(str, range(100)), partition=1)
    assert other.wait(100) == list(range(100))
    assert stuck.items == []
    go.set()
    assert stuck.wait(300) == list(range(300))
    assert group.stop_and_wait(PATIENCE)
    assert (stuck.items, other.items) == (list(range(300)), list(range(100)))
    assert [committed(group.group_name, name, number) for number in (0, 1)] == [300, 100]


def test_all_partitions_together_stay_within_the_bytes_behind_a_handler_that_stalls(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction
) -> None:
    """Invariant 9: what the paused partitions hold is not there a second time for those that follow them."""
    stalled, go = threading.Event(), threading.Event()

    def handler(_worker_id: int, _message: Message) -> None:
        stalled.set()
        assert go.wait(4 * PATIENCE)

    partitions, most = 16, 1_000_000
    name = topic(partitions)
    for partition in range(partitions):
        send(name, *["-" * 1_000] * 300, partition=partition)
    group = consumer_group(name, max_buffered_bytes=most)
    group.register_handler(handler)
    group.start()
    assert stalled.wait(PATIENCE)
    session = group._poller.session
    assert session is not None
    eventually(lambda: [lane.paused for lane in session.lanes.values()], [True] * partitions)
    held = [lane.buffered()[1] for lane in session.lanes.values()]
    go.set()
    assert min(held) > 0
    assert sum(held) <= most // 2
