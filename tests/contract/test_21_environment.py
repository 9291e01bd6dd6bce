"""Contract section 21: the environment variables of services, and the configurations made of them."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import pytest

from dp_kafka.config import KafkaSettings, Offset, SecurityConfig
from dp_kafka.errors import CACertsError, ConfigError
from tests.certificates import make_pair
from tests.configs import accept

CLIENT = make_pair("client", authority=True)
EVERYTHING = {
    "KAFKA_ADDR": "a:1,b:2,[::1]:3",
    "KAFKA_MAX_BYTES": "2000000",
    "KAFKA_VERSION": "3.9.0",
    "KAFKA_SEC_PROTO": "TLS",
    "KAFKA_SEC_CA_CERTS": CLIENT.cert,
    "KAFKA_SEC_CLIENT_CERT": CLIENT.cert,
    "KAFKA_SEC_CLIENT_KEY": CLIENT.key,
    "KAFKA_SEC_SKIP_VERIFY": "true",
    "KAFKA_CONSUMED_TOPIC": "in",
    "KAFKA_CONSUMED_GROUP": "group",
    "KAFKA_PRODUCED_TOPIC": "out",
    "KAFKA_PARALLEL_MESSAGES": "7",
    "KAFKA_BATCH_SIZE": "8",
    "KAFKA_BATCH_WAIT_TIME": "200ms",
    "GRACEFUL_SHUTDOWN_TIMEOUT": "1m30s",
    "KAFKA_WAIT_PRODUCER_READY": "false",
    "SNOOZE": "0",
    "OVERSLEEP": "T",
    "CHOMP_MSG": "1",
    "LOG_QUIET": "True",
    "KAFKA_START_STOP": "true",
}


def refused(**environ: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        KafkaSettings.from_env(environ)
    return caught.value


def test_21_1_defaults() -> None:
    settings = KafkaSettings.from_env({})
    assert settings == KafkaSettings()
    assert settings.broker_addrs == ("localhost:9092", "localhost:9093", "localhost:9094")
    assert (settings.max_bytes, settings.version) == (52_428_800, "1.0.2")
    assert settings.graceful_shutdown_timeout == 5.0
    assert settings.tls is False


def test_21_2_consumer_defaults() -> None:
    settings = KafkaSettings.from_env({})
    assert (settings.consumed_topic, settings.consumed_group) == ("myTopic", "myGroup")
    assert (settings.snooze, settings.oversleep) == (True, False)
    assert (settings.parallel_messages, settings.batch_size, settings.batch_wait_time) == (3, 3, 1.0)
    assert (settings.log_quiet, settings.start_stop) == (False, False)


def test_21_3_producer_defaults() -> None:
    settings = KafkaSettings.from_env({})
    assert settings.produced_topic == "myTopic"
    assert (settings.wait_producer_ready, settings.chomp_msg) == (True, False)


def test_21_1_an_empty_variable_leaves_the_default() -> None:
    assert KafkaSettings.from_env(dict.fromkeys(EVERYTHING, "")) == KafkaSettings()


def test_21_1_every_variable_is_read() -> None:
    settings = KafkaSettings.from_env(EVERYTHING)
    default = KafkaSettings()
    for field in dataclasses.fields(KafkaSettings):
        assert getattr(settings, field.name) != getattr(default, field.name), field.name
    assert settings.graceful_shutdown_timeout == 90.0
    assert settings.batch_wait_time == 0.2


def test_21_1_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_CONSUMED_GROUP", "from-the-process")
    assert KafkaSettings.from_env().consumed_group == "from-the-process"


def test_21_1_addresses_may_have_blanks_around_them() -> None:
    assert KafkaSettings.from_env({"KAFKA_ADDR": " a:1 , b:2 "}).broker_addrs == ("a:1", "b:2")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("KAFKA_ADDR", "localhost"),
        ("KAFKA_ADDR", "a:1,,b:2"),
        ("KAFKA_ADDR", "a:1,"),
        ("KAFKA_ADDR", "a:1,a:1"),
        ("KAFKA_MAX_BYTES", "0"),
        ("KAFKA_MAX_BYTES", "1MB"),
        ("KAFKA_MAX_BYTES", "1.5"),
        ("KAFKA_MAX_BYTES", "9" * 5000),
        ("KAFKA_VERSION", "latest"),
        ("KAFKA_SEC_PROTO", "tls"),
        ("KAFKA_SEC_PROTO", "SASL_SSL"),
        ("KAFKA_SEC_SKIP_VERIFY", "yes"),
        ("KAFKA_CONSUMED_TOPIC", "a b"),
        ("KAFKA_CONSUMED_GROUP", " "),
        ("KAFKA_PRODUCED_TOPIC", "a/b"),
        ("KAFKA_PARALLEL_MESSAGES", "0"),
        ("KAFKA_PARALLEL_MESSAGES", "three"),
        ("KAFKA_BATCH_SIZE", "-1"),
        ("KAFKA_BATCH_WAIT_TIME", "0s"),
        ("KAFKA_BATCH_WAIT_TIME", "1 s"),
        ("KAFKA_BATCH_WAIT_TIME", "s"),
        ("KAFKA_BATCH_WAIT_TIME", "-1s"),
        ("KAFKA_BATCH_WAIT_TIME", "1d"),
        ("KAFKA_BATCH_WAIT_TIME", "nan"),
        ("KAFKA_BATCH_WAIT_TIME", "9" * 400),
        ("GRACEFUL_SHUTDOWN_TIMEOUT", "soon"),
        ("SNOOZE", "maybe"),
    ],
)
def test_21_1_an_error_names_the_variable(variable: str, value: str) -> None:
    error = refused(**{variable: value})
    assert error.field == variable
    assert variable in str(error)


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("1s", 1.0),
        ("200ms", 0.2),
        ("1m30s", 90.0),
        ("1h", 3600.0),
        ("1.5h", 5400.0),
        (".5s", 0.5),
        ("2.s", 2.0),
        ("500us", 0.0005),
        ("500µs", 0.0005),
        ("1000000ns", 0.001),
        ("0.25", 0.25),
        ("3", 3.0),
    ],
)
def test_21_2_durations_are_written_as_in_go_or_in_seconds(text: str, duration: float) -> None:
    assert KafkaSettings.from_env({"KAFKA_BATCH_WAIT_TIME": text}).batch_wait_time == pytest.approx(duration)


def test_21_2_a_shutdown_timeout_of_zero_is_a_choice() -> None:
    assert KafkaSettings.from_env({"GRACEFUL_SHUTDOWN_TIMEOUT": "0"}).graceful_shutdown_timeout == 0.0


def test_21_1_keys_and_certificates_are_kept_out_of_the_repr() -> None:
    settings = KafkaSettings.from_env(EVERYTHING)
    assert "BEGIN" not in repr(settings)
    assert "BEGIN" not in repr(settings.consumer_config())
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_21_3_producer_config() -> None:
    config = KafkaSettings.from_env(EVERYTHING).producer_config()
    assert (config.broker_addrs, config.topic) == (("a:1", "b:2", "[::1]:3"), "out")
    assert (config.max_message_bytes, config.kafka_version) == (2_000_000, "3.9.0")
    assert config.min_brokers_healthy == 2
    assert config.security == SecurityConfig(CLIENT.cert, CLIENT.cert, CLIENT.key, True)


def test_21_2_consumer_config() -> None:
    config = KafkaSettings.from_env(EVERYTHING).consumer_config()
    assert (config.topic, config.group_name) == ("in", "group")
    assert (config.num_workers, config.batch_size, config.batch_wait_time) == (7, 8, 0.2)
    assert config.security is not None


def test_21_1_admin_config() -> None:
    config = KafkaSettings.from_env(EVERYTHING).admin_config()
    assert config.kafka_version == "3.9.0"
    assert config.security is not None


def test_21_2_overrides_win() -> None:
    settings = KafkaSettings.from_env(EVERYTHING)
    overrides: dict[str, Any] = {
        "topic": "other",
        "offset": Offset.NEWEST,
        "security": None,
        "num_workers": 1,
    }
    config = settings.consumer_config(**overrides)
    assert {name: getattr(config, name) for name in overrides} == overrides
    assert settings.producer_config(max_message_bytes=None, security=None).max_message_bytes is None


def test_21_1_max_bytes_reaches_the_consumer_too() -> None:
    """The example of the original gave KAFKA_MAX_BYTES to its producers only (A85)."""
    large = KafkaSettings(broker_addrs=("localhost:1",), max_bytes=300_000_000)
    assert accept(large.consumer_config())["receive.message.max.bytes"] >= 300_000_000
    assert accept(large.producer_config())["message.max.bytes"] == 300_000_000
    accept(KafkaSettings(broker_addrs=("localhost:1",)).consumer_config())


@pytest.mark.parametrize(
    ("variable", "kind"),
    [
        ("KAFKA_SEC_CA_CERTS", CACertsError),
        ("KAFKA_SEC_CLIENT_CERT", ConfigError),
        ("KAFKA_SEC_CLIENT_KEY", ConfigError),
    ],
)
def test_21_1_a_bad_certificate_names_its_variable(
    tmp_path: Path, variable: str, kind: type[ConfigError]
) -> None:
    empty = tmp_path / "empty.pem"
    empty.touch()
    settings = KafkaSettings.from_env({**EVERYTHING, variable: str(empty)})
    for make in (
        settings.security,
        settings.producer_config,
        settings.consumer_config,
        settings.admin_config,
    ):
        with pytest.raises(ConfigError) as caught:
            make()
        assert type(caught.value) is kind
        assert caught.value.field == variable
        assert variable in str(caught.value)


def test_21_1_certificates_are_ignored_unless_tls_is_on() -> None:
    settings = KafkaSettings.from_env({"KAFKA_SEC_CA_CERTS": "/nowhere"})
    assert settings.producer_config().security is None


def test_21_6_the_documented_default_address_is_the_coded_one() -> None:
    """contract 21.6: the original documented one port and used another."""
    assert "localhost:9092" in (KafkaSettings.__doc__ or "")
    assert KafkaSettings().broker_addrs[0] == "localhost:9092"
