"""Messages as JSON lines: how `consume` writes a record, and how `produce --records` reads one."""

from __future__ import annotations

import base64
import binascii
import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from dp_kafka.avro import Schema
from dp_kafka.errors import DpKafkaError
from dp_kafka.reading import Record

__all__ = ["FORMATS", "decoder", "encoder", "line_of", "schema_of"]

FORMATS = ("auto", "json", "text", "base64")


def schema_of(path: Path | None) -> Schema | None:
    """The Avro schema in a file.

    Raises:
        SchemaError: it is none.
    """
    return None if path is None else Schema(path.read_text(encoding="utf-8"))


def decoder(form: str, schema: Schema | None) -> Callable[[bytes | None], dict[str, Any]]:
    """What makes the fields of a value: `value`, or `value_base64`, or `error` beside it.

    "auto": JSON if it is some, else text, else base64. A value that is not what was asked for is shown as
    base64, with the reason as `error`: one odd message shall not hide the others.
    """

    def decode(data: bytes | None) -> dict[str, Any]:
        if data is None:
            return {"value": None}
        if schema is not None:
            try:
                return {"value": schema.unmarshal(data)}
            except DpKafkaError as error:
                return _raw(data) | {"error": str(error)}
        return _decoded(data, form)

    return decode


def _decoded(data: bytes, form: str) -> dict[str, Any]:
    if form == "base64":
        return _raw(data)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return _raw(data) | ({} if form == "auto" else {"error": "it is not UTF-8"})
    if form == "text":
        return {"value": text}
    try:
        return {"value": json.loads(text)}
    except ValueError:
        return {"value": text} if form == "auto" else _raw(data) | {"error": "it is not JSON"}


def _raw(data: bytes) -> dict[str, Any]:
    return {"value_base64": base64.b64encode(data).decode()}


def line_of(record: Record, decode: Callable[[bytes | None], dict[str, Any]]) -> str:
    """One line of JSON. Headers are pairs, as a name may stand more than once."""
    document = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        **_text("key", record.key),
        "headers": [[name, _header(value)] for name, value in record.headers],
        **decode(record.value),
    }
    return json.dumps(document, ensure_ascii=False, default=_plain)


def _text(name: str, data: bytes | None) -> dict[str, Any]:
    try:
        return {name: None if data is None else data.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(data or b"").decode()}


def _header(value: bytes | None) -> Any:
    return _text("value", value).get("value") if value is None else value.decode(errors="backslashreplace")


def _plain(value: Any) -> Any:
    """What Avro values become that JSON has no form for."""
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    return str(value)  # a Decimal or a UUID


class Outgoing:
    """A message to send, from a line of the input."""

    __slots__ = ("headers", "key", "value")

    def __init__(
        self,
        value: bytes | None,
        key: bytes | str | None = None,
        headers: list[tuple[str, str | None]] | None = None,
    ) -> None:
        self.value = value
        self.key = key
        self.headers = headers or []


def encoder(schema: Schema | None, *, records: bool, key_separator: str | None) -> Callable[[str], Outgoing]:
    """What makes a message of a line. It raises `click.BadParameter` for a line that makes no sense.

    Args:
        schema: the line, or the record's value, is JSON, and is sent as Avro.
        records: the lines are as `consume` writes them.
        key_separator: what stands before it in a line is the key.
    """

    def value_of(value: Any) -> bytes | None:
        if schema is not None:
            return None if value is None else schema.marshal(value)
        if value is None:
            return None
        return value.encode() if isinstance(value, str) else json.dumps(value, ensure_ascii=False).encode()

    def encode(line: str) -> Outgoing:
        if records:
            return _of_record(_json(line), value_of)
        key, text = None, line
        if key_separator is not None:
            key, found, text = line.partition(key_separator)
            if not found:
                raise click.BadParameter(f"there is no {key_separator!r} after the key")
        return Outgoing(text.encode() if schema is None else value_of(_json(text)), key)

    return encode


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        # Not the error itself, which shows the text, and that may be anything.
        reason = getattr(error, "msg", type(error).__name__)
        column = getattr(error, "colno", "?")
    raise click.BadParameter(f"it is not JSON: {reason} at column {column}")


def _of_record(record: Any, value_of: Callable[[Any], bytes | None]) -> Outgoing:
    if not isinstance(record, dict) or not {"value", "value_base64"} & record.keys():
        raise click.BadParameter("a record is a JSON object with 'value' or 'value_base64'")
    raw = record.get("value_base64")
    value = value_of(record.get("value")) if raw is None else _unbase64(raw)
    key = record.get("key")
    if record.get("key_base64") is not None:
        key = _unbase64(record["key_base64"])
    headers = record.get("headers") or []
    try:
        pairs = [(str(name), None if value is None else str(value)) for name, value in headers]
    except (TypeError, ValueError):
        raise click.BadParameter("'headers' is a list of [name, value]") from None
    if key is not None and not isinstance(key, (str, bytes)):
        raise click.BadParameter("'key' is a text or null")
    return Outgoing(value, key, pairs)


def _unbase64(text: Any) -> bytes:
    try:
        return base64.b64decode(str(text), validate=True)
    except (binascii.Error, ValueError):
        raise click.BadParameter("a field in base64 is malformed") from None
