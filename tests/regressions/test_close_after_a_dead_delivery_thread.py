"""`close()` of a producer waited for ever for its output thread, which waited for room that nobody made.

The delivery thread had died, with librdkafka's queue full and messages in the output channel.
"""

from __future__ import annotations

from typing import Any

from dp_kafka import BytesMessage, ClosedError
from tests.conftest import ProducerFactory, TopicFactory
from tests.looking import eventually
from tests.sending import PLAIN, Breakable, Outcomes
from tests.waiting import PATIENCE, in_thread

#: How many messages librdkafka's queue takes, and how many are put.
ROOM, PUT = 5, 20


def test_close_gives_up_what_cannot_be_sent_once_the_delivery_thread_is_dead(
    topic: TopicFactory, producer: ProducerFactory
) -> None:
    clients: list[Breakable] = []

    def factory(properties: dict[str, Any]) -> Breakable:
        clients.append(Breakable(properties))
        return clients[-1]

    # What is in the queue stays there, so that it is full.
    full = {**PLAIN, "queue.buffering.max.messages": ROOM, "linger.ms": 1_000 * int(PATIENCE)}
    made = producer(topic(), client_factory=factory, librdkafka=full)
    outcomes = Outcomes()
    for _ in range(PUT):
        made.channels.output.put(BytesMessage(b"v", on_delivery=outcomes.outcome))
    eventually(lambda: made.channels.output.unfinished_tasks, PUT - ROOM)
    clients[0].broken.set()
    assert in_thread(made.close).result(PATIENCE) == PUT
    assert [type(error) for error, _ in outcomes.items] == [ClosedError] * (PUT - ROOM)
