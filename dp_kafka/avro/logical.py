"""The logical types: how decimals, dates, times, timestamps and UUIDs become plain Avro values, and back.

Both codecs below get and give plain values only, so that what a logical type means does not depend on which
of them is installed.
"""

from __future__ import annotations

import datetime as dt
import decimal
import math
import uuid
from typing import Any, Final

from dp_kafka.avro.nodes import Logical
from dp_kafka.events.errors import Mismatch, found

__all__ = ["logical_type"]

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
_EPOCH_LOCAL: Final = dt.datetime(1970, 1, 1)
_EPOCH_DAY: Final = dt.date(1970, 1, 1).toordinal()
_DAY_MICROS: Final = 86_400_000_000
# Longer numbers would make Python spend seconds on one event; nobody's money has that many digits.
_MAX_PRECISION: Final = 10_000


def logical_type(
    name: object, base: str, attributes: dict[str, Any], size: int | None = None
) -> Logical | None:
    """The logical type `name` over `base` (a primitive, or "fixed" with its `size`).

    None for a name that this library does not know, which the specification says to ignore. Raises ValueError
    with the reason when the name is known and the schema misuses it.
    """
    bases = {
        "decimal": ("bytes", "fixed"),
        "uuid": ("string", "fixed"),
        "date": ("int",),
        "time-millis": ("int",),
        "time-micros": ("long",),
        "timestamp-millis": ("long",),
        "timestamp-micros": ("long",),
        "local-timestamp-millis": ("long",),
        "local-timestamp-micros": ("long",),
    }
    if not isinstance(name, str) or name not in bases:
        return None
    if base not in bases[name]:
        raise ValueError(f"logical type {name} needs the type {' or '.join(bases[name])}, found {base}")
    if name == "decimal":
        return _decimal(attributes.get("precision"), attributes.get("scale", 0), size)
    if name == "uuid":
        return _uuid(size)
    if name == "date":
        return Logical(name, name, _is_date, _date_to_wire, _date_from_wire)
    unit = 1000 if name.endswith("millis") else 1
    if name.startswith("time-"):
        return _time(name, unit)
    return _timestamp(name, unit, aware=not name.startswith("local-"))


def _is_date(cls: type) -> bool:
    # A datetime is a date to isinstance; to write one as a date would drop its time of day unseen.
    return issubclass(cls, dt.date) and not issubclass(cls, dt.datetime)


def _date_to_wire(value: dt.date) -> int:
    return value.toordinal() - _EPOCH_DAY


def _date_from_wire(raw: int) -> dt.date:
    try:
        return dt.date.fromordinal(raw + _EPOCH_DAY)
    except (ValueError, OverflowError):
        raise Mismatch("the date lies outside the years 1 to 9999 that Python knows") from None


def _time(name: str, unit: int) -> Logical:
    def to_wire(value: dt.time) -> int:
        if value.tzinfo is not None:
            raise Mismatch(
                f"expected {name}, found a time with a time zone; Avro's has none, so remove it first"
            )
        seconds = (value.hour * 60 + value.minute) * 60 + value.second
        return (seconds * 1_000_000 + value.microsecond) // unit

    def from_wire(raw: int) -> dt.time:
        micros = raw * unit
        if not 0 <= micros < _DAY_MICROS:
            raise Mismatch("the time lies outside one day")
        seconds, micros = divmod(micros, 1_000_000)
        minutes, second = divmod(seconds, 60)
        hour, minute = divmod(minutes, 60)
        return dt.time(hour, minute, second, micros)

    return Logical(name, name, lambda cls: issubclass(cls, dt.time), to_wire, from_wire)


def _timestamp(name: str, unit: int, *, aware: bool) -> Logical:
    epoch = _EPOCH if aware else _EPOCH_LOCAL

    def to_wire(value: dt.datetime) -> int:
        if (value.utcoffset() is not None) is not aware:
            raise Mismatch(
                f"expected {name}, found a datetime without a time zone; give it one, as in "
                "datetime.now(timezone.utc)"
                if aware
                else f"expected {name}, found a datetime with a time zone; a local timestamp has none"
            )
        delta = value - epoch
        return ((delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds) // unit

    def from_wire(raw: int) -> dt.datetime:
        try:
            return epoch + dt.timedelta(microseconds=raw * unit)
        except OverflowError:
            raise Mismatch("the timestamp lies outside the years 1 to 9999 that Python knows") from None

    return Logical(name, name, lambda cls: issubclass(cls, dt.datetime), to_wire, from_wire)


def _uuid(size: int | None) -> Logical:
    if size not in (None, 16):
        raise ValueError(f"logical type uuid needs a fixed of 16 bytes, found {size}")

    def to_wire(value: uuid.UUID | str) -> str | bytes:
        if isinstance(value, str):
            try:
                parsed = uuid.UUID(value)
            except ValueError:
                raise Mismatch("expected uuid, found a str that is not one") from None
            return value if size is None else parsed.bytes
        return str(value) if size is None else value.bytes

    def from_wire(raw: Any) -> uuid.UUID:
        try:
            return uuid.UUID(raw) if size is None else uuid.UUID(bytes=raw)
        except ValueError:
            raise Mismatch("the value is not a UUID") from None

    return Logical("uuid", "uuid", lambda cls: issubclass(cls, (uuid.UUID, str)), to_wire, from_wire)


def _decimal(precision: object, scale: object, size: int | None) -> Logical:
    if type(precision) is not int or precision <= 0:
        raise ValueError("logical type decimal needs a precision, an integer of at least 1")
    if type(scale) is not int or not 0 <= scale <= precision:
        raise ValueError(f"the scale of a decimal must be an integer from 0 to its precision, {precision}")
    if precision > _MAX_PRECISION:
        raise ValueError(f"a decimal precision of {precision} is more than {_MAX_PRECISION} digits")
    if size is not None and precision > (most := math.floor(math.log10(2) * (8 * size - 1)) if size else 0):
        raise ValueError(
            f"a decimal precision of {precision} does not fit {size} bytes, which hold {most} digits"
        )
    name, limit = f"decimal({precision}, {scale})", 10**precision
    # Wide enough that nothing is ever rounded, whatever the precision of the calling thread's own context.
    exact = decimal.Context(prec=_MAX_PRECISION, traps=[])
    last_place = decimal.Decimal((0, (1,), -scale))

    def to_wire(value: decimal.Decimal | int) -> bytes:
        number = decimal.Decimal(value)
        if not number.is_finite():
            raise Mismatch(f"expected {name}, found a {found(value)} that is not a finite number")
        unscaled = 0
        if number:
            # Before anything is computed: Decimal("1E+999999999") is a short value and a very long number.
            if number.adjusted() + scale >= precision:
                raise Mismatch(f"expected {name}, found a {found(value)} with more than {precision} digits")
            placed = number.quantize(last_place, context=exact)
            if placed != number:
                raise Mismatch(
                    f"expected {name}, found a {found(value)} with more than {scale} decimal places"
                )
            unscaled = int(placed.scaleb(scale, exact))
        length = (unscaled.bit_length() + 8) // 8 if size is None else size
        return unscaled.to_bytes(length, "big", signed=True)

    def from_wire(raw: bytes) -> decimal.Decimal:
        unscaled = int.from_bytes(raw, "big", signed=True)
        if abs(unscaled) >= limit:
            raise Mismatch(f"the number has more than the {precision} digits of {name}")
        return decimal.Decimal(unscaled).scaleb(-scale, exact)

    def is_number(cls: type) -> bool:
        return issubclass(cls, (decimal.Decimal, int)) and cls is not bool

    return Logical("decimal", name, is_number, to_wire, from_wire)
