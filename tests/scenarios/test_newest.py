"""A group that starts at the end of a topic: from its first assignment on it passes over nothing."""

from __future__ import annotations

from dp_kafka import ConsumerGroupConfig, HandlerError, Message, Offset
from tests.scenarios.conftest import Kafka
from tests.waiting import PATIENCE, Collected, consuming


def test_what_failed_before_the_first_commit_comes_again_after_a_restart(kafka: Kafka) -> None:
    topic = kafka.create_topic()
    with kafka.producer(topic) as producer:
        for value in (b"old", b"old"):
            producer.send_bytes(value, timeout=PATIENCE)
        assert producer.flush(PATIENCE) == 0
        config = ConsumerGroupConfig(
            kafka.broker_addrs, topic, topic, offset=Offset.NEWEST, librdkafka=kafka.protocol
        )
        handled: Collected[bytes | None] = Collected()

        def handle(_worker: int, message: Message) -> None:
            handled.add(message.data)
            if len(handled.items) == 1:
                raise HandlerError("not yet", commit=False)

        with kafka.group(config) as group:
            group.register_handler(handle)
            consuming(group)
            producer.send_bytes(b"new")
            handled.wait(1)
            assert group.stop_and_wait(PATIENCE)
            assert kafka.committed(topic, 1) == {0: 2}
            producer.send_bytes(b"newer")
            assert producer.flush(PATIENCE) == 0
            group.start()
            assert handled.wait(3, 2 * PATIENCE) == [b"new", b"new", b"newer"]
