"""Contract 5.7 and 6: the trace id and the trace context, from a send to the handler; spans and metrics."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from dp_kafka import (
    BatchError,
    BytesMessage,
    ConsumerGroup,
    DeadLetter,
    HandlerError,
    Message,
    Ordering,
    QueueFullError,
    RetryPolicy,
    TraceIdFilter,
    current_trace_id,
    use_trace_id,
)
from dp_kafka.kafkatest import EmbeddedCluster
from dp_kafka.tracing import names
from tests.conftest import (
    INCREMENTAL,
    CommittedFunction,
    GroupFactory,
    ProducerFactory,
    SendFunction,
    TopicFactory,
)
from tests.looking import eventually
from tests.sending import PLAIN, nobody, received
from tests.telemetry import Telemetry, attributes, id_of, linked, parent_of, trace_of
from tests.waiting import PATIENCE, Collected, in_thread

QUICK = RetryPolicy(max_attempts=3, min_period=0.01, max_period=0.02)


def contexts(message: Any) -> list[str]:
    """The values of the traceparent headers of a message of confluent_kafka."""
    return [value.decode() for name, value in message.headers() if name == "traceparent"]


def as_header(span: ReadableSpan) -> str:
    """What W3C says of a span in a header."""
    found = span.get_span_context()
    assert found is not None
    return f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags:02x}"


def by_offset(spans: list[ReadableSpan]) -> dict[int, ReadableSpan]:
    """Spans of single messages, by the offset of their message."""
    return {attributes(span)[names.OFFSET]: span for span in spans}


def stop(group: ConsumerGroup) -> None:
    assert group.stop_and_wait(PATIENCE)


# -- 5.7: the trace id ----------------------------------------------------------------------------------


def test_5_7_the_trace_id_reaches_the_handler_and_its_log_records(
    topic: TopicFactory, consumer_group: GroupFactory, producer: ProducerFactory
) -> None:
    name = topic()
    lines: Collected[tuple[str, str]] = Collected()

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.add((record.getMessage().split(" ")[0], record.__dict__["trace_id"]))

    keep = Keep()
    keep.addFilter(TraceIdFilter())
    log = logging.getLogger("test.of.a.service")
    log.propagate = False
    log.setLevel(logging.INFO)
    log.addHandler(keep)
    group = consumer_group(name, num_workers=2)
    seen: Collected[str | None] = Collected()

    def handle(worker_id: int, message: Message) -> None:
        log.info("handled")
        seen.add(current_trace_id())

    group.register_handler(handle)
    group.start()
    sender = producer(name)
    with use_trace_id("request-1"):
        sender.send_bytes(b"one")
    with use_trace_id("request-2"):
        sender.send_bytes(b"two")
    assert seen.wait(2) == ["request-1", "request-2"]
    assert lines.wait(2) == [("handled", "request-1"), ("handled", "request-2")]
    log.info("outside")
    assert lines.wait(3)[2] == ("outside", "")
    log.removeHandler(keep)


def test_5_7_a_line_about_a_failed_handler_has_its_trace_id(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction
) -> None:
    name = topic()
    send(name, "a", headers=[("request-id", "request-9")])
    found: Collected[str] = Collected()

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage().startswith("failed to handle message"):
                found.add(record.__dict__["trace_id"])

    keep = Keep()
    keep.addFilter(TraceIdFilter())
    library = logging.getLogger("dp_kafka")
    library.addHandler(keep)
    group = consumer_group(name)

    def handle(worker_id: int, message: Message) -> None:
        raise HandlerError("no")

    group.register_handler(handle)
    group.start()
    try:
        assert found.wait(1) == ["request-9"]
    finally:
        library.removeHandler(keep)


def test_5_7_a_batch_handler_gets_no_trace_id_but_its_messages_have_theirs(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction
) -> None:
    name = topic()
    send(name, "a", headers=[("request-id", "request-1")])
    send(name, "b", headers=[("request-id", "request-2")])
    seen: Collected[str | None] = Collected()

    def handle(batch: list[Message]) -> None:
        seen.add(current_trace_id())
        for message in batch:
            seen.add(message.context.run(current_trace_id))

    group = consumer_group(name, batch_size=2)
    group.register_batch_handler(handle)
    group.start()
    assert seen.wait(3) == [None, "request-1", "request-2"]


def test_5_7_a_record_that_has_a_trace_id_keeps_it() -> None:
    record = logging.makeLogRecord({"trace_id": "its own"})
    with use_trace_id("of the context"):
        assert TraceIdFilter().filter(record) is True
    assert record.__dict__["trace_id"] == "its own"


# -- 6.1: what is sent ----------------------------------------------------------------------------------


def test_6_1_each_message_carries_the_context_of_its_own_span_once(
    cluster: EmbeddedCluster, topic: TopicFactory, producer: ProducerFactory, telemetry: Telemetry
) -> None:
    name = topic()
    sender = producer(name, otel_enabled=True)
    sender.add_header("fixed", "1")
    with telemetry.tracer.start_as_current_span("a request"):
        for value in (b"a", b"b", None):
            sender.send_bytes(value, headers={"own": "2"})
    assert sender.flush(PATIENCE) == 0
    request = telemetry.span("a request")
    spans = by_offset(telemetry.spans(name, "send", 3))
    messages = received(cluster, name, 3)
    for message in messages:
        span = spans[message.offset()]
        assert contexts(message) == [as_header(span)]
        assert [key for key, _ in message.headers()] == ["fixed", "own", "request-id", "traceparent"]
        assert parent_of(span) == id_of(request)
        assert span.kind is SpanKind.PRODUCER
        assert span.status.status_code is StatusCode.UNSET
    assert attributes(spans[0]) == {
        "messaging.system": "kafka",
        "messaging.destination.name": name,
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.client.id": "dp-kafka",
        "messaging.destination.partition.id": "0",
        "messaging.kafka.offset": 0,
    }
    assert attributes(spans[2])["messaging.kafka.message.tombstone"] is True
    assert len({contexts(message)[0] for message in messages}) == 3


def test_6_1_send_and_send_json_are_traced_too(
    cluster: EmbeddedCluster, topic: TopicFactory, producer: ProducerFactory, telemetry: Telemetry
) -> None:
    class Utf8:
        def marshal(self, event: str) -> bytes:
            return event.encode()

    name = topic()
    sender = producer(name, otel_enabled=True)
    sender.send_json({"a": 1})
    sender.send(Utf8(), "event")
    assert sender.flush(PATIENCE) == 0
    spans = by_offset(telemetry.spans(name, "send", 2))
    assert [contexts(message) for message in received(cluster, name, 2)] == [
        [as_header(spans[0])],
        [as_header(spans[1])],
    ]


@pytest.mark.parametrize("by", ["send", "output", "add_header"])
def test_6_1_a_context_that_is_forwarded_is_replaced(
    cluster: EmbeddedCluster, topic: TopicFactory, producer: ProducerFactory, telemetry: Telemetry, by: str
) -> None:
    """Handlers forward headers as they came; two contexts, or the old one, would break the trace."""
    name = topic()
    sender = producer(name, otel_enabled=True)
    came = [
        ("traceparent", b"00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-01"),
        ("tracestate", b"x=y"),
        ("k", b"v"),
    ]
    if by == "send":
        sender.send_bytes(b"a", headers=came)
    elif by == "output":
        sender.channels.output.put(BytesMessage(b"a", headers=came))
    else:
        for header in came:
            sender.add_header(*header)
        sender.send_bytes(b"a")
    assert sender.flush(PATIENCE) == 0
    (message,) = received(cluster, name, 1)
    (span,) = telemetry.spans(name, "send")
    assert contexts(message) == [as_header(span)]
    assert [key for key, _ in message.headers()] == ["k", "request-id", "traceparent"]


def test_6_1_the_output_channel_takes_the_context_of_the_put(
    cluster: EmbeddedCluster, topic: TopicFactory, producer: ProducerFactory, telemetry: Telemetry
) -> None:
    name = topic()
    sender = producer(name, otel_enabled=True)
    reports: Collected[BaseException | None] = Collected()
    message = BytesMessage(b"a", headers={"own": "1"}, on_delivery=lambda error, _: reports.add(error))
    with telemetry.tracer.start_as_current_span("first request"):
        sender.channels.output.put(message)
    with telemetry.tracer.start_as_current_span("second request"):
        sender.channels.output.put(message)
    assert sender.flush(PATIENCE) == 0
    spans = by_offset(telemetry.spans(name, "send", 2))
    assert parent_of(spans[0]) == id_of(telemetry.span("first request"))
    assert parent_of(spans[1]) == id_of(telemetry.span("second request"))
    assert [contexts(one) for one in received(cluster, name, 2)] == [
        [as_header(spans[0])],
        [as_header(spans[1])],
    ]
    assert reports.wait(2) == [None, None]
    assert message.headers == [("own", "1")]


def test_6_1_a_message_that_is_refused_ends_its_span_with_the_error(
    topic: TopicFactory, producer: ProducerFactory, telemetry: Telemetry
) -> None:
    name = topic()
    sender = producer(name, otel_enabled=True, max_message_bytes=1000)
    with pytest.raises(Exception, match="larger than the limit"):
        sender.send_bytes(b"x" * 2000)
    (span,) = telemetry.spans(name, "send")
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(span)["error.type"] == "dp_kafka.errors.MessageTooLargeError"
    assert telemetry.total(names.SENT_MESSAGES, name) == 0


def test_6_1_a_message_that_the_output_channel_refuses_ends_its_span(
    topic: TopicFactory, producer: ProducerFactory, telemetry: Telemetry
) -> None:
    name = topic()
    sender = producer(name, otel_enabled=True)
    sender.close(PATIENCE)
    with pytest.raises(Exception, match="closed channel"):
        sender.channels.output.put(BytesMessage(b"a"))
    (span,) = telemetry.spans(name, "send")
    assert attributes(span)["error.type"] == "dp_kafka.errors.ChannelClosed"
    with pytest.raises(TypeError, match="takes a BytesMessage"):
        sender.channels.output.put(b"a")  # type: ignore[arg-type]


def test_6_1_waiting_for_room_is_one_span(
    own_cluster: EmbeddedCluster, producer: ProducerFactory, telemetry: Telemetry
) -> None:
    own_cluster.create_topic("full")
    sender = producer(
        "full",
        broker_addrs=own_cluster.broker_addrs,
        otel_enabled=True,
        librdkafka={**PLAIN, "queue.buffering.max.messages": 1},
    )
    own_cluster.broker_down(1)
    sender.send_bytes(b"a")
    with pytest.raises(QueueFullError):
        sender.send_bytes(b"b", timeout=0.3)
    (span,) = telemetry.spans("full", "send")
    assert attributes(span)["error.type"] == "dp_kafka.errors.QueueFullError"
    own_cluster.broker_up(1)


@pytest.mark.parametrize("by", ["send", "output"])
def test_6_1_messages_that_close_gives_up_end_their_spans(
    own_cluster: EmbeddedCluster, producer: ProducerFactory, telemetry: Telemetry, by: str
) -> None:
    own_cluster.create_topic("away")
    sender = producer(
        "away",
        broker_addrs=own_cluster.broker_addrs,
        otel_enabled=True,
        librdkafka=PLAIN,
    )
    own_cluster.broker_down(1)
    if by == "send":
        sender.send_bytes(b"a")
    else:
        sender.channels.output.put(BytesMessage(b"a"))
        eventually(sender.channels.output.qsize, 0)
    # Long enough for the output thread: what librdkafka does not have by then ends with another error.
    assert sender.close(timeout=1.0) == 1
    (span,) = telemetry.spans("away", "send")
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(span)["error.type"] in ("_PURGE_QUEUE", "_PURGE_INFLIGHT")


def test_6_1_the_output_channel_of_a_producer_that_never_starts_ends_its_spans(
    producer: ProducerFactory, telemetry: Telemetry
) -> None:
    sender = producer("nowhere", broker_addrs=[nobody()], otel_enabled=True)
    sender.channels.output.put(BytesMessage(b"a"))
    assert sender.close(timeout=0.2) == 1
    (span,) = telemetry.spans("nowhere", "send")
    assert attributes(span)["error.type"] == "dp_kafka.errors.ClosedError"
    assert telemetry.total(names.SENT_MESSAGES, "nowhere") == 0


# -- 6.2 to 6.4: what is handled --------------------------------------------------------------------------


def test_6_2_a_handler_runs_in_a_child_of_the_span_that_sent_its_message(
    topic: TopicFactory, consumer_group: GroupFactory, producer: ProducerFactory, telemetry: Telemetry
) -> None:
    name = topic()
    group = consumer_group(name, otel_enabled=True)
    done: Collected[str | None] = Collected()

    def handle(worker_id: int, message: Message) -> None:
        with telemetry.tracer.start_as_current_span("the work"):
            done.add(baggage.get_baggage("tenant"))  # type: ignore[arg-type]

    group.register_handler(handle)
    group.start()
    sender = producer(name, otel_enabled=True)
    token = context.attach(baggage.set_baggage("tenant", "seven"))
    try:
        sender.send_bytes(b"a", key="a key")
    finally:
        context.detach(token)
    assert done.wait(1) == ["seven"]
    (sent,) = telemetry.spans(name, "send")
    (processed,) = telemetry.spans(name, "process")
    assert processed.kind is SpanKind.CONSUMER
    assert parent_of(processed) == id_of(sent)
    assert trace_of(processed) == trace_of(sent)
    assert linked(processed) == [id_of(sent)]
    assert processed.status.status_code is StatusCode.UNSET
    assert attributes(processed) == {
        "messaging.system": "kafka",
        "messaging.destination.name": name,
        "messaging.consumer.group.name": group.group_name,
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.client.id": "dp-kafka",
        "messaging.destination.partition.id": "0",
        "messaging.kafka.offset": 0,
        "dp_kafka.message.attempt": 1,
    }
    assert parent_of(telemetry.span("the work")) == id_of(processed)
    assert telemetry.of(name, "receive") == []


def test_6_2_a_message_without_context_begins_a_trace(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction, telemetry: Telemetry
) -> None:
    name = topic()
    send(name, "a", headers=[("traceparent", b"\xff no context")])
    send(name, None)
    group = consumer_group(name, otel_enabled=True)
    group.register_handler(lambda _worker, _message: None)
    group.start()
    for span in telemetry.spans(name, "process", 2):
        assert span.parent is None
        assert linked(span) == []
    assert attributes(telemetry.of(name, "process")[1])["messaging.kafka.message.tombstone"] is True


def test_6_3_the_context_of_a_message_has_its_span_and_changes_no_header(
    topic: TopicFactory, consumer_group: GroupFactory, producer: ProducerFactory, telemetry: Telemetry
) -> None:
    """In the handler it is that of the process span, so that other threads can go on in it."""
    name = topic()
    group = consumer_group(name, otel_enabled=True)
    seen: Collected[Any] = Collected()

    def handle(worker_id: int, message: Message) -> None:
        before = message.headers
        span = in_thread(lambda: message.context.run(trace.get_current_span)).result(PATIENCE)
        seen.add((span is trace.get_current_span(), before == message.headers))

    group.register_handler(handle)
    group.start()
    producer(name, otel_enabled=True).send_bytes(b"a")
    assert seen.wait(1) == [(True, True)]


def test_6_3_with_tracing_off_a_message_has_no_trace_context(
    topic: TopicFactory, consumer_group: GroupFactory, producer: ProducerFactory, telemetry: Telemetry
) -> None:
    name = topic()
    group = consumer_group(name)
    seen: Collected[Any] = Collected()

    def handle(worker_id: int, message: Message) -> None:
        seen.add(trace.get_current_span())
        seen.add(message.context.run(trace.get_current_span))

    group.register_handler(handle)
    group.start()
    producer(name, otel_enabled=True).send_bytes(b"a")
    assert seen.wait(2) == [trace.INVALID_SPAN, trace.INVALID_SPAN]
    stop(group)
    assert telemetry.of(name, "process") == []


def test_6_4_a_batch_is_a_trace_of_its_own_with_links_to_its_messages(
    topic: TopicFactory, consumer_group: GroupFactory, producer: ProducerFactory, telemetry: Telemetry
) -> None:
    name = topic(2)
    sender = producer(name, otel_enabled=True)
    for partition in (0, 0, 1):
        sender.send_bytes(b"a", partition=partition)
    assert sender.flush(PATIENCE) == 0
    sent = telemetry.spans(name, "send", 3)
    group = consumer_group(name, otel_enabled=True, batch_size=3, batch_wait_time=PATIENCE)
    inner: Collected[list[Message]] = Collected()

    def handle(batch: list[Message]) -> None:
        with telemetry.tracer.start_as_current_span("the batch's work"):
            inner.add(batch)

    group.register_batch_handler(handle)
    group.start()
    (batch,) = inner.wait(1)
    (processed,) = telemetry.spans(name, "process")
    assert processed.parent is None
    assert processed.kind is SpanKind.CONSUMER
    assert sorted(linked(processed)) == sorted(id_of(span) for span in sent)
    assert attributes(processed)["messaging.batch.message_count"] == 3
    assert "messaging.destination.partition.id" not in attributes(processed)
    assert "messaging.kafka.offset" not in attributes(processed)
    assert parent_of(telemetry.span("the batch's work")) == id_of(processed)
    ids = {(attributes(s)[names.PARTITION], attributes(s)[names.OFFSET]): id_of(s) for s in sent}
    for message in batch:
        span = message.context.run(trace.get_current_span).get_span_context()
        assert span.span_id == ids[str(message.partition), message.offset]


def test_6_4_each_retry_is_a_span_and_the_failed_ones_say_why(
    topic: TopicFactory, consumer_group: GroupFactory, producer: ProducerFactory, telemetry: Telemetry
) -> None:
    name = topic()
    group = consumer_group(name, otel_enabled=True, retry=QUICK)
    done: Collected[int] = Collected()

    def handle(worker_id: int, message: Message) -> None:
        done.add(message.attempt)
        if message.attempt < 3:
            raise ValueError("not yet")

    group.register_handler(handle)
    group.start()
    producer(name, otel_enabled=True).send_bytes(b"a")
    assert done.wait(3) == [1, 2, 3]
    processed = telemetry.spans(name, "process", 3)
    (sent,) = telemetry.spans(name, "send")
    assert [parent_of(span) for span in processed] == [id_of(sent)] * 3
    assert [attributes(span)["dp_kafka.message.attempt"] for span in processed] == [1, 2, 3]
    assert [attributes(span).get("error.type") for span in processed] == ["ValueError", "ValueError", None]
    assert [span.status.status_code for span in processed] == [
        StatusCode.ERROR,
        StatusCode.ERROR,
        StatusCode.UNSET,
    ]
    assert [[event.name for event in span.events] for span in processed] == [["exception"], ["exception"], []]
    stop(group)
    assert telemetry.total(names.CONSUMED_MESSAGES, name) == 1
    durations = telemetry.measured(names.PROCESS_DURATION, name)
    assert sorted((point.attributes.get("error.type", ""), point.count) for point in durations) == [
        ("", 1),
        ("ValueError", 2),
    ]


@pytest.mark.parametrize("kind", ["single", "batch"])
def test_6_4_the_trace_of_a_message_goes_on_in_its_dead_letter(
    cluster: EmbeddedCluster,
    topic: TopicFactory,
    consumer_group: GroupFactory,
    producer: ProducerFactory,
    telemetry: Telemetry,
    kind: str,
) -> None:
    name, dead = topic(), topic()
    group = consumer_group(
        name, otel_enabled=True, batch_size=2, dead_letter=DeadLetter(dead, librdkafka=PLAIN)
    )

    def handle(worker_id: int, message: Message) -> None:
        if message.data == b"bad":
            raise ValueError("no good")

    def handle_batch(batch: list[Message]) -> None:
        bad = [message for message in batch if message.data == b"bad"]
        if bad:
            raise BatchError(bad)

    if kind == "single":
        group.register_handler(handle)
    else:
        group.register_batch_handler(handle_batch)
    group.start()
    sender = producer(name, otel_enabled=True)
    for value in (b"bad", b"good"):
        sender.send_bytes(value)
    (letter,) = received(cluster, dead, 1)
    (sent_letter,) = telemetry.spans(dead, "send")
    sent = by_offset(telemetry.spans(name, "send", 2))
    assert contexts(letter) == [as_header(sent_letter)]
    assert trace_of(sent_letter) == trace_of(sent[0])
    stop(group)
    if kind == "single":
        processed = by_offset(telemetry.spans(name, "process", 2))
        assert parent_of(sent_letter) == id_of(processed[0])
        assert attributes(processed[0])["error.type"] == "ValueError"
        assert processed[0].status.status_code is StatusCode.ERROR
        assert processed[1].status.status_code is StatusCode.UNSET
    else:
        assert parent_of(sent_letter) == id_of(sent[0])
        failed = [span for span in telemetry.of(name, "process") if not span.status.is_ok]
        assert [attributes(span)["error.type"] for span in failed] == ["dp_kafka.errors.BatchError"]
        assert id_of(sent[0]) in linked(failed[0])


@pytest.mark.parametrize(
    "raised",
    [ValueError("x"), SystemExit(3), HandlerError("kept", commit=False)],
    ids=lambda e: type(e).__name__,
)
def test_6_4_a_handler_that_raises_leaves_no_open_span_and_no_context(
    topic: TopicFactory,
    consumer_group: GroupFactory,
    producer: ProducerFactory,
    telemetry: Telemetry,
    raised: BaseException,
) -> None:
    name = topic()
    group = consumer_group(name, otel_enabled=True)
    seen: Collected[int] = Collected()

    def handle(worker_id: int, message: Message) -> None:
        seen.add(trace.get_current_span().get_span_context().span_id)
        # Never detached: it must not get into what comes after.
        context.attach(trace.set_span_in_context(telemetry.tracer.start_span("left behind")))
        if message.data == b"bad":
            raise raised

    group.register_handler(handle)
    group.start()
    sender = producer(name, otel_enabled=True)
    for value in (b"bad", b"good", b"bad", b"good"):
        sender.send_bytes(value)
    ids = seen.wait(4)
    processed = by_offset(telemetry.spans(name, "process", 4))
    sent = by_offset(telemetry.spans(name, "send", 4))
    assert ids == [id_of(processed[offset]) for offset in range(4)]
    assert [parent_of(processed[offset]) for offset in range(4)] == [id_of(sent[o]) for o in range(4)]
    expected = names.error_type(raised)
    assert [attributes(processed[o]).get("error.type") for o in range(4)] == [expected, None, expected, None]


def test_6_4_the_workers_context_is_as_before_after_a_handler(
    topic: TopicFactory, consumer_group: GroupFactory, producer: ProducerFactory, telemetry: Telemetry
) -> None:
    """Looked at by what a worker does after a handler has failed: it logs, on the same thread."""
    name = topic()
    group = consumer_group(name, otel_enabled=True)
    current: Collected[Any] = Collected()

    class Look(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage().startswith("failed to handle message"):
                current.add(trace.get_current_span())

    look = Look()
    library = logging.getLogger("dp_kafka")
    library.addHandler(look)

    def handle(worker_id: int, message: Message) -> None:
        raise ValueError("no")

    group.register_handler(handle)
    group.start()
    producer(name, otel_enabled=True).send_bytes(b"a")
    try:
        assert current.wait(1) == [trace.INVALID_SPAN]
    finally:
        library.removeHandler(look)


def test_6_4_concurrent_workers_do_not_mix_their_contexts(
    topic: TopicFactory, consumer_group: GroupFactory, producer: ProducerFactory, telemetry: Telemetry
) -> None:
    """Four handlers are inside at once, and each goes on only when all are."""
    name = topic()
    sender = producer(name, otel_enabled=True)
    for number in range(8):
        sender.send_bytes(str(number).encode())
    assert sender.flush(PATIENCE) == 0
    group = consumer_group(name, otel_enabled=True, num_workers=4, ordering=Ordering.NONE)
    together = threading.Barrier(4)
    seen: Collected[tuple[int, int, int]] = Collected()

    def handle(worker_id: int, message: Message) -> None:
        before = trace.get_current_span().get_span_context().span_id
        together.wait(PATIENCE)
        seen.add((message.offset, before, trace.get_current_span().get_span_context().span_id))
        together.wait(PATIENCE)

    group.register_handler(handle)
    group.start()
    rows = seen.wait(8)
    processed = by_offset(telemetry.spans(name, "process", 8))
    sent = by_offset(telemetry.spans(name, "send", 8))
    for offset, before, after in rows:
        assert before == after == id_of(processed[offset])
        assert parent_of(processed[offset]) == id_of(sent[offset])


def test_6_4_who_takes_messages_from_the_channel_gets_receive_spans(
    topic: TopicFactory, consumer_group: GroupFactory, producer: ProducerFactory, telemetry: Telemetry
) -> None:
    name = topic()
    group = consumer_group(name, otel_enabled=True)
    sender = producer(name, otel_enabled=True)
    sender.send_bytes(b"a")
    sender.send_bytes(b"b")
    assert sender.flush(PATIENCE) == 0
    group.start()
    with telemetry.tracer.start_as_current_span("a loop"):
        first = group.channels.upstream.get(timeout=PATIENCE)
    first.commit_and_release()
    second = next(iter(group.channels.upstream))
    with second.context.run(telemetry.tracer.start_span, "own work"):
        second.commit_and_release()
    sent = by_offset(telemetry.spans(name, "send", 2))
    taken = by_offset(telemetry.spans(name, "receive", 2))
    for offset in (0, 1):
        assert taken[offset].kind is SpanKind.CLIENT
        assert linked(taken[offset]) == [id_of(sent[offset])]
    assert parent_of(taken[0]) == id_of(telemetry.span("a loop"))
    assert taken[1].parent is None
    assert attributes(taken[0])["messaging.operation.type"] == "receive"
    assert attributes(taken[0])["messaging.consumer.group.name"] == group.group_name
    assert parent_of(telemetry.span("own work")) == id_of(sent[1])
    assert telemetry.of(name, "process") == []
    assert telemetry.total(names.CONSUMED_MESSAGES, name) == 2
    (duration,) = [
        point
        for point in telemetry.measured(names.OPERATION_DURATION, name)
        if point.attributes[names.OPERATION_NAME] == "receive"
    ]
    assert duration.count == 2


def test_6_5_with_tracing_off_a_message_is_sent_without_its_context(
    cluster: EmbeddedCluster, topic: TopicFactory, producer: ProducerFactory, telemetry: Telemetry
) -> None:
    name = topic()
    sender = producer(name)
    with telemetry.tracer.start_as_current_span("a request"):
        sender.send_bytes(b"a")
        sender.channels.output.put(BytesMessage(b"b"))
    assert sender.flush(PATIENCE) == 0
    assert [contexts(message) for message in received(cluster, name, 2)] == [[], []]
    assert telemetry.of(name, "send") == []
    assert telemetry.measured(names.SENT_MESSAGES, name) == []


# -- metrics ----------------------------------------------------------------------------------------------


def test_6_metrics_have_the_names_units_and_attributes_of_the_conventions(
    topic: TopicFactory,
    consumer_group: GroupFactory,
    producer: ProducerFactory,
    telemetry: Telemetry,
) -> None:
    name = topic()
    group = consumer_group(name, otel_enabled=True)
    done: Collected[bytes | None] = Collected()

    def handle(worker_id: int, message: Message) -> None:
        done.add(message.data)

    group.register_handler(handle)
    group.start()
    sender = producer(name, otel_enabled=True)
    for _ in range(3):
        sender.send_bytes(b"a")
    assert sender.flush(PATIENCE) == 0
    done.wait(3)
    stop(group)
    sending = {
        "messaging.system": "kafka",
        "messaging.destination.name": name,
        "messaging.destination.partition.id": "0",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
    }
    processing = {
        **sending,
        "messaging.consumer.group.name": group.group_name,
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
    }
    (sent,) = telemetry.measured("messaging.client.sent.messages", name)
    assert (sent.value, dict(sent.attributes)) == (3, sending)
    (took,) = telemetry.measured("messaging.client.operation.duration", name)
    assert (took.count, dict(took.attributes)) == (3, sending)
    (consumed,) = telemetry.measured("messaging.client.consumed.messages", name)
    assert (consumed.value, dict(consumed.attributes)) == (3, processing)
    (processed,) = telemetry.measured("messaging.process.duration", name)
    assert (processed.count, dict(processed.attributes)) == (3, processing)
    seconds = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
    assert tuple(took.explicit_bounds) == tuple(processed.explicit_bounds) == seconds


def test_6_metrics_count_a_message_that_was_not_delivered_with_its_error(
    own_cluster: EmbeddedCluster, producer: ProducerFactory, telemetry: Telemetry
) -> None:
    name = f"not-delivered-{uuid.uuid4()}"  # counters count for the whole process
    own_cluster.create_topic(name)
    sender = producer(
        name,
        broker_addrs=own_cluster.broker_addrs,
        otel_enabled=True,
        librdkafka={**PLAIN, "delivery.timeout.ms": 1000, "retries": 0},
    )
    own_cluster.inject_errors("Produce", "TOPIC_AUTHORIZATION_FAILED")
    sender.send_bytes(b"a")
    (span,) = telemetry.spans(name, "send")
    assert attributes(span)["error.type"] == "TOPIC_AUTHORIZATION_FAILED"
    assert span.status.status_code is StatusCode.ERROR
    sender.flush(PATIENCE)  # the span ends first, and then it is counted
    (sent,) = telemetry.measured(names.SENT_MESSAGES, name)
    assert (sent.value, sent.attributes["error.type"]) == (1, "TOPIC_AUTHORIZATION_FAILED")


def test_6_metrics_tell_the_lag_of_the_partitions_that_are_owned(
    topic: TopicFactory,
    consumer_group: GroupFactory,
    send: SendFunction,
    telemetry: Telemetry,
    committed: CommittedFunction,
) -> None:
    name = topic(2)
    send(name, *"abcde", partition=0)
    send(name, *"ab", partition=1)
    group = consumer_group(
        name, otel_enabled=True, num_workers=2, librdkafka={**INCREMENTAL, "statistics.interval.ms": 20}
    )
    allowed = threading.Semaphore(0)

    def handle(worker_id: int, message: Message) -> None:
        if message.partition == 0:
            assert allowed.acquire(timeout=PATIENCE)

    group.register_handler(handle)
    group.start()

    def lags() -> dict[str, int]:
        return {
            point.attributes[names.PARTITION]: point.value
            for point in telemetry.measured(names.CONSUMER_LAG, name)
        }

    # Nothing of partition 0 was ever committed: the message that hangs counts.
    wait_for(lambda: lags() == {"0": 5, "1": 0})
    allowed.release(2)
    wait_for(lambda: lags() == {"0": 3, "1": 0})
    allowed.release(3)
    wait_for(lambda: lags() == {"0": 0, "1": 0})
    (point, _) = telemetry.measured(names.CONSUMER_LAG, name)
    assert point.attributes[names.GROUP] == group.group_name
    stop(group)
    assert lags() == {}
    assert committed(group.group_name, name) == 5


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait for what metrics will show: they have to be asked, nothing tells that they have changed."""
    passed = threading.Event()
    for _ in range(int(PATIENCE / 0.02)):
        if condition():
            return
        passed.wait(0.02)
    raise AssertionError("the condition did not become true")
