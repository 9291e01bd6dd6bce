"""Owns the checks of what a test passes to the embedded cluster: past them a bad value would reach C.

The mock cluster indexes arrays with what it is given and asserts the rest, so a wrong number there ends the
process. Each check raises EmbeddedClusterError and says what was wanted and what was found.
"""

from __future__ import annotations

import math
import re

from dp_kafka.kafkatest._librdkafka import EmbeddedClusterError

__all__ = ["check_int", "check_partition", "check_topic", "encode", "milliseconds"]

INT16_MAX = 2**15 - 1
INT32_MAX = 2**31 - 1
INT64_MAX = 2**63 - 1
MAX_PARTITIONS = 10_000  # the mock allocates them all at once, also for the topics that it makes by itself

_TOPIC_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")


def check_int(what: str, value: int, low: int, high: int) -> None:
    """`value` is a whole number from `low` to `high`."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise EmbeddedClusterError(f"{what} must be a whole number from {low} to {high}, not {value!r}")


def check_partition(topic: str, partition: int) -> None:
    """`topic` is a topic's name and `partition` can be one of its partitions."""
    check_topic(topic)
    check_int("partition", partition, 0, MAX_PARTITIONS - 1)


def check_topic(name: str) -> None:
    """`name` is what Kafka takes as the name of a topic."""
    if not isinstance(name, str) or not _TOPIC_NAME.fullmatch(name) or name in (".", ".."):
        raise EmbeddedClusterError(
            f"{name!r} is not a topic name: 1 to 249 of ASCII letters, digits, '.', '_' and '-'"
        )


def encode(what: str, text: str) -> bytes:
    """`text` as a C string."""
    if not isinstance(text, str) or not text or "\0" in text:
        raise EmbeddedClusterError(f"{what} must be text that is not empty and has no NUL, not {text!r}")
    return text.encode()


def milliseconds(what: str, seconds: float) -> int:
    """`seconds` in milliseconds, rounded up so that a little is never nothing."""
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or not math.isfinite(seconds):
        raise EmbeddedClusterError(f"{what} must be a number of seconds, not {seconds!r}")
    whole = math.ceil(round(seconds * 1000, 6))  # 0.07 * 1000 is a little more than 70
    if whole < 0 or seconds < 0 or whole > INT32_MAX:
        raise EmbeddedClusterError(f"{what} must be from 0 to {INT32_MAX // 1000}, not {seconds!r}")
    return whole
