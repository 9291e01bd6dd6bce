"""The clients in memory, as users see them through the fakes: refusals of what the real clients refuse."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaException, TopicPartition

from dp_kafka.kafkatest.memory import MemoryCluster, Record
from dp_kafka.kafkatest.memory.consumer import MemoryConsumer


@pytest.fixture
def memory() -> MemoryCluster:
    """A cluster with a topic of two partitions, and a record in each."""
    memory = MemoryCluster()
    memory.create_topic("t", 2)
    for number in (0, 1):
        memory.append(Record("t", number, b"value", None, None, 0))
    return memory


def member_of(memory: MemoryCluster, **properties: Any) -> MemoryConsumer:
    """A member of the group "g" that has its assignment."""
    consumer = memory.consumer({"group.id": "g", "auto.offset.reset": "earliest", **properties})
    consumer.subscribe(["t"])
    assert consumer.consume(0, 0) == []
    return consumer


def refused(consumer: MemoryConsumer, partition: int = 0) -> str:
    with pytest.raises(KafkaException) as caught:
        consumer.commit(offsets=[TopicPartition("t", partition, 1)], asynchronous=False)
    return str(caught.value.args[0].name())


def test_who_is_no_member_commits_nothing(memory: MemoryCluster) -> None:
    stranger = memory.consumer({"group.id": "g"})
    assert refused(stranger) == "UNKNOWN_MEMBER_ID"
    gone = member_of(memory)
    gone.unsubscribe()
    assert refused(gone) == "UNKNOWN_MEMBER_ID"
    assert memory.group("g").committed == {}


def test_a_member_commits_for_its_own_partitions_alone(memory: MemoryCluster) -> None:
    first = member_of(memory)
    second = member_of(memory)
    while len(first.assignment()) + len(second.assignment()) != 2 or not second.assignment():
        first.poll(0)
        second.poll(0)
    (own,) = first.assignment()
    offsets = [TopicPartition("t", number, 1) for number in (0, 1)]
    answers = first.commit(offsets=offsets, asynchronous=False)
    assert answers is not None
    errors = {each.partition: each.error and each.error.name() for each in answers}
    assert errors == {own.partition: None, 1 - own.partition: "UNKNOWN_MEMBER_ID"}
    assert [each.number for each in memory.group("g").committed] == [own.partition]


def test_a_cluster_that_is_down_is_a_connection_that_broke(memory: MemoryCluster) -> None:
    told: list[str] = []
    consumer = member_of(memory, error_cb=lambda error: told.append(error.name()))
    memory.down()
    assert refused(consumer) == "_TRANSPORT"
    with pytest.raises(KafkaException):
        consumer.committed([TopicPartition("t", 0)], timeout=0)
    assert consumer.poll(0) is None
    assert told == ["_ALL_BROKERS_DOWN"]
    silent = member_of(memory)  # without a callback nobody is told, and nothing fails
    assert silent.poll(0) is None
    memory.up()
    answers = consumer.commit(offsets=[TopicPartition("t", 0, 1)], asynchronous=False) or []
    assert len(answers) == 1, "and goes on when it is up again"


def test_a_closed_consumer_raises_as_the_real_one(memory: MemoryCluster) -> None:
    consumer = member_of(memory)
    consumer.close()
    for use in (consumer.poll, consumer.unsubscribe, consumer.close, lambda: consumer.subscribe(["t"])):
        with pytest.raises(RuntimeError, match="Consumer closed"):
            use()


def test_what_the_library_does_not_use_is_refused_and_not_ignored(memory: MemoryCluster) -> None:
    with pytest.raises(NotImplementedError, match=r"commits offsets=\[…\] only"):
        member_of(memory).commit(message=object())


def test_a_consumer_without_callbacks_fetches_and_commits(memory: MemoryCluster) -> None:
    consumer = member_of(memory)
    assert {each.partition() for _ in range(2) for each in consumer.consume(10, 0)} == {0, 1}
    consumer.commit(offsets=[TopicPartition("t", 0, 1)], asynchronous=True)
    consumer.poll(0)
    consumer.close()
    again = member_of(memory)
    assert [each.partition() for _ in range(3) for each in again.consume(10, 0)] == [1], (
        "it goes on from the commit"
    )


def test_a_report_that_nobody_asked_for_is_counted_all_the_same(memory: MemoryCluster) -> None:
    reports: list[Any] = []
    producer = memory.producer({})
    producer.produce("t", b"a")
    producer.produce("t", b"b", on_delivery=lambda error, record: reports.append((error, record.value())))
    assert len(producer) == 2
    assert producer.poll(0) == 2
    assert reports == [(None, b"b")]
    assert len(producer) == 0


def test_a_topic_that_is_used_without_being_created_has_the_clusters_partitions() -> None:
    memory = MemoryCluster(partitions=3)
    memory.producer({}).produce("new", b"a", partition=2)
    assert len(memory.partitions_of("new")) == 3
    with pytest.raises(KafkaException, match="UNKNOWN_PARTITION"):
        memory.producer({}).produce("new", b"a", partition=3)
