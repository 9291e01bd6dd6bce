"""The embedded cluster, as real clients of confluent-kafka meet it: brokers, topics, groups, and its faults.

Each test has a cluster of its own, as most of them break it. Consumers here ask for a short fetch wait and a
short session: the mock lets both run to their end (docs: testing).
"""

from __future__ import annotations

import gc
import os
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import confluent_kafka
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from dp_kafka.kafkatest import DISCONNECT, EmbeddedCluster, EmbeddedClusterError, LoggedRequest
from dp_kafka.kafkatest import _librdkafka as librdkafka
from tests.looking import eventually

PATIENCE = 15.0
LIBRARY = librdkafka.load()
QUICK_CLIENT = {
    "log_level": 0,
    "reconnect.backoff.ms": 10,
    "reconnect.backoff.max.ms": 50,
    "retry.backoff.ms": 10,
}
QUICK_MEMBER = {
    **QUICK_CLIENT,
    "enable.auto.commit": False,
    "fetch.wait.max.ms": 10,
    "session.timeout.ms": 1500,
    "heartbeat.interval.ms": 100,
}


def needs(version: tuple[int, int, int]) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        LIBRARY.version_info < version, reason=f"librdkafka {LIBRARY.version} is older than {version}"
    )


@pytest.fixture
def cluster() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster() as made:
        yield made


@pytest.fixture
def three() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(brokers=3) as made:
        yield made


def producer(cluster: EmbeddedCluster, **config: Any) -> Producer:
    options = {key.replace("_", "."): value for key, value in config.items()}
    return Producer({"bootstrap.servers": cluster.bootstrap_servers, **QUICK_CLIENT, **options})


@pytest.fixture
def consumer(request: pytest.FixtureRequest) -> Iterator[Callable[..., Consumer]]:
    """Makes consumers that read from the beginning; the test's end closes them."""
    made: list[Consumer] = []

    def make(cluster: EmbeddedCluster, group: str = "group", **config: Any) -> Consumer:
        options = {key.replace("_", "."): value for key, value in config.items()}
        base: dict[str, Any] = {"bootstrap.servers": cluster.bootstrap_servers, "group.id": group}
        if options.get("group.protocol") == "consumer":
            base |= {**QUICK_CLIENT, "fetch.wait.max.ms": 10}
        else:
            base |= QUICK_MEMBER
        made.append(Consumer({**base, "auto.offset.reset": "earliest", **options}))
        return made[-1]

    yield make
    for one in made:
        one.close()


def send(cluster: EmbeddedCluster, topic: str, *values: str, partition: int = 0) -> None:
    client = producer(cluster)
    for value in values:
        client.produce(topic, value, partition=partition)
    assert client.flush(PATIENCE) == 0


def deliver(client: Producer, topic: str, **message: Any) -> tuple[str | None, Message]:
    """Produce one message; the name of the delivery's error, or None, and the message."""
    reports: list[tuple[str | None, Message]] = []

    def on_delivery(error: KafkaError | None, report: Message) -> None:
        reports.append((error.name() if error else None, report))

    client.produce(topic, on_delivery=on_delivery, **message)
    assert client.flush(PATIENCE) == 0
    return reports[0]


def read(client: Consumer, count: int) -> list[Message]:
    """The next `count` messages."""
    found: list[Message] = []
    until = time.monotonic() + PATIENCE
    while len(found) < count:
        assert time.monotonic() < until, f"{len(found)} of {count} messages after {PATIENCE} s"
        message = client.poll(0.05)
        if message is not None:
            assert message.error() is None, message.error()
            found.append(message)
    return found


def poll_until(condition: Callable[[], bool], *clients: Consumer) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, f"not within {PATIENCE} s"
        for client in clients:
            client.poll(0.01)


def assigned(client: Consumer) -> set[int]:
    return {one.partition for one in client.assignment()}


def calls(cluster: EmbeddedCluster, api_name: str) -> list[LoggedRequest]:
    return [request for request in cluster.requests() if request.api_name == api_name]


class TestProduceAndConsume:
    def test_a_message_comes_back_whole(
        self, cluster: EmbeddedCluster, consumer: Callable[..., Consumer]
    ) -> None:
        """Value, key, headers, timestamp, partition and offset are what was sent."""
        cluster.create_topic("t", partitions=2)
        headers = [("a", b"1"), ("a", b"2"), ("none", None)]
        sent = {"value": b"v", "key": b"k", "headers": headers, "partition": 1, "timestamp": 1234567}
        error, report = deliver(producer(cluster, enable_idempotence=True), "t", **sent)
        assert (error, report.partition(), report.offset()) == (None, 1, 0)

        client = consumer(cluster)
        client.subscribe(["t"])
        (got,) = read(client, 1)
        assert (got.value(), got.key(), got.headers()) == (b"v", b"k", headers)
        assert (got.partition(), got.offset()) == (1, 0)
        assert got.timestamp() == (confluent_kafka.TIMESTAMP_CREATE_TIME, 1234567)

    @pytest.mark.parametrize("acks", ["0", "1", "all"])
    @pytest.mark.parametrize("compression", ["none", "gzip", "lz4"])
    def test_acks_and_compression(self, cluster: EmbeddedCluster, acks: str, compression: str) -> None:
        error, _ = deliver(producer(cluster, acks=acks, compression_type=compression), "t", value=b"v" * 100)
        assert error is None

    def test_commits_keep_their_metadata_and_survive_the_group(
        self, cluster: EmbeddedCluster, consumer: Callable[..., Consumer]
    ) -> None:
        cluster.create_topic("t")
        send(cluster, "t", "a", "b", "c")
        member = consumer(cluster)
        member.subscribe(["t"])
        read(member, 3)
        member.commit(offsets=[TopicPartition("t", 0, 2, "note")], asynchronous=False)
        member.close()

        (left,) = consumer(cluster).committed([TopicPartition("t", 0)], timeout=PATIENCE)
        assert (left.offset, left.metadata) == (2, "note")
        again = consumer(cluster)
        again.subscribe(["t"])
        assert [message.value() for message in read(again, 1)] == [b"c"]

    @pytest.mark.parametrize(
        "protocol", ["classic", pytest.param("consumer", marks=needs((2, 8, 0)))], ids=["classic", "kip848"]
    )
    def test_members_share_and_a_leaving_one_gives_back(
        self, cluster: EmbeddedCluster, consumer: Callable[..., Consumer], protocol: str
    ) -> None:
        """A second member gets its part, and the first gets it back when the second leaves."""
        cluster.create_topic("t", partitions=4)
        options = {"group_protocol": protocol} if protocol == "consumer" else {}
        first, second = consumer(cluster, **options), consumer(cluster, **options)
        first.subscribe(["t"])
        poll_until(lambda: len(assigned(first)) == 4, first)
        second.subscribe(["t"])
        poll_until(lambda: len(assigned(first)) == len(assigned(second)) == 2, first, second)
        assert assigned(first) | assigned(second) == {0, 1, 2, 3}
        second.close()
        poll_until(lambda: len(assigned(first)) == 4, first)

    @needs((2, 8, 0))
    def test_a_target_assignment_is_carried_out(
        self, cluster: EmbeddedCluster, consumer: Callable[..., Consumer]
    ) -> None:
        cluster.create_topic("t", partitions=4)
        member = consumer(cluster, group_protocol="consumer")
        member.subscribe(["t"])
        poll_until(lambda: len(assigned(member)) == 4, member)
        cluster.assign_consumer_group("group", {member.memberid(): [("t", 1), ("t", 3)]})
        poll_until(lambda: assigned(member) == {1, 3}, member)

    @needs((2, 8, 0))
    def test_a_dead_member_goes_when_its_session_ends(
        self, cluster: EmbeddedCluster, consumer: Callable[..., Consumer]
    ) -> None:
        """A KIP-848 member whose process is killed loses its partitions after the session timeout."""
        cluster.set_consumer_session_timeout(0.5)
        cluster.create_topic("t", partitions=2)
        script = (
            "import sys; from confluent_kafka import Consumer\n"
            "k = Consumer({'bootstrap.servers': sys.argv[1], 'group.id': 'group', 'log_level': 0,"
            " 'group.protocol': 'consumer'}); k.subscribe(['t'])\n"
            "while not k.assignment(): k.poll(0.01)\n"
            "print('joined', flush=True); sys.stdin.read()"
        )
        command = [sys.executable, "-c", script, cluster.bootstrap_servers]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == b"joined\n"
            other.kill()
        member = consumer(cluster, group_protocol="consumer")
        member.subscribe(["t"])
        poll_until(lambda: assigned(member) == {0, 1}, member)

    def test_the_first_join_waits_for_the_rebalance_delay(
        self, cluster: EmbeddedCluster, consumer: Callable[..., Consumer]
    ) -> None:
        cluster.create_topic("t")
        cluster.set_group_rebalance_delay(0.5)
        member = consumer(cluster)
        begun = time.monotonic()
        member.subscribe(["t"])
        poll_until(lambda: assigned(member) == {0}, member)
        assert time.monotonic() - begun >= 0.5

    def test_clients_of_another_process(
        self, cluster: EmbeddedCluster, consumer: Callable[..., Consumer]
    ) -> None:
        cluster.create_topic("t")
        script = (
            "import sys; from confluent_kafka import Producer\n"
            "p = Producer({'bootstrap.servers': sys.argv[1]}); p.produce('t', b'from afar')\n"
            "sys.exit(p.flush(10))"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, cluster.bootstrap_servers], timeout=PATIENCE, check=False
        )
        assert done.returncode == 0
        client = consumer(cluster)
        client.subscribe(["t"])
        assert [message.value() for message in read(client, 1)] == [b"from afar"]


class TestTopics:
    def test_create(self, three: EmbeddedCluster) -> None:
        """The partitions and replicas asked for; three replicas, or one for each broker, by default."""
        three.create_topic("default", partitions=2)
        three.create_topic("single", replication_factor=1)
        topics = producer(three).list_topics(timeout=PATIENCE).topics
        assert [len(one.replicas) for one in topics["default"].partitions.values()] == [3, 3]
        assert [len(one.replicas) for one in topics["single"].partitions.values()] == [1]

    def test_create_again(self, cluster: EmbeddedCluster) -> None:
        """The same topic again is fine, another shape is not, nor a topic that a client has made."""
        cluster.create_topic("t", partitions=2)
        cluster.create_topic("t", partitions=2)
        with pytest.raises(
            EmbeddedClusterError, match=r"topic_create\(t, 3, 1\) failed: TOPIC_ALREADY_EXISTS"
        ):
            cluster.create_topic("t", partitions=3)
        deliver(producer(cluster), "by-client", value=b"v")
        with pytest.raises(EmbeddedClusterError, match="TOPIC_ALREADY_EXISTS"):
            cluster.create_topic("by-client", partitions=4)

    @pytest.mark.parametrize("name", ["", ".", "..", "a b", "ä", "a/b", "a\0b", "x" * 250, None])
    def test_a_bad_name(self, cluster: EmbeddedCluster, name: Any) -> None:
        with pytest.raises(EmbeddedClusterError, match="is not a topic name"):
            cluster.create_topic(name)

    @needs((2, 15, 0))
    def test_delete(self, cluster: EmbeddedCluster) -> None:
        cluster.create_topic("t", partitions=2)
        cluster.delete_topic("t")
        assert "t" not in producer(cluster).list_topics(timeout=PATIENCE).topics
        cluster.create_topic("t", partitions=3)
        with pytest.raises(EmbeddedClusterError, match="UNKNOWN_TOPIC_OR_PART"):
            cluster.delete_topic("never")

    @needs((2, 15, 0))
    def test_delete_records(self, cluster: EmbeddedCluster, consumer: Callable[..., Consumer]) -> None:
        cluster.create_topic("t")
        send(cluster, "t", "a", "b", "c")
        cluster.delete_records("t", 0, before_offset=2)
        watermarks = consumer(cluster).get_watermark_offsets(TopicPartition("t", 0), timeout=PATIENCE)
        assert watermarks == (2, 3)
        with pytest.raises(EmbeddedClusterError, match="OFFSET_OUT_OF_RANGE"):
            cluster.delete_records("t", 0, before_offset=4)

    @needs((2, 10, 0))
    def test_topic_error(self, cluster: EmbeddedCluster) -> None:
        cluster.create_topic("t")
        client = producer(cluster)
        cluster.set_topic_error("t", "TOPIC_AUTHORIZATION_FAILED")
        error = client.list_topics("t", timeout=PATIENCE).topics["t"].error
        assert error is not None
        assert error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
        cluster.set_topic_error("t", None)
        assert client.list_topics("t", timeout=PATIENCE).topics["t"].error is None


class TestBrokers:
    def test_addresses(self, three: EmbeddedCluster) -> None:
        """One address for each broker, in the order of their ids."""
        brokers = producer(three).list_topics(timeout=PATIENCE).brokers
        assert [f"{brokers[i].host}:{brokers[i].port}" for i in (1, 2, 3)] == three.broker_addrs
        assert ",".join(three.broker_addrs) == three.bootstrap_servers

    def test_down_and_up(self, cluster: EmbeddedCluster) -> None:
        """A broker that is down refuses connections; what waited for it is delivered when it is back."""
        cluster.create_topic("t")
        client = producer(cluster)
        assert deliver(client, "t", value=b"1")[0] is None
        cluster.broker_down(1)
        cluster.broker_down(1)
        host, port = cluster.broker_addrs[0].split(":")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, int(port)), timeout=1)
        client.produce("t", b"2")
        assert client.flush(0.1) == 1
        cluster.broker_up(1)
        cluster.broker_up(1)
        assert client.flush(PATIENCE) == 0

    def test_the_others_go_on(self, three: EmbeddedCluster) -> None:
        """With one of three down, its partitions wait until their leadership is moved."""
        three.create_topic("t", partitions=3)
        for partition in range(3):
            three.set_leader("t", partition, partition + 1)
        client = producer(three, topic_metadata_refresh_interval_ms=100)
        client.list_topics(timeout=PATIENCE)
        three.broker_down(2)
        assert deliver(client, "t", value=b"v", partition=0)[0] is None
        client.produce("t", b"v", partition=1)
        assert client.flush(0.1) == 1
        three.set_leader("t", 1, 3)
        assert client.flush(PATIENCE) == 0

    def test_latency(self, cluster: EmbeddedCluster) -> None:
        client = producer(cluster)
        client.list_topics(timeout=PATIENCE)
        cluster.set_latency(0.5)
        begun = time.monotonic()
        client.list_topics(timeout=PATIENCE)
        assert time.monotonic() - begun >= 0.5
        cluster.set_latency(0.0, broker=1)

        def seconds() -> float:
            begun = time.monotonic()
            client.list_topics(timeout=PATIENCE)
            return time.monotonic() - begun

        # The machine may hold up one answer; with the latency every one takes as long.
        eventually(lambda: seconds() < 0.5)

    def test_leader(self, three: EmbeddedCluster) -> None:
        three.create_topic("t")
        client = producer(three)
        for broker, leader in ((2, 2), (3, 3), (None, -1)):
            three.set_leader("t", 0, broker)
            assert client.list_topics("t", timeout=PATIENCE).topics["t"].partitions[0].leader == leader

    def test_follower(self, three: EmbeddedCluster, consumer: Callable[..., Consumer]) -> None:
        """A consumer reads from the follower that it is sent to."""
        three.create_topic("t")
        three.set_leader("t", 0, 1)
        send(three, "t", "v")
        three.set_follower("t", 0, 3)
        three.set_rack("here", broker=3)
        three.set_rack("everywhere")
        three.track_requests()
        client = consumer(three, client_rack="here")
        client.assign([TopicPartition("t", 0, 0)])
        read(client, 1)
        assert calls(three, "Fetch")[-1].broker == 3

    def test_coordinator(self, three: EmbeddedCluster, consumer: Callable[..., Consumer]) -> None:
        """A group, or a transactional producer, goes to the coordinator it is given."""
        three.create_topic("t")
        three.set_coordinator("group", 3)
        three.set_coordinator("tx", 2, kind="transaction")
        three.track_requests()
        member = consumer(three)
        member.subscribe(["t"])
        poll_until(lambda: assigned(member) == {0}, member)
        producer(three, transactional_id="tx").init_transactions(PATIENCE)
        assert {request.broker for request in calls(three, "JoinGroup")} == {3}
        assert {request.broker for request in calls(three, "InitProducerId")} == {2}

    @needs((2, 16, 0))
    def test_controller(self, three: EmbeddedCluster) -> None:
        client = producer(three)
        assert client.list_topics(timeout=PATIENCE).controller_id == 1
        three.set_controller(3)
        assert client.list_topics(timeout=PATIENCE).controller_id == 3


class TestFaults:
    def test_a_permanent_error_reaches_the_sender(self, cluster: EmbeddedCluster) -> None:
        cluster.create_topic("t")
        client = producer(cluster)
        cluster.inject_errors("Produce", "MSG_SIZE_TOO_LARGE")
        assert [deliver(client, "t", value=b"v")[0] for _ in range(2)] == ["MSG_SIZE_TOO_LARGE", None]

    def test_errors_come_in_order(self, cluster: EmbeddedCluster) -> None:
        """By name, by code, as a KafkaError; NO_ERROR lets one through."""
        cluster.create_topic("t")
        client = producer(cluster)
        cluster.inject_errors(
            "produce", "msg_size_too_large", "NO_ERROR", KafkaError.INVALID_RECORD,
            KafkaException(KafkaError(KafkaError.RECORD_LIST_TOO_LARGE)), broker=1,
        )  # fmt: skip
        assert cluster.pending_errors(1, "Produce") == 4
        names = [deliver(client, "t", value=b"v")[0] for _ in range(5)]
        expected = ["MSG_SIZE_TOO_LARGE", None, "INVALID_RECORD", "RECORD_LIST_TOO_LARGE", None]
        assert names == expected
        assert cluster.pending_errors(1, "Produce") == 0
        # The broker has a list of its own now, and the next error must find its way there.
        cluster.inject_errors(0, "INVALID_RECORD")
        assert [deliver(client, "t", value=b"v")[0] for _ in range(2)] == ["INVALID_RECORD", None]

    def test_a_retriable_error_is_retried(self, cluster: EmbeddedCluster) -> None:
        cluster.create_topic("t")
        client = producer(cluster)
        cluster.track_requests()
        cluster.inject_errors("Produce", "REQUEST_TIMED_OUT", DISCONNECT)
        assert deliver(client, "t", value=b"v")[0] is None
        assert len(calls(cluster, "Produce")) == 3

    def test_a_late_error(self, cluster: EmbeddedCluster) -> None:
        cluster.create_topic("t")
        client = producer(cluster)
        deliver(client, "t", value=b"v")
        cluster.inject_errors("Produce", ("MSG_SIZE_TOO_LARGE", 0.2), ("NO_ERROR", 0))
        begun = time.monotonic()
        assert deliver(client, "t", value=b"v")[0] == "MSG_SIZE_TOO_LARGE"
        assert time.monotonic() - begun >= 0.2

    def test_errors_can_be_taken_back(self, three: EmbeddedCluster) -> None:
        three.create_topic("t")
        three.inject_errors("Produce", "INVALID_RECORD", "INVALID_RECORD")
        three.clear_errors("Produce")
        assert deliver(producer(three), "t", value=b"v")[0] is None
        three.inject_errors("Fetch", "UNKNOWN", broker=2)
        with pytest.raises(EmbeddedClusterError, match=r"\{1: 0, 2: 1, 3: 0\}"):
            three.clear_errors("Fetch")

    def test_one_broker_of_several(self, three: EmbeddedCluster) -> None:
        """Errors for one broker meet its requests only, and are not mixed with those for all."""
        three.create_topic("t", partitions=2)
        three.set_leader("t", 0, 1)
        three.set_leader("t", 1, 2)
        client = producer(three)
        three.inject_errors("Produce", "INVALID_RECORD", broker=2)
        assert deliver(client, "t", value=b"v", partition=0)[0] is None
        assert deliver(client, "t", value=b"v", partition=1)[0] == "INVALID_RECORD"
        with pytest.raises(EmbeddedClusterError, match="which of the 3 brokers"):
            three.inject_errors("Produce", "INVALID_RECORD")
        with pytest.raises(EmbeddedClusterError, match="which of the 3 brokers"):
            three.inject_errors("Fetch", ("UNKNOWN", 0.1))

    def test_a_broker_that_is_older(self, cluster: EmbeddedCluster) -> None:
        """It does not know a request; and what is no version of one is refused."""
        cluster.create_topic("t")
        cluster.set_api_versions("InitProducerId", None)
        client = producer(cluster, enable_idempotence=True)
        client.produce("t", b"v")
        with pytest.raises(KafkaException, match="Idempotent producer not supported"):
            client.flush(PATIENCE)
        with pytest.raises(EmbeddedClusterError, match="whole number from 0 to 32767, not -1"):
            cluster.set_api_versions("Produce", (-1, 3))
        cluster.set_api_versions("InitProducerId", (0, 1))
        assert deliver(producer(cluster, enable_idempotence=True), "t", value=b"v")[0] is None

    @needs((2, 15, 0))
    def test_one_partition_of_several(self, cluster: EmbeddedCluster) -> None:
        cluster.create_topic("t", partitions=2)
        client = producer(cluster)
        cluster.inject_partition_errors("t", 1, "Produce", "MSG_SIZE_TOO_LARGE", "INVALID_RECORD")
        assert deliver(client, "t", value=b"v", partition=0)[0] is None
        errors = [deliver(client, "t", value=b"v", partition=1)[0] for _ in range(3)]
        assert errors == ["MSG_SIZE_TOO_LARGE", "INVALID_RECORD", None]
        with pytest.raises(EmbeddedClusterError, match="Produce, Fetch only"):
            cluster.inject_partition_errors("t", 1, "JoinGroup", "UNKNOWN")
        with pytest.raises(EmbeddedClusterError, match="no error was given"):
            cluster.inject_partition_errors("t", 1, "Produce")

    def test_commit(self, cluster: EmbeddedCluster, consumer: Callable[..., Consumer]) -> None:
        cluster.create_topic("t")
        send(cluster, "t", "v")
        member = consumer(cluster)
        member.subscribe(["t"])
        (message,) = read(member, 1)
        cluster.inject_errors("OffsetCommit", "OFFSET_METADATA_TOO_LARGE")
        with pytest.raises(KafkaException) as failed:
            member.commit(message, asynchronous=False)
        assert failed.value.args[0].code() == KafkaError.OFFSET_METADATA_TOO_LARGE
        member.commit(message, asynchronous=False)

    @pytest.mark.parametrize("request_name", ["JoinGroup", "Fetch"])
    def test_a_consumer_gets_over(
        self, cluster: EmbeddedCluster, consumer: Callable[..., Consumer], request_name: str
    ) -> None:
        """A connection that is cut at any step of joining and fetching costs a consumer nothing but time."""
        cluster.create_topic("t")
        send(cluster, "t", "v")
        cluster.track_requests()
        cluster.inject_errors(request_name, DISCONNECT)
        member = consumer(cluster)
        member.subscribe(["t"])
        assert [message.value() for message in read(member, 1)] == [b"v"]
        assert calls(cluster, request_name)

    def test_a_lost_membership(self, cluster: EmbeddedCluster, consumer: Callable[..., Consumer]) -> None:
        """A heartbeat that is answered UNKNOWN_MEMBER_ID costs the assignment; the member joins again."""
        cluster.create_topic("t")
        lost = threading.Event()
        member = consumer(cluster)
        member.subscribe(["t"], on_lost=lambda *_: lost.set())
        poll_until(lambda: assigned(member) == {0}, member)
        cluster.inject_errors("Heartbeat", "UNKNOWN_MEMBER_ID")
        poll_until(lost.is_set, member)
        poll_until(lambda: assigned(member) == {0}, member)

    @pytest.mark.skipif(LIBRARY.version_info >= (2, 15, 0), reason="newer ones can")
    def test_metadata_where_the_mock_cannot(self, cluster: EmbeddedCluster) -> None:
        with pytest.raises(EmbeddedClusterError, match=r"this for Metadata needs librdkafka 2\.15\.0"):
            cluster.inject_errors("Metadata", DISCONNECT)

    @needs((2, 15, 0))
    def test_metadata(self, cluster: EmbeddedCluster) -> None:
        client = producer(cluster)
        client.list_topics(timeout=PATIENCE)
        cluster.inject_errors("Metadata", ("NO_ERROR", 0.2))
        begun = time.monotonic()
        client.list_topics(timeout=PATIENCE)
        assert time.monotonic() - begun >= 0.2

    @pytest.mark.parametrize(
        ("request_name", "error", "message"),
        [
            ("Prodce", "UNKNOWN", "'Prodce' is not the name of a Kafka request; did you mean Produce"),
            ("xyzzy", "UNKNOWN", "'xyzzy' is not the name of a Kafka request$"),
            (-1, "UNKNOWN", "no request of Kafka's protocol has the key -1"),
            (True, "UNKNOWN", "True is not the name of a Kafka request"),
            ("CreateTopics", "UNKNOWN", "does not answer CreateTopics requests"),
            ("Produce", "NOT_LEADER", "'NOT_LEADER' is not .* did you mean .*NOT_LEADER_FOR_PARTITION"),
            ("Produce", 9999, "no Kafka error has the code 9999"),
            ("Produce", "_TIMED_OUT", "an error of the client itself"),
            ("Produce", None, "not as NoneType"),
            ("Produce", (DISCONNECT, 0.1), "cannot be delayed"),
            ("Produce", ("UNKNOWN",), "is a pair"),
            ("Produce", ("UNKNOWN", -1), "must be from 0"),
        ],
    )
    def test_misuse(self, cluster: EmbeddedCluster, request_name: Any, error: Any, message: str) -> None:
        with pytest.raises(EmbeddedClusterError, match=message):
            cluster.inject_errors(request_name, error)

    def test_no_error_given(self, cluster: EmbeddedCluster) -> None:
        with pytest.raises(EmbeddedClusterError, match="no error was given"):
            cluster.inject_errors("Produce")


class TestRequestLog:
    def test_what_was_asked_and_when(self, three: EmbeddedCluster) -> None:
        three.create_topic("t")
        three.set_leader("t", 0, 2)
        with pytest.raises(EmbeddedClusterError, match=r"track_requests\(\)"):
            three.requests()
        three.track_requests()
        assert three.requests() == []
        begun = time.monotonic()
        deliver(producer(three), "t", value=b"v")
        (produced,) = calls(three, "Produce")
        assert produced.broker == 2
        assert begun <= produced.timestamp <= time.monotonic()
        three.clear_requests()
        assert calls(three, "Produce") == []


MISUSES: dict[str, Callable[[EmbeddedCluster], object]] = {
    "broker must be a whole number from 1 to 1, not 2": lambda c: c.broker_down(2),
    "broker must be a whole number from 1 to 1, not 0": lambda c: c.broker_up(0),
    "broker must be a whole number from 1 to 1, not -1": lambda c: c.set_latency(1, broker=-1),
    "seconds must be from 0 to 2147483, not -0.001": lambda c: c.set_latency(-0.001),
    "seconds must be a number of seconds, not nan": lambda c: c.set_latency(float("nan")),
    "partitions must be a whole number from 1 to 10000, not 0": lambda c: c.create_topic("t", 0),
    "replication_factor must be a whole number from 1 to 1, not 2": lambda c: c.create_topic("t", 1, 2),
    "partition must be a whole number from 0 to 9999, not -1": lambda c: c.set_leader("t", -1, 1),
    "partition must be a whole number from 0 to 9999, not 10000": lambda c: c.set_follower("t", 10_000, 1),
    "partition_set_leader.t, 7, 1. failed: UNKNOWN_TOPIC_OR_PART": lambda c: c.set_leader("exists", 7, 1),
    "kind is 'group' or 'transaction'": lambda c: c.set_coordinator("g", 1, kind="x"),  # type: ignore[arg-type]
    "key must be text": lambda c: c.set_coordinator("", 1),
    "rack must be text": lambda c: c.set_rack("a\0b"),
}


@pytest.mark.parametrize("message", MISUSES)
def test_misuse_says_what_is_wrong(cluster: EmbeddedCluster, message: str) -> None:
    """What the C library would answer with an abort or a stray write is refused before it gets there."""
    cluster.create_topic("exists")
    with pytest.raises(EmbeddedClusterError, match=message.replace("t, 7", "exists, 7")):
        MISUSES[message](cluster)


@pytest.mark.parametrize("brokers", [0, -1, 101, 1.5, True])
def test_number_of_brokers(brokers: Any) -> None:
    with pytest.raises(EmbeddedClusterError, match="brokers must be a whole number from 1 to 100"):
        EmbeddedCluster(brokers)


class TestLifeCycle:
    def test_close_is_idempotent_and_final(self) -> None:
        """After close() the ports are free, every method says so, and the addresses can still be read."""
        cluster = EmbeddedCluster()
        assert repr(cluster) == f"<EmbeddedCluster {cluster.bootstrap_servers} open>"
        cluster.close()
        cluster.close()
        assert repr(cluster) == f"<EmbeddedCluster {cluster.bootstrap_servers} closed>"
        host, port = cluster.broker_addrs[0].split(":")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, int(port)), timeout=1)
        for use in (
            lambda: cluster.create_topic("t"),
            lambda: cluster.broker_down(1),
            lambda: cluster.inject_errors("Produce", "UNKNOWN"),
            cluster.requests,
            cluster.track_requests,
        ):
            with pytest.raises(EmbeddedClusterError, match="is closed"):
                use()

    def test_nothing_is_left_over(self) -> None:
        """Twenty clusters, used and closed, leave no file descriptor and no thread behind."""

        def use() -> None:
            with EmbeddedCluster(brokers=2) as cluster:
                client = producer(cluster)
                deliver(client, "t", value=b"v")

        def held() -> tuple[int, int]:
            return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))

        if not os.path.isdir("/proc/self/fd"):
            pytest.skip("counted with /proc")
        use()
        gc.collect()
        before = held()
        for _ in range(20):
            use()
        # Threads that have ended are in /proc for another moment.
        eventually(lambda: held() <= before)

    def test_a_dropped_cluster_is_closed(self) -> None:
        cluster = EmbeddedCluster()
        host, port = cluster.broker_addrs[0].split(":")
        gone = weakref.ref(cluster)
        del cluster
        gc.collect()
        assert gone() is None
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, int(port)), timeout=1)

    def test_an_open_cluster_does_not_hold_up_the_end(self) -> None:
        """A program that forgets to close ends at once, with nothing on stderr."""
        script = (
            "from dp_kafka.kafkatest import EmbeddedCluster\n"
            "cluster = EmbeddedCluster(); cluster.create_topic('t'); cluster.broker_down(1)"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], timeout=PATIENCE, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
    def test_a_forked_child_leaves_the_cluster_alone(self) -> None:
        """In the child, methods say why they refuse and close() does nothing; the parent's goes on."""
        script = (
            "import os, sys\n"
            "from dp_kafka.kafkatest import EmbeddedCluster, EmbeddedClusterError\n"
            "cluster = EmbeddedCluster()\n"
            "child = os.fork()\n"
            "if not child:\n"
            "    try:\n"
            "        cluster.create_topic('t')\n"
            "    except EmbeddedClusterError as exc:\n"
            "        cluster.close(); del cluster\n"
            "        sys.exit(0 if 'belongs to the parent process' in str(exc) else 3)\n"
            "    sys.exit(4)\n"
            "status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])\n"
            "cluster.create_topic('t'); cluster.close()\n"
            "sys.exit(status)"
        )
        # Newer Pythons warn of any fork while threads run, and librdkafka's do.
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", script],
            timeout=PATIENCE,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")

    def test_many_threads(self) -> None:
        """Threads that create, inject, count and close at the same time: each call works or says closed."""
        cluster = EmbeddedCluster(brokers=2)
        wrong: list[BaseException] = []
        started = threading.Barrier(5)

        def use(number: int) -> None:
            started.wait(PATIENCE)
            try:
                for step in range(40):
                    cluster.create_topic(f"t-{number}-{step}")
                    cluster.inject_errors("Produce", "UNKNOWN", broker=number % 2 + 1)
                    cluster.pending_errors(1, "Produce")
                if number == 3:
                    cluster.close()
            except EmbeddedClusterError as exc:
                if "is closed" not in str(exc):
                    wrong.append(exc)
            except BaseException as exc:
                wrong.append(exc)

        threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        started.wait(PATIENCE)
        for thread in threads:
            thread.join(PATIENCE)
        assert not any(thread.is_alive() for thread in threads)
        assert wrong == []
        cluster.close()

    def test_commands_in_a_row_do_not_sleep(self, cluster: EmbeddedCluster) -> None:
        """The mock's lost wake-up made one command in fifty wait for a second."""

        def slowest(prefix: str) -> float:
            found = 0.0
            for number in range(200):
                begun = time.monotonic()
                cluster.create_topic(f"{prefix}-{number}")
                found = max(found, time.monotonic() - begun)
            return found

        # The machine may hold up a command of one round; the lost wake-up met several of each.
        assert any(slowest(prefix) < 0.9 for prefix in "abc")


class TestLibrary:
    def test_a_library_without_the_mock(self) -> None:
        """The reason names what is missing, the platform and the version of confluent-kafka."""
        import ctypes

        with pytest.raises(EmbeddedClusterError) as refused:
            librdkafka.Librdkafka(ctypes.CDLL(None))
        message = str(refused.value)
        assert "rd_kafka_mock_cluster_new" in message
        assert sys.platform in message
        assert confluent_kafka.__version__ in message

    def test_a_library_that_cannot_be_loaded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The reason, the platform and the version, and what to do."""
        broken = tmp_path / "cimpl.so"
        broken.write_bytes(b"no library")
        monkeypatch.setattr(librdkafka, "cimpl", SimpleNamespace(__file__=str(broken)))
        with pytest.raises(EmbeddedClusterError, match=r"cimpl\.so cannot be loaded with ctypes") as refused:
            librdkafka.load.__wrapped__()
        message = str(refused.value)
        assert sys.platform in message
        assert confluent_kafka.__version__ in message
        assert "Use the wheel of confluent-kafka from PyPI" in message

    def test_a_function_that_is_missing(
        self, cluster: EmbeddedCluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One that only newer versions have is refused with the version; the rest works."""
        monkeypatch.delitem(LIBRARY._functions, "rd_kafka_mock_topic_delete", raising=False)
        with pytest.raises(EmbeddedClusterError, match=r"topic_delete needs librdkafka 2\.15\.0"):
            cluster.delete_topic("t")
        cluster.create_topic("t")

    def test_a_client_that_is_too_old(
        self, cluster: EmbeddedCluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What would crash it, or would do nothing, is refused with the version that is needed."""
        monkeypatch.setattr(LIBRARY, "version_info", (2, 6, 0))
        with pytest.raises(
            EmbeddedClusterError, match=r"set_topic_error\(\) needs librdkafka 2\.10\.0 or newer"
        ):
            cluster.set_topic_error("t", "UNKNOWN_TOPIC_OR_PART")

    def test_a_cluster_of_an_old_librdkafka(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without KIP-848 and a controller to choose, messages go through all the same."""
        for name in (
            "rd_kafka_mock_set_group_consumer_heartbeat_interval_ms",
            "rd_kafka_mock_set_controller_id",
        ):
            monkeypatch.delitem(LIBRARY._functions, name, raising=False)
        with EmbeddedCluster() as old:
            assert not old.has_consumer_protocol
            old.create_topic("t")
            client = producer(old)
            client.produce("t", b"value")
            assert client.flush(PATIENCE) == 0

    def test_there_is_one_copy(self) -> None:
        """The library is the one that the clients use, not a second copy of it."""
        if not os.path.exists("/proc/self/maps"):
            pytest.skip("read from /proc")
        with open("/proc/self/maps") as maps:
            copies = {line.split()[-1] for line in maps if "librdkafka" in line}
        assert len(copies) <= 1
        assert LIBRARY.version == confluent_kafka.libversion()[0]
