"""The latency from a send to the handler at a steady rate, both sides: percentiles over the messages."""

from __future__ import annotations

import contextlib
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from confluent_kafka import Consumer
from confluent_kafka import Producer as PlainProducer

from benchmarks.job import PATIENCE, payload
from benchmarks.pairs import Result
from benchmarks.place import Place
from dp_kafka import (
    TRACE_ID_HEADER,
    ConsumerGroup,
    ConsumerGroupConfig,
    Message,
    Offset,
    Producer,
    ProducerConfig,
    State,
)
from dp_kafka.config.rdkafka import consumer_properties, producer_properties

__all__ = ["ours", "plain"]

RATE = 1_000
SECONDS = 1.5
#: Which run a message belongs to, its number there, and when it was sent.
_STAMP = struct.Struct("<Qqd")


class _Arrivals:
    """Takes what arrives of one run, and knows how long it took."""

    def __init__(self, messages: int) -> None:
        self.run = time.monotonic_ns()
        self.messages = messages
        #: The first ones find cold caches, and a consumer that looks for the end of its partition.
        self._first = messages // 4
        self._seconds: list[float] = []
        self.done = threading.Event()

    def value(self, number: int) -> bytes:
        """The value of a message that is sent now."""
        return _STAMP.pack(self.run, number, time.perf_counter()) + _FILLER

    def arrived(self, value: bytes | None) -> None:
        now = time.perf_counter()
        run, number, sent = _STAMP.unpack_from(value or b"")
        if run != self.run:
            return
        if number >= self._first:
            self._seconds.append(now - sent)
        if number == self.messages - 1:
            self.done.set()

    def result(self) -> Result:
        if not self.done.wait(PATIENCE):
            raise TimeoutError("the last message did not arrive")
        ordered = sorted(self._seconds)
        return {"p50": ordered[len(ordered) // 2], "p99": ordered[len(ordered) * 99 // 100]}


_FILLER = payload(100 - _STAMP.size)
#: Sent, and delivered, before the rate begins: an idempotent producer has no id for half a second.
_OF_NO_RUN = _STAMP.pack(0, 0, 0.0) + _FILLER


def _properties(place: Place) -> dict[str, Any]:
    # The embedded broker lets an empty fetch wait to its end, also when a message comes meanwhile: what is
    # measured would be that, and not what the clients add.
    return {"fetch.wait.max.ms": 2} if place.kind == "embedded" else {}


def _configs(place: Place) -> tuple[ProducerConfig, ConsumerGroupConfig]:
    return (
        ProducerConfig(place.broker_addrs, place.topic),
        ConsumerGroupConfig(
            place.broker_addrs,
            place.topic,
            place.new_group(),
            offset=Offset.NEWEST,
            librdkafka=_properties(place),
        ),
    )


def _send_steadily(send: Callable[[bytes], None], arrivals: _Arrivals) -> None:
    """RATE messages a second, each at its time."""
    began = time.perf_counter()
    for number in range(arrivals.messages):
        wait = began + number / RATE - time.perf_counter()
        if wait > 0:
            time.sleep(wait)
        send(arrivals.value(number))


def ours(place: Place) -> Result:
    """send_bytes() to the handler."""
    arrivals = _Arrivals(int(RATE * place.seconds(SECONDS)))
    producing, consuming = _configs(place)

    def handler(_worker_id: int, message: Message) -> None:
        arrivals.arrived(message.data)

    with Producer(producing) as producer, ConsumerGroup(consuming) as group:
        group.register_handler(handler)
        group.start()
        if not group.state_wait(State.CONSUMING, PATIENCE):
            raise TimeoutError("no assignment came")
        headers = [(TRACE_ID_HEADER, "bench")]
        producer.send_bytes(_OF_NO_RUN, headers=headers)
        producer.flush(PATIENCE)
        _send_steadily(lambda value: producer.send_bytes(value, headers=headers), arrivals)
        return arrivals.result()


@contextlib.contextmanager
def _running(target: Callable[[threading.Event], None]) -> Iterator[None]:
    over = threading.Event()
    thread = threading.Thread(target=target, args=(over,))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def plain(place: Place) -> Result:
    """produce() with a poll thread, to poll() and store_offsets()."""
    arrivals = _Arrivals(int(RATE * place.seconds(SECONDS)))
    producing, consuming = _configs(place)
    producer = PlainProducer(producer_properties(producing))
    client = Consumer(
        {**consumer_properties(consuming), "enable.auto.commit": True, "auto.commit.interval.ms": 50}
    )
    assigned = threading.Event()

    def reports(over: threading.Event) -> None:
        while not over.is_set():
            producer.poll(0.05)

    def consume(over: threading.Event) -> None:
        client.subscribe([place.topic], on_assign=lambda *_: assigned.set())
        while not over.is_set():
            message = client.poll(0.1)
            if message is None:
                continue
            if message.error():
                raise RuntimeError(str(message.error()))
            arrivals.arrived(message.value())
            client.store_offsets(message=message)
        client.close()

    def reported(error: Any, _message: Any) -> None:
        if error is not None:
            raise RuntimeError(str(error))

    with _running(consume), _running(reports):
        if not assigned.wait(PATIENCE):
            raise TimeoutError("no assignment came")
        headers: Any = [(TRACE_ID_HEADER, "bench")]
        producer.produce(place.topic, _OF_NO_RUN, headers=headers, on_delivery=reported)
        producer.flush(PATIENCE)
        _send_steadily(
            lambda value: producer.produce(place.topic, value, headers=headers, on_delivery=reported),
            arrivals,
        )
        result = arrivals.result()
        producer.flush(PATIENCE)
    return result
