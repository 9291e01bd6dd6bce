"""What may go wrong while a topic is drained: refusals, rebalances, other members, stops and deadlines."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator

import confluent_kafka
import pytest

from dp_kafka import ConsumerGroup, ConsumerGroupConfig, KafkaClientError, Message, State
from dp_kafka.admin import Admin, GroupInfo, GroupMember, new_admin
from dp_kafka.drain import (
    DrainError,
    DrainProgress,
    DrainResult,
    DrainTopicConfig,
    DrainTopicInput,
    drain_topics,
)
from dp_kafka.drain import topic as topic_module
from dp_kafka.drain.topic import TopicDrain
from dp_kafka.groupmember import Member
from dp_kafka.kafkatest import EmbeddedCluster
from tests.conftest import CLASSIC, INCREMENTAL, committed_offset
from tests.looking import eventually
from tests.waiting import PATIENCE, Logged

TOPIC, GROUP = "t", "g"
WHAT = DrainTopicInput(TOPIC, GROUP)


@pytest.fixture
def own(own_cluster: EmbeddedCluster) -> EmbeddedCluster:
    """A cluster with a topic of two partitions, of three messages each."""
    own_cluster.create_topic(TOPIC, 2)
    producer = confluent_kafka.Producer({"bootstrap.servers": own_cluster.bootstrap_servers})
    for partition in (0, 1):
        for value in "abc":
            producer.produce(TOPIC, value, partition=partition)
    assert producer.flush(PATIENCE) == 0
    return own_cluster


@pytest.fixture
def config(own: EmbeddedCluster) -> DrainTopicConfig:
    return DrainTopicConfig(own.broker_addrs, timeout=PATIENCE * 2, librdkafka=INCREMENTAL)


@pytest.fixture
def admin(own: EmbeddedCluster) -> Admin:
    return new_admin(own.broker_addrs)


def committed(cluster: EmbeddedCluster) -> list[int | None]:
    return [committed_offset(cluster, GROUP, TOPIC, partition) for partition in (0, 1)]


def failed(result: DrainResult) -> KafkaClientError | DrainError:
    assert isinstance(result.error, (KafkaClientError, DrainError))
    return result.error


Tells = Callable[..., None]


@pytest.fixture
def tells(monkeypatch: pytest.MonkeyPatch) -> Tells:
    """The brokers tell who is in the group, as Apache Kafka's do: `tells()` that nobody is, or `tells(2)`."""

    def set_(members: int = 0, error: KafkaClientError | None = None) -> None:
        def describe(*_args: object, **_more: object) -> GroupInfo:
            if error is not None:
                raise error
            one = GroupMember("importer", "10.0.0.1", ())
            return GroupInfo(GROUP, "stable" if members else "empty", (one,) * members)

        monkeypatch.setattr(topic_module, "describe_group", describe)

    return set_


# -- refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "said"),
    [
        (1, "has 1 live member: importer at 10.0.0.1."),
        (4, "has 4 live members: " + ", ".join(["importer at 10.0.0.1"] * 3) + " …."),
    ],
)
def test_a_group_with_members_is_refused_by_their_names(
    own: EmbeddedCluster, config: DrainTopicConfig, tells: Tells, members: int, said: str
) -> None:
    tells(members)
    (result,) = drain_topics(config, WHAT)
    assert said in str(failed(result))
    assert "live_members=True" in str(result.error)
    assert (result.count, committed(own)) == (0, [None, None])


def test_members_that_came_since_the_drain_began_are_not_overridden(
    own: EmbeddedCluster, config: DrainTopicConfig, tells: Tells
) -> None:
    tells(0)
    own.inject_errors("OffsetCommit", "UNKNOWN_MEMBER_ID")
    (result,) = drain_topics(config, WHAT)
    assert "members that came since the drain began" in str(failed(result))
    assert result.count == 0
    assert committed(own) == [None, None]


def test_a_group_that_one_may_not_see_is_an_error(config: DrainTopicConfig, tells: Tells) -> None:
    refused = KafkaClientError("no", code=30, name="GROUP_AUTHORIZATION_FAILED", permanent=True)
    tells(error=refused)
    (result,) = drain_topics(config, WHAT)
    assert result.error is refused


def test_a_group_that_one_may_not_commit_for_is_an_error(
    own: EmbeddedCluster, config: DrainTopicConfig
) -> None:
    own.inject_errors("OffsetCommit", "GROUP_AUTHORIZATION_FAILED")
    (result,) = drain_topics(config, WHAT)
    assert isinstance(result.error, KafkaClientError)
    assert result.error.name == "GROUP_AUTHORIZATION_FAILED"
    assert (result.count, committed(own)) == (0, [None, None])


@pytest.mark.parametrize(
    ("protocol", "request_name"), [(CLASSIC, "JoinGroup"), (INCREMENTAL, "ConsumerGroupHeartbeat")]
)
def test_a_group_that_one_may_not_join_is_an_error_at_once(
    own: EmbeddedCluster, config: DrainTopicConfig, protocol: dict[str, object], request_name: str
) -> None:
    """The broker takes no commit from outside; the member that is needed is refused for good."""
    own.inject_errors("OffsetCommit", "UNKNOWN_MEMBER_ID")
    own.inject_errors(request_name, *["GROUP_AUTHORIZATION_FAILED"] * 20)
    began = time.monotonic()
    (result,) = drain_topics(dataclasses.replace(config, librdkafka=protocol), WHAT)
    assert isinstance(result.error, KafkaClientError)
    assert "Group authorization failed" in str(result.error)
    assert result.error.permanent
    assert time.monotonic() - began < PATIENCE


# -- as a member of the group ----------------------------------------------------------------------------


@pytest.mark.parametrize("error", ["STALE_MEMBER_EPOCH", "UNKNOWN_MEMBER_ID"])
def test_a_rebalance_on_top_of_its_commit_is_waited_for(
    own: EmbeddedCluster, config: DrainTopicConfig, error: str
) -> None:
    own.inject_errors("OffsetCommit", "UNKNOWN_MEMBER_ID", error)
    (result,) = drain_topics(config, WHAT)
    assert result.ok, result.error
    assert (result.count, committed(own)) == (6, [3, 3])


def test_a_commit_as_a_member_that_is_refused_for_good_is_an_error(
    own: EmbeddedCluster, config: DrainTopicConfig
) -> None:
    own.inject_errors("OffsetCommit", "UNKNOWN_MEMBER_ID", "GROUP_AUTHORIZATION_FAILED")
    (result,) = drain_topics(config, WHAT)
    assert isinstance(result.error, KafkaClientError)
    assert result.error.name == "GROUP_AUTHORIZATION_FAILED"
    assert (result.count, committed(own)) == (0, [None, None])


@pytest.fixture
def other(own: EmbeddedCluster) -> Iterator[tuple[ConsumerGroup, threading.Event]]:
    """Another member of the group, which consumes and commits once the event is set."""
    go_on = threading.Event()

    def handle(_worker_id: int, _message: Message) -> None:
        go_on.wait(PATIENCE * 4)

    group = ConsumerGroup(
        ConsumerGroupConfig(
            own.broker_addrs,
            TOPIC,
            GROUP,
            num_workers=2,
            message_consume_timeout=4.0,  # as long it keeps a partition that it shall give back
            librdkafka=INCREMENTAL,
        )
    )
    group.register_handler(handle)
    group.start()
    assert group.state_wait(State.CONSUMING, PATIENCE)
    yield group, go_on
    go_on.set()
    group.close(timeout=PATIENCE)


def test_told_so_it_waits_for_what_other_members_keep(
    own: EmbeddedCluster,
    config: DrainTopicConfig,
    tells: Tells,
    other: tuple[ConsumerGroup, threading.Event],
) -> None:
    tells(1)
    _, go_on = other
    done: list[int] = []

    def progress(now: DrainProgress) -> None:
        done.append(now.done)
        if now.done >= 3:
            go_on.set()  # its own partition is drained: only now does the other member consume

    (result,) = drain_topics(dataclasses.replace(config, live_members=True), WHAT, progress=progress)
    assert result.ok, result.error
    assert result.count == 6
    # The embedded broker has no patience with a partition that is kept: it gives it to the drain, and still
    # takes the commit with which the other member gives it back. That one goes on from there.
    eventually(lambda: committed(own), [3, 3])
    assert done == sorted(done)


def test_what_other_members_keep_and_do_not_consume_is_told_at_the_deadline(
    own: EmbeddedCluster,
    config: DrainTopicConfig,
    tells: Tells,
    other: tuple[ConsumerGroup, threading.Event],
) -> None:
    tells(1)
    late = dataclasses.replace(config, live_members=True, timeout=8.0)
    (result,) = drain_topics(late, WHAT)
    assert "not drained within 8 s: other members have the rest, and did not consume it" in str(result.error)
    assert sorted(committed(own), key=str) == [3, None], "its own partition is drained all the same"
    assert result.count == 3
    assert isinstance(result.error, DrainError)
    assert len(result.error.log_data["partitions"]) == 1


def test_a_group_that_gives_no_assignment_is_tried_anew_until_the_deadline(
    own: EmbeddedCluster, config: DrainTopicConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    own.set_group_rebalance_delay(600)
    monkeypatch.setattr(topic_module, "_PATIENCE", 1.0)
    own.track_requests()
    own.inject_errors("OffsetCommit", "UNKNOWN_MEMBER_ID")
    (result,) = drain_topics(dataclasses.replace(config, librdkafka=CLASSIC, timeout=8.0), WHAT)
    assert "not drained within 8 s: the group gave it no assignment" in str(result.error)
    assert sum(each.api_name == "JoinGroup" for each in own.requests()) >= 4, "two for each attempt"
    assert committed(own) == [None, None]


# -- the end of it ---------------------------------------------------------------------------------------


def drained(
    config: DrainTopicConfig,
    admin: Admin,
    stop: threading.Event,
    until: float,
    report: Callable[[DrainProgress], None] = lambda _: None,
) -> DrainResult:
    return TopicDrain(config, WHAT, admin, until, stop, report).run()


def test_a_drain_that_was_stopped_begins_no_further_topic(
    own: EmbeddedCluster, config: DrainTopicConfig, admin: Admin
) -> None:
    stop = threading.Event()
    stop.set()
    own.track_requests()
    result = drained(config, admin, stop, time.monotonic() + PATIENCE)
    assert str(result.error) == "the drain was interrupted"
    assert not any(each.api_name in ("ListOffsets", "OffsetCommit") for each in own.requests())


@pytest.mark.parametrize("members", [0, 1])
def test_a_drain_that_is_stopped_commits_and_joins_no_more(
    own: EmbeddedCluster, config: DrainTopicConfig, admin: Admin, tells: Tells, members: int
) -> None:
    tells(members)
    stop = threading.Event()
    own.track_requests()
    until = time.monotonic() + PATIENCE
    live = dataclasses.replace(config, live_members=True)
    result = drained(live, admin, stop, until, lambda _: stop.set())
    assert str(result.error) == "the drain was interrupted"
    assert not any(each.api_name in ("OffsetCommit", "ConsumerGroupHeartbeat") for each in own.requests())


def test_no_thread_outlives_a_drain_that_cannot_start_them_all(
    own: EmbeddedCluster, config: DrainTopicConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    own.create_topic("u")
    start, started = threading.Thread.start, list[threading.Thread]()

    def refuses(thread: threading.Thread) -> None:
        if thread.name == "dp-kafka:drain:u":
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuses)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        drain_topics(config, WHAT, DrainTopicInput("u", GROUP))
    (drain,) = (thread for thread in started if thread.name == f"dp-kafka:drain:{TOPIC}")
    assert not drain.is_alive()


def test_a_cluster_that_is_too_slow_is_named_at_the_deadline(config: DrainTopicConfig, admin: Admin) -> None:
    result = drained(config, admin, threading.Event(), time.monotonic())
    assert "the cluster was too slow" in str(failed(result))


# -- the member that a drain is --------------------------------------------------------------------------


@pytest.fixture
def member_config(own: EmbeddedCluster) -> ConsumerGroupConfig:
    return ConsumerGroupConfig(own.broker_addrs, TOPIC, GROUP, librdkafka=INCREMENTAL)


def test_a_commit_that_is_not_answered_ends_in_time(
    own: EmbeddedCluster, member_config: ConsumerGroupConfig
) -> None:
    with Member(member_config, threading.Event()) as member:
        assert member.join(time.monotonic() + PATIENCE)
        own.inject_errors("OffsetCommit", ("NO_ERROR", 8.0))
        began = time.monotonic()
        with pytest.raises(KafkaClientError, match="a commit was not answered in time") as caught:
            member.commit({0: 3}, began + 0.5)
        assert 0.4 < time.monotonic() - began < 6
        assert caught.value.name == "_TIMED_OUT"


def test_what_the_client_logs_goes_to_the_log_but_not_its_debug_lines(
    own: EmbeddedCluster, member_config: ConsumerGroupConfig, logged: Logged
) -> None:
    """The debug lines are for this alone: they tell the leader of a group who else is in it."""
    classic = dataclasses.replace(member_config, librdkafka=CLASSIC)
    with Member(classic, threading.Event(), watch_others=True) as member:
        assert member.join(time.monotonic() + PATIENCE)
        assert member.others is False
        assert "JoinGroup" not in logged.text
        own.broker_down(1)
        until = time.monotonic() + PATIENCE
        while "onnect" not in logged.text and member.poll(until):
            pass
        assert "onnect" in logged.text
        own.broker_up(1)
