"""What makes bytes of events and events of bytes: the protocol of a codec, and that of a schema."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

__all__ = ["Codec", "MarshalsEvents"]


@runtime_checkable
class Codec(Protocol):
    """Makes bytes of events and events of bytes. Several threads may call it at the same time."""

    def encode(self, event: Any) -> bytes:
        """The event as bytes; raises MarshalError, which names the place in the event and shows no value."""
        ...

    def decode(self, data: bytes) -> Any:
        """The event of a message's value; raises UnmarshalError, on the same terms."""
        ...


class MarshalsEvents(Protocol):
    """What `Producer.send` takes as a schema: `dp_kafka.avro.Schema`, or what else makes bytes of events."""

    def marshal(self, event: Any) -> bytes:
        """The event as bytes; raises MarshalError."""
        ...
