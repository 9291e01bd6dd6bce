"""Readers for people and tools: up to the ends, in a group or without, through errors of the broker."""

from __future__ import annotations

import threading
import time

import confluent_kafka
import pytest

from dp_kafka import AdminConfig, ConsumerGroupConfig, KafkaClientError
from dp_kafka.kafkatest import EmbeddedCluster
from dp_kafka.reading import GroupReader, Reader, TopicReader
from tests.conftest import INCREMENTAL, SendFunction, TopicFactory
from tests.waiting import PATIENCE


def taken(reader: Reader, most: int = 100) -> list[bytes | None]:
    """The values of what is taken until the reader is finished."""
    values: list[bytes | None] = []
    until = time.monotonic() + PATIENCE
    while not reader.finished and time.monotonic() < until:
        values += [each.value for each in reader.take(most, time.monotonic() + 0.2)]
    return values


def soon() -> float:
    return time.monotonic() + PATIENCE


def test_no_more_is_taken_than_asked_for_and_none_twice(
    cluster: EmbeddedCluster, topic: TopicFactory, send: SendFunction
) -> None:
    name = topic()
    send(name, *"abcde")
    with TopicReader(cluster.broker_addrs, name, {0: 0}, {0: 5}) as reader:
        assert [each.value for each in reader.take(1, soon())] == [b"a"]
        assert not reader.finished
        assert [each.offset for each in reader.take(2, soon())] in ([1], [1, 2])
        rest = taken(reader, 1)
        assert rest in ([b"c", b"d", b"e"], [b"d", b"e"])
        assert reader.take(10, soon()) == []


def test_what_comes_after_the_end_was_seen_is_not_given_out(
    cluster: EmbeddedCluster, topic: TopicFactory, send: SendFunction
) -> None:
    """The topic was made anew since its ends were taken: it ends earlier than they say."""
    name = topic()
    send(name, *"abc")
    with TopicReader(cluster.broker_addrs, name, {0: 0}, {0: 10}) as reader:
        assert taken(reader) == [b"a", b"b", b"c"]
        send(name, "late")
        assert reader.take(1, soon()) == []
        assert reader.finished


def test_a_topic_that_one_may_not_read_is_a_permanent_error(own_cluster: EmbeddedCluster) -> None:
    own_cluster.create_topic("t")
    own_cluster.inject_errors("Fetch", *["TOPIC_AUTHORIZATION_FAILED"] * 20)
    with TopicReader(own_cluster.broker_addrs, "t", {0: 0}, None) as reader:
        with pytest.raises(KafkaClientError, match="TOPIC_AUTHORIZATION_FAILED") as caught:
            taken(reader)
        assert caught.value.permanent


def test_a_topic_that_a_member_may_not_read_is_a_permanent_error(own_cluster: EmbeddedCluster) -> None:
    own_cluster.create_topic("t")
    own_cluster.inject_errors("Fetch", *["TOPIC_AUTHORIZATION_FAILED"] * 20)
    config = ConsumerGroupConfig(own_cluster.broker_addrs, "t", "g", librdkafka=INCREMENTAL)
    with GroupReader(config, threading.Event(), None) as reader:
        assert reader.join(soon())
        with pytest.raises(KafkaClientError, match="TOPIC_AUTHORIZATION_FAILED") as caught:
            taken(reader)
        assert caught.value.permanent


@pytest.mark.parametrize("in_a_group", [True, False])
def test_a_broker_that_goes_away_and_comes_back_is_waited_for(
    own_cluster: EmbeddedCluster, in_a_group: bool
) -> None:
    """That is no error for good: a reader that follows a topic goes on."""
    own_cluster.create_topic("t")
    quick = {"reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 50}
    plain = confluent_kafka.Producer(
        {"bootstrap.servers": own_cluster.bootstrap_servers, "log_level": 0, **quick}
    )

    def put(value: str) -> None:
        plain.produce("t", value)
        assert plain.flush(PATIENCE) == 0

    reader: TopicReader | GroupReader
    if in_a_group:
        config = ConsumerGroupConfig(own_cluster.broker_addrs, "t", "g", librdkafka={**INCREMENTAL, **quick})
        reader = GroupReader(config, threading.Event(), None)
    else:
        reader = TopicReader(own_cluster.broker_addrs, "t", {0: 0}, None, AdminConfig(librdkafka=quick))
    put("before")
    with reader:
        if isinstance(reader, GroupReader):
            assert reader.join(soon())
        assert [each.value for each in reader.take(1, soon())] == [b"before"]
        own_cluster.broker_down(1)
        assert reader.take(1, time.monotonic() + 0.5) == []
        own_cluster.broker_up(1)
        put("after")
        assert [each.value for each in reader.take(1, soon())] == [b"after"]
        assert not reader.finished
