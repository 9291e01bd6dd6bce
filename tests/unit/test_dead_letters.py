"""What users rely on of dead letters: nothing that was given up is lost, whatever their topic says."""

from __future__ import annotations

import threading
from typing import Any

import confluent_kafka
import pytest

from dp_kafka import BatchError, ConfigError, DeadLetter, Message, Ordering, RetryPolicy
from dp_kafka.kafkatest import EmbeddedCluster
from tests.conftest import INCREMENTAL, CommittedFunction, GroupFactory, SendFunction, TopicFactory
from tests.looking import eventually
from tests.sending import received
from tests.waiting import PATIENCE, Collected, Logged, fields

TAKES_NONE = "TOPIC_AUTHORIZATION_FAILED"


class Mail:
    """A topic, and a group of it that has a dead letter topic."""

    def __init__(
        self,
        cluster: EmbeddedCluster,
        topic: TopicFactory,
        consumer_group: GroupFactory,
        send: SendFunction,
        committed: CommittedFunction,
    ) -> None:
        self._cluster, self._consumer_group = cluster, consumer_group
        self._send, self._committed = send, committed
        self.topic, self.dead = topic(), topic()

    def refuse(self, times: int) -> None:
        """Have the dead letter topic refuse so many requests."""
        self._cluster.inject_partition_errors(self.dead, 0, "Produce", *[TAKES_NONE] * times)

    def send(self, *values: str | None, **more: Any) -> None:
        """Put values into the topic."""
        self._send(self.topic, *values, **more)

    def handle(self, handler: Any, *, batch: bool = False, **config: Any) -> None:
        """Start the group with this handler."""
        self.group = self._consumer_group(
            self.topic, dead_letter=DeadLetter(self.dead), **{"librdkafka": INCREMENTAL, **config}
        )
        (self.group.register_batch_handler if batch else self.group.register_handler)(handler)
        self.group.start()

    def received(self, count: int) -> list[confluent_kafka.Message]:
        """The dead letters, as they lie in their topic."""
        return received(self._cluster, self.dead, count)

    def letters(self, count: int) -> list[tuple[bytes | None, dict[str, bytes]]]:
        """The dead letters: value and headers."""
        found = self.received(count)
        return [(letter.value(), dict(letter.headers() or ())) for letter in found]  # type: ignore[arg-type]

    def committed(self) -> int | None:
        """The offset that the group has committed."""
        return self._committed(self.group.group_name, self.topic)

    def committed_at_the_end(self) -> int | None:
        """The same, once the group has stopped."""
        assert self.group.stop_and_wait(PATIENCE)
        return self.committed()


@pytest.fixture
def mail(
    cluster: EmbeddedCluster,
    topic: TopicFactory,
    consumer_group: GroupFactory,
    send: SendFunction,
    committed: CommittedFunction,
) -> Mail:
    return Mail(cluster, topic, consumer_group, send, committed)


def always(worker_id: int, message: Message) -> None:
    raise ValueError(f"cannot handle {message.offset}")


def test_a_letter_that_its_topic_does_not_take_waits_and_says_so(mail: Mail, logged: Logged) -> None:
    """It is sent again, not handled again; meanwhile its partition waits, and nothing is committed."""
    mail.refuse(2)
    mail.send("poison", "v")
    calls: Collected[tuple[bytes | None, bool]] = Collected()

    def handler(worker_id: int, message: Message) -> None:
        calls.add((message.data, bool(logged.of("message given up, it is in the dead letter topic"))))
        if message.data == b"poison":
            raise ValueError("never")

    mail.handle(handler, retry=RetryPolicy(2, 0.01, 0.02))
    waiting = fields(logged.wait("dead letter not delivered, its message waits"))
    assert waiting["dead_letter_topic"] == mail.dead
    assert TAKES_NONE in waiting["error"]
    assert mail.committed() is None
    assert calls.wait(3) == [(b"poison", False), (b"poison", False), (b"v", True)]
    assert mail.committed_at_the_end() == 2
    ((value, headers),) = mail.letters(1)
    assert value == b"poison"
    assert headers["dead-letter.attempts"] == b"2", "sending the letter again is no attempt of the handler"


def test_a_group_that_stops_while_a_letter_waits_gives_the_message_back(mail: Mail, logged: Logged) -> None:
    mail.refuse(50)
    mail.send("poison")
    mail.handle(always)
    logged.wait("dead letter not delivered, its message waits")
    assert mail.committed_at_the_end() is None


def test_letters_of_a_batch_go_together_and_the_rest_is_committed(mail: Mail) -> None:
    """Two of four fail, and the topic refuses one of them at first: it alone is sent again."""
    mail.refuse(1)
    mail.send("a", "bad-1", "b", "bad-2")
    handled: Collected[bytes | None] = Collected()

    def handler(batch: list[Message]) -> None:
        for message in batch:
            handled.add(message.data)
        bad = [message for message in batch if (message.data or b"").startswith(b"bad")]
        if bad:
            raise BatchError(bad)

    mail.handle(handler, batch=True, batch_size=4, batch_wait_time=0.2)
    found = mail.letters(2)
    assert sorted(value for value, _ in found if value) == [b"bad-1", b"bad-2"]
    assert mail.group.stop_and_wait(PATIENCE)
    assert handled.items == [b"a", b"bad-1", b"b", b"bad-2"], "a letter was handled when it came again"
    assert mail.committed() == 4


def test_what_a_handler_takes_out_of_its_batch_becomes_a_letter_all_the_same(mail: Mail) -> None:
    """A batch is the handler's own list: it may have nothing left of it when it fails."""
    mail.refuse(1)  # so that the messages come again, with letters, before a further one
    mail.send("a", "b", "c")

    def handler(batch: list[Message]) -> None:
        while batch:
            batch.pop()
        raise OSError("the database is away")

    mail.handle(handler, batch=True, batch_size=3, batch_wait_time=0.2)
    assert sorted(value or b"" for value, _ in mail.letters(3)) == [b"a", b"b", b"c"]
    assert mail.committed_at_the_end() == 3


def test_a_tombstone_and_a_message_without_headers_become_letters_as_they_are(mail: Mail) -> None:
    mail.send(None, key=b"\xff\x00")
    mail.handle(always)
    (letter,) = mail.received(1)
    assert (letter.value(), letter.key()) == (None, b"\xff\x00")


def test_a_letter_that_fails_again_tells_of_its_last_failure_only(mail: Mail) -> None:
    """A dead letter topic may be consumed with a dead letter topic of its own."""
    mail.send("poison", headers=[("dead-letter.topic", "first"), ("colour", "blue")])
    mail.handle(always)
    (letter,) = mail.received(1)
    headers: Any = letter.headers()
    assert [value for key, value in headers if key == "dead-letter.topic"] == [mail.topic.encode()]
    assert dict(headers)["colour"] == b"blue"


@pytest.mark.parametrize("batch", [False, True])
def test_an_exception_that_is_no_error_is_a_failure_as_any_other(mail: Mail, batch: bool) -> None:
    """`sys.exit()` in a library that a handler calls, say."""
    mail.send("poison")
    calls: Collected[object] = Collected()

    def handler(*arguments: object) -> None:
        calls.add(arguments)
        raise SystemExit(1)

    mail.handle(
        handler, batch=batch, batch_wait_time=0.05, retry=RetryPolicy(2, 0.01, 0.02, retry_on=SystemExit)
    )
    ((value, headers),) = mail.letters(1)
    assert value == b"poison"
    assert headers["dead-letter.exception.type"] == b"builtins.SystemExit"
    assert headers["dead-letter.attempts"] == b"2"
    assert len(calls.items) == 2
    assert mail.committed_at_the_end() == 1


@pytest.mark.parametrize("text", ["\ud800 \0 é", "x" * 100_000], ids=["not UTF-8", "long"])
def test_the_text_of_an_exception_never_stops_a_letter(mail: Mail, text: str) -> None:
    mail.send("poison")

    def handler(worker_id: int, message: Message) -> None:
        raise ValueError(text)

    mail.handle(handler)
    ((_, headers),) = mail.letters(1)
    shown = headers["dead-letter.exception.message"]
    assert shown == text[:1_000].encode("utf-8", "backslashreplace")


def test_a_message_that_its_handler_released_is_no_dead_letter(mail: Mail, logged: Logged) -> None:
    """Somebody else may have it by then; the failure is logged."""
    mail.send("poison", "v")
    done = threading.Event()

    def handler(worker_id: int, message: Message) -> None:
        if message.data == b"v":
            done.set()
            return
        message.commit_and_release()
        raise ValueError("too late")

    mail.handle(handler)
    assert done.wait(PATIENCE)
    assert logged.wait("failed message was released by its handler, it is no dead letter")
    assert mail.committed_at_the_end() == 2


@pytest.mark.parametrize("ordering", list(Ordering))
def test_when_all_fail_all_are_letters_and_all_is_committed(mail: Mail, ordering: Ordering) -> None:
    values = [f"{number}" for number in range(40)]
    mail.send(*values, key="k")
    mail.handle(always, num_workers=4, ordering=ordering)
    found = [value for value, _ in mail.letters(40)]
    wanted = [value.encode() for value in values]
    assert sorted(value for value in found if value is not None) == sorted(wanted)
    if ordering is not Ordering.NONE:
        assert found == wanted
    assert mail.committed_at_the_end() == 40


def test_a_group_closes_its_dead_letter_producer(topic: TopicFactory, consumer_group: GroupFactory) -> None:
    dead = topic()
    group = consumer_group(topic(), dead_letter=DeadLetter(dead))

    def running() -> bool:
        return any(thread.name.endswith(f":{dead}") for thread in threading.enumerate())

    assert running()
    group.close(timeout=PATIENCE)
    eventually(running, False)  # the thread that closes it has said so a moment before it ends


def test_a_timeout_that_librdkafka_cannot_keep_is_refused() -> None:
    with pytest.raises(ConfigError, match="timeout"):
        DeadLetter("dead", timeout=1_000)
