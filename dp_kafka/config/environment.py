"""`KafkaSettings`: the environment variables of dp_kafka services, and the configurations made from them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dp_kafka.config import checks
from dp_kafka.config.admin import AdminConfig
from dp_kafka.config.consumer import ConsumerGroupConfig
from dp_kafka.config.producer import ProducerConfig
from dp_kafka.config.security import SecurityConfig
from dp_kafka.errors import ConfigError

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_NUMBER = r"(?:\d+(?:\.\d*)?|\.\d+)"
_PART = re.compile(rf"({_NUMBER})(ns|us|µs|μs|ms|s|m|h)")
_TRUE, _FALSE = ("1", "t", "true"), ("0", "f", "false")

# What librdkafka receives at most without being told, and the room it wants beside the messages.
_RECEIVE_MAX_BYTES = 100_000_000
_RECEIVE_OVERHEAD = 512

_SECURITY_VARIABLES = {
    "root_ca_certs": "KAFKA_SEC_CA_CERTS",
    "client_cert": "KAFKA_SEC_CLIENT_CERT",
    "client_key": "KAFKA_SEC_CLIENT_KEY",
    "insecure_skip_verify": "KAFKA_SEC_SKIP_VERIFY",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSettings:
    """What the KAFKA_* variables say; one that is unset or empty leaves its default. Durations are seconds.

    | field | variable | default |
    |---|---|---|
    | `broker_addrs` | KAFKA_ADDR, comma-separated | localhost:9092, :9093, :9094 |
    | `max_bytes` | KAFKA_MAX_BYTES | 52428800 |
    | `version` | KAFKA_VERSION | 1.0.2 |
    | `tls` | KAFKA_SEC_PROTO, which is TLS or empty | off |
    | `sec_ca_certs`, `sec_client_cert` | KAFKA_SEC_CA_CERTS, KAFKA_SEC_CLIENT_CERT | none |
    | `sec_client_key` | KAFKA_SEC_CLIENT_KEY | none |
    | `sec_skip_verify` | KAFKA_SEC_SKIP_VERIFY | false |
    | `consumed_topic`, `consumed_group` | KAFKA_CONSUMED_TOPIC, KAFKA_CONSUMED_GROUP | myTopic, myGroup |
    | `produced_topic` | KAFKA_PRODUCED_TOPIC | myTopic |
    | `parallel_messages` | KAFKA_PARALLEL_MESSAGES | 3 |
    | `batch_size`, `batch_wait_time` | KAFKA_BATCH_SIZE, KAFKA_BATCH_WAIT_TIME | 3, 1s |
    | `graceful_shutdown_timeout` | GRACEFUL_SHUTDOWN_TIMEOUT | 5s |
    | `wait_producer_ready` | KAFKA_WAIT_PRODUCER_READY | true |
    | `snooze`, `oversleep` | SNOOZE, OVERSLEEP | true, false |
    | `chomp_msg`, `log_quiet`, `start_stop` | CHOMP_MSG, LOG_QUIET, KAFKA_START_STOP | false |

    Durations are written as in Go ('1s', '200ms', '1m30s') or as plain seconds ('0.5').

    The library makes its configurations from those up to `batch_wait_time`; the rest is for the service
    itself, as in examples/: `graceful_shutdown_timeout` for closing; `wait_producer_ready` to wait for a
    broker before the first send; `snooze` to have each handler take half a second, `oversleep` longer than
    the shutdown has; `chomp_msg` to send lines without their ends; `log_quiet` to log no message;
    `start_stop` to stop and start the consumer every few seconds.
    """

    broker_addrs: tuple[str, ...] = ("localhost:9092", "localhost:9093", "localhost:9094")
    max_bytes: int = 52_428_800
    version: str = "1.0.2"
    tls: bool = False
    sec_ca_certs: str = field(default="", repr=False)
    sec_client_cert: str = field(default="", repr=False)
    sec_client_key: str = field(default="", repr=False)
    sec_skip_verify: bool = False
    consumed_topic: str = "myTopic"
    consumed_group: str = "myGroup"
    produced_topic: str = "myTopic"
    parallel_messages: int = 3
    batch_size: int = 3
    batch_wait_time: float = 1.0
    graceful_shutdown_timeout: float = 5.0
    wait_producer_ready: bool = True
    snooze: bool = True
    oversleep: bool = False
    chomp_msg: bool = False
    log_quiet: bool = False
    start_stop: bool = False

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> KafkaSettings:
        """Read `environ`. Raises `ConfigError`, whose `field` names the first variable that is wrong."""
        found: dict[str, Any] = {}
        for name, (variable, parse) in _VARIABLES.items():
            text = environ.get(variable, "")
            if text:
                found[name] = parse(variable, text)
        return cls(**found)

    def security(self) -> SecurityConfig | None:
        """The SecurityConfig, or None unless KAFKA_SEC_PROTO is TLS.

        Reads the files that are named, and raises `ConfigError` naming the variable that is wrong.
        """
        if not self.tls:
            return None
        try:
            return SecurityConfig(
                root_ca_certs=self.sec_ca_certs,
                client_cert=self.sec_client_cert,
                client_key=self.sec_client_key,
                insecure_skip_verify=self.sec_skip_verify,
            )
        except ConfigError as error:
            variable = _SECURITY_VARIABLES.get(error.field or "", "KAFKA_SEC_*")
            renamed = type(error)(f"{variable}: {error}", field=variable)
        raise renamed

    def producer_config(self, **overrides: Any) -> ProducerConfig:
        """A ProducerConfig for KAFKA_PRODUCED_TOPIC; `overrides` are fields of it and win."""
        return ProducerConfig(
            **{
                "broker_addrs": self.broker_addrs,
                "topic": self.produced_topic,
                "kafka_version": self.version,
                "max_message_bytes": self.max_bytes,
                **self._security_unless(overrides),
                **overrides,
            }
        )

    def consumer_config(self, **overrides: Any) -> ConsumerGroupConfig:
        """A ConsumerGroupConfig for KAFKA_CONSUMED_TOPIC and _GROUP; `overrides` are fields of it and win.

        `num_workers` is KAFKA_PARALLEL_MESSAGES and works for a single-message handler; `batch_size` and
        `batch_wait_time` work for a batch handler. Messages of KAFKA_MAX_BYTES can be received.
        """
        needed = self.max_bytes + _RECEIVE_OVERHEAD
        return ConsumerGroupConfig(
            **{
                "broker_addrs": self.broker_addrs,
                "topic": self.consumed_topic,
                "group_name": self.consumed_group,
                "kafka_version": self.version,
                "num_workers": self.parallel_messages,
                "batch_size": self.batch_size,
                "batch_wait_time": self.batch_wait_time,
                "librdkafka": {"receive.message.max.bytes": needed} if needed > _RECEIVE_MAX_BYTES else {},
                **self._security_unless(overrides),
                **overrides,
            }
        )

    def admin_config(self) -> AdminConfig:
        """An AdminConfig; the addresses for `new_admin` are `broker_addrs`."""
        return AdminConfig(kafka_version=self.version, security=self.security())

    def _security_unless(self, overrides: Mapping[str, Any]) -> dict[str, Any]:
        """No files are read for a `security` that is overridden anyway."""
        return {} if "security" in overrides else {"security": self.security()}


def _addresses(variable: str, text: str) -> tuple[str, ...]:
    return checks.addresses(variable, [address.strip() for address in text.split(",")])


def _text(_variable: str, text: str) -> str:
    return text


def _version(variable: str, text: str) -> str | None:
    return checks.kafka_version(variable, text)


def _tls(variable: str, text: str) -> bool:
    if text != "TLS":
        raise ConfigError(
            f"{variable} must be exactly 'TLS', or empty for plaintext, found {checks.shown(text)}",
            field=variable,
        )
    return True


def _flag(variable: str, text: str) -> bool:
    if text.lower() in _TRUE + _FALSE:
        return text.lower() in _TRUE
    raise ConfigError(f"{variable} must be true or false, found {checks.shown(text)}", field=variable)


def _count(variable: str, text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        raise ConfigError(f"{variable} must be a whole number, found {checks.shown(text)}", field=variable)
    return checks.integer(variable, int(text))


def _max_bytes(variable: str, text: str) -> int:
    return checks.integer(variable, _count(variable, text), minimum=1_000, maximum=1_000_000_000)


def _duration(variable: str, text: str) -> float:
    if re.fullmatch(_NUMBER, text):
        return float(text)
    if not re.fullmatch(rf"(?:{_PART.pattern})+", text):
        raise ConfigError(
            f"{variable} must be a duration such as '1s', '200ms' or '1m30s', or plain seconds, "
            f"found {checks.shown(text)}",
            field=variable,
        )
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))


def _pause(variable: str, text: str) -> float:
    return checks.seconds(variable, _duration(variable, text))


def _timeout(variable: str, text: str) -> float:
    return checks.seconds(variable, _duration(variable, text), zero=True)


_VARIABLES: dict[str, tuple[str, Callable[[str, str], Any]]] = {
    "broker_addrs": ("KAFKA_ADDR", _addresses),
    "max_bytes": ("KAFKA_MAX_BYTES", _max_bytes),
    "version": ("KAFKA_VERSION", _version),
    "tls": ("KAFKA_SEC_PROTO", _tls),
    "sec_ca_certs": ("KAFKA_SEC_CA_CERTS", _text),
    "sec_client_cert": ("KAFKA_SEC_CLIENT_CERT", _text),
    "sec_client_key": ("KAFKA_SEC_CLIENT_KEY", _text),
    "sec_skip_verify": ("KAFKA_SEC_SKIP_VERIFY", _flag),
    "consumed_topic": ("KAFKA_CONSUMED_TOPIC", checks.topic_name),
    "consumed_group": ("KAFKA_CONSUMED_GROUP", checks.required_text),
    "produced_topic": ("KAFKA_PRODUCED_TOPIC", checks.topic_name),
    "parallel_messages": ("KAFKA_PARALLEL_MESSAGES", _count),
    "batch_size": ("KAFKA_BATCH_SIZE", _count),
    "batch_wait_time": ("KAFKA_BATCH_WAIT_TIME", _pause),
    "graceful_shutdown_timeout": ("GRACEFUL_SHUTDOWN_TIMEOUT", _timeout),
    "wait_producer_ready": ("KAFKA_WAIT_PRODUCER_READY", _flag),
    "snooze": ("SNOOZE", _flag),
    "oversleep": ("OVERSLEEP", _flag),
    "chomp_msg": ("CHOMP_MSG", _flag),
    "log_quiet": ("LOG_QUIET", _flag),
    "start_stop": ("KAFKA_START_STOP", _flag),
}
