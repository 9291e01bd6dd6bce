"""BATCH WORKER THREAD: collects messages into batches and gives them to the batch handler.

Guarantees:
- a batch is handled when it is full, when `batch_wait_time` has passed since its FIRST message, or at
  once when a message of it is about to be left (stop, close, rebalance), or was (a session that failed);
- its messages are released after it has been handled, not before, so nothing unhandled is committed;
- every batch is a list of its own: a handler may keep it;
- it never touches the Kafka client.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from queue import Empty
from typing import TypeAlias

from dp_kafka.consumer.commits import GroupCommit
from dp_kafka.consumer.lane import Lane
from dp_kafka.consumer.message import Message
from dp_kafka.consumer.unsettled import Unsettled
from dp_kafka.consumer.upstream import UpstreamChannel
from dp_kafka.consumer.workerthread import OnDeath, WorkerThread
from dp_kafka.errors import BatchError, ChannelClosed, commit_wanted
from dp_kafka.logs import log_error

__all__ = ["BatchHandler", "BatchWorker"]

logger = logging.getLogger("dp_kafka.consumer")

#: A handler of batches: `handler(batch)`; it raises to fail.
BatchHandler: TypeAlias = Callable[[list[Message]], object]

#: Messages of one lane that stand together in a batch.
Row: TypeAlias = tuple[Lane, list[Message]]


class BatchWorker(WorkerThread):
    """The one thread that collects and handles batches; owns the messages that it holds."""

    def __init__(
        self,
        topic: str,
        handler: BatchHandler,
        upstream: UpstreamChannel,
        on_death: OnDeath,
        *,
        batch_size: int,
        batch_wait_time: float,
        durable: bool,
    ) -> None:
        """Args: `batch_wait_time` in seconds; `durable`: commit waits for the broker."""
        super().__init__(f"dp-kafka:batch:{topic}", on_death)
        self._topic = topic
        self._handler = handler
        self._upstream = upstream
        self._size = batch_size
        self._wait_time = batch_wait_time
        self._durable = durable
        #: What has been collected and not settled.
        self._held: list[Row] = []

    def work(self) -> None:
        """Handle batches until the upstream channel is closed; then what was collected."""
        while True:
            try:
                rows = self._collect()
            except ChannelClosed:
                return
            self._handle(rows)

    def let_go(self) -> None:
        """Release the messages in hand."""
        for _, messages in self._held:
            for message in messages:
                message.release()

    def _collect(self) -> list[Row]:
        """The next batch, of at least one message.

        Raises:
            ChannelClosed: the channel is closed and nothing was collected.
        """
        upstream = self._upstream
        rows: list[Row] = []
        self._held = rows
        count = 0
        until: float | None = None
        flushes = upstream.flushes
        while count < self._size:
            remaining = None if until is None else until - time.monotonic()
            if remaining is not None and remaining <= 0:
                break
            if not rows:
                # Read before the first message is taken: what is flushed before that is not in the batch.
                flushes = upstream.flushes
            waiting = upstream.wait(remaining, flushes)
            if rows and upstream.flushes != flushes:
                break  # also when messages wait: those of other partitions might never come to an end
            try:
                messages = upstream.get_row(self._size - count)
            except Empty:
                if rows and not waiting:
                    break
                continue
            except ChannelClosed:
                if not rows:
                    raise
                break
            if until is None:
                until = time.monotonic() + self._wait_time
            rows.append((messages[0]._lane, messages))
            count += len(messages)
        return rows

    def _handle(self, rows: list[Row]) -> None:
        batch: list[Message] = []
        for _, messages in rows:
            batch += messages
        self.current = batch[0]
        failed: set[int] = set()
        again: list[tuple[Message, float]] = []
        try:
            self._handler(batch)
        except BaseException as error:  # noqa: BLE001  # a handler may raise anything; the worker lives on
            if isinstance(error, Unsettled):
                again = error.again
                if error.failed:
                    failed = self._failed(error.cause, error.failed)
            else:
                # Not of the batch: that is the handler's own list, to change as it likes.
                failed = self._failed(error, [message for _, messages in rows for message in messages])
        self.current = None
        if again:
            rows = self._held = self._without(rows, again)
        if rows:
            self._settle(rows, failed)

    @staticmethod
    def _without(rows: list[Row], again: list[tuple[Message, float]]) -> list[Row]:
        """Have messages handed out again later; the rows without them."""
        later = {id(message) for message, _ in again}
        for message, seconds in again:
            message._lane.session.defer(message, seconds)
        rest = [(lane, [m for m in messages if id(m) not in later]) for lane, messages in rows]
        return [(lane, messages) for lane, messages in rest if messages]

    def _settle(self, rows: list[Row], failed: set[int]) -> None:
        """Finish all but the failed messages, ask for their commits, release all."""
        # By the session: one may have ended, and another begun, while the batch was collected. Each has
        # commits of its own, and those of an ended one answer at once, that it is over.
        asked: dict[GroupCommit, list[Lane]] = {}
        for lane, messages in rows:
            done = [message for message in messages if id(message) not in failed] if failed else messages
            if self._durable:
                for message in done:
                    lane.mark(message)
            else:
                lane.advance_all(done, finish=True)
            if done:
                asked.setdefault(lane.commits, []).append(lane)
        for commits, lanes in asked.items():
            commits.ask(partial(_all_dropped, lanes))
        for lane, messages in rows:
            held = messages if self._durable else [m for m in messages if id(m) in failed] if failed else ()
            if held:
                lane.advance_all(held, finish=False)

    def _failed(self, error: BaseException, batch: list[Message]) -> set[int]:
        """Log the failure of messages; the ids of the message objects that are not to be committed."""
        commit = commit_wanted(error)
        log_error(
            logger,
            "failed to handle message batch",
            error,
            {"topic": self._topic, "batch_size": len(batch), "commit_batch": commit},
        )
        if commit:
            return set()
        return {id(message) for message in (error.failed if isinstance(error, BatchError) else batch)}


def _all_dropped(lanes: list[Lane]) -> bool:
    return all(lane.is_dropped() for lane in lanes)
