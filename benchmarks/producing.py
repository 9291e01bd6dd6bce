"""The producing cases, both sides: from the first send to the report of the last message."""

from __future__ import annotations

import io
import queue
import threading
import uuid
from collections.abc import Callable
from typing import Any

import fastavro
from confluent_kafka import Producer as PlainProducer

from benchmarks.job import PATIENCE, payload
from benchmarks.pairs import Clock, Result
from benchmarks.place import Place
from dp_kafka import BytesMessage, Producer, ProducerConfig
from dp_kafka.avro import Schema
from dp_kafka.config.rdkafka import producer_properties
from dp_kafka.headers import TRACE_ID_HEADER

__all__ = [
    "ours_channel",
    "ours_send",
    "ours_send_avro",
    "ours_send_new_ids",
    "plain_channel",
    "plain_send",
    "plain_send_avro",
]

MESSAGES = {100: 40_000, 1_000: 30_000, 10_000: 8_000}
_TRACE_ID = str(uuid.uuid4())
_HEADERS: list[tuple[str, Any]] = [(TRACE_ID_HEADER, _TRACE_ID)]

_AVRO = {
    "type": "record",
    "name": "Event",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "count", "type": "long"},
        {"name": "name", "type": "string"},
    ],
}
_EVENT = {"id": _TRACE_ID, "count": 123_456, "name": "x" * 56}


def _config(place: Place) -> ProducerConfig:
    return ProducerConfig(place.broker_addrs, place.topic)


class _Delivered:
    """The user's delivery callback, the same on both sides: counts, and keeps what failed."""

    def __init__(self) -> None:
        self.count = 0
        self.failures: list[Any] = []

    def __call__(self, error: Any, _message: Any) -> None:
        if error is not None:
            self.failures.append(error)
        self.count += 1

    def check(self, messages: int) -> None:
        """Raise RuntimeError unless each was delivered."""
        if self.failures or self.count != messages:
            raise RuntimeError(f"{self.count} of {messages} delivered, failures {self.failures[:3]}")


def _ours(place: Place, send_all: Callable[[Producer, int, _Delivered], None]) -> Result:
    messages = place.count(MESSAGES[place.spec.size])
    delivered = _Delivered()
    with Producer(_config(place)) as producer:
        producer.initialise()
        # The first message waits for metadata and the producer's id: that is not what is compared.
        producer.send_bytes(b"first", headers=[(TRACE_ID_HEADER, _TRACE_ID)])
        producer.flush(PATIENCE)
        clock = Clock()
        send_all(producer, messages, delivered)
        producer.flush(PATIENCE)
        result = clock.stop(messages)
    delivered.check(messages)
    return result


def ours_send(place: Place) -> Result:
    """`send_bytes` with a header and a delivery callback."""
    value = payload(place.spec.size)

    def send_all(producer: Producer, messages: int, delivered: _Delivered) -> None:
        for _ in range(messages):
            producer.send_bytes(value, headers=[(TRACE_ID_HEADER, _TRACE_ID)], on_delivery=delivered)

    return _ours(place, send_all)


def ours_send_new_ids(place: Place) -> Result:
    """The same, with a new trace id made for each message by the library."""
    value = payload(place.spec.size)

    def send_all(producer: Producer, messages: int, delivered: _Delivered) -> None:
        for _ in range(messages):
            producer.send_bytes(value, on_delivery=delivered)

    return _ours(place, send_all)


def ours_send_avro(place: Place) -> Result:
    """`send` with a schema of three fields."""
    schema = Schema(_AVRO)

    def send_all(producer: Producer, messages: int, delivered: _Delivered) -> None:
        for _ in range(messages):
            producer.send(schema, _EVENT, headers=[(TRACE_ID_HEADER, _TRACE_ID)], on_delivery=delivered)

    return _ours(place, send_all)


def ours_channel(place: Place) -> Result:
    """`channels.output`."""
    value = payload(place.spec.size)

    def send_all(producer: Producer, messages: int, delivered: _Delivered) -> None:
        put = producer.channels.output.put
        for _ in range(messages):
            put(BytesMessage(value, headers=[(TRACE_ID_HEADER, _TRACE_ID)], on_delivery=delivered))

    return _ours(place, send_all)


class _Plain:
    """A plain producer with the poll thread that a hand-written service gives it."""

    def __init__(self, place: Place) -> None:
        self.client = PlainProducer(producer_properties(_config(place)))
        self.client.list_topics(timeout=10)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="plain-poll")
        self._thread.start()

    def _poll(self) -> None:
        while not self._over.is_set():
            self.client.poll(0.05)

    def close(self) -> None:
        self._over.set()
        self._thread.join()


def _plain(place: Place, send_all: Callable[[PlainProducer, int, _Delivered], None]) -> Result:
    messages = place.count(MESSAGES[place.spec.size])
    delivered = _Delivered()
    plain = _Plain(place)
    try:
        plain.client.produce(place.topic, b"first", headers=list(_HEADERS))
        plain.client.flush(PATIENCE)
        clock = Clock()
        send_all(plain.client, messages, delivered)
        plain.client.flush(PATIENCE)
        result = clock.stop(messages)
    finally:
        plain.close()
    delivered.check(messages)
    return result


def plain_send(place: Place) -> Result:
    """produce(value, headers, on_delivery) with a poll thread."""
    value, topic = payload(place.spec.size), place.topic

    def send_all(client: PlainProducer, messages: int, delivered: _Delivered) -> None:
        for _ in range(messages):
            while True:
                try:
                    client.produce(
                        topic, value, headers=[(TRACE_ID_HEADER, _TRACE_ID)], on_delivery=delivered
                    )
                    break
                except BufferError:
                    client.poll(0.01)

    return _plain(place, send_all)


def plain_send_avro(place: Place) -> Result:
    """fastavro and produce()."""
    parsed, topic = fastavro.parse_schema(_AVRO), place.topic

    def send_all(client: PlainProducer, messages: int, delivered: _Delivered) -> None:
        for _ in range(messages):
            out = io.BytesIO()
            fastavro.schemaless_writer(out, parsed, _EVENT)
            while True:
                try:
                    client.produce(
                        topic, out.getvalue(), headers=[(TRACE_ID_HEADER, _TRACE_ID)], on_delivery=delivered
                    )
                    break
                except BufferError:
                    client.poll(0.01)

    return _plain(place, send_all)


def plain_channel(place: Place) -> Result:
    """A queue.Queue and a thread that produces what is put there."""
    value, topic = payload(place.spec.size), place.topic

    def send_all(client: PlainProducer, messages: int, delivered: _Delivered) -> None:
        waiting: queue.Queue[tuple[bytes, Any] | None] = queue.Queue(10_000)

        def send() -> None:
            while (item := waiting.get()) is not None:
                one, headers = item
                while True:
                    try:
                        client.produce(topic, one, headers=headers, on_delivery=delivered)
                        break
                    except BufferError:
                        client.poll(0.01)

        thread = threading.Thread(target=send, name="plain-output")
        thread.start()
        for _ in range(messages):
            waiting.put((value, [(TRACE_ID_HEADER, _TRACE_ID)]))
        waiting.put(None)
        thread.join()

    return _plain(place, send_all)
