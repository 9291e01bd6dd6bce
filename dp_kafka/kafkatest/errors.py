"""The error of the test kit's own expectations."""

from __future__ import annotations

from dp_kafka.errors import DpKafkaError

__all__ = ["KafkaTestError"]


class KafkaTestError(DpKafkaError, AssertionError):
    """Raised when what a test waited for did not happen, or something that it ruled out did."""
