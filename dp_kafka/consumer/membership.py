"""A membership: one client in the group, from subscribing, through its turns, to having left. POLL THREAD.

Guarantees:
- a turn blocks no longer than `POLL_SECONDS`, but in a rebalance;
- at its end nothing more is handed out, what is in hand is finished and committed while the group is kept,
  and only then the group is left;
- nothing waits beyond the deadline of close().
"""

from __future__ import annotations

import logging
import time
from itertools import groupby
from operator import methodcaller
from typing import Any

from dp_kafka.config.rdkafka import retry_backoff
from dp_kafka.consumer.client import is_static_member, pause, resume
from dp_kafka.consumer.clienterrors import ClientErrors
from dp_kafka.consumer.commits import GroupCommit
from dp_kafka.consumer.committer import Committer
from dp_kafka.consumer.context import GroupContext
from dp_kafka.consumer.flow import Flow
from dp_kafka.consumer.message import RawMessage
from dp_kafka.consumer.rebalances import Rebalances
from dp_kafka.consumer.session import Session
from dp_kafka.consumer.setbacks import begin_again
from dp_kafka.consumer.watchdog import WATCH_SECONDS, report_slow
from dp_kafka.errors import KafkaClientError
from dp_kafka.logs import log_error, log_event

__all__ = ["POLL_SECONDS", "Membership"]

logger = logging.getLogger("dp_kafka.consumer")

_ERROR = methodcaller("error")
_PARTITION = methodcaller("partition")

#: The longest that a turn waits.
POLL_SECONDS = 0.1
#: How long it waits for room in the buffers, or for somebody to ask for a durable commit, in one go.
SHORT_SECONDS = 0.005
#: How long the end waits for the partitions to be given back, which needs no broker.
LEAVE_SECONDS = 2.0


class Membership:
    """Runs one client in its group, with the session that it consumes in."""

    def __init__(self, context: GroupContext, client: Any, errors: ClientErrors) -> None:
        config = context.config
        self._context = context
        self._control = context.control
        self._client = client
        self._errors = errors
        self._commits = GroupCommit(config.commit_interval)
        #: The partitions that it owns, and their messages.
        self.session = Session(context.upstream, self._commits, config.ordering, context.codec)
        #: Sends what the session has finished.
        self.committer = Committer(client, self.session, context.report, retry_backoff(config))
        self.rebalances = Rebalances(context, self.session, self.committer)
        self._flow = Flow(config.max_buffered_messages, config.max_buffered_bytes)
        self._watch_due = 0.0
        #: At the end: when nobody was last seen to wait for a durable commit, or got an answer, and how many
        #: had theirs then.
        self._heard_at = 0.0
        self._answered = 0

    def run(self) -> None:
        """Join the group and consume until that is no longer wanted; then finish what is in hand.

        Raises:
            KafkaClientError: the client has come to a fatal error.
        """
        self._client.subscribe(
            [self._context.config.topic],
            on_assign=self.rebalances.on_assign,
            on_revoke=self.rebalances.on_revoke,
            on_lost=self.rebalances.on_lost,
        )
        while self._control.running:
            self._turn()
        self._drain()
        self._wait_for_hooks()
        self._commit_rest()

    def take_statistics(self, statistics: str) -> None:
        """librdkafka's statistics, from its callback."""
        if self._context.lag is not None:
            self._context.lag.take(statistics, self.session.lanes)
        self.rebalances.look_at(statistics)

    # -- a turn ---------------------------------------------------------------------------------------

    def _turn(self) -> None:
        """Send a commit if one is due, fetch what there is room for, and hand it to the lanes."""
        client, session, commits = self._client, self.session, self._commits
        now = time.monotonic()
        self._context.pulse.beat(now)
        self.committer.serve(now)
        next_retry = session.serve_retries(now)
        if now >= self._watch_due:
            session.log_held()
            self._watch(now)
        room, full, freed = self._flow.room(
            session.lanes.values(), now, starving=self._context.upstream.starving
        )
        if full:
            pause(client, full)
        if freed:
            resume(client, freed)
        if room:
            raws = client.consume(room, 0)
            if not raws and commits.durable and session.in_hand():
                self._wait_for_commits(now)
            elif not raws:
                waits = (commits.seconds_to_round(now), next_retry, POLL_SECONDS)
                raw = client.poll(min(wait for wait in waits if wait is not None))
                raws = [] if raw is None else [raw]
        else:
            if commits.durable:
                self._wait_for_commits(now)
            else:
                self._control.wait_not_running(SHORT_SECONDS)
            # Serves the callbacks; with every partition that has messages paused it brings none.
            raw = client.poll(0)
            raws = [] if raw is None else [raw]
        if raws:
            self._hand_out(raws)
        if self._errors.fatal is not None:
            raise KafkaClientError.from_kafka_error(self._errors.fatal)

    def _wait_for_commits(self, now: float) -> None:
        """Wait for somebody to ask for a durable commit, or a while for what those who asked wait for.

        That is the answer to the round in flight or, where one has failed, the time of the next one. Not in
        the client's poll(): it serves the answer, but returns only with a message.
        """
        commits = self._commits
        if commits.in_flight:
            self._control.wait_not_running(commits.seconds_to_look(now))
        elif rest := commits.seconds_to_round(now):
            # Somebody has asked already, so that to wait for that would be not to wait at all.
            self._control.wait_not_running(min(rest, SHORT_SECONDS))
        else:
            commits.wait_for_asker(SHORT_SECONDS)

    def _hand_out(self, raws: list[RawMessage]) -> None:
        # Loops in C: this runs for every message, and beside the handlers.
        if any(map(_ERROR, raws)):
            for error in filter(None, map(_ERROR, raws)):
                self._errors.take(error)
            raws = [raw for raw in raws if raw.error() is None]
        if raws:
            self._context.trouble.consumed()
        for partition, row in groupby(raws, _PARTITION):
            lane = self.session.lanes.get(partition)
            if lane is not None:
                back = lane.add(list(row))
                if back:
                    begin_again(self._client, self.session, self.rebalances, lane, back)

    def _watch(self, now: float) -> None:
        self._watch_due = now + WATCH_SECONDS
        context = self._context
        for slow in context.watchdog.look(now, context.workers):
            report_slow(slow, context.fields)

    # -- its end --------------------------------------------------------------------------------------

    def _drain(self) -> None:
        """Hand out no more, and wait for what is in hand; the group is kept meanwhile."""
        session, control, upstream = self.session, self._control, self._context.upstream
        lanes = list(session.lanes.values())
        for lane in lanes:
            lane.drain()
        upstream.flush()
        if control.closing:
            upstream.close()
        if lanes:
            pause(self._client, lanes)
        # What users have taken themselves may never come back; a handler ends, and is waited for.
        self._heard_at = time.monotonic()
        patience = (
            None
            if self._context.handlers_end
            else self._heard_at + self._context.config.message_consume_timeout
        )
        while session.in_hand() and not control.is_over(patience):
            now = time.monotonic()
            if now >= self._watch_due:
                self._watch(now)
            self._keep_up(now)
            session.wait_idle(list(session.lanes.values()), 2 * SHORT_SECONDS)
        left = session.in_hand()
        if left:
            fields = {**self._context.fields, "in_hand": left}
            log_event(logger, logging.WARNING, "stopped with messages in hand", fields)

    def _wait_for_hooks(self) -> None:
        """Where the consumer closes: let the hooks of close() run, which may commit what users have kept.

        Whoever waits for the stop is told as soon as all is committed, and does not wait for the hooks: one
        of them may wait for him.
        """
        control = self._control
        if not control.closing:
            return
        patience = time.monotonic() + self._context.config.message_consume_timeout
        self.committer.try_anew()
        self._settle(patience)
        control.drained.set()
        while not control.may_leave.wait(2 * SHORT_SECONDS) and not control.is_over():
            self._keep_up(time.monotonic())
            self._settle(patience)

    def _settle(self, patience: float) -> None:
        """While the consumer closes: say that all is finished and committed, or that it won't be."""
        control, committer = self._control, self.committer
        if control.settled.is_set():
            return
        if self.is_finished():
            control.settle(finished=True)
        elif committer.refused or control.is_over(patience):
            control.settle(finished=False)
        elif committer.uncommitted(self.session.lanes.values()):
            committer.flush()

    def is_finished(self) -> bool:
        """Whether nothing is in hand, and the broker has the commit of what is finished. Poll thread."""
        return not self.session.in_hand() and self.is_committed()

    def is_committed(self) -> bool:
        """Whether the broker has the commit of what is finished. Poll thread.

        Of partitions that were lost, or taken away before the end, others have what is not committed.
        """
        rebalances = self.rebalances
        if not rebalances.assigned:
            # Then there is still what an earlier session may have left.
            return self._control.committed
        return not rebalances.left_uncommitted and not self.committer.uncommitted(self.session.lanes.values())

    def _keep_up(self, now: float) -> None:
        """What keeps the member in its group while it hands out nothing.

        Who waits for a durable commit is given up when there was no answer for `message_consume_timeout`:
        a handler is waited for as long as it takes, but not a broker that does not answer its commit.
        """
        self._context.pulse.beat(now)
        self.committer.serve(now)
        commits = self._commits
        if not commits.asked_for or commits.answered != self._answered:
            self._heard_at, self._answered = now, commits.answered
        elif now - self._heard_at >= self._context.config.message_consume_timeout:
            commits.give_up()
        self._errors.poll(self._client)

    def _commit_rest(self) -> None:
        """Commit what is finished, and poll for the answer.

        Gives up when the broker has been silent for `message_consume_timeout`. One that refuses is there, and
        may soon accept, as when its group is about to go on with another member: it gets that time again,
        three times it in all at most.

            the coordinator hangs for 9 of 10 seconds -> it refuses -> the next try needs more than 1 second
        """
        session, committer = self.session, self.committer
        timeout, begun = self._context.config.message_consume_timeout, time.monotonic()
        heard, refusals = begun, committer.refusals
        committer.try_anew()
        while (
            self._commits.in_flight or committer.uncommitted(session.lanes.values())
        ) and not self._control.is_over(min(heard + timeout, begun + 3 * timeout)):
            self._context.pulse.beat(time.monotonic())
            if committer.refusals != refusals:
                heard, refusals = time.monotonic(), committer.refusals
            committer.flush()
            if committer.refused:
                break
            self._client.poll(2 * SHORT_SECONDS)
        rest = committer.uncommitted(session.lanes.values())
        if rest:
            log_event(
                logger,
                logging.ERROR,
                "stopped without the broker's answer to a commit: what was handled may be handled again",
                {**self._context.fields, "partitions": [lane.partition for lane in rest]},
            )

    def end(self) -> None:
        """No more commits: whoever waits for one is told, and what was parked for one is released."""
        self._commits.end()
        if self._context.lag is not None:
            self._context.lag.keep(())

    def leave(self) -> None:
        """Drop the session whatever is in hand, and leave the group; the client is to be closed then."""
        # Before the group is left: what is still in hand now was waited for long enough, and the revoke
        # that leaving brings must not wait for it again.
        self.rebalances.ended = True
        self.rebalances.drop(list(self.session.lanes.values()))
        # Where the session has failed nobody has asked for that: a part of a batch would wait for the
        # messages of the next session.
        self._context.upstream.flush()
        try:
            self._give_back()
        except Exception as error:  # noqa: BLE001  # reported; the client is closed all the same
            log_error(logger, "error leaving the group", error, self._context.fields)
            self._context.report(error)

    def _give_back(self) -> None:
        """Give the partitions back, and serve what librdkafka has to say of that, before the client closes.

        close() does it all by itself. But a rebalance that reaches its end just then is served inside of it,
        and there librdkafka can wait for its own answer for ever (its issue 4884), while confluent_kafka
        holds the GIL: the whole process stands still. Members of a group that stop together come to that.
        Without a subscription no rebalance begins, and what has begun is served here:

            other member leaves -> this one is to join again -> it stops -> its new assignment is in the queue

        A static member stays in its group: to unsubscribe would be to leave. There only what has begun is
        served.
        """
        client, stays = self._client, is_static_member(self._context.config.librdkafka)
        until = time.monotonic() + LEAVE_SECONDS
        if not stays:
            client.unsubscribe()
        while time.monotonic() < until:
            self._context.pulse.beat(time.monotonic())
            served = self.rebalances.served
            # Messages lie in the same queue, before and behind a rebalance.
            if client.poll(0) is None and self.rebalances.served == served:
                if stays or not client.assignment():
                    return
                client.poll(SHORT_SECONDS)
