"""Defects of the original's producer, which this library must not have (A40 to A51)."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

import dp_kafka
from dp_kafka import (
    BytesMessage,
    ChannelClosed,
    ClosedError,
    DeliveryError,
    NotInitialisedError,
    Producer,
    ProducerConfig,
)
from dp_kafka.kafkatest import EmbeddedCluster
from dp_kafka.producer.channels import OutputChannel
from dp_kafka.producer.delivery import confluent_producer
from tests.conftest import GroupFactory, ProducerFactory, TopicFactory
from tests.looking import eventually
from tests.sending import (
    PLAIN,
    RECONNECT,
    Breakable,
    Outcomes,
    nobody,
    on_broker,
    quick_producer,
    ready,
    unreachable,
)
from tests.waiting import PATIENCE, Logged, in_thread


def test_a40_errors_that_nobody_reads_stop_neither_sends_nor_close(own_cluster: EmbeddedCluster) -> None:
    """More of them than the channel holds, and more again from the output channel."""
    own_cluster.create_topic("t")
    producer = ready(quick_producer(own_cluster, retry_max=0))
    outcomes = Outcomes()
    own_cluster.inject_errors("Produce", *["INVALID_RECORD"] * 200)
    for _ in range(50):
        producer.send_bytes(b"v", on_delivery=outcomes.outcome)
        producer.channels.output.put(BytesMessage(b"v", on_delivery=outcomes.outcome))
    outcomes.wait(100)
    errors = producer.channels.errors
    assert errors.qsize() == errors.maxsize
    assert errors.dropped >= 80
    assert in_thread(lambda: producer.close(timeout=PATIENCE)).result(PATIENCE) == 0


def test_a41_sends_and_initialise_do_not_wait_for_each_other(own_cluster: EmbeddedCluster) -> None:
    """Eight threads put and send while the initialisation is under way, and it is asked for besides."""
    own_cluster.create_topic("t")
    own_cluster.broker_down(1)
    with quick_producer(own_cluster) as producer:
        together = threading.Barrier(8)

        def put_and_send() -> None:
            together.wait(PATIENCE)
            for _ in range(25):
                producer.channels.output.put(BytesMessage(b"put"), timeout=PATIENCE)
                with pytest.raises(NotInitialisedError):
                    producer.send_bytes(b"refused")

        initialising = in_thread(producer.initialise)
        for each in [in_thread(put_and_send) for _ in range(8)]:
            each.result(PATIENCE)
        with pytest.raises(NotInitialisedError):
            initialising.result(PATIENCE)
        own_cluster.broker_up(1)
        assert producer.channels.initialised.wait(PATIENCE)
        assert producer.flush(PATIENCE) == 0
    assert on_broker(own_cluster, "t") == 200


def test_a42_steady_traffic_does_not_postpone_the_initialisation(own_cluster: EmbeddedCluster) -> None:
    """Sends that are refused come all the time, more often than the attempts."""
    own_cluster.create_topic("t")
    own_cluster.broker_down(1)
    with quick_producer(own_cluster, min_retry_period=0.1, max_retry_period=0.1) as producer:
        accepted = threading.Event()

        def steadily() -> int:
            refused = 0
            while not accepted.wait(0.001):
                try:
                    producer.send_bytes(b"v")
                    accepted.set()
                except NotInitialisedError:
                    refused += 1
            return refused

        traffic = in_thread(steadily)
        own_cluster.broker_up(1)
        try:
            assert producer.channels.initialised.wait(PATIENCE)
            assert accepted.wait(PATIENCE)
        finally:
            accepted.set()
        assert traffic.result(PATIENCE) >= 0
    assert on_broker(own_cluster, "t") == 1


@pytest.mark.parametrize("first", ["close", "closer", "with", "thread died"])
def test_a43_a_second_close_does_nothing(
    topic: TopicFactory, producer: ProducerFactory, cluster: EmbeddedCluster, first: str
) -> None:
    """However the producer came to close the first time; what was sent is delivered once."""
    name = topic()
    clients: list[Breakable] = []

    def factory(properties: dict[str, Any]) -> Breakable:
        clients.append(Breakable(properties))
        return clients[0]

    made = ready(producer(name, client_factory=factory, librdkafka=PLAIN))
    made.send_bytes(b"v")
    if first == "close":
        assert made.close(timeout=PATIENCE) == 0
    elif first == "closer":
        made.channels.closer.set()
    elif first == "with":
        with made:
            pass
    else:
        assert made.flush(PATIENCE) == 0
        clients[0].broken.set()
        assert made.channels.closed.wait(PATIENCE)
    for _ in range(3):
        assert made.close(timeout=PATIENCE) == 0
    made.channels.closer.set()
    assert made.channels.closed.is_set()
    assert on_broker(cluster, name) == 1


def test_a44_who_puts_on_the_output_channel_is_told_of_the_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also who waits for room in it."""
    take_all, taken = OutputChannel.take_all, threading.Event()

    def take_and_tell(channel: OutputChannel) -> list[BytesMessage]:
        items = take_all(channel)
        taken.set()
        return items

    monkeypatch.setattr(OutputChannel, "take_all", take_and_tell)
    producer = unreachable(min_retry_period=60, max_retry_period=60)
    output = producer.channels.output
    # The output thread can't get rid of this one, so that it makes no room later on.
    output.put(BytesMessage(b"in hand"))
    assert taken.wait(PATIENCE)
    while True:
        try:
            output.put(BytesMessage(b"v"), block=False)
        except dp_kafka.channels.Full:
            break
    waiting = in_thread(lambda: output.put(BytesMessage(b"waits for room")))
    accepted = output.unfinished_tasks
    assert in_thread(lambda: producer.close(timeout=0.2)).result(PATIENCE) >= accepted
    with pytest.raises(ChannelClosed):
        waiting.result(PATIENCE)
    with pytest.raises(ChannelClosed):
        output.put(BytesMessage(b"v"))


def test_a45_no_message_is_lost_silently_at_close(own_cluster: EmbeddedCluster) -> None:
    """The broker is gone: each message that was accepted gets one report with an error, and is counted.

    librdkafka's queue has room for ten of them; the others are still in the output channel.
    """
    own_cluster.create_topic("t")
    small = {**RECONNECT, "queue.buffering.max.messages": 10}
    producer = quick_producer(own_cluster, librdkafka=small)
    assert producer.channels.initialised.wait(PATIENCE)
    own_cluster.broker_down(1)
    outcomes = Outcomes()
    for _ in range(5):
        producer.send_bytes(b"sent", on_delivery=outcomes.outcome)
    for _ in range(30):
        producer.channels.output.put(BytesMessage(b"put", on_delivery=outcomes.outcome))
    assert producer.close(timeout=0.2) == 35
    reports = outcomes.wait(35)
    assert len(reports) == 35
    assert all(isinstance(error, (DeliveryError, ClosedError)) for error, _ in reports)
    assert any(isinstance(error, ClosedError) for error, _ in reports)


def test_a46_a_send_that_is_not_accepted_says_so() -> None:
    with unreachable() as producer:
        for call in (
            lambda: producer.send_bytes(b"v"),
            lambda: producer.send_json({"a": 1}),
            lambda: producer.send_bytes(b"v", timeout=0.01),
        ):
            with pytest.raises(NotInitialisedError, match="is not initialised"):
                call()
        assert producer.flush(timeout=0) == 0


def test_a47_payloads_are_in_no_log_and_no_error(own_cluster: EmbeddedCluster, logged: Logged) -> None:
    """Of messages that are refused, that are given up, and that the broker does not take."""
    secret = "very-s3cret"
    own_cluster.create_topic("t")
    own_cluster.broker_down(1)
    producer = quick_producer(own_cluster, retry_max=0)
    producer.log_errors()
    with pytest.raises(NotInitialisedError) as caught:
        producer.send_bytes(secret.encode())
    own_cluster.broker_up(1)
    assert producer.channels.initialised.wait(PATIENCE)
    own_cluster.inject_errors("Produce", "TOPIC_AUTHORIZATION_FAILED")
    outcomes = Outcomes()
    producer.send_bytes(secret.encode(), on_delivery=outcomes.outcome)
    outcomes.wait(1)
    own_cluster.broker_down(1)
    producer.channels.output.put(BytesMessage(secret.encode(), on_delivery=outcomes.outcome))
    producer.close(timeout=0.1)
    texts = [f"{error!s} {error!r} {error.__dict__}" for error, _ in outcomes.wait(2)]
    for text in (str(caught.value), repr(producer), logged.text, *texts):
        assert secret not in text
    assert logged.of("message not delivered")


def test_a48_closed_is_set_whatever_goes_wrong(topic: TopicFactory, producer: ProducerFactory) -> None:
    """A client that raises at every call of the shutdown, on whichever thread."""
    clients: list[Breakable] = []

    class Hopeless(Breakable):
        def purge(self, *_args: object, **_kwargs: object) -> None:
            raise RuntimeError("no")

        def flush(self, *_args: object) -> int:
            raise RuntimeError("no")

        def __len__(self) -> int:
            if self.broken.is_set():
                raise RuntimeError("no")
            return super().__len__()

    def factory(properties: dict[str, Any]) -> Breakable:
        clients.append(Hopeless(properties))
        return clients[0]

    made = producer(topic(), client_factory=factory, librdkafka={**PLAIN, "linger.ms": 5_000})
    assert made.channels.initialised.wait(PATIENCE)
    made.send_bytes(b"v")
    clients[0].broken.set()
    made.close(timeout=0.2)
    assert made.channels.closed.wait(PATIENCE)


def test_a49_close_between_two_attempts_leaves_no_client_behind() -> None:
    """One client is made, and librdkafka's threads go with it."""
    made: list[int] = []

    def factory(properties: dict[str, Any]) -> Any:
        made.append(1)
        return confluent_producer(properties)

    def native_threads() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    before = native_threads()
    for _ in range(5):
        config = ProducerConfig([nobody()], "t", min_retry_period=0.01, max_retry_period=0.02)
        producer = Producer(config, client_factory=factory)
        eventually(lambda producer=producer: producer._delivery.initialisation._tried >= 2)
        assert producer.close(timeout=PATIENCE) == 0
        del producer
    assert len(made) == 5
    eventually(lambda: native_threads() <= before)


@pytest.mark.parametrize("text", ["%w", "100 % of %s", "%(name)s {0} {name}"])
def test_a50_what_is_logged_is_logged_as_it_is(
    topic: TopicFactory, producer: ProducerFactory, consumer_group: GroupFactory, logged: Logged, text: str
) -> None:
    """No directive for a format is left in a line of the log, and none of the user's is taken for one."""
    made = producer(topic(), librdkafka=PLAIN)
    group = consumer_group(topic())
    for client in (made, group):
        client.log_errors()
        client.channels.errors.put(ValueError(text))
        client.close(timeout=PATIENCE)
    (of_producer,), (of_group,) = logged.of("kafka producer error"), logged.of("kafka consumer-group error")
    for record in (of_producer, of_group):
        assert f"error={text!r}" in record.getMessage()
    package = Path(dp_kafka.__file__).parent
    assert not [path.name for path in package.rglob("*.py") if "%w" in path.read_text()]


def test_a51_the_documentation_of_the_producer_tells_what_making_one_does(
    own_cluster: EmbeddedCluster,
) -> None:
    """The original's constructor documents nil channels that there are none of; here each claim is true."""
    documentation = " ".join((Producer.__doc__ or "").split())
    own_cluster.create_topic("t")
    own_cluster.broker_down(1)
    assert "starts its delivery thread" in documentation
    assert "it is tried again in the background" in documentation
    assert "A broker that is away raises nothing" in documentation
    with quick_producer(own_cluster) as producer:
        assert f"dp-kafka:delivery:{producer.topic}" in {thread.name for thread in threading.enumerate()}
        assert None not in vars(producer.channels).values()
        own_cluster.broker_up(1)
        assert producer.channels.initialised.wait(PATIENCE)
