"""What is finished beyond the committed offset, as the metadata of an OffsetCommit. Pure logic.

Format, version 1: the text `dpk1:` and base64 (RFC 4648, URL-safe alphabet, no padding) of a row of
unsigned LEB128 numbers. They are taken in pairs, one for each run of finished offsets, ascending: how far
the run's first offset lies beyond the end of the run before it (beyond the committed offset for the first
run), and the length of the run less one. What does not fit into `MAX_LENGTH` characters is left out from
the end: those messages may be handled again, none is lost. Text that does not begin so, or does not
decode, is another program's: it says nothing.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable

__all__ = ["MAX_LENGTH", "decode", "encode"]

#: The broker's default for offset.metadata.max.bytes.
MAX_LENGTH = 4_096
#: The most offsets that are taken from a metadata text; more than a partition's window holds is not ours.
MAX_OFFSETS = 1_000_000

_PREFIX = "dpk1:"
_MAX_BYTES = (MAX_LENGTH - len(_PREFIX)) * 3 // 4


def encode(committed: int, finished: Iterable[int]) -> str:
    """The metadata for finished offsets beyond `committed`, ascending; empty text for none.

    `finished` holds no offset twice and none at or below `committed`: that one is the first unfinished.
    """
    out = bytearray()
    end = committed
    first = last = -1
    for offset in finished:
        if offset == last + 1 and first >= 0:
            last = offset
            continue
        if first >= 0:
            run = _number(first - end) + _number(last - first)
            if len(out) + len(run) > _MAX_BYTES:
                return _text(out)
            out += run
            end = last + 1
        first = last = offset
    if first >= 0:
        run = _number(first - end) + _number(last - first)
        if len(out) + len(run) <= _MAX_BYTES:
            out += run
    return _text(out)


def decode(committed: int, metadata: str | None) -> list[int]:
    """The finished offsets of a metadata text, ascending; none if another program wrote it."""
    if not metadata or not metadata.startswith(_PREFIX) or committed < 0:
        return []
    body = metadata[len(_PREFIX) :]
    try:
        raw = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return []
    numbers = _numbers(raw)
    if numbers is None or len(numbers) % 2:
        return []
    offsets: list[int] = []
    end = committed
    for gap, length in zip(numbers[::2], numbers[1::2], strict=True):
        first = end + gap
        if len(offsets) + length >= MAX_OFFSETS:
            return []
        offsets.extend(range(first, first + length + 1))
        end = first + length + 1
    return offsets


def _text(out: bytes | bytearray) -> str:
    return _PREFIX + base64.urlsafe_b64encode(out).decode().rstrip("=") if out else ""


def _number(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _numbers(raw: bytes) -> list[int] | None:
    """The row of numbers; None if it is cut off, or holds one that no offset can be."""
    numbers: list[int] = []
    value = shift = 0
    for byte in raw:
        value |= (byte & 0x7F) << shift
        if byte & 0x80:
            shift += 7
            if shift >= 63:
                return None
        else:
            numbers.append(value)
            value = shift = 0
    return None if shift else numbers
