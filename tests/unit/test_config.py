"""What else a user can get wrong in a configuration, and how configurations behave as objects."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
import threading
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dp_kafka.config import AdminConfig, DeadLetter, Offset, Ordering, RetryPolicy, SecurityConfig
from dp_kafka.config.rdkafka import consumer_properties, retry_backoff
from dp_kafka.errors import ConfigError
from tests.configs import accept, both, consumer, producer, refused


@both
@pytest.mark.parametrize(
    ("addresses", "complaint"),
    [
        ("localhost:9092", "single string"),
        ({"localhost:9092"}, "list or tuple"),
        (iter(["localhost:9092"]), "list or tuple"),
        (["localhost"], "no port"),
        (["localhost:"], "port"),
        (["localhost:0"], "1 to 65535"),
        (["localhost:65536"], "1 to 65535"),
        (["localhost:x"], "1 to 65535"),
        (["localhost:-1"], "1 to 65535"),
        (["localhost:9092:9092"], "host is malformed"),
        ([":9092"], "host is malformed"),
        (["a b:9092"], "host is malformed"),
        (["a,b:9092"], "host is malformed"),
        (["[::1]"], "no port"),
        (["[::x]:9092"], "host is malformed"),
        (["::1:9092"], "host is malformed"),
        (["ssl://localhost:9092"], "without a protocol"),
        ([""], "empty address"),
        (["localhost:9092", "  "], "empty address"),
        ([b"localhost:9092"], "no string"),
        ([9092], "no string"),
        (["localhost:9092", "LOCALHOST:9092"], "twice"),
    ],
)
def test_addresses_that_are_not_host_and_port_are_refused(make: Any, addresses: Any, complaint: str) -> None:
    error = refused(make, broker_addrs=addresses)
    assert error.field == "broker_addrs"
    assert complaint in str(error)


@both
def test_addresses_of_every_legal_form_are_taken(make: Any) -> None:
    legal = ["[::1]:9092", "127.0.0.1:1", "b-1.kafka_x.example.com:65535", "host:9092"]
    assert accept(make(broker_addrs=legal))["bootstrap.servers"] == ",".join(legal)


@both
@pytest.mark.parametrize("topic", ["a b", "a/b", "ä", "^a.*", "x" * 250, ".", "..", 5, b"t", "a\0"])
def test_topic_names_that_kafka_refuses_are_refused(make: Any, topic: Any) -> None:
    assert refused(make, topic=topic).field == "topic"


@both
@pytest.mark.parametrize("topic", ["a", "A.b_c-9", "x" * 249, "..."])
def test_topic_names_that_kafka_accepts_are_accepted(make: Any, topic: str) -> None:
    assert make(topic=topic).topic == topic


@pytest.mark.parametrize(
    "field", ["num_workers", "batch_size", "max_buffered_messages", "max_buffered_bytes"]
)
@pytest.mark.parametrize("value", [0, -1, 1.0, "1", None, True])
def test_counts_must_be_positive_whole_numbers(field: str, value: Any) -> None:
    assert refused(consumer, **{field: value}).field == field


@pytest.mark.parametrize(
    "field", ["batch_wait_time", "min_retry_period", "max_retry_period", "commit_interval"]
)
@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf, -math.inf, "1", None, True, 10**400, 1e300])
def test_durations_must_be_finite_numbers_of_seconds(field: str, value: Any) -> None:
    assert refused(consumer, **{field: value}).field == field


def test_durations_may_be_whole_numbers_and_are_stored_as_float() -> None:
    config = consumer(batch_wait_time=1, commit_interval=0, keep_alive=2, message_consume_timeout=30)
    assert [type(value) for value in (config.batch_wait_time, config.commit_interval, config.keep_alive)] == [
        float
    ] * 3
    assert config.message_consume_timeout == 30.0


def test_a_duration_that_is_accepted_can_be_waited_for() -> None:
    longest = consumer(batch_wait_time=threading.TIMEOUT_MAX).batch_wait_time
    done = threading.Event()
    done.set()
    assert done.wait(longest)


def test_batch_wait_time_must_not_be_zero() -> None:
    assert refused(consumer, batch_wait_time=0).field == "batch_wait_time"


@pytest.mark.parametrize("value", ["partition", None, 1])
def test_ordering_must_be_an_ordering(value: Any) -> None:
    assert refused(consumer, ordering=value).field == "ordering"


@pytest.mark.parametrize("make", [producer, consumer, AdminConfig])
def test_security_must_be_a_security_config(make: Any) -> None:
    assert refused(make, security={"client_key": "hidden"}).field == "security"


def test_a_key_in_the_wrong_field_is_not_shown() -> None:
    error = refused(consumer, topic="-----BEGIN PRIVATE KEY-----MIIB")
    assert "MIIB" not in str(error)


CONSUMER_REFUSES = {
    "enable.auto.commit": "finished",
    "auto.commit.enable": "finished",
    "enable.auto.offset.store": "finished",
    "auto.commit.interval.ms": "commit_interval",
    "group.id": "group_name",
    "auto.offset.reset": "use offset",
    "session.timeout.ms": "message_consume_timeout",
    "enable.partition.eof": "end-of-partition",
    "on_commit": "Message.commit()",
    "rebalance_cb": "callbacks",
}
PRODUCER_REFUSES = {
    "delivery.report.only.error": "on_delivery",
    "dr_cb": "on_delivery",
    "dr_msg_cb": "on_delivery",
    "on_delivery": "on_delivery",
    "transactional.id": "transactions",
    "partitioner_cb": "callbacks",
}
ALL_REFUSE = {
    "bootstrap.servers": "broker_addrs",
    "metadata.broker.list": "broker_addrs",
    "error_cb": "channels.errors",
    "stats_cb": "callbacks",
    "throttle_cb": "callbacks",
    "logger": "logging",
    "log_cb": "logging",
    "log.queue": "logging",
    "default.topic.config": "directly",
}
REFUSALS = [
    (make, name, reason)
    for make, table in (
        (consumer, CONSUMER_REFUSES | ALL_REFUSE),
        (producer, PRODUCER_REFUSES | ALL_REFUSE),
        (AdminConfig, ALL_REFUSE),
    )
    for name, reason in table.items()
]


@pytest.mark.parametrize(("make", "name", "reason"), REFUSALS)
def test_raw_properties_that_break_promises_are_refused_by_name(make: Any, name: str, reason: str) -> None:
    error = refused(make, librdkafka={name: "false"})
    assert error.field == "librdkafka"
    assert repr(name) in str(error)
    assert reason in str(error)


@pytest.mark.parametrize("make", [producer, consumer, AdminConfig])
@pytest.mark.parametrize("value", [None, [1], {"a": 1}, b"x", object(), print])
def test_raw_properties_must_be_strings_or_numbers(make: Any, value: Any) -> None:
    error = refused(make, librdkafka={"client.id": value})
    assert "client.id" in str(error)
    assert type(value).__name__ in str(error)


@pytest.mark.parametrize("make", [producer, consumer, AdminConfig])
@pytest.mark.parametrize("value", [None, "client.id=x", [("client.id", "x")], {1: "x"}, {"": "x"}])
def test_raw_properties_must_be_a_mapping_of_names(make: Any, value: Any) -> None:
    assert refused(make, librdkafka=value).field == "librdkafka"


@pytest.mark.parametrize("make", [producer, consumer, AdminConfig])
def test_an_oauth_callback_is_the_users_business(make: Any) -> None:
    properties = make(librdkafka={"oauth_cb": print, "sasl.mechanisms": "OAUTHBEARER"}).librdkafka
    assert properties["oauth_cb"] is print
    assert refused(make, librdkafka={"oauth_cb": "name"}).field == "librdkafka"


def test_raw_properties_are_applied_last_under_any_of_their_names() -> None:
    properties = accept(
        producer(
            retry_max=3, librdkafka={"retries": 9, "queue.buffering.max.ms": 50, "partitioner": "random"}
        )
    )
    assert properties["retries"] == 9
    assert "message.send.max.retries" not in properties
    assert "linger.ms" not in properties
    assert properties["partitioner"] == "random"


def test_a_producer_has_one_request_in_flight_unless_told_otherwise() -> None:
    """With several, librdkafka can store a message twice when leaders move; the chaos suite saw it."""
    assert accept(producer())["max.in.flight.requests.per.connection"] == 1
    told = accept(producer(librdkafka={"max.in.flight": 5}))
    assert told["max.in.flight"] == 5
    assert "max.in.flight.requests.per.connection" not in told


def test_the_same_raw_property_twice_is_refused() -> None:
    assert "same property" in str(refused(producer, librdkafka={"retries": 1, "message.send.max.retries": 2}))


@pytest.mark.parametrize("acks", [0, 1, "0", "1"])
def test_weaker_acknowledgements_have_to_be_asked_for_twice(acks: Any) -> None:
    for name in ("acks", "request.required.acks"):
        assert "enable.idempotence=false" in str(refused(producer, librdkafka={name: acks}))
        assert "enable.idempotence=false" in str(
            refused(producer, librdkafka={name: acks, "enable.idempotence": "true"})
        )
        config = producer(librdkafka={name: acks, "enable.idempotence": False})
        assert accept(config)[name] == acks


@pytest.mark.parametrize("acks", ["all", -1, "-1"])
def test_full_acknowledgements_may_be_named(acks: Any) -> None:
    assert accept(producer(librdkafka={"acks": acks}))["acks"] == acks


def test_heartbeat_must_be_below_the_session() -> None:
    assert accept(consumer(librdkafka={"heartbeat.interval.ms": "1000"}))["heartbeat.interval.ms"] == "1000"
    assert "message_consume_timeout" in str(refused(consumer, librdkafka={"heartbeat.interval.ms": 10_000}))
    assert "whole number" in str(refused(consumer, librdkafka={"heartbeat.interval.ms": "soon"}))


@given(messages=st.integers(1, 10**12), size=st.integers(1, 10**12))
@settings(max_examples=200, deadline=None)
def test_what_librdkafka_reads_ahead_stays_within_the_buffers(messages: int, size: int) -> None:
    """Its queue and the answers of three brokers fit into half, or are as small as can be."""
    properties = consumer_properties(consumer(max_buffered_messages=messages, max_buffered_bytes=size))
    queued = properties["queued.max.messages.kbytes"] * 1000
    answer = properties["fetch.max.bytes"]
    assert queued <= max(size // 2, 1000)
    assert answer <= max(size // 16, 1_000_000)
    if size >= 16_000_000:
        assert queued + 3 * answer <= size // 2
    assert properties["fetch.message.max.bytes"] <= answer
    assert properties["queued.min.messages"] <= max(messages // 2, 1)


def test_larger_messages_may_be_asked_for_on_the_consumer() -> None:
    """librdkafka wants message.max.bytes <= fetch.max.bytes < receive.message.max.bytes; ours give way."""
    accept(consumer(librdkafka={"message.max.bytes": 200_000_000}))
    accept(consumer(librdkafka={"receive.message.max.bytes": 1_100_000}))
    accept(consumer(librdkafka={"fetch.max.bytes": 150_000_000}))
    accept(consumer(librdkafka={"queued.min.messages": 7, "queued.max.messages.kbytes": 9}))


periods = st.floats(0.001, 1e6)
optional_backoff = st.none() | st.floats(0.001, 300)


@given(
    max_message_bytes=st.none() | st.integers(1_000, 1_000_000_000),
    keep_alive=st.none() | st.floats(0, 1e6),
    retry_max=st.none() | st.integers(0, 2**31 - 1),
    retry_backoff=optional_backoff,
)
@settings(max_examples=25, deadline=None)
def test_every_accepted_producer_config_is_accepted_by_the_client(**fields: Any) -> None:
    accept(producer(**fields))


@given(
    keep_alive=st.none() | st.floats(0, 1e6),
    retry_backoff=optional_backoff,
    offset=st.sampled_from(Offset),
    message_consume_timeout=st.floats(3.001, 3600),
    max_buffered_messages=st.integers(1, 10**12),
    max_buffered_bytes=st.integers(1, 10**12),
    librdkafka=st.sampled_from(
        [{}, {"group.protocol": "consumer"}, {"partition.assignment.strategy": "cooperative-sticky"}]
    ),
)
@settings(max_examples=25, deadline=None)
def test_every_accepted_consumer_config_is_accepted_by_the_client(**fields: Any) -> None:
    accept(consumer(**fields))


EXAMPLES = [
    producer(librdkafka={"client.id": "x"}),
    consumer(librdkafka={"client.id": "x"}, security=SecurityConfig(), ordering=Ordering.KEY),
    AdminConfig(keep_alive=1),
]


@pytest.mark.parametrize("config", EXAMPLES, ids=lambda config: type(config).__name__)
def test_configs_compare_hash_copy_and_pickle(config: Any) -> None:
    for twin in (copy.copy(config), copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        assert twin == config
        assert hash(twin) == hash(config)
    assert dataclasses.replace(config, keep_alive=77) != config


@pytest.mark.parametrize("config", EXAMPLES, ids=lambda config: type(config).__name__)
def test_configs_cannot_be_changed(config: Any) -> None:
    for name in ("keep_alive", "librdkafka"):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(config, name, None)
    with pytest.raises((AttributeError, TypeError)):
        config.new_attribute = 1
    with pytest.raises(TypeError):
        config.librdkafka["client.id"] = "y"


@pytest.mark.parametrize("make", [producer, consumer, AdminConfig])
@pytest.mark.parametrize(
    "name",
    [
        "sasl.password",
        "ssl.key.pem",
        "ssl.certificate.pem",
        "ssl.key.password",
        "ssl.keystore.password",
        "ssl.keystore.location",
        "sasl.oauthbearer.client.secret",
        "sasl.oauthbearer.config",
        "sasl.oauthbearer.assertion.private.key.passphrase",
    ],
)
def test_no_repr_shows_a_raw_secret(make: Any, name: str) -> None:
    config = make(librdkafka={name: "hunter2", "client.id": "visible"})
    for text in (repr(config), str(config), repr(config.librdkafka), f"{config}"):
        assert "hunter2" not in text
        assert name in text
        assert "visible" in text
    assert isinstance(config.librdkafka, Mapping)
    assert config.librdkafka[name] == "hunter2"


@pytest.mark.parametrize("name", ["retry", "dead_letter"])
def test_what_becomes_of_failures_is_an_object_of_its_own_class(name: str) -> None:
    kind = {"retry": "RetryPolicy", "dead_letter": "DeadLetter"}[name]
    with pytest.raises(ConfigError, match=f"{name} must be a {kind} or None, found 'dead'") as caught:
        consumer(**{name: "dead"})
    assert caught.value.field == name


def test_dead_letters_go_to_another_topic() -> None:
    """To the same they would come again, and fail again, without end."""
    with pytest.raises(ConfigError, match="must name another topic") as caught:
        consumer(topic="orders", dead_letter=DeadLetter("orders"))
    assert caught.value.field == "dead_letter"


@pytest.mark.parametrize(
    ("fields", "field", "complaint"),
    [
        ({"min_period": 5, "max_period": 1}, "min_period", "smaller or equal to max_period"),
        ({"retry_on": "ValueError"}, "retry_on", "an exception type or a tuple of them"),
        ({"give_up_on": (ValueError, KeyError("x"))}, "give_up_on", "an exception type or a tuple of them"),
        ({"retry_on": int}, "retry_on", "an exception type or a tuple of them"),
    ],
)
def test_a_retry_policy_that_makes_no_sense_is_refused(
    fields: dict[str, Any], field: str, complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint) as caught:
        RetryPolicy(**fields)
    assert caught.value.field == field


def test_slow_handlers_need_not_be_told() -> None:
    assert consumer(slow_handler_seconds=None).slow_handler_seconds is None
    with pytest.raises(ConfigError, match="slow_handler_seconds"):
        consumer(slow_handler_seconds=0)


def test_a_secret_of_the_wrong_type_is_named_and_not_shown() -> None:
    with pytest.raises(ConfigError, match="sasl_password must be a string; its value is not shown") as caught:
        SecurityConfig(sasl_mechanism="PLAIN", sasl_username="me", sasl_password=b"hunter2")  # type: ignore[arg-type]
    assert "hunter2" not in str(caught.value)


def test_certificates_that_are_not_given_may_be_none() -> None:
    """As `os.environ.get(…)` gives it."""
    config = SecurityConfig(root_ca_certs=None)  # type: ignore[arg-type]
    assert config == SecurityConfig()
    assert config.root_ca_certs == ""


@pytest.mark.parametrize(
    ("fields", "shortest", "longest"),
    [
        ({}, 0.08, 0.24),
        ({"retry_backoff": 2.0}, 1.6, 2.0),
        ({"librdkafka": {"retry.backoff.ms": "300", "retry.backoff.max.ms": 500}}, 0.24, 0.5),
    ],
)
def test_when_librdkafka_tries_again_follows_from_the_configuration(
    fields: dict[str, Any], shortest: float, longest: float
) -> None:
    """The first try 20 % early at the soonest, the second after twice the time and 20 % at the latest."""
    assert retry_backoff(consumer(**fields)) == (pytest.approx(shortest), pytest.approx(longest))
