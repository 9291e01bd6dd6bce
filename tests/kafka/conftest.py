"""Real Kafka for tests: a cluster for the session, topics for each test, and the marker of such tests."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import pytest

from dp_kafka.admin import list_topics, new_admin

from .apache import ApacheKafka, ExternalKafka, artifacts

_HERE = Path(__file__).parent
#: Seconds for a test that may have to start a cluster first.
_TIMEOUT = 180


class TopicFactory(Protocol):
    """Creates a topic of a unique name, and returns the name."""

    def __call__(self, partitions: int = 1, **config: str) -> str: ...


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks what stands below this directory; without ``-m kafka`` it is skipped, since brokers take time."""
    chosen = "kafka" in config.option.markexpr
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.kafka)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(_TIMEOUT))
            if not chosen:
                item.add_marker(pytest.mark.skip(reason="needs Apache Kafka: run with -m kafka"))


def need_brokers() -> None:
    """Skips the test where brokers cannot be started; in CI, where they must be, it fails."""
    missing = artifacts.missing()
    if missing is not None:
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)


def known_everywhere(broker_addrs: Sequence[str], topic: str) -> bool:
    """Whether every broker knows a topic: after its creation they hear of it one after the other."""
    admins = [new_admin([address]) for address in broker_addrs]
    return all(topic in [each.name for each in list_topics(admin)] for admin in admins)


@pytest.fixture(scope="session")
def apache_kafka() -> Iterator[ApacheKafka | ExternalKafka]:
    """Three brokers with plaintext listeners; the cluster of KAFKA_ADDR, if that is set."""
    if addresses := os.environ.get("KAFKA_ADDR"):
        yield ExternalKafka(addresses.split(","))
        return
    need_brokers()
    with ApacheKafka(brokers=3) as kafka:
        yield kafka


@pytest.fixture(scope="session")
def secured_kafka() -> Iterator[ApacheKafka]:
    """One broker with TLS, SASL and an authorizer; always the tests' own, whatever KAFKA_ADDR says."""
    need_brokers()
    with ApacheKafka(tls=True, sasl=True, authorizer=True) as kafka:
        yield kafka


@pytest.fixture
def kafka_topic(apache_kafka: ApacheKafka | ExternalKafka) -> TopicFactory:
    """Creates topics on the session's cluster: ``kafka_topic(partitions=3)`` gives the new topic's name."""

    def create(partitions: int = 1, **config: str) -> str:
        name = f"test-{uuid.uuid4().hex[:12]}"
        settings = {key.replace("_", "."): value for key, value in config.items()}
        apache_kafka.create_topic(name, partitions, config=settings)
        return name

    return create
