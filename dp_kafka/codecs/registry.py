"""Avro in the wire format of Confluent's Schema Registry, through confluent-kafka's own serializers.

The format is one byte 0, four bytes of schema id, and the Avro bytes. Which subject a schema goes by,
whether it is registered or looked up, and how an id becomes a schema is confluent-kafka's work; what an
event may be, what an error says, and that no message ends the process is this module's.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Final

from dp_kafka.avro import Schema
from dp_kafka.errors import ConfigError, MarshalError
from dp_kafka.events.build import build
from dp_kafka.events.errors import Mismatch, SchemaError, UnmarshalError, found

__all__ = ["RegistryCodec", "RegistryError"]

# Seconds for one request, where the configuration has none; confluent-kafka itself would wait for ever.
_TIMEOUT: Final = 10
# A schema id of four bytes, or a GUID of sixteen, by the first byte.
_FRAMING: Final = {0: 5, 1: 17}
_FAILED: Final = "failed to unmarshal event"
_OUT_OF_REACH: Final = {"TransportError", "RequestException", "OSError"}


class RegistryError(MarshalError):
    """Raised when the Schema Registry refused, or could not be reached; the event itself may be sound.

    `retriable`: the same call may succeed later (it was out of reach, overloaded or broken).
    """

    def __init__(
        self, message: object = "", *, retriable: bool = False, log_data: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message, log_data=log_data)
        self.retriable = retriable


class RegistryCodec:
    """Encodes and decodes the values (or keys) of one topic with schemas from a Schema Registry.

    The first encode, and the first decode of each schema id, asks the registry and blocks for it: at most
    `timeout` seconds a request (10 unless the configuration says otherwise) and `max.retries` of them.
    After that nothing blocks. Any thread may use it. `close()` it, or use it as a context manager.

    Args:
        registry: the configuration of confluent-kafka's SchemaRegistryClient, as in `{"url": "https://…"}`,
            or such a client, which stays its owner's to close.
        topic: decides the subject.
        schema: what `encode` writes and registers, and what `decode` resolves to; None: this codec only
            decodes, to what each message's own schema says.
        cls: the class that `decode` builds; None gives dicts.
        is_key: the codec is for keys: subject `<topic>-key` instead of `<topic>-value`.
        serializer_conf, deserializer_conf: properties of confluent-kafka's AvroSerializer and
            AvroDeserializer, such as `{"auto.register.schemas": False}`. The default subject name strategy
            is by topic.

    Raises:
        ConfigError: the packages of the extra `registry` are not installed, or a property is not valid.
    """

    def __init__(
        self,
        registry: Any,
        topic: str,
        schema: Schema | str | dict[str, Any] | list[Any] | None = None,
        *,
        cls: Any = None,
        is_key: bool = False,
        serializer_conf: Mapping[str, Any] | None = None,
        deserializer_conf: Mapping[str, Any] | None = None,
    ) -> None:
        try:
            from confluent_kafka import schema_registry, serialization
            from confluent_kafka.schema_registry import avro as registry_avro
        except ImportError as exc:
            raise ConfigError(
                f"RegistryCodec needs {exc.name}, which is not installed: pip install 'dp-kafka[registry]'"
            ) from None
        self._topic = topic
        self._schema = schema if schema is None or isinstance(schema, Schema) else Schema(schema)
        self._cls = cls
        field = serialization.MessageField.KEY if is_key else serialization.MessageField.VALUE
        self._context = serialization.SerializationContext(topic, field)
        strategy = {"subject.name.strategy": schema_registry.topic_subject_name_strategy}
        self._owned = isinstance(registry, Mapping)
        # Framing to the schema it names, or None where that could not be read here; any thread adds.
        self._writers: dict[bytes, Schema | None] = {}
        try:
            self._client: Any = registry
            if self._owned:
                self._client = schema_registry.SchemaRegistryClient({"timeout": _TIMEOUT, **registry})
            self._serializer: Any = None
            if self._schema is not None:
                self._serializer = registry_avro.AvroSerializer(
                    self._client,
                    self._schema.definition,
                    lambda event, _context: self._to_fastavro(event),
                    {**strategy, **(serializer_conf or {})},
                )
            self._deserializer: Any = registry_avro.AvroDeserializer(
                self._client,
                None if self._schema is None else self._schema.definition,
                conf={**strategy, **(deserializer_conf or {})},
            )
        except (TypeError, ValueError) as exc:
            # Their texts name properties; they show no value of one but the URL, which may hold a password.
            problem = type(exc).__name__ if "url" in str(exc).lower() else str(exc)
        else:
            return
        raise ConfigError(f"the configuration of the schema registry is not valid: {problem}")

    def encode(self, event: Any) -> bytes:
        """The event as framed Avro bytes.

        Raises:
            MarshalError: the event does not fit the schema, or the codec has none.
            RegistryError: the registry refused the schema, or could not be reached.
        """
        if self._serializer is None:
            raise MarshalError("this RegistryCodec has no schema, so it can only decode: give it one")
        try:
            data: bytes = self._serializer(event, self._context)
        except MarshalError:
            raise
        except Exception as exc:  # noqa: BLE001 - confluent-kafka's, fastavro's and the HTTP client's
            error = self._error("marshal", exc, MarshalError)
        else:
            return data
        raise error

    def decode(self, data: bytes) -> Any:
        """The event of framed Avro bytes.

        Raises:
            UnmarshalError: the data is not in the registry's format, not what its schema says, or does not
                fit the class.
            RegistryError: the registry does not know the schema id, or could not be reached.
        """
        if not isinstance(data, bytes):
            raise UnmarshalError(f"{_FAILED} from {self._topic}: expected bytes, found {found(data)}")
        framing = _FRAMING.get(data[0] if data else -1)
        if framing is None or len(data) < framing:
            raise UnmarshalError(
                f"{_FAILED} from {self._topic}: not in the schema registry's format, which begins with "
                f"the byte 0 and 4 bytes of schema id; found {len(data)} bytes of something else"
            )
        error: MarshalError
        try:
            self._guard(data, framing)
            event = self._deserializer(data, self._context)
            return event if self._cls is None else build(self._cls, event)
        except Mismatch as exc:
            error = UnmarshalError(f"{_FAILED} from {self._topic}: {exc.text()}")
        except MarshalError as exc:
            error = exc
        except Exception as exc:  # noqa: BLE001 - confluent-kafka's, fastavro's and the HTTP client's
            error = self._error("unmarshal", exc, UnmarshalError)
        raise error

    def close(self) -> None:
        """Close the connections to the registry, if they are the codec's own; it cannot be used any more."""
        close = getattr(self._client, "close", None)
        if self._owned and close is not None:
            close()

    def __enter__(self) -> RegistryCodec:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        written = "" if self._schema is None else f", {self._schema.name}"
        return f"RegistryCodec({self._topic!r}{written})"

    def _to_fastavro(self, event: Any) -> Any:
        return None if self._schema is None else self._schema.to_fastavro(event)

    def _guard(self, data: bytes, framing: int) -> None:
        """Refuse data that would end the process in the deserializer, which reads through fastavro.

        fastavro recurses in C: a message of some thousand bytes in a recursive schema overflows the stack.
        """
        frame = data[:framing]
        if frame not in self._writers:
            self._writers[frame] = self._writer(frame)
        writer = self._writers[frame]
        if writer is not None:
            writer.check_nesting(data[framing:])

    def _writer(self, frame: bytes) -> Schema | None:
        if frame[0] == 0:
            registered = self._client.get_schema(int.from_bytes(frame[1:], "big"))
        else:
            registered = self._client.get_schema_by_guid(str(uuid.UUID(bytes=frame[1:])))
        try:
            return Schema(registered.schema_str)
        except SchemaError:
            return None  # it refers to schemas of other subjects, which the deserializer will ask for

    def _error(self, what: str, exc: Exception, otherwise: type[MarshalError]) -> MarshalError:
        """`exc` in this library's terms. Of texts only the registry's is kept: others may show values."""
        failed = f"failed to {what} event for {self._topic}"
        if type(exc).__name__ == "SchemaRegistryError":
            status = getattr(exc, "http_status_code", 0)
            return RegistryError(
                f"{failed}: the registry answered: {exc}", retriable=status == 429 or status >= 500
            )
        if _OUT_OF_REACH & {cls.__name__ for cls in type(exc).__mro__}:
            return RegistryError(
                f"{failed}: no registry reached, with a {type(exc).__name__}", retriable=True
            )
        return otherwise(f"{failed}: confluent-kafka's serializer raised a {type(exc).__name__}")
