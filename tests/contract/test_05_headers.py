"""Contract 5: the headers of messages, and the trace id that goes with them."""

from __future__ import annotations

import threading
import uuid
from typing import Any

import confluent_kafka
import pytest

from dp_kafka import TRACE_ID_HEADER, Message, current_trace_id, use_trace_id
from dp_kafka.kafkatest import EmbeddedCluster
from tests.conftest import GroupFactory, ProducerFactory, SendFunction, TakeFunction, TopicFactory
from tests.sending import PLAIN, received
from tests.waiting import PATIENCE, Collected


def headers_of(message: confluent_kafka.Message, *, but: str = TRACE_ID_HEADER) -> list[tuple[str, bytes]]:
    return [(key, value) for key, value in message.headers() if key != but]


def trace_ids(message: confluent_kafka.Message) -> list[str]:
    return [value.decode() for key, value in message.headers() if key == TRACE_ID_HEADER]


def test_5_1_the_name_of_the_trace_ids_header() -> None:
    """The one that services of the original write and read."""
    assert TRACE_ID_HEADER == "request-id"


def test_5_2_every_message_carries_all_headers_in_the_order_of_their_adding(
    topic: TopicFactory, producer: ProducerFactory, cluster: EmbeddedCluster
) -> None:
    name = topic()
    made = producer(name, librdkafka=PLAIN)
    for key, value in (("b", "1"), ("a", "2"), ("c", "3")):
        made.add_header(key, value)
    made.send_bytes(b"1")
    made.send_bytes(b"2", headers={"own": "4"})
    made.send_bytes(b"3")
    assert made.flush(PATIENCE) == 0
    all_three = [("b", b"1"), ("a", b"2"), ("c", b"3")]
    first, second, third = received(cluster, name, 3)
    assert headers_of(first) == headers_of(third) == all_three
    assert headers_of(second) == [*all_three, ("own", b"4")]


def test_5_2_headers_may_be_pairs_and_values_may_be_any_text_or_bytes(
    topic: TopicFactory, producer: ProducerFactory, cluster: EmbeddedCluster
) -> None:
    """Pairs may be lists, a name may come twice, and a NUL in a text does not cut it off."""
    name = topic()
    made = producer(name, librdkafka=PLAIN)
    made.send_bytes(b"v", headers=[("a", "ä"), ["a", b"\x00"], ("n", "1\x002"), ("none", None)])  # type: ignore[list-item]
    assert made.flush(PATIENCE) == 0
    (message,) = received(cluster, name, 1)
    assert headers_of(message) == [("a", "ä".encode()), ("a", b"\x00"), ("n", b"1\x002"), ("none", None)]


@pytest.mark.parametrize(
    ("headers", "error", "problem"),
    [
        (["ab"], TypeError, "headers must be a mapping or"),
        ([("a", "b", "c")], TypeError, "headers must be a mapping or"),
        ({5: "a"}, TypeError, "a header key must be str, but is int"),
        ([(b"a", "a")], TypeError, "a header key must be str, but is bytes"),
        ({"a\x00b": "a"}, ValueError, "a header key must not contain a NUL character"),
        ({"a": 5}, TypeError, "the value of header 'a' must be str, bytes or None, but is int"),
        ({"a": "\ud800"}, ValueError, "the value of header 'a'"),
    ],
)
def test_5_2_a_header_that_cannot_be_sent_is_refused_before_anything_is_sent(
    topic: TopicFactory, producer: ProducerFactory, headers: Any, error: type[Exception], problem: str
) -> None:
    made = producer(topic())
    with pytest.raises(error, match=problem):
        made.send_bytes(b"v", headers=headers)
    assert made.flush(PATIENCE) == 0


def test_5_3_the_trace_id_is_that_of_the_context_else_a_new_one_for_each_message(
    topic: TopicFactory, producer: ProducerFactory, cluster: EmbeddedCluster
) -> None:
    """Changed: the original's producer takes one when it is made, and keeps it for its life."""
    name = topic()
    made = producer(name, librdkafka=PLAIN)
    made.send_bytes(b"none")
    with use_trace_id("of this request"):
        made.send_bytes(b"its own")
    made.send_bytes(b"none again")
    assert made.flush(PATIENCE) == 0
    (first,), (second,), (third,) = (trace_ids(message) for message in received(cluster, name, 3))
    assert second == "of this request"
    assert first != third
    for made_one in (first, third):
        assert uuid.UUID(made_one).version == 4
        assert str(uuid.UUID(made_one)) == made_one


def test_5_4_added_headers_affect_later_messages_only(
    topic: TopicFactory, producer: ProducerFactory, cluster: EmbeddedCluster
) -> None:
    """An empty key is ignored, duplicates are kept."""
    name = topic()
    made = producer(name, librdkafka=PLAIN)
    made.send_bytes(b"before")
    made.add_header("twice", "1")
    made.add_header("", "ignored")
    made.add_header("twice", "2")
    made.send_bytes(b"after")
    assert made.flush(PATIENCE) == 0
    before, after = received(cluster, name, 2)
    assert headers_of(before) == []
    assert headers_of(after) == [("twice", b"1"), ("twice", b"2")]


def test_5_5_get_header_gives_the_first_of_exactly_that_name_as_text(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction, take: TakeFunction
) -> None:
    name = topic()
    send(name, "v", headers=[("Key", b"other"), ("key", b"first"), ("key", b"second"), ("none", None)])
    group = consumer_group(name)
    group.start()
    message = take(group)
    assert message.get_header("key") == "first"
    assert message.get_header("KEY") == message.get_header("none") == message.get_header("absent") == ""


def test_5_6_the_context_of_a_message_has_its_trace_id_and_none_if_it_came_without(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction, take: TakeFunction
) -> None:
    name = topic()
    send(name, "with", headers=[("request-id", b"trace-1")])
    send(name, "empty", headers=[("request-id", b"")])
    send(name, "without")
    group = consumer_group(name)
    group.start()
    found = []
    for _ in range(3):
        message = take(group)
        found.append(message.context.run(current_trace_id))
        message.release()
    assert found == ["trace-1", None, None]


def test_5_7_a_handler_sends_on_with_the_trace_id_of_its_message(
    topic: TopicFactory,
    consumer_group: GroupFactory,
    producer: ProducerFactory,
    send: SendFunction,
    cluster: EmbeddedCluster,
) -> None:
    name, onwards = topic(), topic()
    made = producer(onwards, librdkafka=PLAIN)
    send(name, "a", headers=[("request-id", b"trace-a")])
    send(name, "b", headers=[("request-id", b"trace-b")])
    group = consumer_group(name)
    group.register_handler(lambda worker_id, message: made.send_bytes(message.data))
    group.start()
    assert [trace_ids(each) for each in received(cluster, onwards, 2)] == [["trace-a"], ["trace-b"]]


def test_5_7_a_batch_handler_has_no_trace_id_but_that_which_it_takes_from_a_message(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction
) -> None:
    name = topic()
    send(name, "a", headers=[("request-id", b"trace-a")])
    group = consumer_group(name, batch_wait_time=0.01)
    seen: Collected[str | None] = Collected()

    def handler(batch: list[Message]) -> None:
        seen.add(current_trace_id())
        seen.add(batch[0].context.run(current_trace_id))

    group.register_batch_handler(handler)
    group.start()
    assert seen.wait(2) == [None, "trace-a"]


@pytest.mark.parametrize("failing", [False, True], ids=["returns", "raises"])
def test_5_7_the_trace_id_is_gone_when_the_handler_has_ended(
    topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction, failing: bool
) -> None:
    """Where the original cancels the handler's context: nothing of one message reaches the next."""
    name = topic()
    send(name, "a", headers=[("request-id", b"trace-a")])
    send(name, "b")
    group = consumer_group(name)
    seen: Collected[tuple[str | None, int | None]] = Collected()

    def handler(_worker_id: int, message: Message) -> None:
        seen.add((current_trace_id(), threading.get_ident()))
        if failing:
            raise ValueError("failed")

    group.register_handler(handler)
    group.start()
    (first, worker), (second, same_worker) = seen.wait(2)
    assert (first, second) == ("trace-a", None)
    assert worker == same_worker
