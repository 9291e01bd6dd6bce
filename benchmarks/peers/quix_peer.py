"""Quix Streams: a stream-processing framework over confluent-kafka."""

from __future__ import annotations

import tempfile
import threading

from quixstreams import Application

from benchmarks.job import PATIENCE, Job, payload
from benchmarks.pairs import Clock, Result
from benchmarks.place import Place

__all__ = ["consume", "produce"]


def _application(place: Place) -> Application:
    return Application(
        broker_address=",".join(place.broker_addrs),
        consumer_group=place.new_group(),
        auto_offset_reset="earliest",
        commit_interval=0.05,
        loglevel="ERROR",
        # Else it makes a directory here for each group.
        state_dir=tempfile.gettempdir(),
        producer_extra_config={"acks": "all", "enable.idempotence": True, "linger.ms": 5},
        auto_create_topics=False,
    )


def produce(place: Place, messages: int) -> Result:
    """Its producer, with a delivery callback for each message."""
    value = payload(place.spec.size)
    delivered: list[object] = []
    with _application(place).get_producer() as producer:
        clock = Clock()
        for _ in range(messages):
            producer.produce(
                place.topic,
                value,
                headers={"request-id": "bench"},
                on_delivery=lambda error, _message: delivered.append(error),
            )
            producer.poll(0)
        producer.flush(PATIENCE)
        result = clock.stop(messages)
    if len(delivered) != messages or any(delivered):
        raise RuntimeError(f"{len(delivered)} of {messages} delivered")
    return result


def consume(place: Place, messages: int) -> Result:
    """An application whose dataframe hands each value to a function; checkpoints every 50 ms."""
    job = Job(messages)
    application = _application(place)
    topic = application.topic(place.topic, value_deserializer="bytes")

    def handle(value: bytes) -> None:
        job(value)
        if job.done.is_set():
            application.stop()

    application.dataframe(topic).update(handle)
    guard = threading.Timer(PATIENCE, application.stop)
    guard.start()
    try:
        application.run()
    finally:
        guard.cancel()
    return job.result()
