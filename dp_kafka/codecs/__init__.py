"""Codecs: how events become bytes, and bytes events."""

from typing import TYPE_CHECKING

from dp_kafka.codecs.protocol import Codec
from dp_kafka.lazy import lazy_names

if TYPE_CHECKING:
    from dp_kafka.codecs.avro import AvroCodec
    from dp_kafka.codecs.json import JsonCodec
    from dp_kafka.codecs.raw import BytesCodec
    from dp_kafka.codecs.registry import RegistryCodec, RegistryError

__all__ = ["AvroCodec", "BytesCodec", "Codec", "JsonCodec", "RegistryCodec", "RegistryError"]

# Clients need the protocol alone: Avro and the registry are imported by those who use them.
__getattr__ = lazy_names(
    __name__,
    {
        "AvroCodec": "avro",
        "BytesCodec": "raw",
        "JsonCodec": "json",
        "RegistryCodec": "registry",
        "RegistryError": "registry",
    },
)
