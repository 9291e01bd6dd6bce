"""kafka-python: pure Python, with a sender thread of its own."""

from __future__ import annotations

from kafka import KafkaConsumer, KafkaProducer

from benchmarks.job import PATIENCE, Job, payload
from benchmarks.pairs import Clock, Result
from benchmarks.place import Place

__all__ = ["consume", "produce"]

_HEADERS = [("request-id", b"bench")]


def produce(place: Place, messages: int) -> Result:
    """send() with a callback for each message, then flush()."""
    value = payload(place.spec.size)
    producer = KafkaProducer(bootstrap_servers=place.broker_addrs, acks="all", linger_ms=5)
    delivered: list[int] = []
    failures: list[BaseException] = []
    clock = Clock()
    for _ in range(messages):
        future = producer.send(place.topic, value, headers=_HEADERS)
        future.add_callback(lambda _metadata: delivered.append(1))
        future.add_errback(failures.append)
    producer.flush(timeout=PATIENCE)
    result = clock.stop(messages)
    producer.close()
    if failures or len(delivered) != messages:
        raise RuntimeError(f"{len(delivered)} of {messages} delivered, failures {failures[:3]}")
    return result


def consume(place: Place, messages: int) -> Result:
    """Iterate; the position is committed in the background, every 50 ms."""
    job = Job(messages)
    consumer = KafkaConsumer(
        place.topic,
        bootstrap_servers=place.broker_addrs,
        group_id=place.new_group(),
        auto_offset_reset="earliest",
        enable_auto_commit=True,
        auto_commit_interval_ms=50,
        consumer_timeout_ms=int(PATIENCE * 1000),
    )
    for message in consumer:
        job(message.value)
        if job.done.is_set():
            break
    result = job.result()
    consumer.close()
    return result
