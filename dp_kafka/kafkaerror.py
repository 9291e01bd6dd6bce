"""What is read of librdkafka's errors, so that modules that own no client need no confluent_kafka."""

from __future__ import annotations

from typing import Protocol

__all__ = ["KafkaErrorLike"]


class KafkaErrorLike(Protocol):
    """`confluent_kafka.KafkaError`, or the test kit's own."""

    def code(self) -> int: ...
    def name(self) -> str: ...
    def str(self) -> str: ...
    def fatal(self) -> bool: ...
    def retriable(self) -> bool: ...
