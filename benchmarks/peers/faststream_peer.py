"""FastStream's confluent broker: an asyncio framework over confluent-kafka."""

from __future__ import annotations

import asyncio
import logging
from typing import Annotated

from faststream import AckPolicy, Context
from faststream.confluent import KafkaBroker

from benchmarks.job import PATIENCE, Job, payload
from benchmarks.pairs import Clock, Result
from benchmarks.place import Place

__all__ = ["consume", "produce"]


def _broker(place: Place) -> KafkaBroker:
    return KafkaBroker(place.broker_addrs, acks="all", linger_ms=5, logger=None, log_level=logging.ERROR)


def produce(place: Place, messages: int) -> Result:
    """publish() for each message, all awaited together."""

    async def run() -> Result:
        value = payload(place.spec.size)
        async with _broker(place) as broker:
            clock = Clock()
            await asyncio.gather(
                *(
                    broker.publish(value, place.topic, headers={"request-id": "bench"})
                    for _ in range(messages)
                )
            )
            return clock.stop(messages)

    return asyncio.run(asyncio.wait_for(run(), PATIENCE))


def consume(place: Place, messages: int) -> Result:
    """A subscriber of single messages, each acknowledged after its handler: that is a commit."""

    async def run() -> Result:
        job = Job(messages)
        over = asyncio.Event()
        broker = _broker(place)

        @broker.subscriber(
            place.topic, group_id=place.new_group(), auto_offset_reset="earliest", ack_policy=AckPolicy.ACK
        )
        async def handler(body: Annotated[bytes, Context("message.body")]) -> None:
            job(body)
            if job.done.is_set():
                over.set()

        async with broker:
            await broker.start()
            await over.wait()
            return job.result()

    return asyncio.run(asyncio.wait_for(run(), PATIENCE))
