"""Schemas and events that the tests of Avro share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dp_kafka.avro import Schema

ENGINES = ("avro", "fastavro")
ORDER = {
    "type": "record",
    "name": "Order",
    "namespace": "shop",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "count", "type": "long"},
        {
            "name": "items",
            "type": {
                "type": "array",
                "items": {
                    "type": "record",
                    "name": "Item",
                    "fields": [{"name": "sku", "type": "string"}, {"name": "price", "type": "long"}],
                },
            },
        },
        {"name": "tags", "type": {"type": "map", "values": "string"}},
    ],
}
ADDRESS = {"type": "record", "name": "Address", "fields": [{"name": "city", "type": "string"}]}
AN_ORDER = {
    "id": "a",
    "count": 3,
    "items": [{"sku": "x", "price": 5}, {"sku": "y", "price": -1}],
    "tags": {"k": "v"},
}


@dataclass
class Item:
    sku: str
    price: int


@dataclass
class Order:
    id: str
    count: int
    items: list[Item]
    tags: dict[str, str]


def one(type_: Any, **more: Any) -> dict[str, Any]:
    """The definition of a record with one field, `x`."""
    return {"type": "record", "name": "One", "fields": [{"name": "x", "type": type_, **more}]}


def marshalled(type_: Any, value: Any, engine: str) -> bytes:
    """The bytes of a record with one field."""
    return Schema(one(type_), engine=engine).marshal({"x": value})
