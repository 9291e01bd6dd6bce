"""The pytest plugin: fixtures that make clients for a test, and close them and look for leftovers after it.

It is there wherever dp_kafka is installed. `@pytest.mark.kafkatest(…)` on a test, a class or a module says
how the fixtures make what they make; tests of services need no more than that. Its keywords:

- `partitions`: of the test's topic; 1 by default.
- `consumer`: fields of the ConsumerGroupConfig of `kafka_consumer` and `fake_consumer`, as a dict.
- `producer`: fields of the ProducerConfig of `kafka_producer` and `fake_producer`, as a dict.
- `codec`: of the consumers.
- `all_committed`: True fails a test after which a message of its consumer's topic is not committed.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from dp_kafka.consumer.group import ConsumerGroup
    from dp_kafka.kafkatest.consumer import Consumer
    from dp_kafka.kafkatest.embedded import EmbeddedCluster
    from dp_kafka.kafkatest.producer import Producer as FakeProducer
    from dp_kafka.producer.producer import Producer

__all__ = [
    "fake_consumer",
    "fake_producer",
    "kafka_cluster",
    "kafka_consumer",
    "kafka_leftovers",
    "kafka_producer",
    "kafka_topic",
]

# The library is imported by the fixtures: most runs of pytest where it is installed use none of them.

_MARK = "kafkatest"
_DEFAULTS: dict[str, Any] = {
    "partitions": 1,
    "consumer": {},
    "producer": {},
    "codec": None,
    "all_committed": False,
}
#: Seconds that closing a client may take before it counts as a leftover.
_CLOSE_SECONDS = 10.0
#: Seconds in which threads that end by themselves have to.
_THREAD_SECONDS = 5.0
#: Where fakes are configured to be; nobody asks for anything there.
_NOBODY = ("localhost:9092",)


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known to --strict-markers."""
    config.addinivalue_line(
        "markers",
        f"{_MARK}(partitions=1, consumer={{}}, producer={{}}, codec=None, all_committed=False): how the "
        "fixtures of dp_kafka make this test's topic and clients",
    )


@pytest.fixture
def kafka_leftovers() -> Iterator[None]:
    """Fails a test after which a thread of dp_kafka still runs that was not there before.

    The fixtures of clients use it; a test that makes clients itself can ask for it.
    """
    from dp_kafka.kafkatest.leftovers import library_threads, threads_left

    before = library_threads()
    yield
    left = threads_left(before, _THREAD_SECONDS)
    if left:
        pytest.fail(f"the test left threads of dp_kafka behind: {', '.join(left)}", pytrace=False)


@pytest.fixture(scope="session")
def kafka_cluster() -> Iterator[EmbeddedCluster]:
    """An embedded broker for all tests of the session (of each process, with pytest-xdist).

    A test that takes it down, or injects errors, makes an EmbeddedCluster of its own.
    """
    from dp_kafka.kafkatest.embedded import EmbeddedCluster

    with EmbeddedCluster() as cluster:
        yield cluster


@pytest.fixture
def kafka_topic(kafka_cluster: EmbeddedCluster, request: pytest.FixtureRequest) -> str:
    """A topic of the test's own on the embedded broker; its name."""
    name = _fresh("topic")
    kafka_cluster.create_topic(name, _option(request, "partitions"))
    return name


@pytest.fixture
def kafka_producer(
    kafka_leftovers: None,  # noqa: ARG001
    kafka_cluster: EmbeddedCluster,
    kafka_topic: str,
    request: pytest.FixtureRequest,
) -> Iterator[Producer]:
    """A Producer of the test's topic; whatever was sent is delivered before it is closed."""
    from dp_kafka.config import ProducerConfig
    from dp_kafka.producer.producer import Producer

    fields = {"broker_addrs": kafka_cluster.broker_addrs, "topic": kafka_topic}
    yield from _closed(request, lambda: Producer(ProducerConfig(**fields | _option(request, "producer"))))


@pytest.fixture
def kafka_consumer(
    kafka_leftovers: None,  # noqa: ARG001
    kafka_cluster: EmbeddedCluster,
    kafka_topic: str,
    request: pytest.FixtureRequest,
) -> Iterator[ConsumerGroup]:
    """A ConsumerGroup of the test's topic, in a group of its own; not started."""
    from dp_kafka.config import ConsumerGroupConfig
    from dp_kafka.consumer.group import ConsumerGroup
    from dp_kafka.kafkatest.leftovers import uncommitted

    fields = {
        "broker_addrs": kafka_cluster.broker_addrs,
        "topic": kafka_topic,
        "group_name": _fresh("group"),
        # In the classic protocol the embedded broker makes who joins again wait for a session timeout.
        "librdkafka": {
            "fetch.wait.max.ms": 10,
            **({"group.protocol": "consumer"} if kafka_cluster.has_consumer_protocol else {}),
        },
    }
    config = ConsumerGroupConfig(**fields | _option(request, "consumer"))

    def left() -> dict[int, int]:
        return uncommitted(kafka_cluster.bootstrap_servers, config.group_name, config.topic)

    yield from _closed(request, lambda: ConsumerGroup(config, codec=_option(request, "codec")), left)


@pytest.fixture
def fake_consumer(
    kafka_leftovers: None,  # noqa: ARG001
    request: pytest.FixtureRequest,
) -> Iterator[Consumer]:
    """A `kafkatest.Consumer`: a ConsumerGroup without a broker; not started."""
    from dp_kafka.config import ConsumerGroupConfig
    from dp_kafka.kafkatest.consumer import Consumer

    fields = {"broker_addrs": _NOBODY, "topic": "test-topic", "group_name": "test-group"}
    config = ConsumerGroupConfig(**fields | _option(request, "consumer"))
    made: list[Consumer] = []

    def make() -> Consumer:
        made.append(
            Consumer(config, codec=_option(request, "codec"), partitions=_option(request, "partitions"))
        )
        return made[0]

    yield from _closed(request, make, lambda: made[0].uncommitted)


@pytest.fixture
def fake_producer(
    kafka_leftovers: None,  # noqa: ARG001
    request: pytest.FixtureRequest,
) -> Iterator[FakeProducer]:
    """A `kafkatest.Producer`: a Producer without a broker."""
    from dp_kafka.config import ProducerConfig
    from dp_kafka.kafkatest.producer import Producer

    fields = {"broker_addrs": _NOBODY, "topic": "test-topic"}
    config = ProducerConfig(**fields | _option(request, "producer"))
    yield from _closed(request, lambda: Producer(config, partitions=_option(request, "partitions")))


def _closed(
    request: pytest.FixtureRequest,
    make: Callable[[], Any],
    uncommitted: Callable[[], dict[int, int]] | None = None,
) -> Iterator[Any]:
    """Make a client, give it to the test, close it, and fail the test for messages that are left."""
    client = make()
    yield client
    problems = []
    left = client.close(timeout=_CLOSE_SECONDS)
    if left:
        problems.append(f"{client!r} closed with {left} messages left in it")
    if uncommitted is not None and _option(request, "all_committed"):
        count = uncommitted()
        if count:
            problems.append(f"{client!r} left messages uncommitted, by partition: {count}")
    if problems:
        pytest.fail("; ".join(problems), pytrace=False)


def _option(request: pytest.FixtureRequest, name: str) -> Any:
    """What the nearest mark that has the keyword says; else the default."""
    for mark in request.node.iter_markers(_MARK):
        unknown = mark.kwargs.keys() - _DEFAULTS.keys()
        if unknown or mark.args:
            raise pytest.UsageError(
                f"@pytest.mark.{_MARK} takes the keywords {', '.join(_DEFAULTS)}; found "
                f"{', '.join(sorted(unknown)) or 'arguments without a keyword'}"
            )
        if name in mark.kwargs:
            return mark.kwargs[name]
    return _DEFAULTS[name]


def _fresh(kind: str) -> str:
    return f"{kind}-{uuid.uuid4().hex[:12]}"
