"""Defects A1 to A6 of the original: tracing that does nothing, or twice, and trace ids of another request."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import (
    CarrierT,
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from dp_kafka import BytesMessage, Message, use_trace_id
from dp_kafka.kafkatest import EmbeddedCluster
from tests.conftest import GroupFactory, ProducerFactory, TopicFactory
from tests.sending import received
from tests.telemetry import Telemetry, attributes, id_of, linked, parent_of
from tests.waiting import PATIENCE, Collected, in_thread


def values(message: Any, header: str) -> list[str]:
    """The values of all headers of a name."""
    return [value.decode() for name, value in message.headers() if name == header]


@pytest.mark.parametrize("kind", ["handler", "batch", "channel"])
def test_a01_otel_enabled_reaches_producer_group_and_message(
    topic: TopicFactory,
    consumer_group: GroupFactory,
    producer: ProducerFactory,
    telemetry: Telemetry,
    kind: str,
) -> None:
    """A1: no constructor passed the setting on, so that it did nothing anywhere."""
    name = topic()
    group = consumer_group(name, otel_enabled=True)
    in_context: Collected[int] = Collected()

    def look(message: Message) -> None:
        in_context.add(message.context.run(trace.get_current_span).get_span_context().span_id)

    if kind == "handler":
        group.register_handler(lambda _worker, message: look(message))
    elif kind == "batch":
        group.register_batch_handler(lambda batch: look(batch[0]))
    group.start()
    producer(name, otel_enabled=True).send_bytes(b"a")
    if kind == "channel":
        message = group.channels.upstream.get(timeout=PATIENCE)
        look(message)
        message.commit_and_release()
    (seen,) = in_context.wait(1)
    (sent,) = telemetry.spans(name, "send")
    (consumed,) = telemetry.spans(name, "receive" if kind == "channel" else "process")
    assert linked(consumed) == [id_of(sent)]
    assert seen == id_of(consumed if kind == "handler" else sent)


def test_a02_one_injection_for_each_message_and_no_header_is_shared(
    cluster: EmbeddedCluster, topic: TopicFactory, producer: ProducerFactory, telemetry: Telemetry
) -> None:
    """A2: two injections a message, into one list of headers that all messages shared."""
    name = topic()
    sender = producer(name, otel_enabled=True)
    sender.add_header("fixed", "1")
    own = [("own", b"2")]
    for _ in range(20):
        sender.send_bytes(b"a", headers=own)
    for _ in range(20):
        sender.channels.output.put(BytesMessage(b"a", headers=own))
    assert sender.flush(PATIENCE) == 0
    telemetry.spans(name, "send", 40)
    found = [values(message, "traceparent") for message in received(cluster, name, 40)]
    assert [len(contexts) for contexts in found] == [1] * 40
    assert len({contexts[0] for contexts in found}) == 40
    assert own == [("own", b"2")]


class OneHeader(TextMapPropagator):
    """A propagator that is not W3C's: "trace/span" in one header."""

    @property
    def fields(self) -> set[str]:
        return {"x-test-trace"}

    def inject(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        setter: Setter[CarrierT] = default_setter,
    ) -> None:
        found = trace.get_current_span(context).get_span_context()
        setter.set(carrier, "x-test-trace", f"{found.trace_id:x}/{found.span_id:x}")

    def extract(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        getter: Getter[CarrierT] = default_getter,
    ) -> Context:
        found = getter.get(carrier, "x-test-trace")
        if not found:
            return context or Context()
        trace_id, span_id = (int(part, 16) for part in found[0].split("/"))
        remote = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(1))
        return trace.set_span_in_context(NonRecordingSpan(remote), context)


@pytest.fixture
def other_propagator() -> Iterator[None]:
    """The global propagator is not W3C's, during the test."""
    before = propagate.get_global_textmap()
    propagate.set_global_textmap(OneHeader())
    yield
    propagate.set_global_textmap(before)


@pytest.mark.usefixtures("other_propagator")
def test_a02_both_ends_use_the_global_propagator(
    topic: TopicFactory, consumer_group: GroupFactory, producer: ProducerFactory, telemetry: Telemetry
) -> None:
    """A2: the consumer used a propagator of its own, whatever the application had set."""
    name = topic()
    group = consumer_group(name, otel_enabled=True)
    headers: Collected[list[str]] = Collected()
    group.register_handler(lambda _worker, message: headers.add([key for key, _ in message.headers]))
    group.start()
    producer(name, otel_enabled=True).send_bytes(b"a", headers={"x-test-trace": "1/2"})
    assert headers.wait(1) == [["request-id", "x-test-trace"]]
    (sent,) = telemetry.spans(name, "send")
    (processed,) = telemetry.spans(name, "process")
    assert parent_of(processed) == id_of(sent)


def test_a02_to_ask_for_the_context_changes_no_header(
    topic: TopicFactory, consumer_group: GroupFactory, producer: ProducerFactory, telemetry: Telemetry
) -> None:
    """A2: the getter of the context injected it into the headers of the message again."""
    name = topic()
    group = consumer_group(name, otel_enabled=True)
    group.start()
    producer(name, otel_enabled=True).send_bytes(b"a", headers={"own": "1"})
    message = group.channels.upstream.get(timeout=PATIENCE)
    before = message.headers
    for _ in range(3):
        assert message.context.run(trace.get_current_span).get_span_context().is_valid
    assert message.headers == before
    message.commit_and_release()
    telemetry.spans(name, "receive")


def test_a03_the_trace_id_is_that_of_each_send_and_not_of_the_producer(
    cluster: EmbeddedCluster, topic: TopicFactory, producer: ProducerFactory
) -> None:
    """A3: one trace id for the producer's whole life; what was current at the send did not matter."""
    name = topic()
    with use_trace_id("when it was made"):
        sender = producer(name)
    with use_trace_id("request-1"):
        sender.send_bytes(b"a")
    with use_trace_id("request-2"):
        sender.channels.output.put(BytesMessage(b"b"))
    assert sender.flush(PATIENCE) == 0
    sender.send_bytes(b"c")
    sender.send_bytes(b"d")
    assert sender.flush(PATIENCE) == 0
    found = [values(message, "request-id") for message in received(cluster, name, 4)]
    assert found[:2] == [["request-1"], ["request-2"]]
    assert [len(ids) for ids in found] == [1] * 4
    third, fourth = uuid.UUID(found[2][0]), uuid.UUID(found[3][0])
    assert third.version == fourth.version == 4
    assert third != fourth


def test_a04_a_handlers_trace_id_goes_on_with_what_the_handler_sends(
    cluster: EmbeddedCluster, topic: TopicFactory, consumer_group: GroupFactory, producer: ProducerFactory
) -> None:
    """A4: it was stored under one key and looked up under another, so that a request lost its id here."""
    name, further = topic(), topic()
    first, second = producer(name), producer(further)
    group = consumer_group(name)

    def handle(worker_id: int, message: Message) -> None:
        second.send_bytes(b"from the handler")
        in_thread(lambda: message.context.run(second.send_bytes, b"from a thread of it")).result(PATIENCE)

    group.register_handler(handle)
    group.start()
    with use_trace_id("request-7"):
        first.send_bytes(b"a")
    found = [values(message, "request-id") for message in received(cluster, further, 2)]
    assert found == [["request-7"], ["request-7"]]


@pytest.mark.parametrize("not_text", [7, b"bytes", None, object(), ""])
def test_a05_a_trace_id_that_is_no_text_is_refused_where_it_is_set(
    cluster: EmbeddedCluster, topic: TopicFactory, producer: ProducerFactory, not_text: Any
) -> None:
    """A5: an unchecked cast of whatever the context held ended the process."""
    name = topic()
    sender = producer(name)
    with pytest.raises(TypeError, match="must be a non-empty str"), use_trace_id(not_text):
        pass
    sender.send_bytes(b"a")
    assert sender.flush(PATIENCE) == 0
    ((found,),) = [values(message, "request-id") for message in received(cluster, name, 1)]
    assert uuid.UUID(found).version == 4


def test_a06_headers_may_be_added_while_others_send(
    cluster: EmbeddedCluster, topic: TopicFactory, producer: ProducerFactory, telemetry: Telemetry
) -> None:
    """A6: the list was changed while the sending thread read it. Each message has a whole beginning of it."""
    name = topic()
    sender = producer(name, otel_enabled=True)
    begin = threading.Barrier(3)

    def add() -> None:
        begin.wait(PATIENCE)
        for number in range(200):
            sender.add_header("added", str(number))

    def send() -> None:
        begin.wait(PATIENCE)
        for _ in range(100):
            sender.send_bytes(b"a")

    calls = [in_thread(add), in_thread(send), in_thread(send)]
    for call in calls:
        call.result(PATIENCE)
    sender.send_bytes(b"last")
    assert sender.flush(PATIENCE) == 0
    telemetry.spans(name, "send", 201)
    messages = received(cluster, name, 201)
    everything = [str(number) for number in range(200)]
    for message in messages:
        added = values(message, "added")
        assert added == everything[: len(added)]
        assert len(values(message, "request-id")) == len(values(message, "traceparent")) == 1
    assert values(messages[-1], "added") == everything


def test_a01_attributes_name_the_group(
    topic: TopicFactory, consumer_group: GroupFactory, producer: ProducerFactory, telemetry: Telemetry
) -> None:
    """A1: nothing of the group's configuration reached what it traced."""
    name = topic()
    group = consumer_group(name, otel_enabled=True)
    group.register_handler(lambda _worker, _message: None)
    group.start()
    producer(name, otel_enabled=True).send_bytes(b"a")
    (processed,) = telemetry.spans(name, "process")
    found: Mapping[str, Any] = attributes(processed)
    assert found["messaging.consumer.group.name"] == group.group_name
