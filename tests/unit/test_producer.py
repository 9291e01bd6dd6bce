"""What users rely on when they send: delivery, reports, back-pressure, initialisation, clear errors."""

from __future__ import annotations

import logging
import signal
import threading
import time
from typing import Any

import pytest

from dp_kafka import (
    BytesMessage,
    ConfigError,
    DeliveryError,
    MarshalError,
    MessageTooLargeError,
    NotInitialisedError,
    Producer,
    QueueFullError,
    use_trace_id,
)
from dp_kafka.kafkatest import EmbeddedCluster
from dp_kafka.producer.reports import LOG_SECONDS, Reports, ThinnedLog
from tests.conftest import ProducerFactory, TopicFactory
from tests.looking import eventually
from tests.sending import (
    PLAIN,
    Outcomes,
    nobody,
    on_broker,
    quick_producer,
    ready,
    received,
    unreachable,
)
from tests.waiting import PATIENCE, in_thread

SECRET = "s3cret-Payload"


def test_threads_send_at_the_same_time_and_each_keeps_its_order(
    cluster: EmbeddedCluster, topic: TopicFactory, producer: ProducerFactory
) -> None:
    name = topic()
    made = producer(name)

    def send_all(sender: int) -> None:
        for number in range(200):
            made.send_bytes(b"%d %d" % (sender, number))

    for future in [in_thread(lambda sender=sender: send_all(sender)) for sender in range(8)]:
        future.result(PATIENCE)
    assert made.flush(PATIENCE) == 0
    values = [(message.value() or b"").split() for message in received(cluster, name, 1_600)]
    for sender in range(8):
        assert [int(number) for who, number in values if int(who) == sender] == list(range(200))


def test_key_partition_and_timestamp_arrive(
    cluster: EmbeddedCluster, topic: TopicFactory, producer: ProducerFactory
) -> None:
    name = topic(2)
    made = producer(name, librdkafka=PLAIN)
    made.send_bytes(b"v", key="clé", partition=1, timestamp=1_700_000_000_123)
    made.send_bytes(None, key=b"k", partition=0)
    made.flush(PATIENCE)
    tombstone, message = sorted(received(cluster, name, 2, partitions=2), key=lambda m: m.partition())
    assert (message.key(), message.value(), message.partition()) == ("clé".encode(), b"v", 1)
    assert message.timestamp()[1] == 1_700_000_000_123
    assert tombstone.value() is None
    assert abs(tombstone.timestamp()[1] / 1000 - time.time()) < 60


# -- reports --------------------------------------------------------------------------------------------


def test_on_delivery_is_called_once_on_the_delivery_thread(
    topic: TopicFactory, producer: ProducerFactory
) -> None:
    name = topic()
    made = producer(name)
    calls: list[tuple[Any, Any, str]] = []

    def on_delivery(error: BaseException | None, message: Any) -> None:
        calls.append((error, message, threading.current_thread().name))

    made.send_bytes(b"v", on_delivery=on_delivery)
    assert made.flush(PATIENCE) == 0
    made.close(timeout=PATIENCE)
    ((error, message, thread),) = calls
    assert error is None
    assert (message.topic(), message.partition(), message.offset()) == (name, 0, 0)
    assert thread == f"dp-kafka:delivery:{name}"


@pytest.mark.parametrize("raised", [RuntimeError, SystemExit, KeyboardInterrupt])
def test_a_delivery_callback_that_raises_stops_nobodys_reports(
    raised: type[BaseException],
    topic: TopicFactory,
    producer: ProducerFactory,
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = producer(topic(), librdkafka=PLAIN)
    outcomes = Outcomes()

    def on_delivery(_error: BaseException | None, _message: Any) -> None:
        raise raised("from the callback")

    made.send_bytes(b"1", on_delivery=on_delivery)
    made.send_bytes(b"2", on_delivery=outcomes.outcome)
    assert outcomes.wait(1)[0][0] is None
    assert isinstance(made.channels.errors.get(timeout=PATIENCE), raised)
    assert "a delivery callback failed" in caplog.text
    made.send_bytes(b"3", on_delivery=outcomes.outcome)
    outcomes.wait(2)


def test_every_undelivered_message_comes_on_errors_which_keeps_the_last_20(
    own_cluster: EmbeddedCluster,
) -> None:
    own_cluster.create_topic("t")
    with ready(quick_producer(own_cluster, retry_max=0)) as made:
        # Not one after which librdkafka refuses the messages that follow at once, as it does without rights.
        own_cluster.inject_errors("Produce", *["INVALID_RECORD"] * 50)
        outcomes = Outcomes()
        for _ in range(50):
            made.send_bytes(b"v", key=b"k", on_delivery=outcomes.outcome)
        failures = [error for error, _ in outcomes.wait(50)]
        errors = made.channels.errors
        assert errors.qsize() == 20
        assert errors.dropped == 30
        kept = [errors.get() for _ in range(20)]
    assert kept == failures[-20:]
    for error in kept:
        assert isinstance(error, DeliveryError)
        assert error.log_data == {
            "topic": "t",
            "partition": 0,
            "has_key": True,
            "code": 87,
            "name": "INVALID_RECORD",
        }


def test_of_many_failures_a_second_one_is_logged_with_the_number_of_the_others() -> None:
    clock = [100.0]
    log = ThinnedLog(lambda: clock[0])
    assert log.due() == {}
    assert [log.due() for _ in range(5)] == [None] * 5
    assert log.held_back == 5
    assert log.rest() == 0
    clock[0] += LOG_SECONDS
    assert log.due() == {"others_since_last_line": 5}
    assert log.due() is None
    assert log.rest() == 0
    assert log.rest(now=True) == 1
    assert log.rest(now=True) == 0


def test_what_librdkafka_repeats_does_not_push_out_other_errors() -> None:
    class TransportError:
        def __init__(self, text: str) -> None:
            self.text = text

        def code(self) -> int:
            return -195

        def name(self) -> str:
            return "_TRANSPORT"

        def str(self) -> str:
            return self.text

        def fatal(self) -> bool:
            return False

        def retriable(self) -> bool:
            return True

    passed_on: list[BaseException] = []
    reports = Reports("t", passed_on.append)
    for milliseconds in range(30):
        reports.on_error(TransportError(f"a:1: refused (after {milliseconds}ms in state CONNECT)"))
    reports.on_error(TransportError("b:1: refused (after 0ms in state CONNECT)"))
    assert [str(error)[:15] for error in passed_on] == ["_TRANSPORT: a:1", "_TRANSPORT: b:1"]
    assert reports.errors == 31


def test_flush_counts_what_has_no_report_yet(own_cluster: EmbeddedCluster) -> None:
    own_cluster.create_topic("t")
    with ready(quick_producer(own_cluster)) as made:
        own_cluster.broker_down(1)
        for _ in range(7):
            made.send_bytes(b"v")
        began = time.monotonic()
        assert made.flush(0.3) == 7
        assert 0.2 < time.monotonic() - began < PATIENCE / 3
        assert made.flush(0) == 7
        own_cluster.broker_up(1)
        assert made.flush(PATIENCE) == 0


def test_flush_does_not_wait_for_linger(topic: TopicFactory, producer: ProducerFactory) -> None:
    made = producer(topic(), librdkafka={**PLAIN, "linger.ms": 60_000})
    made.send_bytes(b"v")
    assert made.flush(PATIENCE) == 0


def test_flush_waits_for_the_output_channel_too(topic: TopicFactory, producer: ProducerFactory) -> None:
    made = producer(topic())
    outcomes = Outcomes()
    for _ in range(2_000):
        made.channels.output.put(BytesMessage(b"v", on_delivery=outcomes.outcome))
    assert made.flush(PATIENCE) == 0
    assert len(outcomes.items) == 2_000


def test_flush_in_a_delivery_callback_only_counts(topic: TopicFactory, producer: ProducerFactory) -> None:
    made = producer(topic(), librdkafka=PLAIN)
    counts: list[int] = []
    made.send_bytes(b"v", on_delivery=lambda _error, _message: counts.append(made.flush()))
    assert made.flush(PATIENCE) == 0
    # Its own message counts until its callback has returned.
    assert counts == [1]


# -- back-pressure --------------------------------------------------------------------------------------


#: Without the quick metadata of RECONNECT: with one request in flight, and answers that take longer than the
#: pause between two such requests, no other one would have its turn.
TEN = {**PLAIN, "queue.buffering.max.messages": 10, "linger.ms": 0}


def test_a_send_waits_for_room(own_cluster: EmbeddedCluster) -> None:
    own_cluster.create_topic("t")
    with ready(quick_producer(own_cluster, librdkafka=TEN)) as made:
        own_cluster.set_latency(0.1)
        began = time.monotonic()
        for number in range(30):
            made.send_bytes(b"%d" % number)
        # Three queues full, of which two had to go first.
        assert time.monotonic() - began >= 0.1
        assert made.flush(PATIENCE) == 0
        own_cluster.set_latency(0)
        values = [message.value() for message in received(own_cluster, "t", 30)]
    assert values == [b"%d" % number for number in range(30)]


def test_many_threads_wait_for_room_and_each_gets_it(own_cluster: EmbeddedCluster) -> None:
    own_cluster.create_topic("t")
    with ready(quick_producer(own_cluster, librdkafka=TEN)) as made:
        own_cluster.set_latency(0.02)

        def send_some() -> None:
            for _ in range(20):
                made.send_bytes(b"v", timeout=PATIENCE)

        for future in [in_thread(send_some) for _ in range(6)]:
            future.result(PATIENCE)
        assert made.flush(PATIENCE) == 0
        assert on_broker(own_cluster, "t") == 120


@pytest.mark.parametrize(("timeout", "least"), [(0.3, 0.25), (0, 0.0)])
def test_a_queue_that_stays_full_is_an_error_after_the_timeout(
    timeout: float, least: float, own_cluster: EmbeddedCluster
) -> None:
    own_cluster.create_topic("t")
    made = ready(quick_producer(own_cluster, librdkafka=TEN))
    own_cluster.broker_down(1)
    for _ in range(10):
        made.send_bytes(b"v")
    began = time.monotonic()
    with pytest.raises(QueueFullError, match=r"queue is full \(\d+ messages\)"):
        made.send_bytes(b"v", timeout=timeout)
    assert least <= time.monotonic() - began < PATIENCE / 3
    # What was refused is not sent later.
    own_cluster.broker_up(1)
    assert made.close(timeout=PATIENCE) == 0
    assert on_broker(own_cluster, "t") == 10


def test_a_delivery_callback_cannot_wait_for_the_room_that_it_makes(own_cluster: EmbeddedCluster) -> None:
    own_cluster.create_topic("t")
    with ready(quick_producer(own_cluster, librdkafka=TEN)) as made:
        raised: list[BaseException] = []
        full = threading.Event()

        def on_delivery(_error: BaseException | None, _message: Any) -> None:
            assert full.wait(PATIENCE)
            try:
                for _ in range(10):
                    made.send_bytes(b"v", timeout=PATIENCE)
            except QueueFullError as error:
                raised.append(error)

        made.send_bytes(b"v", on_delivery=on_delivery)
        for _ in range(9):
            made.send_bytes(b"v")
        began = time.monotonic()
        full.set()
        assert made.flush(PATIENCE) == 0
        assert "send from another thread" in str(raised[0])
        assert time.monotonic() - began < PATIENCE / 2


# -- initialisation ---------------------------------------------------------------------------------------


def test_a_producer_made_before_its_broker_runs_is_initialised_and_sends_once_it_runs(
    own_cluster: EmbeddedCluster,
) -> None:
    own_cluster.create_topic("t")
    own_cluster.broker_down(1)
    with quick_producer(own_cluster) as made:
        assert not made.is_initialised
        with pytest.raises(NotInitialisedError):
            made.send_bytes(b"refused")
        waiting = in_thread(lambda: made.send_bytes(b"waited", timeout=PATIENCE))
        own_cluster.broker_up(1)
        waiting.result(PATIENCE)
        assert made.is_initialised
        assert made.channels.initialised.is_set()
        made.send_bytes(b"later")
    assert [m.value() for m in received(own_cluster, "t", 2)] == [b"waited", b"later"]


def test_the_timeout_of_a_send_bounds_its_wait_for_the_initialisation() -> None:
    with unreachable() as made:
        began = time.monotonic()
        with pytest.raises(NotInitialisedError, match="nowhere is not initialised") as caught:
            made.send_bytes(b"v", timeout=0.2)
        assert 0.15 < time.monotonic() - began < PATIENCE / 3
        assert isinstance(caught.value.__cause__, NotInitialisedError)


def test_initialise_tries_at_once_and_says_why_it_failed() -> None:
    answered = r"no broker of \['127.0.0.1:\d+'\] answered"
    with (
        unreachable(min_retry_period=60, max_retry_period=60) as made,
        pytest.raises(NotInitialisedError, match=answered),
    ):
        made.initialise()


def test_initialise_finds_a_broker_that_has_come(own_cluster: EmbeddedCluster) -> None:
    own_cluster.broker_down(1)
    with quick_producer(own_cluster, min_retry_period=60, max_retry_period=60) as made:
        own_cluster.broker_up(1)
        # It may ask before librdkafka has reconnected: an attempt is quick to give up.
        for _ in range(20):
            try:
                made.initialise()
            except NotInitialisedError:
                continue
            break
        assert made.is_initialised


# -- bad input --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"value": "text"}, TypeError, "takes bytes or None, but got str"),
        ({"value": bytearray(b"v")}, TypeError, "but got bytearray"),
        ({"partition": 7}, DeliveryError, "_UNKNOWN_PARTITION"),
        ({"partition": "0"}, TypeError, "str"),
        ({"key": 5}, TypeError, "int"),
        ({"key": f"\udc80{SECRET}"}, ValueError, "the key is text that UTF-8 cannot encode"),
        ({"headers": {"h": 5}}, TypeError, "'h' must be str, bytes or None, but is int"),
        # confluent_kafka crashes the process over this one:
        ({"headers": [("\udc80", "v")]}, ValueError, "a header key is text that UTF-8 cannot encode"),
        ({"headers": [("h", f"\udc80{SECRET}")]}, ValueError, "value of header 'h' is text"),
        ({"headers": [("a\0b", "v")]}, ValueError, "NUL"),
        ({"headers": ["ab"]}, TypeError, "pairs"),
        (
            {"value": SECRET.encode() * 200},
            MessageTooLargeError,
            "2800 bytes is larger than the limit of 1000",
        ),
    ],
)
def test_bad_input_is_refused_at_once_and_never_shown(
    arguments: dict[str, Any],
    error: type[Exception],
    text: str,
    topic: TopicFactory,
    producer: ProducerFactory,
) -> None:
    made = producer(topic(), max_message_bytes=1000, librdkafka=PLAIN)
    # One message first, so that the client knows how many partitions there are.
    made.send_bytes(b"v")
    assert made.flush(PATIENCE) == 0
    with pytest.raises(error, match=text) as caught:
        made.send_bytes(**{"value": b"v", **arguments})
    assert SECRET not in repr(caught.value) + str(caught.value)
    assert caught.value.__context__ is None or SECRET not in repr(caught.value.__context__)
    made.send_bytes(b"v")
    assert made.flush(PATIENCE) == 0


def test_what_is_no_schema_is_refused(topic: TopicFactory, producer: ProducerFactory) -> None:
    class Textual:
        def marshal(self, event: object) -> Any:
            return str(event)

    made = producer(topic())
    with pytest.raises(MarshalError, match="but got dict as schema"):
        made.send({"type": "record"}, {})  # type: ignore[arg-type]
    with pytest.raises(MarshalError, match=r"Textual.marshal has to give bytes, but gave str"):
        made.send(Textual(), {})


def test_a_producer_takes_a_producer_config_that_librdkafka_accepts() -> None:
    with pytest.raises(ConfigError, match="takes a ProducerConfig, but got dict"):
        Producer({"topic": "t"})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"librdkafka refused.*no\.such\.property"):
        unreachable(librdkafka={"no.such.property": 1})


# -- secrets ----------------------------------------------------------------------------------------------


def test_payload_key_and_header_values_are_in_no_log_error_or_repr(
    own_cluster: EmbeddedCluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    own_cluster.create_topic("t")
    made = ready(quick_producer(own_cluster, librdkafka=TEN, max_message_bytes=1000, retry_max=0))
    said: list[str] = []
    outcomes = Outcomes()
    secret = SECRET.encode()

    def send(**more: Any) -> None:
        everything = {"value": secret, "key": SECRET, "headers": {"h": SECRET}, **more}
        try:
            made.send_bytes(on_delivery=outcomes.outcome, timeout=0, **everything)
        except Exception as error:
            said.extend([repr(error), str(error), repr(getattr(error, "log_data", ""))])

    with use_trace_id(SECRET):
        own_cluster.inject_errors("Produce", "MSG_SIZE_TOO_LARGE")
        send()
        outcomes.wait(1)
        # Within its callback librdkafka still counts a message, and it has room for ten.
        eventually(lambda: len(made._delivery._client or ()), 0)
        send(value=secret * 100)
        own_cluster.broker_down(1)
        for _ in range(12):
            send()
        made.channels.output.put(BytesMessage(secret, key=SECRET, headers={"h": SECRET}))
        said.append(repr(made) + repr(made.channels))
    made.log_errors()
    assert made.close(timeout=0.2) == 11
    assert "message not delivered" in caplog.text
    assert len(said) > 6
    for text in [*said, caplog.text, *(repr(record.__dict__) for record in caplog.records)]:
        assert SECRET not in text


def test_addresses_that_nobody_answers_at_are_named() -> None:
    address = nobody()
    with unreachable(broker_addrs=[address]) as made, pytest.raises(NotInitialisedError, match=address):
        made.send_json({})


class _SignalsWhenRead(str):
    """A header key with which a signal arrives while confluent_kafka reads it."""

    __slots__ = ()

    def __str__(self) -> str:
        signal.raise_signal(signal.SIGINT)
        return super().__str__()


class _Stop(Exception):
    pass


def _stop(*_: object) -> None:
    raise _Stop


@pytest.mark.parametrize(
    ("on_signal", "raised"),
    [(signal.default_int_handler, KeyboardInterrupt), (_stop, InterruptedError)],
    ids=["Ctrl-C", "a handler that raises"],
)
def test_a_signal_in_the_middle_of_a_send_is_no_type_error(
    on_signal: Any,
    raised: type[BaseException],
    cluster: EmbeddedCluster,
    topic: TopicFactory,
    producer: ProducerFactory,
) -> None:
    """confluent_kafka takes what the signal's handler raised for a header of a wrong type, and loses it."""
    name = topic()
    made = producer(name)
    old = signal.signal(signal.SIGINT, on_signal)
    try:
        with pytest.raises(raised):
            made.send_bytes(b"not sent", headers={_SignalsWhenRead("key"): "value"})
    finally:
        signal.signal(signal.SIGINT, old)
    made.send_bytes(b"sent")
    assert made.flush(PATIENCE) == 0
    assert [message.value() for message in received(cluster, name, 1)] == [b"sent"]
