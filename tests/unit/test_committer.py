"""Rounds of commits that go past each other, with answers as a broker would give them, in each order."""

from __future__ import annotations

import time

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from dp_kafka.config.rdkafka import RetryBackoff
from dp_kafka.consumer.committer import Committer
from dp_kafka.consumer.lane import Lane
from tests.lanes import new_session, open_lane, raws

#: No answer comes that late, or sooner than that.
AT_ONCE, LATE = RetryBackoff(3_600.0, 7_200.0), RetryBackoff(0.0, 7_200.0)


class Broker:
    """What a client sends, and what it hears: a synchronous commit is accepted, or refused with `code`."""

    def __init__(self) -> None:
        self.sent: list[list[TopicPartition]] = []
        self.code: int | None = None

    def commit(self, *, offsets: list[TopicPartition], asynchronous: bool) -> list[TopicPartition] | None:
        self.sent.append(offsets)
        if asynchronous:
            return None
        if self.code is not None:
            raise KafkaException(KafkaError(self.code))
        return offsets


class Books:
    """A lane of ten messages, and a committer that sends what is finished of it."""

    def __init__(self, backoff: RetryBackoff) -> None:
        self.broker = Broker()
        self.errors: list[BaseException] = []
        self.session = new_session()
        self.lane: Lane = open_lane(self.session)
        self.lane.add(raws(*range(10)))
        self.committer = Committer(self.broker, self.session, self.errors.append, backoff)  # type: ignore[arg-type]

    def finish(self) -> None:
        """One more message is handled."""
        message = self.session.upstream.get(timeout=1)
        self.lane.mark(message)
        self.lane.release(message)

    def begin_round(self) -> list[TopicPartition]:
        """One more message is handled, and its commit is under way."""
        self.finish()
        self.session.commits.ask()
        self.committer.serve(time.monotonic() + 60)  # whatever the next round was to wait for is over then
        assert self.session.commits.in_flight
        return self.broker.sent[-1]

    def uncommitted(self) -> bool:
        return bool(self.committer.uncommitted([self.lane]))


def test_a_commit_past_no_round_counts_at_once() -> None:
    books = Books(LATE)
    books.finish()
    assert books.committer.commit_now()
    assert not books.uncommitted()
    assert len(books.broker.sent) == 1


def test_a_commit_past_a_round_is_repeated_until_an_answer_comes_sooner_than_librdkafka_tries_again() -> None:
    books = Books(AT_ONCE)
    books.begin_round()
    books.finish()
    assert not books.committer.commit_now()
    assert books.uncommitted(), "the round may be tried again behind it"
    assert books.committer.pause_seconds == AT_ONCE.longest
    assert books.committer.commit_now()
    assert not books.uncommitted()
    assert books.committer.pause_seconds == 0
    assert [offsets[0].offset for offsets in books.broker.sent] == [1, 2, 2]


def test_a_commit_past_a_round_is_repeated_as_often_as_librdkafka_may_try_again() -> None:
    books = Books(LATE)
    books.begin_round()
    books.finish()
    assert [books.committer.commit_now() for _ in range(3)] == [False, False, True]
    assert not books.uncommitted()


def test_the_answer_to_a_round_that_was_overtaken_does_not_answer_the_next() -> None:
    books = Books(AT_ONCE)
    old = books.begin_round()
    assert not books.committer.commit_now()
    assert books.committer.commit_now()
    new = books.begin_round()
    books.committer.answered(KafkaError(KafkaError.REQUEST_TIMED_OUT), old)
    assert books.uncommitted()
    books.committer.answered(None, new)
    assert not books.uncommitted()


@pytest.mark.parametrize("code", [KafkaError.REBALANCE_IN_PROGRESS, KafkaError.GROUP_AUTHORIZATION_FAILED])
def test_what_refused_an_earlier_round_says_nothing_of_a_later_one(code: int) -> None:
    """A revoke gives up where its own commit is refused for good, and not where one long ago was."""
    books = Books(AT_ONCE)
    books.broker.code = code
    books.finish()
    assert not books.committer.commit_now()
    assert books.committer.expelled or books.committer.refused
    books.broker.code = None
    assert books.committer.commit_now()
    books.begin_round()
    assert not books.committer.commit_now()  # it went past a round, and is to be repeated
    assert not books.committer.expelled
    assert not books.committer.refused


@pytest.mark.parametrize("code", [KafkaError._TIMED_OUT, KafkaError._TRANSPORT])
def test_a_round_behind_one_without_an_answer_is_sent_once_more(code: int) -> None:
    """The broker hung, and may take the older one last: it comes over another connection."""
    books = Books(AT_ONCE)
    books.committer.answered(KafkaError(code), books.begin_round())
    books.committer.answered(None, books.begin_round())
    assert books.uncommitted(), "the older one may come behind it"
    assert books.committer.flush(), "not at once"
    assert len(books.broker.sent) == 2
    books.committer.serve(time.monotonic() + 60)
    again = books.broker.sent[-1]
    assert [offsets[0].offset for offsets in books.broker.sent] == [1, 2, 2]
    books.committer.answered(None, again)
    assert not books.uncommitted()
    books.committer.answered(None, books.begin_round())
    assert not books.uncommitted()


def test_a_commit_of_a_revoke_behind_a_round_without_an_answer_is_sent_once_more() -> None:
    books = Books(AT_ONCE)
    books.committer.answered(KafkaError(KafkaError._TIMED_OUT), books.begin_round())
    assert not books.committer.commit_now()
    assert books.uncommitted()
    assert books.committer.commit_now()
    assert not books.uncommitted()
    assert [offsets[0].offset for offsets in books.broker.sent] == [1, 1, 1]


def test_an_answer_that_refuses_is_an_answer() -> None:
    books = Books(AT_ONCE)
    books.committer.answered(KafkaError(KafkaError.NOT_COORDINATOR), books.begin_round())
    books.committer.answered(None, books.begin_round())
    assert not books.uncommitted()
