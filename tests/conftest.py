"""What tests share: the embedded cluster, topics, clients that are closed, and the watch over threads."""

from __future__ import annotations

import contextlib
import logging
import threading
import uuid
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import confluent_kafka
import hypothesis
import pytest

from dp_kafka import ConsumerGroup, ConsumerGroupConfig, Message, Producer, ProducerConfig
from dp_kafka.kafkatest import EmbeddedCluster
from tests.dealing import dealt
from tests.sending import ready
from tests.telemetry import Telemetry
from tests.waiting import PATIENCE, Logged, consuming

# No deadline: how long an example takes says more about the machine than about the library.
hypothesis.settings.register_profile("dp_kafka", deadline=None, max_examples=60)
hypothesis.settings.load_profile("dp_kafka")
# That an example fails is all that `make mutants` asks; to look for a smaller one takes most of the time.
hypothesis.settings.register_profile(
    "mutants", hypothesis.settings(), phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate]
)


# Tests of the pytest plugin run pytest inside of a test.
pytest_plugins = ["pytester"]

#: Client properties of the classic group protocol, in which every rebalance takes the whole assignment away.
#: Members hear of rebalances by heartbeats, and the embedded broker answers a fetch when its time is up.
CLASSIC = {"heartbeat.interval.ms": 100, "fetch.wait.max.ms": 10}
#: Those of classic members that rebalance, with sessions of 3 s. The embedded broker answers who joins again
#: a second before its session would end: if the process stood still for that second, it throws the member
#: out and never answers. librdkafka asks again 3 s after this interval, by default in five minutes.
REJOINING = {**CLASSIC, "max.poll.interval.ms": 4_000}
#: Those of the newer one (KIP-848), in which partitions come and go one by one.
INCREMENTAL = {"group.protocol": "consumer", "fetch.wait.max.ms": 10}


class TopicFactory(Protocol):
    """Makes a topic of a fresh name on the session's cluster, and returns the name."""

    def __call__(self, partitions: int = 1) -> str: ...


class GroupFactory(Protocol):
    """Makes a ConsumerGroup on the session's cluster; the test's end closes it."""

    def __call__(
        self, topic: str, *, client_factory: Callable[[dict[str, Any]], Any] | None = None, **config: Any
    ) -> ConsumerGroup: ...


class ProducerFactory(Protocol):
    """Makes a Producer on the session's cluster; the test's end closes it."""

    def __call__(
        self, topic: str, *, client_factory: Callable[[dict[str, Any]], Any] | None = None, **config: Any
    ) -> Producer: ...


class SendFunction(Protocol):
    """Puts values into a topic, and returns once the broker has them all."""

    def __call__(
        self,
        topic: str,
        *values: bytes | str | None,
        partition: int = 0,
        key: bytes | str | None = None,
        headers: list[tuple[str, str | bytes | None]] | None = None,
    ) -> None: ...


class TakeFunction(Protocol):
    """Takes the next message of a group that has no handler."""

    def __call__(self, group: ConsumerGroup) -> Message: ...


@dataclass(frozen=True)
class Reading:
    """A topic, and a group of it that consumes without a handler: the test itself takes the messages."""

    topic: str
    group: ConsumerGroup
    #: Takes the next message.
    take: Callable[[], Message]
    #: The offset that the group has committed, of partition 0 or the one that is given.
    committed: Callable[..., int | None]


class ReadingFactory(Protocol):
    """Makes a topic that has the values in each of its partitions, and a group that reads it."""

    def __call__(
        self,
        *values: bytes | str | None,
        partitions: int = 1,
        headers: list[tuple[str, str | bytes | None]] | None = None,
        **config: Any,
    ) -> Reading: ...


class CommittedFunction(Protocol):
    """The offset that a group has committed on the broker for a partition; None if it has none."""

    def __call__(self, group: str, topic: str, partition: int = 0) -> int | None: ...


class CommittedAfterFunction(Protocol):
    """The offset that is committed after the handler of the only message, a single or a batch one, raised."""

    def __call__(self, kind: str, raised: BaseException | None) -> int | None: ...


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With pytest-xdist reports travel as UTF-8, which a log that some tests provoke can't be."""
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections
    ]
    return report


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Each process of pytest-xdist begins with its part of what takes long; without it the order stays."""
    if hasattr(config, "workerinput"):
        shares = config.workerinput["workercount"]
        items[:] = dealt(items, lambda item: item.get_closest_marker("early"), shares)


@pytest.fixture(autouse=True)
def no_thread_left_behind(kafka_leftovers: None) -> None:
    """Every test is watched, as users' are with the fixtures of the pytest plugin.

    Autouse fixtures begin first and so end last: whatever other fixtures close is closed by then.
    """


@pytest.fixture(scope="session")
def cluster(kafka_cluster: EmbeddedCluster) -> EmbeddedCluster:
    """The plugin's broker, one for all tests; take down and inject only on `own_cluster`."""
    return kafka_cluster


@pytest.fixture
def own_cluster() -> Iterator[EmbeddedCluster]:
    """One embedded broker of the test's own, to take down, to slow down, and to inject errors into."""
    with EmbeddedCluster() as embedded:
        yield embedded


@pytest.fixture
def topic(cluster: EmbeddedCluster) -> TopicFactory:
    """Makes topics: `topic(partitions=3)` gives the new one's name."""

    def create(partitions: int = 1) -> str:
        name = f"test-{uuid.uuid4().hex[:12]}"
        cluster.create_topic(name, partitions)
        return name

    return create


@pytest.fixture
def consumer_group(cluster: EmbeddedCluster) -> Iterator[GroupFactory]:
    """Makes consumer groups of unique names: `consumer_group(topic, num_workers=4)`.

    `broker_addrs` and `group_name` may be given among the configuration's fields. `librdkafka=INCREMENTAL`
    makes rebalances, and starts after a stop, quick: with the classic protocol the embedded broker takes
    `message_consume_timeout` less one second for each.
    """
    with contextlib.ExitStack() as stack:

        def create(
            topic: str, *, client_factory: Callable[[dict[str, Any]], Any] | None = None, **config: Any
        ) -> ConsumerGroup:
            there = client_factory is None and "broker_addrs" not in config
            config.setdefault("broker_addrs", cluster.broker_addrs)
            config.setdefault("group_name", f"group-{uuid.uuid4().hex[:12]}")
            config.setdefault("librdkafka", CLASSIC)
            more: dict[str, Any] = {} if client_factory is None else {"client_factory": client_factory}
            group = ConsumerGroup(ConsumerGroupConfig(topic=topic, **config), **more)
            stack.callback(group.close, timeout=PATIENCE / 3)
            return ready(group) if there else group

        yield create


@pytest.fixture
def take(consumer_group: GroupFactory) -> Iterator[TakeFunction]:
    """Takes messages from upstream; what the test holds at its end is let go, else closing waits for it."""
    taken: list[Message] = []

    def take_next(group: ConsumerGroup) -> Message:
        taken.append(group.channels.upstream.get(timeout=PATIENCE))
        return taken[-1]

    yield take_next
    for message in taken:
        message.release()


@pytest.fixture
def producer(cluster: EmbeddedCluster) -> Iterator[ProducerFactory]:
    """Makes producers: `producer(topic, max_message_bytes=1000)`."""
    with contextlib.ExitStack() as stack:

        def create(
            topic: str, *, client_factory: Callable[[dict[str, Any]], Any] | None = None, **config: Any
        ) -> Producer:
            there = client_factory is None and "broker_addrs" not in config
            config.setdefault("broker_addrs", cluster.broker_addrs)
            more: dict[str, Any] = {} if client_factory is None else {"client_factory": client_factory}
            made = Producer(ProducerConfig(topic=topic, **config), **more)
            stack.callback(made.close, timeout=PATIENCE / 3)
            return ready(made) if there else made

        yield create


@pytest.fixture(scope="session")
def plain_producer(cluster: EmbeddedCluster) -> confluent_kafka.Producer:
    """A producer that is none of ours, for what a test of consumers needs in its topic."""
    return confluent_kafka.Producer(
        {"bootstrap.servers": cluster.bootstrap_servers, "linger.ms": 0, "log_level": 0}
    )


@pytest.fixture
def send(plain_producer: confluent_kafka.Producer) -> SendFunction:
    """Puts values into a topic: `send(topic, "a", "b", partition=1)`."""

    def put(
        topic: str,
        *values: bytes | str | None,
        partition: int = 0,
        key: bytes | str | None = None,
        headers: list[tuple[str, str | bytes | None]] | None = None,
    ) -> None:
        for value in values:
            plain_producer.produce(topic, value, key, partition=partition, headers=headers)
        assert plain_producer.flush(PATIENCE) == 0

    return put


@pytest.fixture
def logged() -> Iterator[Logged]:
    """What the library logs during the test: `logged.wait("failed to handle message")`."""
    handler = Logged()
    logger = logging.getLogger("dp_kafka")
    before = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(before)


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    """The spans and metrics of the test: `telemetry.spans(topic, "process", 2)`."""
    found = Telemetry.of_this_process()
    found.clear()
    yield found
    found.clear()


@pytest.fixture
def committed(cluster: EmbeddedCluster) -> CommittedFunction:
    """Asks the broker for a group's offset: `committed(group.group_name, topic)`."""

    def ask(group: str, topic: str, partition: int = 0) -> int | None:
        return committed_offset(cluster, group, topic, partition)

    return ask


@pytest.fixture
def committed_after(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction, committed: CommittedFunction
) -> CommittedAfterFunction:
    """Has one message handled by a handler that raises, and tells the offset that is committed then."""

    def handle(kind: str, raised: BaseException | None) -> int | None:
        name = topic()
        send(name, "a")
        group = consumer_group(name, batch_wait_time=0.01)
        handled = threading.Event()

        def handler(*_: Any) -> None:
            handled.set()
            if raised is not None:
                raise raised

        (group.register_handler if kind == "single" else group.register_batch_handler)(handler)
        group.start()
        assert handled.wait(PATIENCE)
        assert group.stop_and_wait(PATIENCE)
        return committed(group.group_name, name)

    return handle


@pytest.fixture
def reading(
    topic: TopicFactory,
    consumer_group: GroupFactory,
    send: SendFunction,
    take: TakeFunction,
    committed: CommittedFunction,
) -> ReadingFactory:
    """Makes a topic with messages and its reader: `reading("a", "b", partitions=2, commit_interval=0)`."""

    def create(
        *values: bytes | str | None,
        partitions: int = 1,
        headers: list[tuple[str, str | bytes | None]] | None = None,
        **config: Any,
    ) -> Reading:
        name = topic(partitions)
        for partition in range(partitions):
            send(name, *values, partition=partition, headers=headers)
        group = consuming(consumer_group(name, **config))
        return Reading(
            name, group, lambda: take(group), lambda partition=0: committed(group.group_name, name, partition)
        )

    return create


def committed_offset(cluster: EmbeddedCluster, group: str, topic: str, partition: int = 0) -> int | None:
    """What `group` has committed on a cluster, asked by a client that is no member of it."""
    client = confluent_kafka.Consumer({"bootstrap.servers": cluster.bootstrap_servers, "group.id": group})
    try:
        asked = [confluent_kafka.TopicPartition(topic, partition)]
        (answer,) = client.committed(asked, timeout=PATIENCE)
    finally:
        client.close()
    assert answer.error is None, answer.error
    return None if answer.offset < 0 else answer.offset
