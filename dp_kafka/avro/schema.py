"""Schema: the public class of the Avro codec. It prepares all it needs when it is made, then is only read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, overload
from weakref import WeakKeyDictionary

from dp_kafka.avro.engines import FastavroEngine, branch_by_name, make_engine
from dp_kafka.avro.fast import Encoder, make_encoder
from dp_kafka.avro.locate import MAX_NESTING, locate
from dp_kafka.avro.nodes import Record, bounded, label
from dp_kafka.avro.parse import Parsed, parse
from dp_kafka.avro.read import make_reader
from dp_kafka.avro.write import Writer
from dp_kafka.errors import MarshalError
from dp_kafka.events.build import build
from dp_kafka.events.errors import Mismatch, UnmarshalError, found
from dp_kafka.events.fields import ByClass, attributes_of, holds_fields

__all__ = ["Schema"]

T = TypeVar("T")
_TOO_DEEP = "event: it nests too deeply, or contains itself"
# What turns decoded data into the reader's dicts, and into those from which classes are built; None: nothing.
_Reads = tuple[Callable[[Any], Any] | None, Callable[[Any], Any] | None]


class Schema:
    """An Avro schema: makes bytes of events (`marshal`) and events of bytes (`unmarshal`).

    The bytes are Avro's binary encoding alone, without schema, framing or registry id. A schema is parsed
    once, when it is made; make it once, at import say, and share it: any thread may use it at any time.
    Nothing here blocks.

    Args:
        definition: the schema as JSON text, or what JSON text means: a dict, or a list for a union.
        reader_schema: what `unmarshal` makes of the data by Avro's rules of schema resolution, where
            `definition` is what it was written with. None: the same schema.
        engine: "fastavro" or "avro"; None takes fastavro where it is installed (the extra `fast`). Both give
            the same bytes and read the same values. A recursive schema always goes through avro.

    Raises:
        SchemaError: the definition is not a valid schema, or the reader schema cannot read it; says where.
    """

    __slots__ = (
        "__weakref__",
        "_encoders",
        "_engine",
        "_guarded",
        "_parsed",
        "_reader",
        "_readers",
        "_reads",
        "_unbounded",
        "_writer",
        "_writer_by_name",
    )

    def __init__(
        self,
        definition: str | dict[str, Any] | list[Any],
        *,
        reader_schema: Schema | str | dict[str, Any] | list[Any] | None = None,
        engine: str | None = None,
    ) -> None:
        parsed: Parsed = parse(definition)
        self._parsed = parsed
        # What no package can be given unseen: some bytes could announce a million million nulls.
        self._unbounded = not bounded(parsed.root)
        self._guarded = parsed.recursive or self._unbounded
        self._engine = make_engine(parsed.root, engine, reference_only=parsed.recursive)
        self._writer = Writer(parsed.root, self._engine.tag)
        # For `to_fastavro`, made at its first use.
        self._writer_by_name: Writer | None = None
        # Class of events to the function that encodes them at once, where there can be one.
        self._encoders: ByClass[Encoder | None] = ByClass(self._make_encoder)
        self._reader = None if reader_schema is None else _as_schema(reader_schema)
        self._reads = self._compile_reads(self._reader or self)
        # The same for reader schemas that are given to `unmarshal`; any thread adds.
        self._readers: WeakKeyDictionary[Schema, _Reads] = WeakKeyDictionary()

    @property
    def name(self) -> str:
        """The full name of the record, or what else the type is: 'shop.Order', 'array', 'null or string'."""
        root = self._parsed.root
        return root.name if isinstance(root, Record) else label(root)

    @property
    def definition(self) -> str:
        """The schema as JSON text."""
        return self._parsed.text

    @property
    def engine(self) -> str:
        """The package that does the encoding: "fastavro" or "avro"."""
        return self._engine.name

    def __repr__(self) -> str:
        return f"<Schema {self.name}, through {self.engine}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _remake, (self.definition, None if self._reader is None else self._reader.definition)

    def marshal(self, event: Any) -> bytes:
        """The event as Avro bytes.

        The event is what the schema describes: for a record a mapping, a dataclass or any object with
        attributes, and inside it lists, dicts and such objects again. A dataclass field goes under its
        name, or under `field(metadata={"avro": name})`, and "-" hides it. A field that the event lacks gets
        the schema's default; what the schema does not have is ignored. The event is not changed.

        Raises:
            MarshalError: a value does not fit. It says where and what was found, as in
                `event.items[3].price: expected long, found str`, and never shows a value.
        """
        encode = self._encoders[type(event)]
        if encode is not None:
            data = encode(event)
            if data is not None:
                return data
        return self._marshal_checked(event)

    @overload
    def unmarshal(self, data: bytes, cls: None = None, *, reader_schema: Any = None) -> Any: ...

    @overload
    def unmarshal(self, data: bytes, cls: type[T], *, reader_schema: Any = None) -> T: ...

    @overload
    def unmarshal(self, data: bytes, cls: Any, *, reader_schema: Any = None) -> Any: ...

    def unmarshal(self, data: Any, cls: Any = None, *, reader_schema: Any = None) -> Any:
        """The event of Avro bytes that were written with this schema.

        Args:
            data: the bytes, all of them: too few or too many are an error.
            cls: the class to build, by its type hints and with nested classes: a dataclass, a NamedTuple, a
                class that takes its fields as keyword arguments. Fields of the schema that it lacks are
                ignored; fields that the schema lacks get the class's default. Null for a hint without None
                is the field's default, or else "", [] or {}, which the original writes as null. None gives
                dicts.
            reader_schema: as for the constructor, for this call. Give a Schema: a definition would be parsed
                at each call.

        Raises:
            UnmarshalError: the data is not what the schema describes, or does not fit the class; says where,
                and never shows a value.
            SchemaError: the reader schema is not valid, or cannot read what this one writes.
        """
        if not isinstance(data, bytes):
            if not isinstance(data, (bytearray, memoryview)):
                raise self._unmarshal_error(f"expected bytes, found {found(data)}", b"")
            data = bytes(data)
        reads = self._reads if reader_schema is None else self._reads_with(_as_schema(reader_schema))
        read = reads[cls is not None]
        if self._unbounded and (problem := locate(self._parsed.root, data)) is not None:
            raise self._unmarshal_error(problem, data)
        try:
            event = self._engine.decode(data)
        except Exception:  # noqa: BLE001 - each package has its own, and they may show values
            problem = locate(self._parsed.root, data) or f"event: the data is not a valid {self.name}"
        else:
            try:
                if read is not None:
                    event = read(event)
                return event if cls is None else build(cls, event)
            except Mismatch as exc:
                problem = exc.text()
            except RecursionError:
                problem = "event: it nests too deeply"
        raise self._unmarshal_error(problem, data)

    def to_fastavro(self, event: Any) -> Any:
        """The event as fastavro takes it with this definition: every value checked and plain, unions decided.

        For code that encodes through fastavro itself, as confluent-kafka's serializers do. Raises
        MarshalError.
        """
        if self._writer_by_name is None:
            self._writer_by_name = Writer(self._parsed.root, branch_by_name)
        datum = self._datum(self._writer_by_name, event)
        if self._guarded and self._nests_too_deeply(self._marshal_checked(event)):
            raise self._marshal_error(_TOO_DEEP)
        return datum

    def check_nesting(self, data: bytes) -> None:
        """Refuse data that fastavro cannot read without danger; costs nothing unless the schema allows such.

        Raises:
            UnmarshalError: the data nests so deeply that it would overflow the C stack, or is not valid.
        """
        problem = self._nests_too_deeply(data) if self._guarded else None
        if problem is not None:
            raise self._unmarshal_error(problem, data)

    def _nests_too_deeply(self, data: bytes) -> str | None:
        return locate(self._parsed.root, data, max_nesting=MAX_NESTING)

    def _marshal_checked(self, event: Any) -> bytes:
        """The slower way: every value checked, and converted where it has to be."""
        datum = self._datum(self._writer, event)
        try:
            return self._engine.encode(datum)
        except RecursionError:
            problem = _TOO_DEEP
        except Exception as exc:  # noqa: BLE001 - its text may show a value
            problem = f"event: {self.engine} refused it with a {type(exc).__name__}"
        raise self._marshal_error(problem)

    def _datum(self, writer: Writer, event: Any) -> Any:
        try:
            return writer.convert(event)
        except Mismatch as exc:
            problem = exc.text()
        except RecursionError:
            problem = _TOO_DEEP
        raise self._marshal_error(problem)

    # The errors are raised outside of the handlers above: what the packages raise may hold a value, and would
    # stay on as the context.

    def _marshal_error(self, problem: str) -> MarshalError:
        return MarshalError(
            f"failed to marshal event with avro schema: {problem}", log_data={"schema": self.name}
        )

    def _unmarshal_error(self, problem: str, data: bytes) -> UnmarshalError:
        facts = {"schema": self.name, "size": len(data)}
        return UnmarshalError(f"failed to unmarshal event with avro schema: {problem}", log_data=facts)

    def _make_encoder(self, cls: type) -> Encoder | None:
        root, engine = self._parsed.root, self._engine
        if not isinstance(root, Record) or not isinstance(engine, FastavroEngine):
            return None
        attributes: dict[str, str] | None = None
        if cls is not dict:
            if issubclass(cls, Mapping) or not holds_fields(cls):
                return None
            try:
                attributes = attributes_of(cls) or {field.name: field.name for field in root.fields}
            except Mismatch:
                return None
        return make_encoder(root, attributes, lambda field: self._writer.compile(field.type), *engine.writing)

    def _reads_with(self, reader: Schema) -> _Reads:
        reads = self._readers.get(reader)
        if reads is None:
            reads = self._readers[reader] = self._compile_reads(reader)
        return reads

    def _compile_reads(self, reader: Schema) -> _Reads:
        writer_root, reader_root = self._parsed.root, reader._parsed.root
        return make_reader(writer_root, reader_root), make_reader(writer_root, reader_root, named=True)


def _as_schema(schema: Any) -> Schema:
    return schema if isinstance(schema, Schema) else Schema(schema)


def _remake(definition: str, reader: str | None) -> Schema:
    return Schema(definition, reader_schema=reader)
