"""`--embedded`: a Kafka broker in the example's own process, so that it can be tried alone."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
from collections.abc import Iterator

from dp_kafka import KafkaSettings, Producer
from dp_kafka.kafkatest import EmbeddedCluster

PARTITIONS = 3
MESSAGES = 10


@contextlib.contextmanager
def settings_for(description: str) -> Iterator[tuple[KafkaSettings, bool]]:
    """The settings of the environment, and whether `--embedded` was given; then their brokers are our own."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--embedded", action="store_true", help="use a Kafka broker inside this process")
    embedded = parser.parse_args().embedded
    settings = KafkaSettings.from_env()
    if not embedded:
        yield settings, False
        return
    with EmbeddedCluster() as cluster:
        for topic in {settings.produced_topic, settings.consumed_topic}:
            cluster.create_topic(topic, partitions=PARTITIONS)
        print(f"Kafka runs in this process: KAFKA_ADDR={cluster.bootstrap_servers}", file=sys.stderr)
        yield dataclasses.replace(settings, broker_addrs=tuple(cluster.broker_addrs), tls=False), True


def feed(settings: KafkaSettings) -> None:
    """Send a few messages for a consumer to consume."""
    with Producer(settings.producer_config(topic=settings.consumed_topic)) as producer:
        for number in range(1, MESSAGES + 1):
            producer.send_bytes(f"message {number}".encode(), key=f"key-{number}")
