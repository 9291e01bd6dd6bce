"""Moves partitions' leaders between brokers while everything runs, as an operator's rebalancing tool does.

confluent-kafka has no request that says which replica shall lead, hence two requests of the protocol here:
AlterPartitionReassignments (version 0) orders the replicas, ElectLeaders (version 2) lets the first lead.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Mapping, Sequence

from .errors import ApacheKafkaError

_ELECT_LEADERS = (43, 2)
_ALTER_PARTITION_REASSIGNMENTS = (45, 0)
_PREFERRED = b"\0"
#: No tagged fields follow.
_NO_TAGS = b"\0"
#: A partition's preferred replica leads it already.
_ELECTION_NOT_NEEDED = 84


def reassign(address: str, topic: str, replicas: Mapping[int, Sequence[int]], timeout: float) -> None:
    """Orders each partition's replicas anew, the preferred leader first, by way of a plaintext listener."""
    partitions = [
        _int32(partition) + _array(_int32(each) for each in order) + _NO_TAGS
        for partition, order in replicas.items()
    ]
    topics = _array([_string(topic) + _array(partitions) + _NO_TAGS])
    body = _int32(int(timeout * 1000)) + topics + _NO_TAGS
    answer = _ask(address, _ALTER_PARTITION_REASSIGNMENTS, body, timeout)
    _raise_if(topic, answer.int16(), answer.string())
    _check_partitions(answer)


def elect(address: str, topic: str, partitions: Sequence[int], timeout: float) -> None:
    """Has the preferred replicas lead, by way of a plaintext listener."""
    topics = _array([_string(topic) + _array(_int32(each) for each in partitions) + _NO_TAGS])
    body = _PREFERRED + topics + _int32(int(timeout * 1000)) + _NO_TAGS
    answer = _ask(address, _ELECT_LEADERS, body, timeout)
    _raise_if(topic, answer.int16(), None)
    _check_partitions(answer)


def _ask(address: str, request: tuple[int, int], body: bytes, timeout: float) -> _Reader:
    # Header, version 2: key, version of the request, correlation id, no client id.
    header = struct.pack(">hhih", *request, 1, -1) + _NO_TAGS
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=timeout) as connection:
        connection.sendall(_int32(len(header) + len(body)) + header + body)
        with connection.makefile("rb") as stream:
            length = _Reader(stream.read(4)).int32()
            answer = _Reader(stream.read(length))
    answer.take(4 + 1 + 4)  # correlation id, tags, throttle time
    return answer


def _check_partitions(answer: _Reader) -> None:
    for _ in range(answer.count()):
        name = answer.string()
        for _ in range(answer.count()):
            partition = answer.int32()
            _raise_if(f"{name}[{partition}]", answer.int16(), answer.string())
            answer.take(1)
        answer.take(1)


def _raise_if(what: str, code: int, text: str | None) -> None:
    if code not in (0, _ELECTION_NOT_NEEDED):
        raise ApacheKafkaError(f"could not move the leaders of {what}: error {code}, {text}")


def _int32(value: int) -> bytes:
    return struct.pack(">i", value)


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _array(items: Iterable[bytes]) -> bytes:
    found = list(items)
    return _varint(len(found) + 1) + b"".join(found)


def _string(text: str) -> bytes:
    data = text.encode()
    return _varint(len(data) + 1) + data


class _Reader:
    """Takes fields off the front of an answer."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        start, self._at = self._at, self._at + count
        if self._at > len(self._data):
            raise ApacheKafkaError("a broker's answer ended too early: it may not take plaintext here")
        return self._data[start : self._at]

    def int16(self) -> int:
        return int.from_bytes(self.take(2), "big", signed=True)

    def int32(self) -> int:
        return int.from_bytes(self.take(4), "big", signed=True)

    def count(self) -> int:
        """The length of a compact array or string; -1 for null."""
        value = shift = 0
        while True:
            (byte,) = self.take(1)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value - 1
            shift += 7

    def string(self) -> str | None:
        length = self.count()
        return None if length < 0 else self.take(length).decode()
