"""OpenTelemetry around the clients: what it costs when off, what is said when it is missing or fails."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.semconv._incubating.attributes import messaging_attributes
from opentelemetry.semconv._incubating.metrics import messaging_metrics
from opentelemetry.semconv.attributes import error_attributes
from opentelemetry.semconv.schemas import Schemas

from dp_kafka import BytesMessage, DeadLetter, Message
from dp_kafka.config.rdkafka import consumer_properties, producer_properties
from dp_kafka.consumer.lag import Lag
from dp_kafka.errors import DeliveryError
from dp_kafka.kafkatest import EmbeddedCluster
from dp_kafka.tracing import carrier, contained, names
from tests import configs
from tests.configs import both, refused
from tests.conftest import GroupFactory, ProducerFactory, SendFunction, TopicFactory
from tests.lanes import new_session, open_lane, raws
from tests.sending import received
from tests.telemetry import Telemetry, id_of, parent_of
from tests.waiting import PATIENCE, Collected, Logged, fields


def run(code: str, *arguments: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# -- off, and missing -----------------------------------------------------------------------------------


def test_off_it_is_not_even_imported(cluster: EmbeddedCluster, topic: TopicFactory) -> None:
    name = topic()
    assert (
        run(
            """
            import sys, threading
            from dp_kafka import *
            address, topic = sys.argv[1:]
            with Producer(ProducerConfig([address], topic)) as producer:
                assert producer.channels.initialised.wait(15)
                producer.send_bytes(b"a")
                producer.channels.output.put(BytesMessage(b"b"))
                done = threading.Semaphore(0)
                with ConsumerGroup(ConsumerGroupConfig([address], topic, "off")) as group:
                    group.register_handler(lambda worker, message: (message.context, done.release()))
                    group.start()
                    assert done.acquire(timeout=15) and done.acquire(timeout=15)
            print(sorted(name for name in sys.modules if name.partition(".")[0] == "opentelemetry"))
            """,
            cluster.bootstrap_servers,
            name,
        )
        == "[]"
    )


def test_on_the_sdk_is_left_to_the_application(cluster: EmbeddedCluster, topic: TopicFactory) -> None:
    """Without a provider there are no spans, and no context of its own; what came along is not lost."""
    name = topic()
    assert (
        run(
            """
            import sys, threading
            from dp_kafka import *
            address, topic = sys.argv[1:]
            came = "00-11111111111111111111111111111111-2222222222222222-01"
            with Producer(ProducerConfig([address], topic, otel_enabled=True)) as producer:
                assert producer.channels.initialised.wait(15)
                producer.send_bytes(b"a", headers={"traceparent": came})
                seen, done = [], threading.Event()
                def handle(worker, message):
                    from opentelemetry import trace
                    span = trace.get_current_span().get_span_context()
                    seen.append((message.get_header("traceparent") == came, f"{span.span_id:x}"))
                    done.set()
                with ConsumerGroup(ConsumerGroupConfig([address], topic, "on", otel_enabled=True)) as group:
                    group.register_handler(handle)
                    group.start()
                    assert done.wait(15)
            print(seen, [name for name in sys.modules if name.startswith("opentelemetry.sdk")])
            """,
            cluster.bootstrap_servers,
            name,
        )
        == "[(True, '2222222222222222')] []"
    )


def test_statistics_are_asked_for_only_when_it_is_on() -> None:
    assert "statistics.interval.ms" not in consumer_properties(configs.consumer())
    assert consumer_properties(configs.consumer(otel_enabled=True))["statistics.interval.ms"] == 5_000
    users = {"statistics.interval.ms": 60_000}
    assert (
        consumer_properties(configs.consumer(otel_enabled=True, librdkafka=users))["statistics.interval.ms"]
        == 60_000
    )
    assert "statistics.interval.ms" not in producer_properties(configs.producer(otel_enabled=True))


@both
@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("opentelemetry.sdk", "opentelemetry-sdk is not installed"),
        ("opentelemetry", "opentelemetry-api cannot be imported"),
    ],
)
def test_what_is_missing_is_named_with_the_extra_that_brings_it(
    make: Any, missing: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(sys.modules):
        if name == missing or name.startswith(f"{missing}."):
            monkeypatch.delitem(sys.modules, name)
    # What an import finds where a package is not installed.
    monkeypatch.setitem(sys.modules, missing, None)
    error = refused(make, otel_enabled=True)
    assert error.field == "otel_enabled"
    assert said in str(error)
    assert "pip install 'dp-kafka[otel]'" in str(error)
    assert make(otel_enabled=False).otel_enabled is False


def test_another_implementation_of_the_api_needs_no_sdk() -> None:
    assert (
        run(
            """
            import sys
            sys.modules["opentelemetry.sdk"] = None
            from opentelemetry import trace
            class Vendor(trace.NoOpTracerProvider):
                pass
            trace.set_tracer_provider(Vendor())
            from dp_kafka import ProducerConfig
            print(ProducerConfig(["localhost:1"], "t", otel_enabled=True).otel_enabled)
            """
        )
        == "True"
    )


# -- failures of telemetry ------------------------------------------------------------------------------


class Broken(SpanProcessor):
    """A span processor of somebody who forgot to catch."""

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        self._fail(span)

    def on_end(self, span: ReadableSpan) -> None:
        self._fail(span)

    def _fail(self, span: ReadableSpan) -> None:
        if self._topic in span.name:
            raise RuntimeError("broken by the test")


@pytest.fixture
def fresh_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was logged of telemetry within the last minute."""
    monkeypatch.setattr(contained.contained, "_next", 0.0)
    monkeypatch.setattr(contained.contained, "_held_back", 0)


@pytest.mark.usefixtures("fresh_log")
@pytest.mark.parametrize("kind", ["single", "batch", "channel"])
def test_telemetry_that_fails_fails_no_message(
    cluster: EmbeddedCluster,
    topic: TopicFactory,
    consumer_group: GroupFactory,
    producer: ProducerFactory,
    telemetry: Telemetry,
    logged: Logged,
    kind: str,
) -> None:
    name = topic()
    telemetry.provider.add_span_processor(Broken(name))
    sender = producer(name, otel_enabled=True)
    sender.send_bytes(b"a")
    sender.channels.output.put(BytesMessage(b"b"))
    assert sender.flush(PATIENCE) == 0
    group = consumer_group(name, otel_enabled=True, batch_size=2)
    seen: Collected[bytes | None] = Collected()
    if kind == "single":
        group.register_handler(lambda _worker, message: seen.add(message.data))
    elif kind == "batch":
        group.register_batch_handler(lambda batch: [seen.add(message.data) for message in batch])
    group.start()
    if kind == "channel":
        for _ in range(2):
            message = group.channels.upstream.get(timeout=PATIENCE)
            seen.add(message.data)
            message.commit_and_release()
    assert seen.wait(2) == [b"a", b"b"]
    assert group.stop_and_wait(PATIENCE)
    lines = logged.of("telemetry failed, messages go on without it")
    assert len(lines) == 1
    assert lines[0].levelno == logging.WARNING
    assert fields(lines[0])["error_type"] == "RuntimeError"
    assert not logged.of("failed to handle")


def test_what_is_contained_are_exceptions_and_nothing_else() -> None:
    with contained.contained:
        raise ValueError("stays")
    with pytest.raises(KeyboardInterrupt), contained.contained:
        raise KeyboardInterrupt


@pytest.mark.usefixtures("fresh_log")
def test_failures_are_logged_once_a_minute_with_their_number(
    logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        with contained.contained:
            raise ValueError("again")
    monkeypatch.setattr(contained.contained, "_next", 0.0)
    with contained.contained:
        raise ValueError("again")
    lines = logged.of("telemetry failed")
    assert [fields(line).get("others_since_last_line") for line in lines] == [None, 2]


def test_a_broken_propagator_stops_no_send_and_no_handler(
    cluster: EmbeddedCluster,
    topic: TopicFactory,
    consumer_group: GroupFactory,
    producer: ProducerFactory,
    telemetry: Telemetry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_args: Any, **_kwargs: Any) -> Any:
        raise RuntimeError("broken by the test")

    name = topic()
    monkeypatch.setattr(propagate, "inject", broken)
    monkeypatch.setattr(propagate, "extract", broken)
    sender = producer(name, otel_enabled=True)
    sender.send_bytes(b"a", headers={"own": "1"})
    (message,) = received(cluster, name, 1)
    assert [key for key, _ in message.headers()] == ["own", "request-id"]
    group = consumer_group(name, otel_enabled=True)
    group.register_handler(lambda _worker, _message: None)
    group.start()
    (processed,) = telemetry.spans(name, "process")
    assert processed.parent is None


# -- pieces ---------------------------------------------------------------------------------------------


def test_names_are_those_of_the_conventions() -> None:
    conventions = {
        value
        for module in (messaging_attributes, messaging_metrics, error_attributes)
        for name, value in vars(module).items()
        if name.isupper()
    }
    ours = {
        value
        for name, value in vars(names).items()
        if name.isupper() and isinstance(value, str) and value.startswith(("messaging.", "error."))
    }
    assert len(ours) == 15
    assert ours <= conventions
    assert names.SCHEMA_URL in {schema.value for schema in Schemas}


def test_error_type_is_kafkas_name_or_the_class() -> None:
    assert names.error_type(ValueError("x")) == "ValueError"
    assert names.error_type(DeliveryError("x", topic="t", name="_MSG_TIMED_OUT")) == "_MSG_TIMED_OUT"
    assert names.error_type(DeliveryError("x", topic="t")) == "dp_kafka.errors.DeliveryError"


def test_extraction_takes_the_first_of_several_contexts_and_nothing_of_the_thread() -> None:
    first, second = (f"00-{digit * 32}-{digit * 16}-01".encode() for digit in "12")
    headers: list[tuple[str, bytes | None]] = [
        ("traceparent", None),
        ("traceparent", first),
        ("traceparent", second),
    ]
    found = carrier.creation_context(carrier.extract(headers))
    assert found is not None
    assert f"{found.span_id:x}" == "1" * 16
    assert carrier.creation_context(carrier.extract([])) is None


def statistics(**partition: Any) -> str:
    return json.dumps({"topics": {"topic": {"partitions": {"0": partition}}}})


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"consumer_lag": 7}, 7),
        ({"consumer_lag": 0, "ls_offset": 9, "fetch_state": "active"}, 0),
        ({"consumer_lag": -1, "ls_offset": 9, "fetch_state": "active"}, 5),
        ({"consumer_lag": -1, "ls_offset": 3, "fetch_state": "active"}, 0),
        ({"consumer_lag": -1, "ls_offset": -1001, "fetch_state": "active"}, None),
        ({"consumer_lag": -1, "ls_offset": 9, "fetch_state": "offset-query"}, None),
        ({}, None),
    ],
)
def test_lag_is_the_committed_one_or_what_is_unfinished(found: dict[str, Any], expected: int | None) -> None:
    session = new_session()
    open_lane(session).add(raws(4, 5, 6))
    lag = Lag("topic")
    lag.take(statistics(**found), session.lanes)
    assert lag.messages == ({} if expected is None else {0: expected})


def test_lag_of_an_empty_lane_is_what_is_not_fetched() -> None:
    session = new_session()
    lane = open_lane(session)
    lag = Lag("topic")
    text = statistics(consumer_lag=-1, ls_offset=9, fetch_state="active", next_offset=6, fetchq_cnt=2)
    lag.take(text, session.lanes)
    assert lag.messages == {0: 5}
    lane.add(raws(4, 5))
    while not session.upstream.empty():
        session.upstream.get().commit_and_release()
    lag.take(text, session.lanes)
    assert lag.messages == {0: 3}


def test_lag_of_partitions_that_are_not_owned_is_forgotten(logged: Logged) -> None:
    session = new_session()
    open_lane(session)
    lag = Lag("topic")
    lag.take(statistics(consumer_lag=7), session.lanes)
    assert lag.messages == {0: 7}
    lag.take("no JSON", session.lanes)
    assert lag.messages == {0: 7}
    lag.keep([1])
    assert lag.messages == {}
    lag.take(statistics(consumer_lag=7), {})
    assert lag.messages == {}


def test_a_forked_child_tells_no_lag_and_may_trace(cluster: EmbeddedCluster, topic: TopicFactory) -> None:
    name = topic()
    assert (
        run(
            """
            import os, sys, threading
            from opentelemetry import metrics, trace
            from opentelemetry.sdk.metrics import MeterProvider
            from opentelemetry.sdk.metrics.export import InMemoryMetricReader
            from dp_kafka import *
            import dp_kafka.metrics
            address, topic = sys.argv[1:]
            fast = {"statistics.interval.ms": 20}
            config = ConsumerGroupConfig([address], topic, "g", otel_enabled=True, librdkafka=fast)
            reader = InMemoryMetricReader()
            metrics.set_meter_provider(MeterProvider([reader]))
            def lags():
                data = reader.get_metrics_data()
                if data is None:
                    return 0
                return sum(len(m.data.data_points) for r in data.resource_metrics for s in r.scope_metrics
                           for m in s.metrics if m.name == "dp_kafka.consumer.lag")
            with ConsumerGroup(config) as group:
                group.register_handler(lambda worker, message: None)
                group.start()
                pause = threading.Event()
                for _ in range(1500):
                    if lags():
                        break
                    pause.wait(0.01)
                assert lags() == 1
                dp_kafka.metrics._lock.acquire()  # as another thread of the parent might hold it
                child = os.fork()
                if not child:
                    assert lags() == 0
                    with Producer(ProducerConfig([address], topic, otel_enabled=True)) as producer:
                        assert producer.channels.initialised.wait(15)
                        producer.send_bytes(b"of the child")
                    os._exit(0)
                dp_kafka.metrics._lock.release()
                print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            """,
            cluster.bootstrap_servers,
            name,
        )
        == "0"
    )


def test_a_dead_letter_that_waits_makes_no_process_span(
    topic: TopicFactory,
    consumer_group: GroupFactory,
    send: SendFunction,
    telemetry: Telemetry,
) -> None:
    """The message comes again for its letter alone: its handler is done, and its span told of it."""
    name, dead = topic(), topic()
    send(name, "a")
    # Too large with its headers, each time.
    letters = DeadLetter(dead, timeout=0.5, librdkafka={"message.max.bytes": 1000})
    group = consumer_group(name, otel_enabled=True, dead_letter=letters)

    def handle(worker_id: int, message: Message) -> None:
        raise ValueError("x" * 1000)

    group.register_handler(handle)
    group.start()
    first, second = telemetry.spans(dead, "send", 2)
    (processed,) = telemetry.spans(name, "process")
    assert parent_of(first) == parent_of(second) == id_of(processed)


@pytest.fixture(autouse=True)
def no_context_left() -> Iterator[None]:
    """Whatever a test does, the test's own thread has no context afterwards."""
    yield
    assert trace.get_current_span() is trace.INVALID_SPAN
