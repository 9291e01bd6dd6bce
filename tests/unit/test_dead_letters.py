"""What users rely on of dead letters: nothing that was given up is lost, whatever their topic says."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from dp_kafka import BatchError, ConfigError, DeadLetter, Message, Ordering, RetryPolicy
from dp_kafka.kafkatest import EmbeddedCluster
from tests.conftest import INCREMENTAL, CommittedFunction, GroupFactory, SendFunction, TopicFactory
from tests.sending import received
from tests.waiting import PATIENCE, Collected, Logged, fields

TAKES_NONE = "TOPIC_AUTHORIZATION_FAILED"


def letters(cluster: EmbeddedCluster, topic: str, count: int) -> list[tuple[bytes | None, dict[str, bytes]]]:
    """The dead letters of a topic: value and headers."""
    found = received(cluster, topic, count)
    return [(message.value(), dict(message.headers() or ())) for message in found]  # type: ignore[arg-type]


def always(worker_id: int, message: Message) -> None:
    raise ValueError(f"cannot handle {message.offset}")


def test_a_letter_that_its_topic_does_not_take_waits_and_says_so(
    cluster: EmbeddedCluster,
    topic: TopicFactory,
    consumer_group: GroupFactory,
    send: SendFunction,
    committed: CommittedFunction,
    logged: Logged,
) -> None:
    """It is sent again, not handled again; meanwhile its partition waits, and nothing is committed."""
    name, dead = topic(), topic()
    cluster.inject_partition_errors(dead, 0, "Produce", TAKES_NONE, TAKES_NONE)
    send(name, "poison", "v")
    calls: Collected[tuple[bytes | None, bool]] = Collected()

    def handler(worker_id: int, message: Message) -> None:
        calls.add((message.data, bool(logged.of("message given up, it is in the dead letter topic"))))
        if message.data == b"poison":
            raise ValueError("never")

    group = consumer_group(
        name, retry=RetryPolicy(2, 0.01, 0.02), dead_letter=DeadLetter(dead), librdkafka=INCREMENTAL
    )
    group.register_handler(handler)
    group.start()
    waiting = fields(logged.wait("dead letter not delivered, its message waits"))
    assert waiting["dead_letter_topic"] == dead
    assert TAKES_NONE in waiting["error"]
    assert committed(group.group_name, name) is None
    assert calls.wait(3) == [(b"poison", False), (b"poison", False), (b"v", True)]
    assert group.stop_and_wait(PATIENCE)
    assert committed(group.group_name, name) == 2
    ((value, headers),) = letters(cluster, dead, 1)
    assert value == b"poison"
    assert headers["dead-letter.attempts"] == b"2", "sending the letter again is no attempt of the handler"


def test_a_group_that_stops_while_a_letter_waits_gives_the_message_back(
    cluster: EmbeddedCluster,
    topic: TopicFactory,
    consumer_group: GroupFactory,
    send: SendFunction,
    committed: CommittedFunction,
    logged: Logged,
) -> None:
    name, dead = topic(), topic()
    cluster.inject_partition_errors(dead, 0, "Produce", *[TAKES_NONE] * 50)
    send(name, "poison")
    group = consumer_group(name, dead_letter=DeadLetter(dead), librdkafka=INCREMENTAL)
    group.register_handler(always)
    group.start()
    logged.wait("dead letter not delivered, its message waits")
    assert group.stop_and_wait(PATIENCE)
    assert committed(group.group_name, name) is None


def test_letters_of_a_batch_go_together_and_the_rest_is_committed(
    cluster: EmbeddedCluster,
    topic: TopicFactory,
    consumer_group: GroupFactory,
    send: SendFunction,
    committed: CommittedFunction,
    logged: Logged,
) -> None:
    """Two of four fail, and the topic refuses one of them at first: it alone is sent again."""
    name, dead = topic(), topic()
    cluster.inject_partition_errors(dead, 0, "Produce", TAKES_NONE)
    send(name, "a", "bad-1", "b", "bad-2")
    handled: Collected[bytes | None] = Collected()

    def handler(batch: list[Message]) -> None:
        for message in batch:
            handled.add(message.data)
        bad = [message for message in batch if (message.data or b"").startswith(b"bad")]
        if bad:
            raise BatchError(bad)

    group = consumer_group(
        name, batch_size=4, batch_wait_time=0.2, dead_letter=DeadLetter(dead), librdkafka=INCREMENTAL
    )
    group.register_batch_handler(handler)
    group.start()
    found = letters(cluster, dead, 2)
    assert sorted(value for value, _ in found if value) == [b"bad-1", b"bad-2"]
    assert group.stop_and_wait(PATIENCE)
    assert handled.items == [b"a", b"bad-1", b"b", b"bad-2"], "a letter was handled when it came again"
    assert committed(group.group_name, name) == 4


def test_a_tombstone_and_a_message_without_headers_become_letters_as_they_are(
    cluster: EmbeddedCluster, topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction
) -> None:
    name, dead = topic(), topic()
    send(name, None, key=b"\xff\x00")
    group = consumer_group(name, dead_letter=DeadLetter(dead))
    group.register_handler(always)
    group.start()
    (letter,) = received(cluster, dead, 1)
    assert (letter.value(), letter.key()) == (None, b"\xff\x00")


def test_a_letter_that_fails_again_tells_of_its_last_failure_only(
    cluster: EmbeddedCluster, topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction
) -> None:
    """A dead letter topic may be consumed with a dead letter topic of its own."""
    name, dead = topic(), topic()
    send(name, "poison", headers=[("dead-letter.topic", "first"), ("colour", "blue")])
    group = consumer_group(name, dead_letter=DeadLetter(dead))
    group.register_handler(always)
    group.start()
    (letter,) = received(cluster, dead, 1)
    headers: Any = letter.headers()
    assert [value for key, value in headers if key == "dead-letter.topic"] == [name.encode()]
    assert dict(headers)["colour"] == b"blue"


@pytest.mark.parametrize("text", ["\ud800 \0 é", "x" * 100_000], ids=["not UTF-8", "long"])
def test_the_text_of_an_exception_never_stops_a_letter(
    cluster: EmbeddedCluster, topic: TopicFactory, consumer_group: GroupFactory, send: SendFunction, text: str
) -> None:
    name, dead = topic(), topic()
    send(name, "poison")

    def handler(worker_id: int, message: Message) -> None:
        raise ValueError(text)

    group = consumer_group(name, dead_letter=DeadLetter(dead))
    group.register_handler(handler)
    group.start()
    ((_, headers),) = letters(cluster, dead, 1)
    shown = headers["dead-letter.exception.message"]
    assert shown == text[:1_000].encode("utf-8", "backslashreplace")


def test_a_message_that_its_handler_released_is_no_dead_letter(
    topic: TopicFactory,
    consumer_group: GroupFactory,
    send: SendFunction,
    committed: CommittedFunction,
    logged: Logged,
) -> None:
    """Somebody else may have it by then; the failure is logged."""
    name, dead = topic(), topic()
    send(name, "poison", "v")
    done = threading.Event()

    def handler(worker_id: int, message: Message) -> None:
        if message.data == b"v":
            done.set()
            return
        message.commit_and_release()
        raise ValueError("too late")

    group = consumer_group(name, dead_letter=DeadLetter(dead), librdkafka=INCREMENTAL)
    group.register_handler(handler)
    group.start()
    assert done.wait(PATIENCE)
    assert logged.wait("failed message was released by its handler, it is no dead letter")
    assert group.stop_and_wait(PATIENCE)
    assert committed(group.group_name, name) == 2


@pytest.mark.parametrize("ordering", list(Ordering))
def test_when_all_fail_all_are_letters_and_all_is_committed(
    cluster: EmbeddedCluster,
    topic: TopicFactory,
    consumer_group: GroupFactory,
    send: SendFunction,
    committed: CommittedFunction,
    ordering: Ordering,
) -> None:
    name, dead = topic(), topic()
    values = [f"{number}" for number in range(40)]
    send(name, *values, key="k")
    group = consumer_group(
        name, num_workers=4, ordering=ordering, dead_letter=DeadLetter(dead), librdkafka=INCREMENTAL
    )
    group.register_handler(always)
    group.start()
    found = [value for value, _ in letters(cluster, dead, 40)]
    wanted = [value.encode() for value in values]
    assert sorted(value for value in found if value is not None) == sorted(wanted)
    if ordering is not Ordering.NONE:
        assert found == wanted
    assert group.stop_and_wait(PATIENCE)
    assert committed(group.group_name, name) == 40


def test_a_group_closes_its_dead_letter_producer(topic: TopicFactory, consumer_group: GroupFactory) -> None:
    dead = topic()
    group = consumer_group(topic(), dead_letter=DeadLetter(dead))
    assert any(thread.name.endswith(f":{dead}") for thread in threading.enumerate())
    group.close(timeout=PATIENCE)
    assert not any(thread.name.endswith(f":{dead}") for thread in threading.enumerate())


def test_a_timeout_that_librdkafka_cannot_keep_is_refused() -> None:
    with pytest.raises(ConfigError, match="timeout"):
        DeadLetter("dead", timeout=1_000)
