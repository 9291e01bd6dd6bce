"""Avro as a codec: a schema, and the class that is built of what it decodes."""

from __future__ import annotations

from typing import Any

from dp_kafka.avro import Schema

__all__ = ["AvroCodec"]


class AvroCodec:
    """Encodes and decodes events with one Avro schema, in Avro's binary encoding alone.

    Args:
        schema: the schema, or its definition; what messages are written with.
        cls: the class that `decode` builds; None gives dicts.
        reader_schema: what `decode` makes of the data by Avro's schema resolution; None: what `schema` says.

    Raises:
        SchemaError: a schema is not valid, or the reader schema cannot read what the other writes.
    """

    def __init__(self, schema: Any, cls: Any = None, *, reader_schema: Any = None) -> None:
        self._schema = schema if isinstance(schema, Schema) else Schema(schema)
        if reader_schema is not None:
            self._schema = Schema(self._schema.definition, reader_schema=reader_schema)
        self._cls = cls

    def encode(self, event: Any) -> bytes:
        """The event as Avro bytes; raises MarshalError. See `Schema.marshal`."""
        return self._schema.marshal(event)

    def decode(self, data: bytes) -> Any:
        """The event of Avro bytes; raises UnmarshalError. See `Schema.unmarshal`."""
        return self._schema.unmarshal(data, self._cls)

    def __repr__(self) -> str:
        built = "" if self._cls is None else f", {getattr(self._cls, '__name__', self._cls)}"
        return f"AvroCodec({self._schema.name}{built})"
