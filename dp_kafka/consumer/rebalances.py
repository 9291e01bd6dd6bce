"""Rebalances: what happens to the lanes when partitions come and go. POLL THREAD, within poll() or consume().

Guarantees:
- a partition that is assigned starts where its group left it, without what is finished beyond that;
- before a partition is given back, what is in hand is finished and committed, and the broker's answer is
  waited for, at most `message_consume_timeout`, and not beyond the deadline of close(). One commit that a
  broker does not answer takes as long as librdkafka waits for it (`socket.timeout.ms`, a minute);
- what is lost belongs to somebody else already: its lanes are dropped at once.
"""

from __future__ import annotations

import json
import logging
import time
from typing import Any

from confluent_kafka import TopicPartition

from dp_kafka.config.rdkafka import is_kip_848
from dp_kafka.consumer.client import is_incremental
from dp_kafka.consumer.committer import Committer
from dp_kafka.consumer.context import GroupContext
from dp_kafka.consumer.lane import Lane
from dp_kafka.consumer.session import Session
from dp_kafka.consumer.starts import read_starts
from dp_kafka.logs import log_event
from dp_kafka.state import State

__all__ = ["Rebalances"]

logger = logging.getLogger("dp_kafka.consumer")

#: How long it waits in one go for messages in hand, and before a refused commit is tried again.
WAIT_SECONDS = 0.1
#: The same for messages in hand while somebody may ask for a durable commit.
SHORT_SECONDS = 0.005
#: How many statistics in a row have to say that the coordinator is there, while nothing was assigned.
TIMES_UP = 2


class Rebalances:
    """Serves librdkafka's rebalance callbacks for one session, until that ends."""

    def __init__(self, context: GroupContext, session: Session, committer: Committer) -> None:
        self._context = context
        self._control = context.control
        self._session = session
        self._committer = committer
        self._incremental = is_incremental(context.config.librdkafka)
        #: How many callbacks were served.
        self.served = 0
        #: Whether there have been partitions.
        self.assigned = False
        #: Whether partitions were given back, once the session was to end, without the commit of what is
        #: finished.
        self.left_uncommitted = False
        #: Set when the session ends: what comes after that only gives the partitions back.
        self.ended = False
        self._times_up = 0

    # -- the callbacks ------------------------------------------------------------------------------

    def on_assign(self, client: Any, partitions: list[TopicPartition]) -> None:
        """Partitions come: open a lane for each, and start them where the group left them."""
        self.served += 1
        if self.ended:
            return
        context = self._context
        starts = read_starts(
            client, partitions, initial=context.config.offset, wait=self._wait_to_ask, fields=context.fields
        )
        if starts is None:
            return  # the session ends, and no lane takes what may come of this assignment
        for start in starts:
            lane = self._session.open_lane(start.partition.topic, start.partition.partition)
            if start.partition.offset >= 0:
                lane.start_at(start.partition.offset, start.finished, committed=start.committed)
        assigned = [start.partition for start in starts]
        # A partition that was paused when it was taken away is still paused for librdkafka when it comes
        # back, and would never be fetched again.
        client.resume(assigned)
        (client.incremental_assign if self._incremental else client.assign)(assigned)
        self.assigned = self.assigned or bool(assigned)
        self._log_partitions("partitions assigned", partitions)
        context.trouble.clear()
        self._control.set_assigned()

    def on_revoke(self, _client: Any, partitions: list[TopicPartition]) -> None:
        """Partitions are taken away: finish and commit what is in hand of them, then drop their lanes."""
        self.served += 1
        if self.ended:
            return
        session, lanes = self._session, self._lanes_of(partitions)
        for lane in lanes:
            lane.drain()
        self._context.upstream.flush()
        patience = time.monotonic() + self._context.config.message_consume_timeout
        self._wait_for_hands(lanes, patience)
        self._commit(lanes, patience)
        if not self._control.running and self._committer.uncommitted(lanes):
            self.left_uncommitted = True
        left = session.in_hand(lanes)
        self.drop(lanes)
        self._log_partitions("partitions revoked", partitions, in_hand=left)
        self._after_removal()

    def on_lost(self, _client: Any, partitions: list[TopicPartition]) -> None:
        """Partitions are somebody else's already: drop their lanes."""
        self.served += 1
        if self.ended:
            return
        session, lanes = self._session, self._lanes_of(partitions)
        left = session.in_hand(lanes)
        self.drop(lanes)
        self._context.upstream.flush()
        if not session.lanes:
            # By any protocol: it is no member any more, and consumes nothing until it has joined again.
            self._times_up = 0
            self._control.set_unassigned()
        self._log_partitions("partitions lost", partitions, level=logging.WARNING, in_hand=left)
        self._after_removal()

    # -- their steps --------------------------------------------------------------------------------

    def _wait_to_ask(self, seconds: float) -> bool:
        """Wait before the next question of an assignment; False when the session is to end."""
        self._context.pulse.beat(time.monotonic())
        self._control.wait_not_running(seconds)
        return self._control.running

    def _wait_for_hands(self, lanes: list[Lane], patience: float) -> None:
        session, committer = self._session, self._committer
        commits, expelled = session.commits, False
        while not session.wait_idle(lanes, SHORT_SECONDS if commits.durable else WAIT_SECONDS):
            self._context.pulse.beat(time.monotonic())
            if self._control.is_over(patience):
                break
            if not commits.durable or not (commits.pending or commits.in_flight):
                continue
            # The answer to a round in flight can't be heard in here: it is asked for again.
            if not expelled and not committer.commit_now():
                expelled = committer.expelled
                if not expelled:
                    self._pause_commits(patience)
            if expelled:
                # No commit counts until it has joined again: who waits for one has the answer now.
                commits.give_up()

    def _commit(self, lanes: list[Lane], patience: float) -> None:
        """Commit what is finished; whoever gets the partition handles again what is not committed now.

        Tried again, as a coordinator that has just moved refuses at first, and as an older commit that
        librdkafka tries again may undo this one.
        """
        committer = self._committer
        while committer.uncommitted(lanes) and not committer.commit_now():
            if committer.refused or committer.expelled or self._control.is_over(patience):
                break
            self._context.pulse.beat(time.monotonic())
            self._pause_commits(patience)

    def _pause_commits(self, patience: float) -> None:
        """Wait before a synchronous commit is tried again; not beyond `patience` or a deadline of close()."""
        until = min(time.monotonic() + max(WAIT_SECONDS, self._committer.pause_seconds), patience)
        while not self._control.is_over(until):
            self._context.pulse.beat(time.monotonic())
            self._control.deadline.wait(min(WAIT_SECONDS, max(0.0, until - time.monotonic())))

    def _after_removal(self) -> None:
        if self._context.lag is not None:
            self._context.lag.keep(self._session.lanes)
        if not self._session.lanes and not self._incremental:
            self._control.set_unassigned()

    def drop(self, lanes: list[Lane]) -> None:
        """Drop lanes whatever is in hand; that of handlers is remembered, until they have ended."""
        self._session.remove(lanes)
        # What users have taken themselves may never come back.
        if self._context.handlers_end:
            self._context.dropped.add(lanes)

    def _lanes_of(self, partitions: list[TopicPartition]) -> list[Lane]:
        found = (self._session.lanes.get(partition.partition) for partition in partitions)
        return [lane for lane in found if lane is not None]

    def _log_partitions(
        self, event: str, partitions: list[TopicPartition], level: int = logging.INFO, **fields: Any
    ) -> None:
        numbers = sorted(partition.partition for partition in partitions)
        log_event(logger, level, event, {**self._context.fields, "partitions": numbers, **fields})

    # -- what no callback tells -----------------------------------------------------------------------

    def look_at(self, statistics: str) -> None:
        """Find out that this member has no partitions: with KIP-848 librdkafka calls no callback for that.

        A member whose coordinator is there for some time, and which was assigned nothing, has nothing. If
        partitions come after all, they find it Consuming already.
        """
        if self._control.state is not State.STARTING or not is_kip_848(self._context.config.librdkafka):
            return
        coordinator = json.loads(statistics).get("cgrp", {}).get("state")
        self._times_up = self._times_up + 1 if coordinator == "up" else 0
        if self._times_up >= TIMES_UP:
            self._log_partitions("partitions assigned", [])
            self._control.set_assigned()
