"""Events as JSON: orjson does the work where it is installed, and the standard library defines the result.

Whatever orjson refuses is tried again the longer way, through `_plain`, which either finds a form for it or
says where it stands. So what is an error, and what the JSON says, do not depend on which package is there.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from dp_kafka.errors import ConfigError, MarshalError
from dp_kafka.events.build import build
from dp_kafka.events.errors import Mismatch, UnmarshalError, found
from dp_kafka.events.fields import is_named_tuple

__all__ = ["JsonCodec"]

# What 64 bits hold, signed or not: beyond it most readers of JSON, orjson among them, lose digits.
_INTEGERS: Final = (-(2**63), 2**64 - 1)
_TEXT: Final = (uuid.UUID, decimal.Decimal)
_TIMES: Final = (datetime.datetime, datetime.date, datetime.time)


class JsonCodec:
    """Encodes events as compact UTF-8 JSON, and decodes them.

    Dicts, lists, tuples, dataclasses, NamedTuples, pydantic models, enums (their values), dates and times
    (ISO 8601), UUIDs and Decimals (as text, which keeps every digit) have a form. Fields of a dataclass
    that begin with an underscore are left out. NaN, infinities, integers of more than 64 bits, bytes and
    sets have none.

    Args:
        cls: the class that `decode` builds, by its type hints; None gives what JSON gives.
        engine: "orjson" or "json"; None takes orjson where it is installed (the extra `fast`). The attribute
            of that name says which one it is.

    Raises:
        ConfigError: the engine is unknown or not installed.
    """

    def __init__(self, cls: Any = None, *, engine: str | None = None) -> None:
        self._cls = cls
        orjson = self._orjson = _orjson(engine)
        self._loads: Callable[[bytes], Any] = _loads if orjson is None else orjson.loads
        #: The package that does the work: "orjson" or "json".
        self.engine = "json" if orjson is None else "orjson"

    def __repr__(self) -> str:
        built = "" if self._cls is None else getattr(self._cls, "__name__", str(self._cls))
        return f"JsonCodec({built})"

    def encode(self, event: Any) -> bytes:
        """The event as JSON. Raises MarshalError, which says where and what has no JSON form."""
        data = self._by_orjson(event)
        # orjson writes null for NaN: only where there is a null does every value get a look.
        if data and b"null" not in data:
            return data
        try:
            plain = _plain(event)
            if data:
                return data
            return json.dumps(plain, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
        except Mismatch as exc:
            problem = exc.text()
        except RecursionError:
            problem = "event: it nests too deeply, or contains itself"
        raise MarshalError(f"failed to marshal event as JSON: {problem}")

    def _by_orjson(self, event: Any) -> bytes:
        """What orjson makes of the event; empty when it refuses, or is not there."""
        if self._orjson is None:
            return b""
        try:
            data: bytes = self._orjson.dumps(event, _simpler)
        except Exception:  # noqa: BLE001 - whatever it is, the longer way finds it, without the value
            return b""
        return data

    def decode(self, data: bytes) -> Any:
        """The event of JSON bytes. Raises UnmarshalError when they are not JSON, or do not fit the class."""
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise UnmarshalError(f"failed to unmarshal event from JSON: expected bytes, found {found(data)}")
        try:
            event = self._loads(data)
            return event if self._cls is None else build(self._cls, event)
        except json.JSONDecodeError as exc:  # orjson's is derived from it
            problem = f"not valid JSON at line {exc.lineno} column {exc.colno}"
        except UnicodeDecodeError as exc:
            problem = f"not UTF-8 at byte {exc.start}"
        except RecursionError:
            problem = "it nests too deeply"
        except Mismatch as exc:
            problem = exc.text()
        # Outside of the handlers: the packages' own exceptions hold the whole text.
        raise UnmarshalError(f"failed to unmarshal event from JSON: {problem}")


def _orjson(engine: str | None) -> Any:
    if engine not in (None, "json", "orjson"):
        raise ConfigError(f"engine: expected orjson or json, found {engine!r}", field="engine")
    if engine == "json":
        return None
    try:
        import orjson
    except ImportError:
        if engine is None:
            return None
        raise ConfigError(
            "engine: orjson is not installed: pip install 'dp-kafka[fast]'", field="engine"
        ) from None
    return orjson


def _loads(data: bytes) -> Any:
    # Decoded here, because json would guess UTF-16 and UTF-32 too, which are no JSON to anybody else.
    text = bytes(data).decode("utf-8")
    return json.loads(text, parse_constant=_refuse_constant, parse_int=_integer, parse_float=_number)


def _refuse_constant(name: str) -> Any:
    raise json.JSONDecodeError(f"{name} is not JSON", "", 0)


def _integer(text: str) -> int | float:
    if len(text) <= 20 and _INTEGERS[0] <= (number := int(text)) <= _INTEGERS[1]:
        return number
    return _number(text)


def _number(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise json.JSONDecodeError("the number is out of range", "", 0)
    return number


def _simpler(value: Any) -> Any:  # noqa: PLR0911 - one for each type
    """One step from a value that JSON does not know to one that it does; raises Mismatch."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = (field.name for field in dataclasses.fields(value))
        return {name: getattr(value, name) for name in names if not name.startswith("_")}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, _TIMES):
        return value.isoformat()
    if isinstance(value, _TEXT):
        return str(value)
    if is_named_tuple(type(value)):
        return value._asdict()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray, memoryview)):
        return list(value)
    if hasattr(value, "model_dump") and not isinstance(value, type):
        return value.model_dump()
    raise Mismatch(f"{found(value)} has no JSON form")


def _plain(value: Any) -> Any:  # noqa: PLR0911 - one for each type
    """The value as json knows it and orjson agrees with; raises Mismatch with the path of what has none."""
    cls = type(value)
    if value is None or cls is bool:
        return value
    if isinstance(value, enum.Enum):
        return _plain(value.value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        if not _INTEGERS[0] <= value <= _INTEGERS[1]:
            raise Mismatch("an int of more than 64 bits has no JSON form that others can read")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise Mismatch("NaN and infinities have no JSON form")
        return float(value)
    if cls is dict:
        return _plain_dict(value)
    if cls in (list, tuple):
        return _plain_list(value)
    return _plain(_simpler(value))


def _plain_dict(value: dict[Any, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    step = ""
    try:
        for key, item in value.items():
            # The names of fields say where; any other key may be payload, so its position does.
            step = f"{{{len(result)}}}"
            name = _key(key)
            step = f".{name}" if name.isidentifier() and len(name) < 64 else step
            result[name] = _plain(item)
    except Mismatch as exc:
        exc.steps.append(step)
        raise
    return result


def _plain_list(value: Sequence[Any]) -> list[Any]:
    result: list[Any] = []
    try:
        for item in value:
            result.append(_plain(item))  # noqa: PERF401 - its length is the index of what has no form
    except Mismatch as exc:
        exc.steps.append(f"[{len(result)}]")
        raise
    return result


def _key(key: Any) -> str:
    if isinstance(key, enum.Enum):
        return _key(key.value)
    if isinstance(key, str):
        return _text(key)
    if isinstance(key, int) and not isinstance(key, bool):
        return str(int(key))
    raise Mismatch(f"expected a str or int as key, found {found(key)}")


def _text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Mismatch("a str with a lone surrogate has no JSON form: UTF-8 cannot hold it") from None
    return str.__str__(value)
