"""Codecs: how events become bytes, and bytes events."""

from dp_kafka.codecs.avro import AvroCodec
from dp_kafka.codecs.json import JsonCodec
from dp_kafka.codecs.protocol import Codec
from dp_kafka.codecs.raw import BytesCodec
from dp_kafka.codecs.registry import RegistryCodec, RegistryError

__all__ = ["AvroCodec", "BytesCodec", "Codec", "JsonCodec", "RegistryCodec", "RegistryError"]
