"""The consuming cases, both sides: from the first messages to the last one handled."""

from __future__ import annotations

import time
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from benchmarks.job import PATIENCE, Job
from benchmarks.pairs import Result
from benchmarks.place import Place
from dp_kafka import ConsumerGroup, ConsumerGroupConfig, Message
from dp_kafka.config.rdkafka import consumer_properties

__all__ = ["ours", "ours_batches", "ours_sleeping", "plain", "plain_batches", "plain_commits"]


def config_of(place: Place, **config: Any) -> ConsumerGroupConfig:
    """A configuration with a group of its own."""
    return ConsumerGroupConfig(place.broker_addrs, place.topic, place.new_group(), **config)


def ours(place: Place, messages: int, **config: Any) -> Result:
    """A handler of single messages; what it returns from is committed."""
    job = Job(place.count(messages))

    def handler(_worker_id: int, message: Message) -> None:
        job(message.data)

    with ConsumerGroup(config_of(place, **config)) as group:
        group.register_handler(handler)
        group.start()
        return job.result()


def ours_batches(place: Place, messages: int, size: int, **config: Any) -> Result:
    """A handler of batches."""
    job = Job(place.count(messages))

    def handler(batch: list[Message]) -> None:
        for message in batch:
            job(message.data)

    with ConsumerGroup(config_of(place, batch_size=size, **config)) as group:
        group.register_batch_handler(handler)
        group.start()
        return job.result()


def ours_sleeping(place: Place, messages: int, seconds: float, workers: int) -> Result:
    """A handler that waits for something else, as for a database."""
    job = Job(place.count(messages))

    def handler(_worker_id: int, message: Message) -> None:
        time.sleep(seconds)
        job(message.data)

    with ConsumerGroup(config_of(place, num_workers=workers)) as group:
        group.register_handler(handler)
        group.start()
        return job.result()


def plain_properties(config: ConsumerGroupConfig, **properties: Any) -> dict[str, Any]:
    """librdkafka's settings of the same configuration, with the commits that the plain loop has."""
    return {**consumer_properties(config), **properties}


def _subscribed(place: Place, **properties: Any) -> Consumer:
    client = Consumer(plain_properties(config_of(place), **properties))
    client.subscribe([place.topic])
    return client


def plain(place: Place, messages: int) -> Result:
    """poll() and store_offsets(); librdkafka commits what is stored, as often as our side does."""
    job = Job(place.count(messages))
    client = _subscribed(place, **{"enable.auto.commit": True, "auto.commit.interval.ms": 50})
    deadline = time.monotonic() + PATIENCE
    try:
        while not job.done.is_set():
            message = client.poll(0.1)
            if message is None:
                _look_at(deadline)
                continue
            if message.error():
                raise RuntimeError(str(message.error()))
            job(message.value())
            client.store_offsets(message=message)
        return job.result()
    finally:
        client.close()


def plain_batches(place: Place, messages: int, size: int) -> Result:
    """consume(size) and one store_offsets() with the position of each partition in the batch."""
    job = Job(place.count(messages))
    client = _subscribed(place, **{"enable.auto.commit": True, "auto.commit.interval.ms": 50})
    topic = place.topic
    deadline = time.monotonic() + PATIENCE
    try:
        while not job.done.is_set():
            batch = client.consume(size, 0.2)
            if not batch:
                _look_at(deadline)
                continue
            positions: dict[int, int] = {}
            for message in batch:
                if message.error():
                    raise RuntimeError(str(message.error()))
                job(message.value())
                positions[message.partition() or 0] = (message.offset() or 0) + 1
            client.store_offsets(
                offsets=[TopicPartition(topic, p, offset) for p, offset in positions.items()]
            )
        return job.result()
    finally:
        client.close()


def plain_commits(place: Place, messages: int) -> Result:
    """poll() and commit(asynchronous=False) of each message."""
    job = Job(place.count(messages))
    client = _subscribed(place)
    deadline = time.monotonic() + PATIENCE
    try:
        while not job.done.is_set():
            message = client.poll(0.1)
            if message is None:
                _look_at(deadline)
                continue
            if message.error():
                raise RuntimeError(str(message.error()))
            job(message.value())
            client.commit(message=message, asynchronous=False)
        return job.result()
    finally:
        client.close()


def _look_at(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError(f"no end of the messages within {PATIENCE:g} seconds")
