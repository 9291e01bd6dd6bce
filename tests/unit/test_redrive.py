"""Redriving dead letters: back to where they came from, once, in order, and none lost at an interruption."""

from __future__ import annotations

import dataclasses
import sys
import threading
import uuid
from typing import Any

import confluent_kafka
import pytest

from dp_kafka import ConfigError, DeadLetter, KafkaClientError, Message, UnknownTopicError
from dp_kafka.kafkatest import EmbeddedCluster
from dp_kafka.processing.deadletter import HEADERS, PREFIX
from dp_kafka.reading import GroupReader
from dp_kafka.redrive import RedriveConfig, RedriveError, RedriveProgress, redrive
from tests.conftest import (
    CLASSIC,
    INCREMENTAL,
    CommittedFunction,
    GroupFactory,
    SendFunction,
    TopicFactory,
    committed_offset,
)
from tests.sending import nobody, on_broker, received
from tests.waiting import PATIENCE, Collected, Logged, fields

QUICK = {"enable.idempotence": False, "linger.ms": 0}


def letter_of(topic: str, partition: int = 0, **more: str) -> list[tuple[str, str | bytes | None]]:
    """The headers of a dead letter, as the library writes them, after some of the message's own."""
    told = dict.fromkeys(HEADERS, "x") | {PREFIX + "topic": topic, PREFIX + "partition": str(partition)}
    return [("request-id", "trace"), ("own", "1"), ("own", "2"), *(told | more).items()]


@pytest.fixture
def dead(topic: TopicFactory) -> str:
    """The dead letter topic, of two partitions."""
    return topic(2)


@pytest.fixture
def config(cluster: EmbeddedCluster, dead: str) -> RedriveConfig:
    return RedriveConfig(
        cluster.broker_addrs, dead, timeout=PATIENCE, librdkafka=INCREMENTAL, producer_librdkafka=QUICK
    )


def test_a_message_that_was_given_up_comes_back_as_it_was(
    cluster: EmbeddedCluster,
    config: RedriveConfig,
    dead: str,
    topic: TopicFactory,
    send: SendFunction,
    consumer_group: GroupFactory,
    committed: CommittedFunction,
) -> None:
    """The whole way: a handler fails, the dead letter is redriven, and the handler gets the message again."""
    name = topic(3)
    handled: Collected[tuple[Any, ...]] = Collected()
    poisonous = threading.Event()
    poisonous.set()

    def handler(worker_id: int, message: Message) -> None:
        handled.add((message.data, message.key, message.partition, list(message.headers)))
        if poisonous.is_set():
            raise ValueError("not today")

    group = consumer_group(name, dead_letter=DeadLetter(dead, librdkafka=QUICK), librdkafka=INCREMENTAL)
    group.register_handler(handler)
    group.start()
    send(name, "value", key="key", partition=2, headers=[("own", "1"), ("request-id", "trace")])
    (first,) = handled.wait(1)
    group.stop_and_wait(PATIENCE)
    assert on_broker(cluster, dead, 2) == 1

    poisonous.clear()
    result = redrive(config)
    assert (result.by_topic, result.count, result.skipped, result.left) == ({name: 1}, 1, 0, 0)
    group.start()
    assert handled.wait(2)[1] == first
    assert sum(committed(f"{dead}.redrive", dead, partition) or 0 for partition in range(2)) == 1


def test_letters_go_back_to_their_topics_and_partitions_in_order(
    cluster: EmbeddedCluster, config: RedriveConfig, dead: str, topic: TopicFactory, send: SendFunction
) -> None:
    one, other = topic(2), topic()
    for number in range(1_200):
        send(dead, str(number), key="k", headers=letter_of(one, number % 2), partition=0)
    send(dead, "x", None, headers=letter_of(other), partition=1)
    progress: list[RedriveProgress] = []
    result = redrive(config, progress=progress.append)
    assert result.by_topic == {one: 1_200, other: 2}
    assert result.left == 0
    back = received(cluster, one, 1_200, partitions=2)
    for partition in range(2):
        values = [int(each.value() or b"") for each in back if each.partition() == partition]
        assert values == list(range(partition, 1_200, 2)), "each in its partition, and in order"
    assert {each.key() for each in back} == {b"k"}
    assert back[0].headers() == [("request-id", b"trace"), ("own", b"1"), ("own", b"2")]
    assert [each.value() for each in received(cluster, other, 2)] == [b"x", None], "a tombstone stays one"
    assert [each.total for each in progress] == [1_202] * len(progress)
    assert [each.done for each in progress] == sorted(each.done for each in progress)
    assert progress[-1].done == 1_202
    assert len(progress) > 2


def test_what_was_redriven_is_not_redriven_again_and_what_came_since_is(
    cluster: EmbeddedCluster, config: RedriveConfig, dead: str, topic: TopicFactory, send: SendFunction
) -> None:
    name = topic()
    send(dead, "a", headers=letter_of(name))
    assert redrive(config).count == 1
    assert redrive(config).count == 0
    send(dead, "b", headers=letter_of(name))
    assert redrive(config).count == 1
    assert [each.value() for each in received(cluster, name, 2)] == [b"a", b"b"]


def test_letters_that_come_meanwhile_wait_for_the_next_redrive(
    config: RedriveConfig, dead: str, topic: TopicFactory, send: SendFunction
) -> None:
    """As those of messages that fail again: without an end they would go round in circles."""
    name = topic()
    send(dead, *map(str, range(600)), headers=letter_of(name))

    batches: list[RedriveProgress] = []

    def come_again(progress: RedriveProgress) -> None:
        batches.append(progress)
        send(dead, "again", headers=letter_of(name))

    result = redrive(config, progress=come_again)
    assert (result.count, result.left) == (600, 0)
    assert redrive(config).count == len(batches)


def test_a_limit_leaves_the_rest_for_the_next(
    config: RedriveConfig, dead: str, topic: TopicFactory, send: SendFunction
) -> None:
    name = topic()
    send(dead, *map(str, range(10)), headers=letter_of(name))
    limited = dataclasses.replace(config, limit=4)
    assert [(result.count, result.left) for result in (redrive(limited), redrive(limited))] == [
        (4, 6),
        (4, 2),
    ]
    assert redrive(config).count == 2


def test_stop_ends_it_after_the_batch_in_hand_with_its_progress(
    cluster: EmbeddedCluster,
    config: RedriveConfig,
    dead: str,
    topic: TopicFactory,
    send: SendFunction,
    committed: CommittedFunction,
) -> None:
    name = topic()
    send(dead, *map(str, range(1_300)), headers=letter_of(name))
    stop = threading.Event()
    result = redrive(config, progress=lambda _: stop.set(), stop=stop)
    assert 0 < result.count < 1_300
    assert result.left == 1_300 - result.count
    assert committed(config.group_name, dead) == result.count
    assert redrive(config).count == 1_300 - result.count
    assert [int(each.value() or b"") for each in received(cluster, name, 1_300)] == list(range(1_300))


def test_a_stop_while_a_batch_is_sent_does_not_lose_its_progress(
    config: RedriveConfig, dead: str, topic: TopicFactory, send: SendFunction, committed: CommittedFunction
) -> None:
    """The signal comes when it likes: here just before the commit."""
    name = topic()
    send(dead, *map(str, range(700)), headers=letter_of(name))
    stop = threading.Event()

    class Stopping(GroupReader):
        def commit(self, *args: Any) -> None:
            stop.set()
            super().commit(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["dp_kafka.redrive.redrive"], "GroupReader", Stopping)
        result = redrive(config, stop=stop)
    assert 0 < result.count < 700
    assert committed(config.group_name, dead) == result.count
    assert redrive(config).count == 700 - result.count


@pytest.mark.parametrize("when", [1, 2, 3])
def test_an_interruption_loses_nothing(
    cluster: EmbeddedCluster,
    config: RedriveConfig,
    dead: str,
    topic: TopicFactory,
    send: SendFunction,
    when: int,
) -> None:
    """Ctrl-C raises anywhere; here at the worst place: a batch is sent, and its progress is not committed."""
    name = topic()
    send(dead, *map(str, range(1_300)), headers=letter_of(name))
    calls = iter(range(1, 100))

    class Interrupted(GroupReader):
        def commit(self, *args: Any) -> None:
            if next(calls) == when:
                raise KeyboardInterrupt
            super().commit(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["dp_kafka.redrive.redrive"], "GroupReader", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            redrive(config)
    assert redrive(config).left == 0
    sent = on_broker(cluster, name)
    back = [int(each.value() or b"") for each in received(cluster, name, sent)]
    assert set(back) == set(range(1_300)), "none is lost"
    assert sent - 1_300 <= 500, "and no more than a batch goes back twice"


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ([("own", "1")], "it is no dead letter"),
        (letter_of("missing"), "its original topic 'missing' is not on this cluster"),
    ],
)
def test_what_cannot_go_back_ends_it_with_the_progress_so_far(
    config: RedriveConfig,
    dead: str,
    topic: TopicFactory,
    send: SendFunction,
    committed: CommittedFunction,
    headers: list[tuple[str, str | bytes | None]],
    why: str,
) -> None:
    name = topic()
    send(dead, "a", "b", headers=letter_of(name))
    send(dead, "odd", headers=headers)
    send(dead, "c", headers=letter_of(name))
    with pytest.raises(RedriveError, match=f"partition 0, offset 2 can't go back: {why}") as caught:
        redrive(config)
    assert (caught.value.result.count, caught.value.result.left) == (2, 2)
    assert committed(config.group_name, dead) == 2
    result = redrive(dataclasses.replace(config, skip_unknown=True))
    assert (result.count, result.skipped, result.left) == (1, 1, 0)
    assert committed(config.group_name, dead) == 4


def test_a_letter_of_the_dead_letter_topic_itself_does_not_go_round(
    config: RedriveConfig, dead: str, send: SendFunction
) -> None:
    send(dead, "a", headers=letter_of(dead))
    with pytest.raises(RedriveError, match="its original topic is the one that it lies in"):
        redrive(config)


def test_a_letter_that_its_topic_refuses_stays(
    cluster: EmbeddedCluster,
    config: RedriveConfig,
    dead: str,
    topic: TopicFactory,
    send: SendFunction,
    committed: CommittedFunction,
) -> None:
    name = topic()
    send(dead, "small", "x" * 5_000, "small", headers=letter_of(name))
    with pytest.raises(RedriveError, match=r"partition 0, offset 1 was not sent back: .*larger") as caught:
        redrive(dataclasses.replace(config, max_message_bytes=1_000))
    assert caught.value.result.count == 1
    assert committed(config.group_name, dead) == 1
    assert "xxxxx" not in str(caught.value)


def test_a_partition_that_is_not_there_any_more_is_chosen_anew(
    cluster: EmbeddedCluster, config: RedriveConfig, dead: str, topic: TopicFactory, send: SendFunction
) -> None:
    name = topic(2)
    send(dead, "a", headers=letter_of(name, 7), key="k")
    assert redrive(config).count == 1
    assert received(cluster, name, 1, partitions=2)[0].key() == b"k"


def test_nothing_to_do_joins_no_group(config: RedriveConfig, cluster: EmbeddedCluster) -> None:
    result = redrive(config)
    assert (result.count, result.left, dict(result.by_topic)) == (0, 0, {})


def test_a_cluster_that_is_away_and_a_missing_topic_are_errors(cluster: EmbeddedCluster) -> None:
    with pytest.raises(KafkaClientError):
        redrive(RedriveConfig([nobody()], "dead", timeout=0.5))
    with pytest.raises(UnknownTopicError, match="no topic 'missing'"):
        redrive(RedriveConfig(cluster.broker_addrs, "missing", timeout=PATIENCE))


def test_the_log_tells_counts_and_no_payload(
    config: RedriveConfig, dead: str, topic: TopicFactory, send: SendFunction, logged: Logged
) -> None:
    name = topic()
    send(dead, "the-payload", key="the-key", headers=letter_of(name))
    redrive(config)
    assert fields(logged.wait("dead letters redriven"))["count"] == 1
    assert "the-payload" not in logged.text
    assert "the-key" not in logged.text


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("broker_addrs", ["localhost"]),
        ("topic", ""),
        ("limit", 0),
        ("skip_unknown", "yes"),
        ("timeout", 0),
        ("timeout", 901),
        ("max_message_bytes", 5),
        ("security", "TLS"),
        ("librdkafka", {"group.id": "g"}),
        ("producer_librdkafka", {"on_delivery": "x"}),
    ],
)
def test_the_configuration_is_checked_when_it_is_made(field: str, wrong: Any) -> None:
    with pytest.raises(ConfigError):
        dataclasses.replace(RedriveConfig(["localhost:9092"], "dead"), **{field: wrong})
    assert RedriveConfig(["localhost:9092"], "dead").group_name == "dead.redrive"
    with pytest.raises(ConfigError, match="takes a RedriveConfig"):
        redrive(None)  # type: ignore[arg-type]


def test_two_redrives_share_the_partitions_and_lose_none(
    cluster: EmbeddedCluster, config: RedriveConfig, dead: str, topic: TopicFactory, send: SendFunction
) -> None:
    name = topic()
    for partition in range(2):
        send(dead, *(f"{partition}-{n}" for n in range(700)), headers=letter_of(name), partition=partition)
    threads = [
        threading.Thread(target=redrive, args=(config,), name=f"test-{uuid.uuid4().hex[:4]}")
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE * 2)
        assert not thread.is_alive()
    redrive(config)
    sent = on_broker(cluster, name)
    values = {each.value() for each in received(cluster, name, sent)}
    assert values == {f"{partition}-{n}".encode() for partition in range(2) for n in range(700)}


# -- on a cluster of its own, where errors are told to the broker --------------------------------------------


@pytest.fixture
def letters(own_cluster: EmbeddedCluster) -> RedriveConfig:
    """Three letters in "dead", from the topic "original"."""
    plain = confluent_kafka.Producer({"bootstrap.servers": own_cluster.bootstrap_servers, "linger.ms": 0})
    for name in ("dead", "original"):
        own_cluster.create_topic(name)
    for value in "abc":
        plain.produce("dead", value, headers=letter_of("original"))
    assert plain.flush(PATIENCE) == 0
    return RedriveConfig(
        own_cluster.broker_addrs, "dead", timeout=PATIENCE, librdkafka=INCREMENTAL, producer_librdkafka=QUICK
    )


def test_a_group_that_gives_no_assignment_is_an_error_in_time(
    own_cluster: EmbeddedCluster, letters: RedriveConfig
) -> None:
    own_cluster.set_group_rebalance_delay(600)
    with pytest.raises(RedriveError, match=r"the group gave no assignment within 5 s") as caught:
        redrive(dataclasses.replace(letters, librdkafka=CLASSIC, timeout=5.0))
    assert (caught.value.result.count, caught.value.result.left) == (0, 3)


def test_a_stop_before_the_group_has_given_an_assignment_ends_it(
    own_cluster: EmbeddedCluster, letters: RedriveConfig
) -> None:
    own_cluster.set_group_rebalance_delay(600)
    stop = threading.Event()
    stop.set()
    result = redrive(dataclasses.replace(letters, librdkafka=CLASSIC), stop=stop)
    assert (result.count, result.left) == (0, 3)


def test_a_broker_that_gives_no_letters_is_an_error_in_time(
    own_cluster: EmbeddedCluster, letters: RedriveConfig
) -> None:
    own_cluster.inject_errors("Fetch", *[("NO_ERROR", 20.0)] * 3)
    with pytest.raises(RedriveError, match=r"no letter came within 5 s") as caught:
        redrive(dataclasses.replace(letters, timeout=5.0))
    assert (caught.value.result.count, caught.value.result.left) == (0, 3)


def test_a_progress_that_one_may_not_commit_is_an_error(
    own_cluster: EmbeddedCluster, letters: RedriveConfig
) -> None:
    own_cluster.inject_errors("OffsetCommit", "GROUP_AUTHORIZATION_FAILED")
    with pytest.raises(
        RedriveError, match=r"the progress could not be committed: GROUP_AUTHORIZATION"
    ) as caught:
        redrive(letters)
    # As many as the first fetch brought were sent, and none is committed.
    assert caught.value.result.count == on_broker(own_cluster, "original") >= 1
    assert caught.value.result.left == 3


def test_a_rebalance_on_top_of_the_commit_is_told_and_the_letters_may_go_twice(
    own_cluster: EmbeddedCluster, letters: RedriveConfig, logged: Logged
) -> None:
    own_cluster.inject_errors("OffsetCommit", "UNKNOWN_MEMBER_ID")
    result = redrive(letters)
    told = fields(logged.wait("progress not committed, letters may go back twice"))
    assert told["partitions"] == [0]
    assert "UNKNOWN_MEMBER_ID" in told["error"]
    assert result.left == 3 * (committed_offset(own_cluster, letters.group_name, "dead") is None)
    assert redrive(letters).left == 0
    assert on_broker(own_cluster, "original") >= 3
