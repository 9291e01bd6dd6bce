"""Contract section 1: what a configuration accepts, defaults to, refuses, and tells librdkafka."""

from __future__ import annotations

import math
from typing import Any

import pytest
from confluent_kafka import Producer

from dp_kafka.config import AdminConfig, ConsumerGroupConfig, Offset, Ordering, ProducerConfig, SecurityConfig
from dp_kafka.config.rdkafka import admin_properties, producer_properties
from dp_kafka.errors import ConfigError
from tests.configs import ONE, THREE, accept, both, consumer, producer, refused


def test_1_1_three_types_need_only_what_is_compulsory() -> None:
    """contract 1.1: producer, consumer group and admin; every other field has a default."""
    for config in (ProducerConfig(ONE, "t"), ConsumerGroupConfig(ONE, "t", "g"), AdminConfig()):
        assert "bootstrap.servers" in accept(config)


def test_1_1_optional_fields_are_keyword_only() -> None:
    with pytest.raises(TypeError):
        ProducerConfig(ONE, "t", "3.9.0")  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        ConsumerGroupConfig(ONE, "t", "g", "3.9.0")  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        AdminConfig("3.9.0")  # type: ignore[call-arg]


@pytest.mark.parametrize("missing", [None, "", "  "])
def test_1_2_topic_and_group_are_compulsory(missing: Any) -> None:
    assert refused(producer, topic=missing).field == "topic"
    assert refused(consumer, topic=missing).field == "topic"
    assert refused(consumer, group_name=missing).field == "group_name"


@both
@pytest.mark.parametrize("missing", [None, [], (), ""])
def test_1_2_addresses_are_compulsory(make: Any, missing: Any) -> None:
    assert refused(make, broker_addrs=missing).field == "broker_addrs"


# Each step repairs the first field that is wrong; the next one must be named then.
STEPS: list[tuple[str, dict[str, Any]]] = [
    ("topic", {}),
    ("group_name", {"topic": "t"}),
    ("broker_addrs", {"group_name": "g"}),
    ("min_retry_period", {"broker_addrs": THREE}),
    ("max_retry_period", {"min_retry_period": 5}),
    ("min_retry_period", {"max_retry_period": 4}),
    ("min_brokers_healthy", {"max_retry_period": 6}),
    ("min_brokers_healthy", {"min_brokers_healthy": 4}),
]


@both
def test_1_3_first_failure_wins(make: Any) -> None:
    """contract 1.3: topic, group, addresses, min > 0, max > 0, min <= max, 0 < healthy <= addresses."""
    fields: dict[str, Any] = {
        "topic": "",
        "group_name": "",
        "broker_addrs": [],
        "min_retry_period": 0,
        "max_retry_period": -1,
        "min_brokers_healthy": 0,
    }
    if make is producer:
        del fields["group_name"]
    for field, repair in STEPS:
        if field in fields or field == "topic":
            fields |= {name: value for name, value in repair.items() if name in fields}
            assert refused(make, **fields).field == field
        else:
            fields |= {name: value for name, value in repair.items() if name in fields}
    fields["min_brokers_healthy"] = 3
    make(**fields)


@both
@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"topic": ""}, "topic is compulsory but was not provided in config"),
        ({"broker_addrs": []}, "broker_addrs is compulsory but was not provided in config"),
        ({"min_retry_period": 0}, "min_retry_period must be greater than zero"),
        ({"max_retry_period": -1}, "max_retry_period must be greater than zero"),
        ({"min_brokers_healthy": 0}, "min_brokers_healthy must be greater than zero"),
        (
            {"min_retry_period": 2, "max_retry_period": 1},
            "min_retry_period must be smaller or equal to max_retry_period, found 2 and 1",
        ),
        (
            {"min_brokers_healthy": 2},
            "must be smaller or equal to the total number of brokers provided in broker_addrs",
        ),
    ],
)
def test_1_4_texts_name_the_field_and_the_rule(make: Any, fields: dict[str, Any], text: str) -> None:
    assert text in str(refused(make, **fields))


def test_1_4_group_name_text() -> None:
    assert "group_name is compulsory but was not provided in config" in str(refused(consumer, group_name=""))


@both
def test_1_5_a_bad_version_is_reported_before_a_missing_topic(make: Any) -> None:
    assert refused(make, topic="", kafka_version="nonsense").field == "kafka_version"


def test_1_5_a_bad_offset_is_reported_before_a_missing_topic() -> None:
    assert refused(consumer, topic="", offset=7).field == "offset"


def test_1_5_a_bad_certificate_is_reported_before_anything_else() -> None:
    """It is reported by SecurityConfig, which has to exist first."""
    with pytest.raises(ConfigError) as caught:
        ProducerConfig([], "", security=SecurityConfig(client_cert="/nowhere/cert.pem"))
    assert caught.value.field == "client_key"


@both
def test_1_6_retry_periods_default_to_200_ms_and_32_s(make: Any) -> None:
    assert (make().min_retry_period, make().max_retry_period) == (0.2, 32.0)


def test_1_7_healthy_brokers_default_to_two_for_producers_one_for_consumers() -> None:
    """A producer with a single address works all the same, which the original refused."""
    assert producer(broker_addrs=ONE).min_brokers_healthy == 1
    assert producer(broker_addrs=THREE).min_brokers_healthy == 2
    assert producer(broker_addrs=THREE, min_brokers_healthy=3).min_brokers_healthy == 3
    assert consumer(broker_addrs=THREE).min_brokers_healthy == 1


@both
def test_1_8_otel_is_off_by_default(make: Any) -> None:
    assert make().otel_enabled is False
    assert make(otel_enabled=True).otel_enabled is True
    assert refused(make, otel_enabled=1).field == "otel_enabled"


@pytest.mark.parametrize("make", [producer, consumer, AdminConfig])
@pytest.mark.parametrize("version", ["x", "", "1", "1.0", "1.0.0.0", "v1.0.0", "1.0.x", " 1.0.0", 1.0, True])
def test_1_9_a_malformed_kafka_version_is_refused(make: Any, version: Any) -> None:
    error = refused(make, kafka_version=version)
    assert "error parsing kafka version: invalid version" in str(error)
    assert repr(version) in str(error)


@pytest.mark.parametrize("make", [producer, consumer, AdminConfig])
@pytest.mark.parametrize("version", ["0.8.2.0", "0.10.2", "1.0.2", "2.1.0", "3.9.1", "4.1.0", "10.0.0"])
def test_1_9_a_kafka_version_is_checked_and_changes_nothing(make: Any, version: str) -> None:
    assert accept(make(kafka_version=version)) == accept(make())


def test_1_10_max_message_bytes_reaches_the_client() -> None:
    assert accept(producer(max_message_bytes=5_000_000))["message.max.bytes"] == 5_000_000
    assert "message.max.bytes" not in accept(producer())


@pytest.mark.parametrize("value", [0, -1, 999, 1_000_000_001, 1.5, "1000", True, math.nan])
def test_1_10_a_useless_max_message_bytes_is_refused(value: Any) -> None:
    assert refused(producer, max_message_bytes=value).field == "max_message_bytes"


def test_1_11_producer_retries_backoff_and_keep_alive_reach_the_client() -> None:
    properties = accept(producer(retry_max=7, retry_backoff=0.25, keep_alive=30))
    assert properties["message.send.max.retries"] == 7
    assert properties["retry.backoff.ms"] == 250
    assert properties["retry.backoff.max.ms"] == 1000
    assert properties["socket.keepalive.enable"] is True


def test_1_11_a_long_backoff_is_not_cut_by_librdkafkas_maximum() -> None:
    assert accept(producer(retry_backoff=5))["retry.backoff.max.ms"] == 5000


def test_1_11_no_retries_means_no_idempotent_producer() -> None:
    """librdkafka refuses the pair, so one has to give way."""
    assert accept(producer(retry_max=0))["enable.idempotence"] is False
    assert accept(producer(librdkafka={"retries": 0}))["enable.idempotence"] is False
    assert refused(producer, retry_max=0, librdkafka={"enable.idempotence": True}).field == "retry_max"


@both
def test_1_11_keep_alive_zero_leaves_it_to_the_system(make: Any) -> None:
    assert accept(make(keep_alive=0))["socket.keepalive.enable"] is False
    assert "socket.keepalive.enable" not in accept(make())


@pytest.mark.parametrize("value", [-1, 1.5, "3", True, 2**31])
def test_1_11_retry_max_is_checked(value: Any) -> None:
    assert refused(producer, retry_max=value).field == "retry_max"
    assert refused(AdminConfig, retry_max=value).field == "retry_max"


def test_1_12_producers_are_safe_by_default() -> None:
    """contract 1.12, changed: acknowledged by all, idempotent, and keys where Java puts them."""
    properties = accept(producer())
    assert properties["acks"] == "all"
    assert properties["enable.idempotence"] is True
    assert properties["partitioner"] == "murmur2_random"
    assert properties["client.id"] == "dp-kafka"


# From the unit tests of org.apache.kafka.common.utils.Utils.murmur2: what Java computes for these keys.
JAVA_MURMUR2 = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


def test_1_12_a_key_goes_to_the_partition_that_java_chooses() -> None:
    """Sent to a broker, and not asked of the partitioner alone."""
    client = Producer({**producer_properties(producer()), "test.mock.num.brokers": 1, "log_level": 0})
    partitions = len(client.list_topics("t", timeout=10).topics["t"].partitions)
    chosen: dict[bytes | None, int | None] = {}
    for key in JAVA_MURMUR2:
        client.produce(
            "t", b"v", key=key, on_delivery=lambda _, m: chosen.__setitem__(m.key(), m.partition())
        )
    assert client.flush(20) == 0
    assert partitions > 1
    assert chosen == {key: (value & 0x7FFFFFFF) % partitions for key, value in JAVA_MURMUR2.items()}


def test_1_13_consumer_defaults() -> None:
    """contract 1.13: 50 ms fetch wait, oldest, round robin, 10 s session."""
    properties = accept(consumer())
    assert properties["fetch.wait.max.ms"] == 50
    assert properties["auto.offset.reset"] == "earliest"
    assert properties["partition.assignment.strategy"] == "roundrobin"
    assert properties["session.timeout.ms"] == 10_000
    assert properties["allow.auto.create.topics"] is False


def test_1_13_another_assignment_strategy_is_the_users_choice() -> None:
    properties = accept(consumer(librdkafka={"partition.assignment.strategy": "cooperative-sticky"}))
    assert properties["partition.assignment.strategy"] == "cooperative-sticky"


def test_1_13_the_new_group_protocol_leaves_session_and_assignor_to_the_broker() -> None:
    properties = accept(
        consumer(librdkafka={"group.protocol": "consumer", "group.remote.assignor": "uniform"})
    )
    assert not properties.keys() & {
        "session.timeout.ms",
        "heartbeat.interval.ms",
        "partition.assignment.strategy",
    }
    for name in ("heartbeat.interval.ms", "partition.assignment.strategy", "group.protocol.type"):
        error = refused(consumer, librdkafka={"group.protocol": "CONSUMER", name: "1"})
        assert name in str(error)


@pytest.mark.parametrize(
    ("timeout", "session", "heartbeat"), [(10, 10_000, 3_000), (3.001, 3_001, 1_000), (6.5, 6_500, 2_166)]
)
def test_1_14_message_consume_timeout_is_the_session_timeout(
    timeout: float, session: int, heartbeat: int
) -> None:
    properties = accept(consumer(message_consume_timeout=timeout))
    assert properties["session.timeout.ms"] == session
    assert properties["heartbeat.interval.ms"] == heartbeat


def test_1_14_a_long_session_lengthens_the_poll_interval() -> None:
    """librdkafka refuses a session longer than max.poll.interval.ms, 5 minutes."""
    properties = accept(consumer(message_consume_timeout=3600))
    assert properties["max.poll.interval.ms"] > properties["session.timeout.ms"] == 3_600_000
    error = refused(consumer, message_consume_timeout=20, librdkafka={"max.poll.interval.ms": 10_000})
    assert "max.poll.interval.ms" in str(error)


def test_1_15_consumer_backoff_governs_requests_and_fetches() -> None:
    properties = accept(consumer(retry_backoff=2, keep_alive=1))
    assert properties["retry.backoff.ms"] == properties["fetch.error.backoff.ms"] == 2_000
    assert properties["socket.keepalive.enable"] is True


@pytest.mark.parametrize("make", [producer, consumer, AdminConfig])
@pytest.mark.parametrize("value", [0, -1, 301, 0.0001, "1", math.inf, math.nan, True])
def test_1_15_retry_backoff_is_checked(make: Any, value: Any) -> None:
    assert refused(make, retry_backoff=value).field == "retry_backoff"


@pytest.mark.parametrize("make", [producer, consumer, AdminConfig])
def test_1_15_a_backoff_function_is_refused_with_the_reason(make: Any) -> None:
    assert "librdkafka backs off by itself" in str(refused(make, retry_backoff=lambda retries: 1.0))


@pytest.mark.parametrize(
    ("value", "offset", "reset"),
    [
        (Offset.NEWEST, Offset.NEWEST, "latest"),
        (Offset.OLDEST, Offset.OLDEST, "earliest"),
        (-1, Offset.NEWEST, "latest"),
        (-2, Offset.OLDEST, "earliest"),
    ],
)
def test_1_16_offsets(value: Any, offset: Offset, reset: str) -> None:
    config = consumer(offset=value)
    assert config.offset is offset
    assert accept(config)["auto.offset.reset"] == reset


@pytest.mark.parametrize("value", [0, 1, -3, "oldest", None, -1.0, True])
def test_1_16_any_other_offset_is_incorrect(value: Any) -> None:
    assert "offset value incorrect" in str(refused(consumer, offset=value))


def test_1_16_offset_numbers() -> None:
    assert (Offset.NEWEST, Offset.OLDEST) == (-1, -2)


def test_1_17_worker_and_batch_defaults() -> None:
    config = consumer()
    assert (config.num_workers, config.batch_size, config.batch_wait_time) == (1, 1, 0.2)
    assert config.ordering is Ordering.PARTITION
    assert (config.retry, config.dead_letter, config.commit_interval) == (None, None, 0.05)
    assert (config.max_buffered_messages, config.max_buffered_bytes) == (10_000, 67_108_864)
    assert config.message_consume_timeout == 10.0


def test_1_18_automatic_commits_are_off_for_good() -> None:
    """contract 1.18, changed: the original never switched them off, and lost messages by it."""
    properties = accept(consumer())
    assert properties["enable.auto.commit"] is False
    assert properties["enable.auto.offset.store"] is False


def test_1_19_admin_fields() -> None:
    properties = accept(AdminConfig(kafka_version="3.9.0", keep_alive=1, retry_max=2, retry_backoff=0.5))
    assert properties["retry.backoff.ms"] == 500
    assert properties["socket.keepalive.enable"] is True
    assert AdminConfig().retry_max is None


def test_1_19_admin_properties_need_checked_addresses() -> None:
    assert admin_properties(["a:1", "b:2"], None)["bootstrap.servers"] == "a:1,b:2"
    with pytest.raises(ConfigError, match="broker_addrs"):
        admin_properties(["a"], None)


def test_1_20_limits_are_per_client_and_not_of_the_process() -> None:
    accept(producer(max_message_bytes=90_000_000))
    assert "message.max.bytes" not in producer_properties(producer())
