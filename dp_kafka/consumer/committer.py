"""Commits of one session on its client: rounds of the group commit, and synchronous ones. POLL THREAD.

A broker takes the last commit that reaches it. One asynchronous round at a time keeps them in order, but a
synchronous commit goes past the round in flight, and librdkafka tries a request again by itself, without a
word, when the coordinator answers that it can't:

    a replica hangs -> the round is answered late, with an error -> the revoke commits more, and is answered
    -> librdkafka tries the round again -> the broker takes it, and knows less than it did

So what goes past a round is committed once more, when that can no longer come behind it.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from dp_kafka.config.rdkafka import RetryBackoff
from dp_kafka.consumer.commits import RETRY_SECONDS
from dp_kafka.consumer.lane import CommitPoint, Lane
from dp_kafka.consumer.session import Session
from dp_kafka.errors import CommitError
from dp_kafka.logs import log_error, log_event

__all__ = ["Committer"]

logger = logging.getLogger("dp_kafka.consumer")

#: Refusals that no second try changes: somebody has to change the configuration or the ACLs first.
_PERMANENT = frozenset(
    {
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.INVALID_GROUP_ID,
        KafkaError.OFFSET_METADATA_TOO_LARGE,
        KafkaError.INVALID_COMMIT_OFFSET_SIZE,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError._FATAL,
    }
)
#: With these nothing can be committed until the member has joined again, with what it is assigned then. Not
#: so STALE_MEMBER_EPOCH: the member is in the group, and is soon told of its new epoch.
_UNTIL_JOINED_AGAIN = frozenset(
    {
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.FENCED_MEMBER_EPOCH,
        KafkaError.REBALANCE_IN_PROGRESS,
    }
)
#: With these no broker has answered, and one that hung or was cut off may take the commit yet. Each try goes
#: over a connection of its own, so that what was sent later may be taken before it.
_UNANSWERED = frozenset({KafkaError._TIMED_OUT, KafkaError._TRANSPORT})
#: How often librdkafka tries a request again by itself.
_RETRIES = 2


class Committer:
    """Sends what the lanes of a session have finished: by one asynchronous commit at a time, or at once."""

    def __init__(
        self,
        client: Consumer,
        session: Session,
        report: Callable[[BaseException], None],
        retry_backoff: RetryBackoff,
    ) -> None:
        self._client = client
        self._session = session
        self._commits = session.commits
        self._report = report
        #: The lanes of the round under way, with what was sent for each.
        self._round: dict[int, tuple[Lane, CommitPoint]] = {}
        #: Whether the last round was refused for good.
        self.refused = False
        #: Whether the last round failed because the group goes on without this member until it joins again.
        self.expelled = False
        #: How many rounds a broker has refused; those that it did not answer are not among them.
        self.refusals = 0
        #: Whether a commit had no answer, and none that came later is sure to be behind it.
        self._unanswered = False
        #: When `flush` may try again what has failed.
        self._not_before = 0.0
        self._retry_backoff = retry_backoff
        #: How often librdkafka may yet try a round again that a synchronous commit has gone past.
        self._tries_left = 0
        #: When the synchronous commit was sent whose answer tells more of that.
        self._asked_at = 0.0
        #: How long to wait before the next synchronous commit, for it to come behind a round tried again.
        self.pause_seconds = 0.0

    def try_anew(self) -> None:
        """What was refused for good is tried once more: at the end, as somebody may have put it right."""
        self.refused = False

    def serve(self, now: float) -> None:
        """Begin a round if one is due. `now` is `time.monotonic()`."""
        if self._commits.due(now):
            self._begin()

    def flush(self) -> bool:
        """Begin a round if something is finished and not sent; False if nothing is left to send.

        Does not wait for the interval, but a round that has failed is not tried again at once.
        """
        if self._commits.in_flight or time.monotonic() < self._not_before:
            return True
        return self._begin()

    def _begin(self) -> bool:
        self._forget_overtaken()
        offsets = self._begin_round()
        if not offsets:
            self._commits.succeed()
            return False
        try:
            self._client.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            self._failed(error.args[0])
        return True

    def answered(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        """librdkafka's commit callback, called from poll()."""
        if not self._commits.in_flight or not self._is_round(partitions):
            return  # of an earlier round, which a synchronous commit has overtaken
        failure = error or next((each.error for each in partitions if each.error is not None), None)
        if failure is None and self._unanswered:
            self._repeat()
            return
        for partition in partitions:
            if error is None and partition.error is None:
                lane, point = self._round[partition.partition]
                lane.committed = point.change
        if failure is None:
            self._commits.succeed()
        else:
            self._failed(failure)

    def _repeat(self) -> None:
        """Have what was accepted just now sent once more, in a while: an older one may have come behind it.

        a broker hangs -> a round has no answer -> the broker goes on -> it takes the next round, and then
        the older one, from another connection
        """
        self._unanswered = False
        self._not_before = time.monotonic() + RETRY_SECONDS
        self._commits.retry()

    def _is_round(self, partitions: list[TopicPartition]) -> bool:
        """Whether an answer is that to the round under way: to the same offsets, with the same metadata."""
        answered = {each.partition: (each.offset, each.metadata or "") for each in partitions}
        sent = {number: (point.offset, point.metadata) for number, (_, point) in self._round.items()}
        return not partitions or answered == sent

    def commit_now(self) -> bool:
        """Commit what is finished and wait for the broker's answer; True if all of it is there, and stays.

        For a rebalance callback, in which nothing can be polled. Of all lanes, also those that stay: it is a
        round as the others are, and answers whoever waits for one. A round that was under way is overtaken.
        After False, wait `pause_seconds` before the next try.
        """
        commits = self._commits
        if commits.in_flight:
            # Whatever is answered first, and however soon: the round may have been refused just before.
            self._tries_left, self._asked_at = _RETRIES, -math.inf
            self.pause_seconds = self._retry_backoff.longest
            commits.retry()
        elif self._tries_left:
            self._asked_at = time.monotonic()
        offsets = self._begin_round()
        if not offsets:
            commits.succeed()
            return True
        try:
            answers = self._client.commit(offsets=offsets, asynchronous=False) or []
        except KafkaException as error:
            self._failed(error.args[0])
            return False
        failed = {answer.partition: answer.error for answer in answers if answer.error is not None}
        if not failed and self._may_be_undone():
            commits.retry()
            return False
        if not failed and self._unanswered:
            self._repeat()
            return False
        for lane, point in self._round.values():
            # Where an older round may follow, and not all is there, nothing counts.
            if lane.partition not in failed and not self._tries_left:
                lane.committed = point.change
        if failed:
            self._failed(next(iter(failed.values())))
            return False
        commits.succeed()
        return True

    def _may_be_undone(self) -> bool:
        """Whether librdkafka may try a round again behind the commit that was answered just now.

        Not if the answer to a commit behind the first try came sooner than there is a second, nor if there is
        no further try: a broker answers the requests of a connection one after the other.
        """
        if time.monotonic() - self._asked_at < self._retry_backoff.shortest or not self._tries_left:
            self._forget_overtaken()
            return False
        self._tries_left -= 1
        return True

    def _forget_overtaken(self) -> None:
        self._tries_left, self.pause_seconds = 0, 0.0

    def uncommitted(self, lanes: Iterable[Lane]) -> list[Lane]:
        """Those of `lanes` that have finished more than the broker knows."""
        return [lane for lane in lanes if self._to_send(lane) is not None]

    @staticmethod
    def _to_send(lane: Lane) -> CommitPoint | None:
        # The lane decides: what the worker of a run has done since is not in its books before it looks.
        return lane.commit_point(lane.committed)

    def _begin_round(self) -> list[TopicPartition]:
        """What a round that begins now has to send."""
        self._commits.begin()
        # Of the round before this one, which may be long ago.
        self.refused = self.expelled = False
        self._round = {}
        offsets = []
        for lane in self._session.lanes.values():
            point = self._to_send(lane)
            if point is not None:
                self._round[lane.partition] = (lane, point)
                offsets.append(
                    TopicPartition(lane.topic, lane.partition, point.offset, metadata=point.metadata)
                )
        return offsets

    def _failed(self, error: KafkaError) -> None:
        permanent = self.refused = error.code() in _PERMANENT
        self.expelled = error.code() in _UNTIL_JOINED_AGAIN
        self._unanswered = self._unanswered or error.code() in _UNANSWERED
        # The codes of librdkafka's own errors, timeouts among them, are negative.
        self.refusals += error.code() > 0
        self._not_before = time.monotonic() + RETRY_SECONDS
        fields = {
            "topic": next((lane.topic for lane, _ in self._round.values()), None),
            "partitions": sorted(self._round),
            "code": error.code(),
            "name": error.name(),
        }
        if permanent:
            failure = CommitError(
                f"the broker refused to commit offsets: {error.str()} ({error.name()}); what is handled "
                "will be handled again until this is put right",
                log_data=fields,
            )
            log_error(logger, "commit refused", failure)
            self._report(failure)
            self._commits.fail()
        else:
            log_event(logger, logging.WARNING, "commit failed, it is tried again", fields)
            self._commits.retry()
