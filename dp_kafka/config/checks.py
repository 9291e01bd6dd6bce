"""The checks of single configuration values: each returns the final value, or raises `ConfigError`."""

from __future__ import annotations

import ipaddress
import math
import re
import threading
from typing import Any

from dp_kafka.errors import ConfigError

# Kafka's own rule for topic names (org.apache.kafka.common.internals.Topic).
_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}")
# Two forms, as in the original: 0.a.b.c for the old numbering, a.b.c since Kafka 1.0.
_VERSION = re.compile(r"0\.\d+\.\d+\.\d+|[1-9]\d*\.\d+\.\d+|0\.\d+\.\d+")
_HOST = re.compile(r"[^\s,/:\[\]@\\]+")


def shown(value: object) -> str:
    """`value` for an error text: short, and never a key or certificate that was put into the wrong field."""
    text = repr(value)
    if "-----BEGIN" in text:
        return "<PEM text, not shown>"
    return text if len(text) <= 80 else text[:77] + "..."


def required_text(field: str, value: Any) -> str:
    """A non-empty string."""
    if value is None or (isinstance(value, str) and not value.strip()):
        raise ConfigError(f"{field} is compulsory but was not provided in config", field=field)
    if not isinstance(value, str):
        raise ConfigError(f"{field} must be a string, found {shown(value)}", field=field)
    if "\0" in value:
        raise ConfigError(f"{field} must not contain a NUL character, found {shown(value)}", field=field)
    return value


def topic_name(field: str, value: Any) -> str:
    """A name that a Kafka broker accepts for a topic."""
    name = required_text(field, value)
    if not _TOPIC.fullmatch(name) or name in (".", ".."):
        raise ConfigError(
            f"{field} must be 1 to 249 characters of a-z, A-Z, 0-9, '.', '_' and '-', and neither '.' nor "
            f"'..', found {shown(name)}",
            field=field,
        )
    return name


def addresses(field: str, value: Any) -> tuple[str, ...]:
    """A list or tuple of distinct 'host:port' strings, as a tuple of its own."""
    if value is None or value in ([], (), ""):
        raise ConfigError(f"{field} is compulsory but was not provided in config", field=field)
    if isinstance(value, str):
        raise ConfigError(
            f"{field} must be a list of 'host:port' strings, found the single string {shown(value)}; "
            "split it at its commas first",
            field=field,
        )
    if not isinstance(value, (list, tuple)):
        raise ConfigError(
            f"{field} must be a list or tuple of 'host:port' strings, found {type(value).__name__}",
            field=field,
        )
    seen: set[str] = set()
    for address in value:
        _check_address(field, address)
        if address.lower() in seen:
            raise ConfigError(f"{field} names {shown(address)} twice", field=field)
        seen.add(address.lower())
    return tuple(value)


def _check_address(field: str, address: Any) -> None:
    wanted = "each must be 'host:port', an IPv6 address in brackets: '[::1]:9092'"
    if not isinstance(address, str):
        raise ConfigError(f"{field} contains {shown(address)}, which is no string; {wanted}", field=field)
    if not address.strip():
        raise ConfigError(f"{field} contains an empty address; {wanted}", field=field)
    if "://" in address:
        raise ConfigError(
            f"{field} contains {shown(address)}; {wanted}, without a protocol (TLS is chosen with security)",
            field=field,
        )
    host, colon, port = address.rpartition(":")
    if not colon or (host.startswith("[") and not host.endswith("]")):
        raise ConfigError(f"{field} contains {shown(address)}, which has no port; {wanted}", field=field)
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise ConfigError(
            f"{field} contains {shown(address)}, whose port is not a number from 1 to 65535; {wanted}",
            field=field,
        )
    if not _host_ok(host):
        raise ConfigError(
            f"{field} contains {shown(address)}, whose host is malformed; {wanted}", field=field
        )


def _host_ok(host: str) -> bool:
    if not host.startswith("["):
        return _HOST.fullmatch(host) is not None
    try:
        ipaddress.IPv6Address(host[1:-1])
    except ValueError:
        return False
    return True


def integer(field: str, value: Any, *, minimum: int = 1, maximum: int | None = None) -> int:
    """A whole number in a range; True and False are not numbers here."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{field} must be a whole number, found {shown(value)}", field=field)
    if value < minimum:
        bound = "greater than zero" if minimum == 1 else f"at least {minimum}"
        raise ConfigError(f"{field} must be {bound}, found {value}", field=field)
    if maximum is not None and value > maximum:
        raise ConfigError(f"{field} must be at most {maximum}, found {shown(value)}", field=field)
    return value


def seconds(field: str, value: Any, *, zero: bool = False, maximum: float = threading.TIMEOUT_MAX) -> float:
    """A finite duration above zero (or from zero on), as a float."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigError(f"{field} must be a number of seconds, found {shown(value)}", field=field)
    try:
        duration = float(value)
    except OverflowError:
        duration = math.inf
    if not math.isfinite(duration):
        raise ConfigError(f"{field} must be a finite number of seconds, found {shown(value)}", field=field)
    if duration < 0 or (duration == 0 and not zero):
        bound = "zero or greater" if zero else "greater than zero"
        raise ConfigError(f"{field} must be {bound}, found {shown(value)} (seconds)", field=field)
    if duration > maximum:
        raise ConfigError(f"{field} must be at most {maximum:g} seconds, found {shown(value)}", field=field)
    return duration


def flag(field: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise ConfigError(f"{field} must be True or False, found {shown(value)}", field=field)
    return value


def kafka_version(field: str, value: Any) -> str | None:
    """None, or a version such as '3.9.0'; librdkafka asks the broker, so it has no other effect."""
    if value is None:
        return None
    if not isinstance(value, str) or not _VERSION.fullmatch(value):
        raise ConfigError(
            f"error parsing kafka version: invalid version {shown(value)} in {field}; "
            "it must look like '3.9.0', or be left out",
            field=field,
        )
    return value


def retry_periods(minimum: Any, maximum: Any) -> tuple[float, float]:
    """`min_retry_period` and `max_retry_period`: both above zero, and in this order."""
    shortest = seconds("min_retry_period", minimum)
    longest = seconds("max_retry_period", maximum)
    if shortest > longest:
        raise ConfigError(
            "min_retry_period must be smaller or equal to max_retry_period, "
            f"found {shown(minimum)} and {shown(maximum)}",
            field="min_retry_period",
        )
    return shortest, longest


def brokers_healthy(value: Any, number_of_addresses: int) -> int:
    """`min_brokers_healthy`: above zero, and no more than there are addresses."""
    wanted = integer("min_brokers_healthy", value)
    if wanted > number_of_addresses:
        raise ConfigError(
            "min_brokers_healthy must be smaller or equal to the total number of brokers provided in "
            f"broker_addrs, found {wanted} for {number_of_addresses}",
            field="min_brokers_healthy",
        )
    return wanted


def retry_backoff(value: Any) -> float | None:
    """`retry_backoff`: None, or 1 ms to 300 s, the range of librdkafka."""
    if value is None:
        return None
    if callable(value):
        raise ConfigError(
            "retry_backoff must be a number of seconds, found a function: librdkafka backs off by itself, "
            "exponentially from retry_backoff on",
            field="retry_backoff",
        )
    backoff = seconds("retry_backoff", value, maximum=300.0)
    if backoff < 0.001:
        raise ConfigError(
            f"retry_backoff must be at least 0.001 seconds, found {shown(value)}", field="retry_backoff"
        )
    return backoff


def keep_alive(value: Any) -> float | None:
    """`keep_alive`: None, or seconds from zero on."""
    return None if value is None else seconds("keep_alive", value, zero=True)
