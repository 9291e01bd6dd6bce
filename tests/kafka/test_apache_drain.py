"""Draining on Apache Kafka, which tells who is in a group and takes no commit from outside a live one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import confluent_kafka
import pytest

from dp_kafka import ConsumerGroup, ConsumerGroupConfig, KafkaClientError, Message, SecurityConfig, State
from dp_kafka.admin import GroupOffsets
from dp_kafka.drain import DrainError, DrainTopicConfig, DrainTopicInput, drain_topics
from tests.faults.service import until

from .apache import ApacheKafka, ExternalKafka
from .conftest import TopicFactory

Cluster = ApacheKafka | ExternalKafka
PATIENCE = 60.0


@pytest.fixture
def filled(apache_kafka: Cluster, kafka_topic: TopicFactory) -> str:
    """A topic of four partitions with ten messages each."""
    name = kafka_topic(4)
    fill(apache_kafka, name)
    return name


def fill(kafka: Cluster, topic: str) -> None:
    producer = confluent_kafka.Producer({"bootstrap.servers": ",".join(kafka.broker_addrs)})
    for number in range(40):
        producer.produce(topic, b"x", partition=number % 4)
    assert producer.flush(PATIENCE) == 0


def committed(kafka: Cluster, group: str, topic: str) -> list[int | None]:
    with GroupOffsets(list(kafka.broker_addrs), group) as offsets:
        found = offsets.committed([(topic, number) for number in range(4)])
    return [found.get((topic, number)) for number in range(4)]


class Live:
    """A group with a live member, whose handler waits for `go_on`."""

    def __init__(self, kafka: Cluster, topic: str, protocol: str) -> None:
        self.go_on = threading.Event()
        self.config = ConsumerGroupConfig(
            list(kafka.broker_addrs),
            topic,
            f"group-of-{topic}",
            num_workers=4,
            librdkafka={"group.protocol": protocol},
        )
        self.group = ConsumerGroup(self.config)

    def handle(self, worker_id: int, message: Message) -> None:
        self.go_on.wait(PATIENCE)

    def start(self) -> None:
        self.group.register_handler(self.handle)
        self.group.start()
        assert self.group.state_wait(State.CONSUMING, PATIENCE)


@pytest.fixture
def live(apache_kafka: Cluster, filled: str) -> Iterator[Callable[[str], Live]]:
    made: list[Live] = []

    def make(protocol: str) -> Live:
        made.append(Live(apache_kafka, filled, protocol))
        made[-1].start()
        return made[-1]

    yield make
    for each in made:
        each.go_on.set()
        each.group.close(timeout=PATIENCE / 2)


def drain_config(kafka: Cluster, **fields: object) -> DrainTopicConfig:
    return DrainTopicConfig(list(kafka.broker_addrs), **{"timeout": PATIENCE, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_group_with_live_members_is_refused_by_name(
    apache_kafka: Cluster, filled: str, live: Callable[[str], Live], protocol: str
) -> None:
    group = live(protocol).config.group_name
    (result,) = drain_topics(drain_config(apache_kafka), DrainTopicInput(filled, group))
    assert isinstance(result.error, DrainError)
    assert "has 1 live member: dp-kafka at 127.0.0.1" in str(result.error)
    assert result.count == 0
    assert committed(apache_kafka, group, filled) == [None] * 4


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_group_whose_members_have_left_is_drained_at_once(
    apache_kafka: Cluster, filled: str, live: Callable[[str], Live], protocol: str
) -> None:
    before = live(protocol)
    before.go_on.set()
    assert until(lambda: committed(apache_kafka, before.config.group_name, filled) == [10] * 4, PATIENCE)
    before.group.close(timeout=PATIENCE / 2)
    fill(apache_kafka, filled)
    (result,) = drain_topics(drain_config(apache_kafka), DrainTopicInput(filled, before.config.group_name))
    assert (result.ok, result.count) == (True, 40), result.error
    assert committed(apache_kafka, before.config.group_name, filled) == [20] * 4


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_told_so_it_joins_the_live_members_and_waits_for_what_they_keep(
    apache_kafka: Cluster, filled: str, live: Callable[[str], Live], protocol: str
) -> None:
    other = live(protocol)
    other.go_on.set()
    (result,) = drain_topics(
        drain_config(apache_kafka, live_members=True), DrainTopicInput(filled, other.config.group_name)
    )
    assert (result.ok, result.to_offsets) == (True, dict.fromkeys(range(4), 10)), result.error
    assert committed(apache_kafka, other.config.group_name, filled) == [10] * 4


def test_told_so_it_drains_its_share_and_says_what_the_others_did_not_consume(
    apache_kafka: Cluster, filled: str, live: Callable[[str], Live]
) -> None:
    stuck = live("classic")
    (result,) = drain_topics(
        drain_config(apache_kafka, live_members=True, timeout=25),
        DrainTopicInput(filled, stuck.config.group_name),
    )
    assert isinstance(result.error, DrainError)
    assert "other members have the rest" in str(result.error)
    assert result.count == 20, "two of four partitions were its share"
    after = committed(apache_kafka, stuck.config.group_name, filled)
    assert sum(offset == 10 for offset in after) == 2


def test_a_secured_cluster_is_drained_with_its_certificates(secured_kafka: ApacheKafka) -> None:
    """A71: there was no way to give a certificate; what may not be drained is refused by name."""
    secured_kafka.create_topic("to-drain")
    certificates = secured_kafka.certificates
    authority = certificates.authority.certificate
    admin = SecurityConfig(authority, certificates.admin.certificate, certificates.admin.key)
    stranger = SecurityConfig(authority, certificates.client.certificate, certificates.client.key)
    what = DrainTopicInput("to-drain", "secured-group")
    (result,) = drain_topics(
        DrainTopicConfig(secured_kafka.mutual_tls_addrs, security=admin, timeout=PATIENCE), what
    )
    assert (result.ok, result.to_offsets) == (True, {0: 0}), result.error
    (refused,) = drain_topics(
        DrainTopicConfig(secured_kafka.mutual_tls_addrs, security=stranger, timeout=PATIENCE), what
    )
    assert not refused.ok
    assert isinstance(refused.error, KafkaClientError) or "no topic 'to-drain'" in str(refused.error)
