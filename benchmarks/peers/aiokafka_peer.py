"""aiokafka: asyncio, with a record parser in C."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks.job import PATIENCE, Job, payload
from benchmarks.pairs import Clock, Result
from benchmarks.place import Place

__all__ = ["consume", "produce"]

_HEADERS = [("request-id", b"bench")]


def produce(place: Place, messages: int) -> Result:
    """send() for each message, and every future awaited."""

    async def run() -> Result:
        value = payload(place.spec.size)
        producer = AIOKafkaProducer(bootstrap_servers=place.broker_addrs, acks="all", linger_ms=5)
        await producer.start()
        try:
            clock = Clock()
            futures = [await producer.send(place.topic, value, headers=_HEADERS) for _ in range(messages)]
            await asyncio.gather(*futures)
            return clock.stop(messages)
        finally:
            await producer.stop()

    return asyncio.run(asyncio.wait_for(run(), PATIENCE))


def consume(place: Place, messages: int) -> Result:
    """Iterate; the position is committed in the background, every 50 ms."""

    async def run() -> Result:
        job = Job(messages)
        consumer = AIOKafkaConsumer(
            place.topic,
            bootstrap_servers=place.broker_addrs,
            group_id=place.new_group(),
            auto_offset_reset="earliest",
            enable_auto_commit=True,
            auto_commit_interval_ms=50,
        )
        await consumer.start()
        try:
            async for message in consumer:
                job(message.value)
                if job.done.is_set():
                    break
            return job.result()
        finally:
            await consumer.stop()

    return asyncio.run(asyncio.wait_for(run(), PATIENCE))
