"""Who waits for the initialisation of a client, or asks for it; and what a try may come to."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from dp_kafka import (
    ClosedError,
    ConsumerGroup,
    ConsumerGroupConfig,
    NotInitialisedError,
    Producer,
    ProducerConfig,
    State,
)
from dp_kafka.consumer.client import confluent_consumer
from dp_kafka.initialisation import Initialisation
from dp_kafka.kafkatest import EmbeddedCluster
from dp_kafka.producer.delivery import confluent_producer
from tests.conftest import GroupFactory, ProducerFactory, TopicFactory
from tests.looking import eventually
from tests.sending import Wrapped, nobody
from tests.waiting import PATIENCE, Logged, WatchedCondition, in_thread


@pytest.fixture
def initialisation() -> Initialisation:
    made = Initialisation("consumer", {"topic": "t"})
    made._condition = WatchedCondition()
    return made


def waiting(initialisation: Initialisation) -> threading.Event:
    condition = initialisation._condition
    assert isinstance(condition, WatchedCondition)
    return condition.waiting


def test_who_asks_for_a_try_waits_for_one_that_ends_later(initialisation: Initialisation) -> None:
    initialisation.begin()
    initialisation.tried(NotInitialisedError("an earlier one"))
    caller = in_thread(lambda: initialisation.request(PATIENCE))
    assert waiting(initialisation).wait(PATIENCE)
    initialisation.tried(NotInitialisedError("no broker"))
    with pytest.raises(NotInitialisedError, match="no broker"):
        caller.result(PATIENCE)


def test_who_asks_once_it_is_done_does_not_wait(initialisation: Initialisation) -> None:
    initialisation.tried(None)
    initialisation.request(0)
    assert initialisation.wait(0)
    assert not waiting(initialisation).is_set()


def test_what_a_broker_refused_is_the_cause_of_the_error(initialisation: Initialisation) -> None:
    refusal = ValueError("wrong password")
    caller = in_thread(lambda: initialisation.request(PATIENCE))
    assert waiting(initialisation).wait(PATIENCE)
    initialisation.tried(refusal)
    with pytest.raises(NotInitialisedError, match="wrong password") as raised:
        caller.result(PATIENCE)
    assert raised.value.__cause__ is refusal


def test_a_try_that_does_not_end_in_time_is_an_error(initialisation: Initialisation) -> None:
    with pytest.raises(NotInitialisedError, match="no broker has answered yet"):
        initialisation.request(0)


@pytest.mark.parametrize("end", [Initialisation.close, Initialisation.end])
def test_whoever_waits_is_told_of_the_close(initialisation: Initialisation, end: object) -> None:
    caller = in_thread(lambda: initialisation.request(PATIENCE))
    assert waiting(initialisation).wait(PATIENCE)
    waiting(initialisation).clear()
    others = in_thread(lambda: initialisation.wait(PATIENCE))
    assert waiting(initialisation).wait(PATIENCE)
    end(initialisation)  # type: ignore[operator]
    with pytest.raises(ClosedError, match="make a new one"):
        caller.result(PATIENCE)
    assert not others.result(PATIENCE)
    initialisation.wait_first_try(PATIENCE)


def test_tries_go_on_while_the_client_closes_until_it_goes(initialisation: Initialisation) -> None:
    initialisation.close()
    assert initialisation.is_wanted()
    client = in_thread(lambda: initialisation.wait_retry(0, PATIENCE))
    assert waiting(initialisation).wait(PATIENCE)
    initialisation.end()
    client.result(PATIENCE)
    assert not initialisation.is_wanted()


def test_a_request_cuts_the_pause_between_tries_short(initialisation: Initialisation) -> None:
    client = in_thread(lambda: initialisation.wait_retry(0, PATIENCE))
    assert waiting(initialisation).wait(PATIENCE)
    caller = in_thread(lambda: initialisation.request(PATIENCE))
    client.result(PATIENCE)
    initialisation.tried(None)
    caller.result(PATIENCE)


def test_who_asks_while_a_try_is_under_way_hears_of_the_next_one_which_follows_at_once(
    initialisation: Initialisation,
) -> None:
    """What the one under way has asked may be long ago."""
    asked = initialisation.begin()
    caller = in_thread(lambda: initialisation.request(PATIENCE))
    assert waiting(initialisation).wait(PATIENCE)
    initialisation.tried(NotInitialisedError("of long ago"))
    initialisation.wait_retry(asked, PATIENCE)
    assert not caller.done()
    initialisation.begin()
    initialisation.tried(NotInitialisedError("of now"))
    with pytest.raises(NotInitialisedError, match="of now") as raised:
        caller.result(PATIENCE)
    assert raised.value.log_data == {"topic": "t"}


def test_a_broker_that_answers_a_client_that_goes_initialises_nothing(initialisation: Initialisation) -> None:
    initialisation.end()
    initialisation.tried(None)
    assert not initialisation.done.is_set()


def test_a_request_that_comes_between_a_try_and_its_pause_is_not_forgotten(
    initialisation: Initialisation,
) -> None:
    asked = initialisation.begin()
    initialisation.tried(NotInitialisedError("no broker"))
    caller = in_thread(lambda: initialisation.request(PATIENCE))
    assert waiting(initialisation).wait(PATIENCE)
    initialisation.wait_retry(asked, PATIENCE)
    initialisation.tried(None)
    caller.result(PATIENCE)


# -- on real clients ------------------------------------------------------------------------------------


class Fails:
    """A real consumer's client whose first questions fail in a way that no client of Kafka's fails in."""

    def __init__(self, properties: dict[str, Any]) -> None:
        self._client = confluent_consumer(properties)
        self._failures = [ValueError("first"), KafkaException("no KafkaError"), MemoryError("third")]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def list_topics(self, *arguments: Any, **options: Any) -> Any:
        if self._failures:
            raise self._failures.pop()
        return self._client.list_topics(*arguments, **options)


def test_a_consumer_is_tried_again_whatever_a_try_has_failed_with(
    topic: TopicFactory, consumer_group: GroupFactory, logged: Logged
) -> None:
    group = consumer_group(topic(), client_factory=Fails, min_retry_period=0.01, max_retry_period=0.02)
    assert group.channels.initialised.wait(PATIENCE)
    assert group.close(timeout=PATIENCE) == 0
    assert [type(error) for error in group.channels.errors] == [MemoryError, KafkaException, ValueError]
    assert len(logged.of("initialisation failed")) == 3


def test_a_log_filter_that_fails_does_not_end_a_consumer_whose_brokers_are_away() -> None:
    """confluent_kafka raises from poll() what librdkafka's logger has raised."""

    class Failing(logging.Filter):
        def __init__(self) -> None:
            super().__init__()
            self.called = threading.Event()

        def filter(self, record: logging.LogRecord) -> bool:
            self.called.set()
            raise ValueError("of a user")

    failing, logger = Failing(), logging.getLogger("dp_kafka.librdkafka")
    logger.addFilter(failing)
    try:
        config = ConsumerGroupConfig([nobody()], "t", "g", min_retry_period=0.01, max_retry_period=0.02)
        with ConsumerGroup(config) as group:
            assert failing.called.wait(PATIENCE)
            eventually(lambda: group._control.initialisation._tried >= 3)
            assert group.state is State.INITIALISING
            assert group.stuck_or_dead() == []
    finally:
        logger.removeFilter(failing)


QUICK: Any = {"min_retry_period": 0.1, "max_retry_period": 0.2}


class Counting:
    """A real client of which every question is counted, with the time that it was given."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.asked: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def __len__(self) -> int:
        return len(self._client)

    def list_topics(self, topic: str | None = None, timeout: float = -1) -> Any:
        self.asked.append(timeout)
        return self._client.list_topics(topic=topic, timeout=timeout)


@pytest.mark.parametrize(("kind", "latency"), [("consumer", 2.0), ("consumer", 4.0), ("producer", 2.0)])
def test_a_slow_broker_is_given_its_time_and_is_not_flooded_with_questions(
    own_cluster: EmbeddedCluster, kind: str, latency: float
) -> None:
    own_cluster.create_topic("t")
    own_cluster.set_latency(latency)
    made: list[Counting] = []

    def counting(make: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
        def factory(properties: dict[str, Any]) -> Counting:
            made.append(Counting(make(properties)))
            return made[-1]

        return factory

    client: ConsumerGroup | Producer
    if kind == "consumer":
        group_config = ConsumerGroupConfig(own_cluster.broker_addrs, "t", "g", **QUICK)
        client = ConsumerGroup(group_config, client_factory=counting(confluent_consumer))
    else:
        config = ProducerConfig(own_cluster.broker_addrs, "t", **QUICK)
        client = Producer(config, client_factory=counting(confluent_producer))
    try:
        assert client.channels.initialised.wait(3 * PATIENCE)
        assert len(made[0].asked) < 20
        assert min(made[0].asked) >= 0.05
    finally:
        own_cluster.set_latency(0.0)
        client.close(timeout=1)


def test_a_client_that_was_refused_is_let_go_though_its_error_is_kept(
    topic: TopicFactory, producer: ProducerFactory
) -> None:
    class Refused(Wrapped):
        def list_topics(self, *_arguments: Any, **_options: Any) -> Any:
            raise KafkaException(KafkaError(KafkaError.UNSUPPORTED_VERSION))

    made = producer(topic(), client_factory=Refused)
    client = weakref.ref(made._delivery._client)
    with pytest.raises(NotInitialisedError, match="UNSUPPORTED_VERSION"):
        made.initialise()
    assert made.close(timeout=PATIENCE) == 0
    assert made._delivery.initialisation.error is not None
    gc.collect()
    assert client() is None


def test_a_producer_whose_thread_died_takes_nothing_though_no_thread_can_close_it(
    topic: TopicFactory, producer: ProducerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dies(Wrapped):
        dead = False

        def poll(self, timeout: float) -> Any:
            if Dies.dead:
                raise MemoryError("at once")
            return super().poll(timeout)

    def refuses(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    made = producer(topic(), client_factory=Dies)
    with monkeypatch.context() as patched:
        patched.setattr(threading, "excepthook", lambda _arguments: None)
        patched.setattr(threading.Thread, "start", refuses)
        Dies.dead = True
        made._delivery.join(PATIENCE)
        with pytest.raises(ClosedError):
            made.send_bytes(b"to nobody")
    assert made.close() == 0
    assert made.channels.closed.is_set()
