"""What is sent can be followed to its handler, and counted, on each kind of Kafka."""

from __future__ import annotations

import threading

from dp_kafka import BytesMessage, ConsumerGroupConfig, Message, RetryPolicy
from dp_kafka.tracing import names
from tests.scenarios.conftest import Kafka
from tests.telemetry import Telemetry, attributes, id_of, linked, parent_of
from tests.waiting import PATIENCE, Collected

PARTITIONS = 3
MESSAGES = 60


def test_each_message_is_one_trace_from_its_send_to_its_handler(kafka: Kafka, telemetry: Telemetry) -> None:
    """60 messages by send and by the output channel, 3 partitions, 2 workers; every tenth fails once."""
    topic = kafka.create_topic(PARTITIONS)
    handled: Collected[bytes | None] = Collected()

    def handler(worker_id: int, message: Message) -> None:
        if message.data in (b"0", b"10", b"20", b"30", b"40", b"50") and message.attempt == 1:
            raise ValueError("the first time")
        handled.add(message.data)

    config = ConsumerGroupConfig(
        kafka.broker_addrs,
        topic,
        topic,
        num_workers=2,
        otel_enabled=True,
        retry=RetryPolicy(min_period=0.01, max_period=0.02),
    )
    with kafka.group(config) as group, kafka.producer(topic, otel_enabled=True) as producer:
        group.register_handler(handler)
        group.start()
        for number in range(MESSAGES):
            if number % 2:
                producer.send_bytes(b"%d" % number, partition=number % PARTITIONS)
            else:
                producer.channels.output.put(BytesMessage(b"%d" % number, partition=number % PARTITIONS))
        assert producer.flush(PATIENCE) == 0
        handled.wait(MESSAGES, 3 * PATIENCE)
        assert group.stop_and_wait(20)
    sent = {
        (attributes(span)[names.PARTITION], attributes(span)[names.OFFSET]): id_of(span)
        for span in telemetry.spans(topic, "send", MESSAGES)
    }
    assert len(sent) == MESSAGES
    processed = telemetry.spans(topic, "process", MESSAGES + 6)
    for span in processed:
        of_message = sent[attributes(span)[names.PARTITION], attributes(span)[names.OFFSET]]
        assert parent_of(span) == of_message
        assert linked(span) == [of_message]
    assert sum("error.type" in attributes(span) for span in processed) == 6
    assert telemetry.total(names.SENT_MESSAGES, topic) == MESSAGES
    assert telemetry.total(names.CONSUMED_MESSAGES, topic) == MESSAGES


def test_the_lag_is_what_is_not_committed(kafka: Kafka, telemetry: Telemetry) -> None:
    """Five messages, two of them handled, while the third one's handler is at work."""
    topic = kafka.create_topic(1)
    allowed = threading.Semaphore(2)
    config = ConsumerGroupConfig(
        kafka.broker_addrs,
        topic,
        topic,
        otel_enabled=True,
        librdkafka={**kafka.protocol, "statistics.interval.ms": 20},
    )

    def handler(worker_id: int, message: Message) -> None:
        assert allowed.acquire(timeout=3 * PATIENCE)

    def lag() -> list[int]:
        return [point.value for point in telemetry.measured(names.CONSUMER_LAG, topic)]

    def becomes(wanted: list[int]) -> bool:
        # Nothing tells that a metric has changed: it has to be asked.
        pause = threading.Event()
        return any(lag() == wanted or pause.wait(0.02) for _ in range(int(PATIENCE / 0.02)))

    with kafka.producer(topic) as producer:
        for _ in range(5):
            producer.send_bytes(b"a")
        assert producer.flush(PATIENCE) == 0
    with kafka.group(config) as group:
        group.register_handler(handler)
        group.start()
        try:
            assert becomes([3]), lag()
        finally:
            allowed.release(3)
        assert becomes([0]), lag()
        assert group.stop_and_wait(20)
        assert lag() == []
