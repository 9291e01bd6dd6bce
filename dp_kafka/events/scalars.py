"""How single values fit type hints that are not records or containers: numbers, text, dates and their like.

Formats without a type for a value, JSON above all, bring it as text; so text becomes a date, a UUID or a
Decimal where the hint asks for one.
"""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from collections.abc import Callable
from typing import Any, Final

from dp_kafka.events.errors import Mismatch, found

__all__ = ["SCALARS"]


def _only(cls: type, *but_not: type) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if isinstance(value, cls) and not isinstance(value, but_not):
            return value
        raise Mismatch(f"expected {cls.__name__}, found {found(value)}")

    return check


def _float(value: Any) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise Mismatch("expected float, found int out of range") from None
    raise Mismatch(f"expected float, found {found(value)}")


def _str(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, uuid.UUID):
        return str(value)
    raise Mismatch(f"expected str, found {found(value)}")


def _from_text(cls: type, parse: Callable[[str], Any], *but_not: type) -> Callable[[Any], Any]:
    check = _only(cls, *but_not)

    def read(value: Any) -> Any:
        if not isinstance(value, str):
            return check(value)
        try:
            return parse(value)
        except (ValueError, ArithmeticError):
            raise Mismatch(f"expected {cls.__name__}, found a str that is not one") from None

    return read


def _datetime(text: str) -> dt.datetime:
    # Python 3.10 does not know the Z that most writers of JSON end a time with.
    return dt.datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)


def _decimal(value: Any) -> decimal.Decimal:
    if isinstance(value, int) and not isinstance(value, bool):
        return decimal.Decimal(value)
    result: decimal.Decimal = _decimal_from_text(value)
    return result


_decimal_from_text: Final = _from_text(decimal.Decimal, decimal.Decimal)

SCALARS: Final[dict[Any, Callable[[Any], Any]]] = {
    type(None): _only(type(None)),
    bool: _only(bool),
    bytes: _only(bytes),
    dt.date: _from_text(dt.date, dt.date.fromisoformat, dt.datetime),
    dt.datetime: _from_text(dt.datetime, _datetime),
    dt.time: _from_text(dt.time, dt.time.fromisoformat),
    decimal.Decimal: _decimal,
    float: _float,
    int: _only(int, bool),
    str: _str,
    uuid.UUID: _from_text(uuid.UUID, uuid.UUID),
}
