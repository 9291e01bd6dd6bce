"""The launcher of real brokers: data outlives a kill, faults are real, nothing stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, Producer

from .apache import (
    ApacheKafka,
    ApacheKafkaError,
    ExternalKafka,
    MissingToolError,
    artifacts,
    reaper,
    statefile,
)
from .conftest import TopicFactory, need_brokers

_ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def kafka() -> Iterator[ApacheKafka]:
    """One broker of this module's own, to be killed and paused."""
    need_brokers()
    with ApacheKafka() as one:
        yield one


def _quiet(_: object) -> None:
    """Broken connections are what these tests make."""


def _produce(addresses: list[str], topic: str, values: list[bytes], timeout: float = 30.0) -> None:
    producer = Producer(
        {"bootstrap.servers": ",".join(addresses), "acks": "all", "log_level": 0, "error_cb": _quiet}
    )
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(timeout) == 0


def _consume(addresses: list[str], topic: str, count: int, **properties: object) -> list[bytes | None]:
    consumer = Consumer(
        {
            "bootstrap.servers": ",".join(addresses),
            "group.id": f"{topic}-group-{time.monotonic_ns()}",
            "auto.offset.reset": "earliest",
            "log_level": 0,
            "error_cb": _quiet,
            **properties,
        }
    )
    found: list[bytes | None] = []
    deadline = time.monotonic() + 30
    try:
        consumer.subscribe([topic])
        while len(found) < count and time.monotonic() < deadline:
            message = consumer.poll(0.5)
            if message is not None and message.error() is None:
                found.append(message.value())
    finally:
        consumer.close()
    return found


def test_what_is_produced_is_consumed(kafka: ApacheKafka) -> None:
    kafka.create_topic("round-trip")
    _produce(kafka.broker_addrs, "round-trip", [b"one", b"two"])
    assert _consume(kafka.broker_addrs, "round-trip", 2) == [b"one", b"two"]


def test_a_killed_broker_comes_back_with_its_data_at_its_address(kafka: ApacheKafka) -> None:
    kafka.create_topic("survivor")
    _produce(kafka.broker_addrs, "survivor", [b"before"])
    addresses, pid = kafka.broker_addrs, kafka.pid(1)
    kafka.kill(1)
    with pytest.raises(ApacheKafkaError, match="broker 1 does not run"):
        kafka.pid(1)
    kafka.restart(1)
    assert kafka.pid(1) != pid
    assert kafka.broker_addrs == addresses
    _produce(addresses, "survivor", [b"after"])
    assert _consume(addresses, "survivor", 2) == [b"before", b"after"]


def test_a_paused_broker_answers_nothing_until_it_is_resumed(kafka: ApacheKafka) -> None:
    kafka.pause(1)
    try:
        with pytest.raises(KafkaException):
            kafka.admin().list_topics(timeout=1.0)
    finally:
        kafka.resume(1)
    assert kafka.admin().list_topics(timeout=30.0).brokers


def test_groups_of_kip_848_work_by_default(kafka: ApacheKafka) -> None:
    kafka.create_topic("kip-848", partitions=3)
    _produce(kafka.broker_addrs, "kip-848", [b"x"] * 10)
    assert len(_consume(kafka.broker_addrs, "kip-848", 10, **{"group.protocol": "consumer"})) == 10


def test_a_session_of_a_second_is_accepted(kafka: ApacheKafka) -> None:
    kafka.create_topic("short-session")
    _produce(kafka.broker_addrs, "short-session", [b"x"])
    short = {"session.timeout.ms": 1000, "heartbeat.interval.ms": 200}
    assert _consume(kafka.broker_addrs, "short-session", 1, **short) == [b"x"]


def test_topics_are_not_made_by_asking_for_them(kafka: ApacheKafka) -> None:
    kafka.admin().list_topics("never-made", timeout=10.0)
    assert "never-made" not in kafka.admin().list_topics(timeout=10.0).topics


def test_stop_leaves_no_process_and_no_data(tmp_path: Path) -> None:
    need_brokers()
    kafka = ApacheKafka(state_dir=tmp_path)
    kafka.start()
    token, data_dir, address = kafka.token, kafka.data_dir, kafka.broker_addrs[0]
    assert reaper.find(token)
    assert data_dir is not None
    kafka.stop()
    kafka.stop()
    assert reaper.find(token) == []
    assert not data_dir.exists()
    assert "Kafka Server started" in (tmp_path / "broker-1.log").read_text()  # the log stays for the reader
    assert kafka.broker_addrs == []
    with pytest.raises(KafkaException):
        _metadata(address)


def _metadata(address: str) -> None:
    Producer({"bootstrap.servers": address, "log_level": 0, "error_cb": _quiet}).list_topics(timeout=1.0)


def test_brokers_end_when_their_owner_is_killed() -> None:
    need_brokers()
    script = (
        "import sys\nfrom tests.kafka.apache import ApacheKafka\n"
        "kafka = ApacheKafka()\nkafka.start()\n"
        "print(kafka.token, kafka.data_dir, flush=True)\nsys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        token, data_dir = owner.stdout.readline().split()
        assert reaper.find(token)
        owner.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while (reaper.find(token) or Path(data_dir).exists()) and time.monotonic() < deadline:
        time.sleep(0.1)  # the leash is no child of ours: there is nothing to wait on
    assert reaper.find(token) == []
    assert not Path(data_dir).exists()


def test_a_broker_that_cannot_start_shows_its_log() -> None:
    need_brokers()
    kafka = ApacheKafka(broker_properties={"num.io.threads": "many"})
    with pytest.raises(ApacheKafkaError, match=r"(?s)broker 1.*num\.io\.threads"):
        kafka.start()
    assert reaper.find(kafka.token) == []


def test_up_status_and_down_are_processes_of_their_own(tmp_path: Path) -> None:
    need_brokers()
    state = str(tmp_path / "state")
    try:
        up = _command("up", "--brokers", "1", "--state", state)
        assert up.returncode == 0, up.stderr
        assert up.stdout.startswith("KAFKA_ADDR=127.0.0.1:")
        _metadata(up.stdout.strip().removeprefix("KAFKA_ADDR="))
        assert _command("up", "--brokers", "1", "--state", state).stdout == up.stdout
        assert "take it down" in _command("up", "--brokers", "2", "--state", state).stderr
        status = _command("status", "--state", state)
        assert "broker 1" in status.stdout
        assert up.stdout in status.stdout
    finally:
        down = _command("down", "--state", state)
    assert down.stdout == "ended 1 brokers\n"
    assert _command("status", "--state", state).returncode == 3
    assert _command("down", "--state", state).stdout == "ended 0 brokers\n"


def _command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.kafka.apache", *arguments],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


def test_a_state_file_of_dead_brokers_harms_no_other_process(tmp_path: Path) -> None:
    """The process ids of the file belong to other programs now: this test's own, say."""
    data = tmp_path / "data"
    data.mkdir()
    statefile.StateFile(
        version="4.4.0",
        options={},
        token="0" * 32,
        data_dir=str(data),
        addresses={"PLAINTEXT": ["127.0.0.1:1"]},
        users={},
        certs_dir=None,
        pids={"1": os.getpid()},
    ).write(tmp_path)
    assert statefile.down(tmp_path) == 0
    assert not data.exists()
    assert statefile.read(tmp_path) is None


def test_without_maven_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need_brokers()
    java = artifacts.find_java()
    monkeypatch.setenv("APACHE_KAFKA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(Path(java).parent))
    monkeypatch.setattr("shutil.which", lambda name, path=None: java if name == "java" else None)
    with pytest.raises(MissingToolError, match="install Maven"):
        artifacts.fetch()
    assert "install Maven" in (artifacts.missing() or "")
    assert not (tmp_path / "cache").exists()


def test_without_java_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingToolError, match="install a JDK"):
        artifacts.fetch()


def test_leaders_move_while_all_brokers_run(
    apache_kafka: ApacheKafka | ExternalKafka, kafka_topic: TopicFactory
) -> None:
    if isinstance(apache_kafka, ExternalKafka):
        pytest.skip("leaders of a cluster of KAFKA_ADDR are not ours to move")
    topic = kafka_topic(partitions=6)

    def leaders() -> dict[int, int]:
        found = apache_kafka.admin().list_topics(topic, timeout=10.0).topics[topic].partitions
        return {id: each.leader for id, each in found.items()}

    before = leaders()
    apache_kafka.move_leaders(topic)
    after = leaders()
    assert all(before[partition] != after[partition] for partition in before)
    _produce(apache_kafka.broker_addrs, topic, [b"moved"] * 6)


@pytest.mark.parametrize(("ci", "outcome"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_missing_brokers_fail_in_ci_and_skip_elsewhere(
    monkeypatch: pytest.MonkeyPatch, ci: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setenv("CI", ci)
    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    with pytest.raises(outcome, match="install a JDK"):
        need_brokers()


def test_three_brokers_lose_nothing_with_one_killed(
    apache_kafka: ApacheKafka | ExternalKafka, kafka_topic: TopicFactory
) -> None:
    if isinstance(apache_kafka, ExternalKafka):
        pytest.skip("a cluster of KAFKA_ADDR cannot be killed")
    topic = kafka_topic(partitions=3, min_insync_replicas="2")
    _produce(apache_kafka.broker_addrs, topic, [b"before"] * 30)
    apache_kafka.kill(2)
    try:
        _produce(apache_kafka.broker_addrs, topic, [b"during"] * 30)
    finally:
        apache_kafka.restart(2)
    apache_kafka.wait_in_sync(topic)
    found = _consume(apache_kafka.broker_addrs, topic, 60)
    assert sorted(each or b"" for each in found) == [b"before"] * 30 + [b"during"] * 30
