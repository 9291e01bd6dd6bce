"""The protocol of a codec: two methods, one for each direction."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

__all__ = ["Codec"]


@runtime_checkable
class Codec(Protocol):
    """Makes bytes of events and events of bytes. Several threads may call it at the same time."""

    def encode(self, event: Any) -> bytes:
        """The event as bytes; raises MarshalError, which names the place in the event and shows no value."""
        ...

    def decode(self, data: bytes) -> Any:
        """The event of a message's value; raises UnmarshalError, on the same terms."""
        ...
