"""For any schema and any event of it: the bytes are those of both packages, and every event comes back."""

from __future__ import annotations

import json
import threading
import uuid
import warnings
from io import BytesIO
from typing import Any

import avro.io
import avro.schema
import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp_kafka.avro import Schema, UnmarshalError
from tests.avro_strategies import samples


def by_avro(definition: Any, event: Any) -> bytes:
    """The bytes of the avro package by itself."""
    out = BytesIO()
    writer = avro.io.DatumWriter(avro.schema.parse(json.dumps(definition)))
    writer.write(with_text_for_uuids(event), avro.io.BinaryEncoder(out))
    return out.getvalue()


def with_text_for_uuids(value: Any) -> Any:
    """The avro package takes the text of a UUID only."""
    if isinstance(value, dict):
        return {key: with_text_for_uuids(item) for key, item in value.items()}
    if isinstance(value, list):
        return [with_text_for_uuids(item) for item in value]
    return str(value) if isinstance(value, uuid.UUID) else value


def by_fastavro(definition: Any, event: Any) -> bytes:
    """The bytes of fastavro by itself."""
    out = BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(definition), event)
    return out.getvalue()


@given(st.data())
def test_the_bytes_are_those_of_the_packages(data: st.DataObject) -> None:
    sample = data.draw(samples(ambiguous=False))
    event = data.draw(sample.values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", avro.errors.IgnoredLogicalType)
        expected = by_avro(sample.definition, event)
    assert by_fastavro(sample.definition, event) == expected
    assert Schema(sample.definition, engine="avro").marshal(event) == expected
    assert Schema(sample.definition, engine="fastavro").marshal(event) == expected


@given(st.data())
def test_both_engines_write_and_read_the_same(data: st.DataObject) -> None:
    """In ambiguous unions, too, where the packages by themselves take different branches."""
    sample = data.draw(samples())
    event = data.draw(sample.values)
    reference, fast = Schema(sample.definition, engine="avro"), Schema(sample.definition, engine="fastavro")
    written = reference.marshal(event)
    assert fast.marshal(event) == written
    assert reference.unmarshal(written) == event
    assert fast.unmarshal(written) == event


@pytest.mark.parametrize("engine", ["avro", "fastavro"])
def test_tagged_unions_may_lie_within_a_branch_beside_null(engine: str) -> None:
    """fastavro looked for the branch by the datum, and did not know the tags of enums inside of it."""
    kind = {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}
    field = {"name": "kinds", "type": ["null", {"type": "array", "items": [kind, "long"]}]}
    schema = Schema({"type": "record", "name": "Event", "fields": [field]}, engine=engine)
    for event in ({"kinds": None}, {"kinds": []}, {"kinds": ["B", 7, "A"]}):
        assert schema.unmarshal(schema.marshal(event)) == event


@given(st.data())
def test_data_that_is_cut_off_or_goes_on_is_refused(data: st.DataObject) -> None:
    sample = data.draw(samples())
    schema = Schema(sample.definition)
    written = schema.marshal(data.draw(sample.values))
    with pytest.raises(UnmarshalError):
        schema.unmarshal(written + b"\0")
    for engine in ("avro", "fastavro"):
        cut = written[: data.draw(st.integers(0, len(written)))]
        if cut != written:
            with pytest.raises(UnmarshalError):
                Schema(sample.definition, engine=engine).unmarshal(cut)


@given(st.data(), st.binary(max_size=40))
def test_any_bytes_are_an_event_or_an_unmarshal_error(data: st.DataObject, noise: bytes) -> None:
    sample = data.draw(samples())
    for engine in ("avro", "fastavro"):
        try:
            Schema(sample.definition, engine=engine).unmarshal(noise)
        except UnmarshalError as exc:
            refused = exc
        else:
            continue
        assert str(refused).startswith("failed to unmarshal event with avro schema: event")
        assert refused.__cause__ is None
        assert refused.__context__ is None


@given(st.data())
def test_an_event_is_not_changed_and_a_copy_comes_back(data: st.DataObject) -> None:
    sample = data.draw(samples())
    event = data.draw(sample.values)
    before = repr(event)
    schema = Schema(sample.definition)
    assert schema.unmarshal(schema.marshal(event)) is not event
    assert repr(event) == before


def test_one_schema_serves_many_threads() -> None:
    definition = {
        "type": "record",
        "name": "R",
        "fields": [{"name": "n", "type": "long"}, {"name": "u", "type": ["null", "string", "long"]}],
    }
    failures: list[BaseException] = []
    schemas = [Schema(definition, engine=engine) for engine in ("avro", "fastavro")]

    def work(seed: int) -> None:
        try:
            for number in range(200):
                event = {"n": seed * 1000 + number, "u": (None, str(seed), number)[number % 3]}
                for schema in schemas:
                    assert schema.unmarshal(schema.marshal(event)) == event
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work, args=(seed,), name=f"test-avro-{seed}") for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not failures
    assert not any(thread.is_alive() for thread in threads)
