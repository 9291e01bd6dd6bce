"""Random Avro schemas, each with a strategy for its values, for the property tests of the codec."""

from __future__ import annotations

import datetime as dt
import decimal
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

# Types of one group have values of the same Python classes: with one of each a union leaves no choice.
GROUPS = {
    "null": "null",
    "boolean": "number",
    "int": "number",
    "long": "number",
    "float": "number",
    "double": "number",
    "string": "text",
    "enum": "text",
    "bytes": "sequence",
    "fixed": "sequence",
    "array": "sequence",  # fastavro would put bytes into one
    "map": "dict",
    "record": "dict",
}

_TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=8)
_PRIMITIVES: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(width=32, allow_nan=False),
    "double": st.floats(allow_nan=False),
    "string": _TEXT,
    "bytes": st.binary(max_size=8),
}
_UTC = st.just(dt.timezone.utc)
_MILLIS = st.datetimes(timezones=_UTC).map(lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000))
_LOGICAL: list[tuple[dict[str, Any], st.SearchStrategy[Any]]] = [
    ({"type": "int", "logicalType": "date"}, st.dates()),
    (
        {"type": "int", "logicalType": "time-millis"},
        st.times().map(lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000)),
    ),
    ({"type": "long", "logicalType": "time-micros"}, st.times()),
    ({"type": "long", "logicalType": "timestamp-millis"}, _MILLIS),
    ({"type": "long", "logicalType": "timestamp-micros"}, st.datetimes(timezones=_UTC)),
    ({"type": "string", "logicalType": "uuid"}, st.uuids()),
]


@dataclass
class Sample:
    """A schema's definition, and a strategy for its values in their native form."""

    definition: Any
    values: st.SearchStrategy[Any]


@st.composite
def samples(draw: st.DrawFn, *, ambiguous: bool = True, logical: bool = True) -> Sample:
    """A schema of a record. `ambiguous`: with unions of which a value may fit several branches."""
    return _record(draw, itertools.count(), 3, ambiguous, logical)


def _any(draw: st.DrawFn, names: Iterator[int], depth: int, ambiguous: bool, logical: bool) -> Sample:
    kinds = ["primitive", "primitive", "enum", "fixed"]
    kinds += ["logical", "decimal"] if logical else []
    kinds += ["array", "map", "record", "union"] if depth > 0 else []
    kind = draw(st.sampled_from(kinds))
    if kind == "union":
        return _union(draw, names, depth - 1, ambiguous, logical)
    return _one(draw, kind, names, depth - 1, ambiguous, logical)


def _one(
    draw: st.DrawFn, kind: str, names: Iterator[int], depth: int, ambiguous: bool, logical: bool
) -> Sample:
    if kind == "primitive":
        name = draw(st.sampled_from(sorted(_PRIMITIVES)))
        return Sample(name, _PRIMITIVES[name])
    if kind == "enum":
        symbols = draw(st.lists(st.sampled_from(["A", "B", "C_1", "_d"]), min_size=1, unique=True))
        definition = {"type": "enum", "name": f"E{next(names)}", "symbols": symbols}
        return Sample(definition, st.sampled_from(symbols))
    if kind == "fixed":
        size = draw(st.integers(1, 6))
        definition = {"type": "fixed", "name": f"F{next(names)}", "size": size}
        return Sample(definition, st.binary(min_size=size, max_size=size))
    if kind == "logical":
        definition, values = draw(st.sampled_from(_LOGICAL))
        return Sample(dict(definition), values)
    if kind == "decimal":
        return _decimal(draw, names)
    if kind == "array":
        items = _any(draw, names, depth, ambiguous, logical)
        return Sample({"type": "array", "items": items.definition}, st.lists(items.values, max_size=3))
    if kind == "map":
        items = _any(draw, names, depth, ambiguous, logical)
        values = st.dictionaries(_TEXT, items.values, max_size=3)
        return Sample({"type": "map", "values": items.definition}, values)
    return _record(draw, names, depth, ambiguous, logical)


def _record(draw: st.DrawFn, names: Iterator[int], depth: int, ambiguous: bool, logical: bool) -> Sample:
    name = f"R{next(names)}"
    fields = [_any(draw, names, depth, ambiguous, logical) for _ in range(draw(st.integers(1, 4)))]
    definition = {
        "type": "record",
        "name": name,
        # The names differ from record to record, so that a dict says which one it is.
        "fields": [
            {"name": f"{name.lower()}_{index}", "type": field.definition}
            for index, field in enumerate(fields)
        ],
    }
    values = {f"{name.lower()}_{index}": field.values for index, field in enumerate(fields)}
    return Sample(definition, st.fixed_dictionaries(values))


def _union(draw: st.DrawFn, names: Iterator[int], depth: int, ambiguous: bool, logical: bool) -> Sample:
    branches: list[Sample] = []
    seen: set[str] = set()
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["primitive", "enum", "fixed", "array", "map", "record"]))
        branch = _one(draw, kind, names, depth, ambiguous, logical)
        own = branch.definition if isinstance(branch.definition, str) else branch.definition["type"]
        # A named type may stand in a union as often as it has different names.
        key = (
            GROUPS[own]
            if not ambiguous
            else branch.definition.get("name", own)
            if kind != "primitive"
            else own
        )
        if key not in seen:
            seen.add(key)
            branches.append(branch)
    return Sample(
        [branch.definition for branch in branches], st.one_of(*(branch.values for branch in branches))
    )


def _decimal(draw: st.DrawFn, names: Iterator[int]) -> Sample:
    scale = draw(st.integers(0, 4))
    if draw(st.booleans()):
        precision = draw(st.integers(max(scale, 1), 20))
        definition: dict[str, Any] = {"type": "bytes"}
    else:
        size = draw(st.integers(3, 8))
        precision = draw(st.integers(max(scale, 1), math.floor(math.log10(2) * (8 * size - 1))))
        definition = {"type": "fixed", "name": f"D{next(names)}", "size": size}
    definition |= {"logicalType": "decimal", "precision": precision, "scale": scale}
    # All decimal places present: the avro package writes 1.5 with a scale of 2 as 0.15.
    unscaled = st.integers(-(10**precision) + 1, 10**precision - 1)
    return Sample(definition, unscaled.map(lambda number: decimal.Decimal(number).scaleb(-scale, _EXACT)))


_EXACT = decimal.Context(prec=100)
