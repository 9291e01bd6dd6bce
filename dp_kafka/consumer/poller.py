"""POLL THREAD of a consumer group: the only owner of its Kafka client.

Guarantees:
- no other thread polls, pauses, commits, joins or leaves;
- it never runs a handler, and blocks no longer than `POLL_SECONDS` at a time, but in a rebalance, where
  it waits at most `message_consume_timeout` for the messages in hand, and while librdkafka leaves the group;
- a session that fails is reported, ended, and begun again after a pause; what ends the thread itself is
  reported too, and the group closes: there is no dead thread behind a healthy-looking group;
- each start has a client of its own, closed before the group is Stopped: so Stopped means that the
  group has been left, and nothing of an old session reaches a new one.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from operator import methodcaller
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from dp_kafka.codecs.protocol import Codec
from dp_kafka.config import ConsumerGroupConfig
from dp_kafka.config.rdkafka import consumer_properties
from dp_kafka.consumer.commits import GroupCommit
from dp_kafka.consumer.committer import Committer
from dp_kafka.consumer.control import Control
from dp_kafka.consumer.flow import Flow
from dp_kafka.consumer.lane import Lane
from dp_kafka.consumer.message import KafkaErrorLike, RawMessage
from dp_kafka.consumer.session import Session
from dp_kafka.consumer.starts import read_starts
from dp_kafka.consumer.upstream import UpstreamChannel
from dp_kafka.consumer.watchdog import Watchdog, Worked, report_slow
from dp_kafka.errors import ConfigError, KafkaClientError, NotInitialisedError
from dp_kafka.logs import error_text, log_error, log_event
from dp_kafka.pulse import Pulse, Trouble
from dp_kafka.retry import get_retry_time
from dp_kafka.state import State

if TYPE_CHECKING:
    from dp_kafka.consumer.lag import Lag

__all__ = ["ClientFactory", "Poller", "confluent_consumer"]

logger = logging.getLogger("dp_kafka.consumer")
client_logger = logging.getLogger("dp_kafka.librdkafka")

_ERROR = methodcaller("error")
_PARTITION = methodcaller("partition")

#: The longest that the thread waits in one go.
POLL_SECONDS = 0.1
#: How long it waits for room in the buffers, or for somebody to ask for a durable commit, in one go.
SHORT_SECONDS = 0.005
#: How often it looks for partitions that are held back.
HOUSEKEEPING_SECONDS = 1.0
#: How long the end of a session waits for its partitions to be given back, which needs no broker.
LEAVE_SECONDS = 2.0
#: How often librdkafka gives statistics where they have to tell of an empty assignment, in milliseconds, and
#: how many have to say so.
STATISTICS_MS = 500
TIMES_UP = 2
#: How long one attempt at initialisation waits for a broker's answer.
INIT_SECONDS = 5.0

#: What librdkafka tells once, and not again while it is so.
TOLD_ONCE = frozenset({"GROUP_AUTHORIZATION_FAILED", "TOPIC_AUTHORIZATION_FAILED"})

#: Makes a client of librdkafka properties, callbacks among them; the test kit has its own.
ClientFactory = Callable[[dict[str, Any]], Any]


def confluent_consumer(properties: dict[str, Any]) -> Consumer:
    """The real client; raises ConfigError for properties that librdkafka refuses."""
    try:
        return Consumer(properties, logger=client_logger)
    except (KafkaException, TypeError, ValueError) as error:
        raise ConfigError(f"librdkafka refused the configuration: {_reason(error)}") from error


class Poller(threading.Thread):
    """Runs one consumer group's client, from initialisation to close."""

    def __init__(
        self,
        config: ConsumerGroupConfig,
        control: Control,
        upstream: UpstreamChannel,
        client_factory: ClientFactory,
        report: Callable[[BaseException], None],
        on_death: Callable[[], None],
        codec: Codec | None = None,
        lag: Lag | None = None,
    ) -> None:
        """Args: `report` puts an error on the errors channel; `on_death` closes the group; `lag` is kept.

        Raises:
            ConfigError: librdkafka refuses the properties.
        """
        super().__init__(name=f"dp-kafka:poll:{config.topic}", daemon=True)
        self._config = config
        self._control = control
        self._upstream = upstream
        self._factory = client_factory
        self._report = report
        self._on_death = on_death
        self._codec = codec
        self._lag = lag
        self._fields = {"topic": config.topic, "group": config.group_name}
        #: Whether a batch handler takes all messages.
        self._batched = False
        #: Set by close(): when to give up waiting for messages in hand; None is never.
        self.deadline: float | None = None
        #: Set once the hooks of close() have run, or there are none.
        self.may_leave = threading.Event()
        #: Whether the messages in hand are held by workers, whose handlers end by themselves.
        self.has_workers = False
        #: The threads that handle messages, for the watchdog.
        self.workers: Sequence[Worked] = ()
        self.watchdog = Watchdog(config.slow_handler_seconds)
        #: Signs of life, and what stands in the way of consuming.
        self.pulse = Pulse()
        self.trouble = Trouble()
        self._all_down = False
        #: How many statistics in a row said that the coordinator is there, while nothing was assigned.
        self._times_up = 0
        #: How many rebalance callbacks were served.
        self._rebalances = 0
        self._housekeeping_due = 0.0
        self._fatal: KafkaErrorLike | None = None
        self._session: Session | None = None
        #: How many messages were in hand when the last session ended, if the group was closing.
        self._left = 0
        self._committer: Committer | None = None
        # Made here, so that what librdkafka refuses is raised to whoever makes the group.
        self._client: Any = self._make_client()

    def set_batched(self) -> None:
        """A batch handler takes all messages from now on; any thread."""
        self._batched = True
        session = self._session
        if session is not None:
            session.set_batched()

    def in_hand(self) -> int:
        """How many messages are in the hand of workers or users, or were when a closing group gave up."""
        session = self._session
        return self._left if session is None else session.in_hand()

    # -- the thread ---------------------------------------------------------------------------------

    def run(self) -> None:
        """Initialise, then run a session for each start, until the group closes."""
        try:
            self._initialise()
            attempt = 1
            while self._wait_running():
                try:
                    self._run_session()
                    attempt = 1
                except Exception as error:  # noqa: BLE001  # reported, and the session begun again
                    attempt = self._session_failed(error, attempt)
                if not self._control.running:
                    # With the session goes what stood in its way: only a new one can tell if it still does.
                    self.trouble.clear()
        except BaseException as error:  # noqa: BLE001  # reported, and the group closes
            self.pulse.crash = error
            self._report(error)
            try:
                log_error(logger, "poll thread died, the consumer group closes", error, self._fields)
            finally:  # also when a filter of the user's logging raises
                self._on_death()
        finally:
            self._control.drained.set()
            self._close_client()

    def _wait_running(self) -> bool:
        self.pulse.rest()
        return self._control.wait_running()

    def _initialise(self) -> None:
        attempt = 1
        while not self._control.closing:
            try:
                self._probe(attempt)
            except Exception as error:  # noqa: BLE001  # reported, and tried again
                pause = get_retry_time(attempt, self._config.min_retry_period, self._config.max_retry_period)
                if attempt == 1 or not isinstance(error, NotInitialisedError):
                    self._report(error)
                fields = {**self._fields, "attempt": attempt, "retry_in_seconds": round(pause, 3)}
                log_event(
                    logger, logging.WARNING, "no broker answered", {**fields, "error": error_text(error)}
                )
                self._control.set_init_failed(error)
                attempt += 1
                self.pulse.rest()
                self._control.wait_init_retry(pause)
            else:
                self.trouble.connected()
                self._control.set_initialised()
                return

    def _probe(self, attempt: int) -> None:
        """Wait until a broker has answered; it creates no topic.

        Waits longer from try to try, so that a slow broker gets its time and one that is away costs little.

        Raises:
            NotInitialisedError: none did.
            KafkaClientError: a broker answered that it wants nothing of us.
        """
        client = self._client
        until = time.monotonic() + INIT_SECONDS
        timeout = POLL_SECONDS * 2 ** min(attempt - 1, 5)
        while not self._control.closing:
            self.pulse.beat(time.monotonic())
            try:
                client.list_topics(topic=self._config.topic, timeout=timeout)
            except KafkaException as error:
                if error.args[0].code() not in (KafkaError._TRANSPORT, KafkaError._TIMED_OUT):
                    raise KafkaClientError.from_kafka_error(error.args[0]) from error
            else:
                return
            self._poll_events(client)
            if self._all_down or time.monotonic() >= until:
                raise NotInitialisedError(
                    f"failed to create a new consumer group: no broker of {list(self._config.broker_addrs)} "
                    "answered; it is tried again in the background",
                    log_data=dict(self._fields),
                )
            timeout = min(2 * timeout, INIT_SECONDS)

    # -- one session: from start to stop --------------------------------------------------------------

    def _run_session(self) -> None:
        if self._client is None:
            self._client = self._make_client()
        client = self._client
        config = self._config
        self._fatal = None
        self._times_up = 0
        commits = GroupCommit(config.commit_interval)
        session = self._session = Session(self._upstream, commits, config.ordering, self._codec)
        # Looked at after the session is set: set_batched() sets it before it looks for the session.
        if self._batched:
            session.set_batched()
        committer = self._committer = Committer(client, session, self._report)
        flow = Flow(config.max_buffered_messages, config.max_buffered_bytes)
        try:
            client.subscribe(
                [config.topic],
                on_assign=self._on_assign,
                on_revoke=self._on_revoke,
                on_lost=self._on_lost,
            )
            while self._control.running:
                self._turn(client, session, committer, flow)
            self._drain(client, session, committer)
        finally:
            self._end_session(session)
        self._control.set_stopped()

    def _turn(self, client: Any, session: Session, committer: Committer, flow: Flow) -> None:
        """Send a commit if one is due, fetch what there is room for, and hand it to the lanes."""
        now = time.monotonic()
        self.pulse.beat(now)
        committer.serve(now)
        next_retry = session.serve_retries(now)
        if now >= self._housekeeping_due:
            session.log_held()
            self._look_at_workers(now)
        room, pause, resume = flow.room(session.lanes.values(), now, starving=self._upstream.starving)
        if pause:
            self._pause(client, pause)
        if resume:
            self._resume(client, resume)
        commits = session.commits
        if room:
            raws = client.consume(room, 0)
            if not raws:
                if commits.durable and session.in_hand():
                    self._wait_for_commits(commits, now)
                    return
                waits = (commits.seconds_to_round(now), next_retry, POLL_SECONDS)
                raw = client.poll(min(wait for wait in waits if wait is not None))
                raws = [] if raw is None else [raw]
        else:
            if commits.durable:
                self._wait_for_commits(commits, now)
            else:
                self._control.wait_not_running(SHORT_SECONDS)
            # Serves the callbacks; with every partition that has messages paused it brings none.
            raw = client.poll(0)
            raws = [] if raw is None else [raw]
        if raws:
            self._hand_out(session, raws)
        if self._fatal is not None:
            raise KafkaClientError.from_kafka_error(self._fatal)

    def _wait_for_commits(self, commits: GroupCommit, now: float) -> None:
        """Wait for somebody to ask for a durable commit, or a while for the answer to the round in flight.

        Not in the client's poll(): it serves the answer, but returns only with a message.
        """
        if commits.in_flight:
            self._control.wait_not_running(commits.seconds_to_look(now))
        else:
            commits.wait_for_asker(SHORT_SECONDS)

    def _look_at_workers(self, now: float) -> None:
        self._housekeeping_due = now + HOUSEKEEPING_SECONDS
        for slow in self.watchdog.look(now, self.workers):
            report_slow(slow, self._fields)

    def _poll_events(self, client: Any) -> None:
        """Serve the callbacks where no message can come; an error can, and may never be told again."""
        raw = client.poll(0)
        if raw is not None and (error := raw.error()) is not None:
            self._on_error(error)

    def _hand_out(self, session: Session, raws: list[RawMessage]) -> None:
        # Loops in C: this runs for every message, and beside the handlers.
        if any(map(_ERROR, raws)):
            for error in filter(None, map(_ERROR, raws)):
                self._on_error(error)
            raws = [raw for raw in raws if raw.error() is None]
        if raws:
            self.trouble.consumed()
        for partition, row in groupby(raws, _PARTITION):
            lane = session.lanes.get(partition)
            if lane is not None:
                lane.add(list(row))

    def _drain(self, client: Any, session: Session, committer: Committer) -> None:
        """Hand out no more, wait for what is in hand, commit it; the group is kept meanwhile."""
        lanes = list(session.lanes.values())
        for lane in lanes:
            lane.drain()
        self._upstream.flush()
        if self._control.closing:
            self._upstream.close()
        if lanes:
            self._pause(client, lanes)
        # What users have taken themselves may never come back; a handler ends, and is waited for.
        unanswered = time.monotonic() + self._config.message_consume_timeout
        patience = None if self.has_workers else unanswered
        while session.in_hand() and not self._is_over(patience):
            now = time.monotonic()
            if session.commits.durable and now >= unanswered:
                # Not the handler takes its time, but a broker that does not answer its commit.
                session.commits.give_up()
            self.pulse.beat(now)
            committer.serve(now)
            if now >= self._housekeeping_due:
                self._look_at_workers(now)
            session.wait_idle(list(session.lanes.values()), 2 * SHORT_SECONDS)
            self._poll_events(client)
        left = session.in_hand()
        if left:
            log_event(
                logger, logging.WARNING, "stopped with messages in hand", {**self._fields, "in_hand": left}
            )
        if self._control.closing:
            self._control.drained.set()
            while not self.may_leave.wait(2 * SHORT_SECONDS) and not self._is_over(None):
                self.pulse.beat(time.monotonic())
                committer.serve(time.monotonic())
                self._poll_events(client)
        self._commit_rest(client, session, committer)

    def _commit_rest(self, client: Any, session: Session, committer: Committer) -> None:
        """Commit what is finished, and poll for the answer.

        Gives up when the broker has been silent for `message_consume_timeout`. One that refuses is there, and
        may soon accept, as when its group is about to go on with another member: it gets that time again,
        three times it in all at most.

            the coordinator hangs for 9 of 10 seconds -> it refuses -> the next try needs more than 1 second
        """
        timeout, begun = self._config.message_consume_timeout, time.monotonic()
        heard, refusals = begun, committer.refusals
        committer.refused = False
        while (
            session.commits.in_flight or committer.uncommitted(session.lanes.values())
        ) and not self._is_over(min(heard + timeout, begun + 3 * timeout)):
            self.pulse.beat(time.monotonic())
            if committer.refusals != refusals:
                heard, refusals = time.monotonic(), committer.refusals
            committer.flush()
            if committer.refused:
                break
            client.poll(2 * SHORT_SECONDS)
        rest = committer.uncommitted(session.lanes.values())
        if rest:
            log_event(
                logger,
                logging.ERROR,
                "stopped without the broker's answer to a commit: what was handled may be handled again",
                {**self._fields, "partitions": [lane.partition for lane in rest]},
            )

    def _is_over(self, patience: float | None) -> bool:
        """Whether `patience` or the deadline of close() has passed."""
        now = time.monotonic()
        deadline = self.deadline
        return (patience is not None and now >= patience) or (deadline is not None and now >= deadline)

    def _end_session(self, session: Session) -> None:
        session.commits.end()
        if self._lag is not None:
            self._lag.keep(())
        # Counted, and the session put away first: whoever asks for the number must not see it vanish.
        # close() sets its deadline before it says that the group closes.
        closing = self._control.closing or self.deadline is not None
        self._left = session.in_hand() if closing else 0
        self._session = self._committer = None
        # Before the group is left: what is still in hand now was waited for long enough, and the revoke
        # that leaving brings must not wait for it again.
        session.remove(list(session.lanes.values()))
        self._leave_group()
        self._close_client()

    def _leave_group(self) -> None:
        """Give the partitions back, and serve what librdkafka has to say of that, before the client closes.

        close() does it all by itself. But a rebalance that reaches its end just then is served inside of it,
        and there librdkafka can wait for its own answer for ever (its issue 4884), while confluent_kafka
        holds the GIL: the whole process stands still. Members of a group that stop together come to that.
        Without a subscription no rebalance begins, and what has begun is served here:

            other member leaves -> this one is to join again -> it stops -> its new assignment is in the queue

        A static member (group.instance.id) of the classic protocol stays in its group when it stops, for its
        restart to cost no rebalance: to unsubscribe would be to leave. There only what has begun is served.
        """
        client, properties = self._client, self._config.librdkafka
        stays = "group.instance.id" in properties and not _is_kip_848(properties)
        until = time.monotonic() + LEAVE_SECONDS
        try:
            if not stays:
                client.unsubscribe()
            while time.monotonic() < until:
                self.pulse.beat(time.monotonic())
                served = self._rebalances
                # Messages lie in the same queue, before and behind a rebalance.
                if client.poll(0) is None and self._rebalances == served:
                    if stays or not client.assignment():
                        return
                    client.poll(SHORT_SECONDS)
        except Exception as error:  # noqa: BLE001  # reported; the client is closed all the same
            log_error(logger, "error leaving the group", error, self._fields)
            self._report(error)

    def _session_failed(self, error: Exception, attempt: int) -> int:
        """Report a failed session and wait before the next one; the number of the next attempt."""
        pause = get_retry_time(attempt, self._config.min_retry_period, self._config.max_retry_period)
        fields = {**self._fields, "attempt": attempt, "retry_in_seconds": round(pause, 3)}
        log_error(logger, "session failed, it is begun again", error, fields)
        self._report(error)
        self.trouble.failed("session", error)
        self._control.set_unassigned()
        self.pulse.rest()
        self._control.wait_not_running(pause)
        self._control.set_stopped()
        return attempt + 1

    # -- rebalances: called by librdkafka from within poll() and consume() ------------------------------

    def _on_assign(self, client: Any, partitions: list[TopicPartition]) -> None:
        self._rebalances += 1
        session = self._session
        if session is None:
            return
        starts = read_starts(
            client, partitions, initial=self._config.offset, wait=self._wait_to_ask, fields=self._fields
        )
        if starts is None:
            return  # the session ends, and no lane takes what may come of this assignment
        for start in starts:
            lane = session.open_lane(start.partition.topic, start.partition.partition)
            lane.skip(start.finished)
        (client.incremental_assign if self._incremental else client.assign)(
            [start.partition for start in starts]
        )
        self._log_partitions("partitions assigned", partitions)
        self.trouble.clear()
        self._control.set_assigned()

    def _wait_to_ask(self, seconds: float) -> bool:
        """Wait before the next question of an assignment; False when the session is to end."""
        self.pulse.beat(time.monotonic())
        self._control.wait_not_running(seconds)
        return self._control.running

    @property
    def _incremental(self) -> bool:
        """Whether partitions come and go one by one, not all at once."""
        properties = self._config.librdkafka
        return _is_kip_848(properties) or "cooperative" in str(
            properties.get("partition.assignment.strategy", "")
        )

    def _on_revoke(self, _client: Any, partitions: list[TopicPartition]) -> None:
        self._rebalances += 1
        session, committer = self._session, self._committer
        if session is None or committer is None:
            return
        lanes = self._lanes_of(session, partitions)
        for lane in lanes:
            lane.drain()
        self._upstream.flush()
        patience = time.monotonic() + self._config.message_consume_timeout
        while not session.wait_idle(lanes, POLL_SECONDS if not session.commits.durable else SHORT_SECONDS):
            self.pulse.beat(time.monotonic())
            if self._is_over(patience):
                break
            commits = session.commits
            # The answer to a round in flight can't be heard in here: it is asked for again.
            if commits.durable and (commits.pending or commits.in_flight) and not committer.commit_now():
                self._pause_commits()
        # Tried again, as a coordinator that has just moved answers so: what is not committed now is handled
        # again by whoever gets the partition.
        while committer.uncommitted(lanes) and not committer.commit_now():
            if committer.refused or committer.expelled or self._is_over(patience):
                break
            self.pulse.beat(time.monotonic())
            self._pause_commits()
        left = session.in_hand(lanes)
        session.remove(lanes)
        self._log_partitions("partitions revoked", partitions, in_hand=left)
        self._after_removal(session)

    def _pause_commits(self) -> None:
        """Wait before a synchronous commit is tried again; whoever closes without time does not wait."""
        self.may_leave.wait(POLL_SECONDS)

    def _on_lost(self, _client: Any, partitions: list[TopicPartition]) -> None:
        self._rebalances += 1
        session = self._session
        if session is None:
            return
        lanes = self._lanes_of(session, partitions)
        left = session.in_hand(lanes)
        session.remove(lanes)
        self._upstream.flush()
        if not session.lanes:
            # By any protocol: it is no member any more, and consumes nothing until it has joined again.
            self._times_up = 0
            self._control.set_unassigned()
        self._log_partitions("partitions lost", partitions, level=logging.WARNING, in_hand=left)
        self._after_removal(session)

    def _after_removal(self, session: Session) -> None:
        if self._lag is not None:
            self._lag.keep(session.lanes)
        if not session.lanes and not self._incremental:
            self._control.set_unassigned()

    @staticmethod
    def _lanes_of(session: Session, partitions: list[TopicPartition]) -> list[Lane]:
        found = (session.lanes.get(partition.partition) for partition in partitions)
        return [lane for lane in found if lane is not None]

    # -- the client -----------------------------------------------------------------------------------

    def _make_client(self) -> Any:
        properties = consumer_properties(self._config)
        properties.update({"error_cb": self._on_error, "on_commit": self._on_commit})
        if self._lag is not None:
            properties["stats_cb"] = self._on_statistics
        elif _is_kip_848(properties) and not {"stats_cb", "statistics.interval.ms"} & properties.keys():
            # For _look_for_empty_assignment. One document in half a second, a few kilobytes.
            properties.update({"stats_cb": self._on_statistics, "statistics.interval.ms": STATISTICS_MS})
        return self._factory(properties)

    def _close_client(self) -> None:
        client, self._client = self._client, None
        if client is None:
            return
        try:
            client.close()
        except Exception as error:  # noqa: BLE001  # reported; the group closes all the same
            log_error(logger, "error closing the consumer", error, self._fields)
            self._report(error)

    def _pause(self, client: Any, lanes: list[Lane]) -> None:
        client.pause([TopicPartition(lane.topic, lane.partition) for lane in lanes])
        for lane in lanes:
            lane.paused = True

    def _resume(self, client: Any, lanes: list[Lane]) -> None:
        partitions = [TopicPartition(lane.topic, lane.partition) for lane in lanes]
        client.resume(partitions)
        for lane in lanes:
            lane.paused = False
        # By itself librdkafka fetches them again when the thread of their broker next wakes up: in up to a
        # second, if it has nothing else to fetch there. To seek to where they stand wakes it.
        for position in client.position(partitions):
            if position.offset >= 0:
                with contextlib.suppress(KafkaException):
                    client.seek(position)

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        if self._committer is not None:
            self._committer.answered(error, partitions)

    def _on_statistics(self, statistics: str) -> None:
        session = self._session
        if session is None:
            return
        if self._lag is not None:
            self._lag.take(statistics, session.lanes)
        if self._control.state is State.STARTING and _is_kip_848(self._config.librdkafka):
            self._look_for_empty_assignment(statistics)

    def _look_for_empty_assignment(self, statistics: str) -> None:
        """Find out that this member has no partitions: with KIP-848 librdkafka calls no callback for that.

        A member whose coordinator is there for some time, and which was assigned nothing, has nothing. If
        partitions come after all, they find it Consuming already.
        """
        coordinator = json.loads(statistics).get("cgrp", {}).get("state")
        self._times_up = self._times_up + 1 if coordinator == "up" else 0
        if self._times_up >= TIMES_UP:
            self._log_partitions("partitions assigned", [])
            self._control.set_assigned()

    def _on_error(self, error: KafkaErrorLike) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._all_down = True
        # As an event of the consumer it comes with the bare code, and is_fatal() is not set.
        if error.fatal() or error.code() == KafkaError._FATAL:
            self._fatal = error
        translated = KafkaClientError.from_kafka_error(error)
        self.trouble.note(translated, lasting=error.name() in TOLD_ONCE)
        self._report(translated)
        level = logging.ERROR if translated.permanent else logging.WARNING
        fields = {"error": str(translated), "code": error.code(), "name": error.name()}
        log_event(logger, level, "kafka client error", {**self._fields, **fields})

    def _log_partitions(
        self, event: str, partitions: list[TopicPartition], level: int = logging.INFO, **fields: Any
    ) -> None:
        numbers = sorted(partition.partition for partition in partitions)
        log_event(logger, level, event, {**self._fields, "partitions": numbers, **fields})


def _is_kip_848(properties: Mapping[str, Any]) -> bool:
    """Whether these client properties choose the newer group protocol."""
    return str(properties.get("group.protocol", "classic")).lower() == "consumer"


def _reason(error: BaseException) -> str:
    first = error.args[0] if error.args else error
    return first.str() if isinstance(first, KafkaError) else str(first)
