"""Events that are bytes already."""

from __future__ import annotations

from typing import Any

from dp_kafka.errors import MarshalError
from dp_kafka.events.errors import UnmarshalError, found

__all__ = ["BytesCodec"]


class BytesCodec:
    """Takes bytes and gives bytes, unchanged: for where a codec is wanted and nothing is to be done."""

    def encode(self, event: Any) -> bytes:
        """`event`, which has to be bytes (or a bytearray or memoryview); raises MarshalError."""
        if isinstance(event, (bytes, bytearray, memoryview)):
            return bytes(event)
        raise MarshalError(f"expected bytes, found {found(event)}: encode it first, or use another codec")

    def decode(self, data: bytes) -> bytes:
        """`data`; raises UnmarshalError when it is no bytes."""
        if isinstance(data, (bytes, bytearray, memoryview)):
            return bytes(data)
        raise UnmarshalError(f"expected bytes, found {found(data)}")

    def __repr__(self) -> str:
        return "BytesCodec()"
