"""WORKER THREADS: take messages from the upstream channel and give them to the handler.

Guarantees:
- a message in the hand of a worker is always released, and finished unless its handler said
  `commit = False`, whatever the handler raises;
- after a message, the worker goes on with the next one of the same lane, without a hop through the
  channel, for at most `QUANTUM_MESSAGES` messages or `QUANTUM_SECONDS` while others wait;
- a worker ends when the upstream channel is closed and empty, never while it holds a message;
- it never touches the Kafka client.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeAlias

from dp_kafka.consumer.lane import Lane
from dp_kafka.consumer.message import Message
from dp_kafka.consumer.runs import Run
from dp_kafka.consumer.unsettled import Unsettled
from dp_kafka.consumer.upstream import UpstreamChannel
from dp_kafka.consumer.workerthread import OnDeath, WorkerThread
from dp_kafka.errors import ChannelClosed, commit_wanted
from dp_kafka.logs import log_error

__all__ = ["Handler", "Worker"]

logger = logging.getLogger("dp_kafka.consumer")

#: A handler of single messages: `handler(worker_id, message)`; it raises to fail.
Handler: TypeAlias = Callable[[int, Message], object]

#: How long a worker stays with one lane while other lanes wait.
QUANTUM_MESSAGES = 256
QUANTUM_SECONDS = 0.005
#: The most messages that a worker claims at once.
RUN_MESSAGES = 256


class Worker(WorkerThread):
    """One of the `num_workers` threads of a consumer group; owns the message that it holds."""

    def __init__(
        self,
        worker_id: int,
        topic: str,
        handler: Handler,
        upstream: UpstreamChannel,
        on_death: OnDeath,
        *,
        durable: bool,
    ) -> None:
        """Args: `durable`: commit waits for the broker's answer."""
        super().__init__(f"dp-kafka:worker-{worker_id}:{topic}", on_death)
        self._id = worker_id
        self._handler = handler
        self._upstream = upstream
        self._durable = durable
        #: How many messages it claims at once; adapts to the handler.
        self._run_length = 1

    def work(self) -> None:
        """Handle messages until the upstream channel is closed."""
        while True:
            try:
                message = self.current = self._upstream.take()
            except ChannelClosed:
                return
            self._handle_lane(message)

    @property
    def trace_source(self) -> Message | None:
        """The message whose trace id is that of the handler's context (see dp_kafka.headers)."""
        return self.current

    def let_go(self) -> None:
        """Release the message in hand."""
        if self.current is not None:
            self.current.release()

    def _handle_lane(self, message: Message) -> None:
        """Handle a message and those that follow it in its lane, for as long as is fair."""
        handler, worker_id, upstream = self._handler, self._id, self._upstream
        lane = message._lane
        following: Message | None = message
        if not self._durable:
            run = lane.begin_run(message, self._run_length - 1)
            if run is not None:
                following = self._handle_runs(lane, run)
        count = 0
        until = time.monotonic() + QUANTUM_SECONDS
        while following is not None:
            message = self.current = following
            try:
                handler(worker_id, message)
            except BaseException as error:  # noqa: BLE001  # a handler may raise anything; the worker lives on
                following = self._after_failure(lane, message, error)
            else:
                following = self._settle(lane, message)
            count += 1
            if (
                following is not None
                and upstream.has_messages
                and (count >= QUANTUM_MESSAGES or time.monotonic() >= until)
            ):
                lane.put_back(following)
                following = None
        self.current = None

    def _settle(self, lane: Lane, message: Message) -> Message | None:
        """Commit and release a message; the lane's next one, now in hand.

        With durable commits there is none: the message is released when the broker has answered, and the
        worker takes what other lanes have meanwhile.
        """
        if self._durable:
            lane.park(message)
            return None
        following = lane.advance(message, finish=True)
        lane.commits.wanted = True
        return following

    def _handle_runs(self, lane: Lane, run: Run) -> Message | None:
        """Handle runs of messages of a lane; the message that is left in hand, to go the ordinary way.

        See dp_kafka.consumer.runs for who may end a run, and how this finds out.
        """
        handler, worker_id, upstream, commits = self._handler, self._id, self._upstream, lane.commits
        until = time.monotonic() + QUANTUM_SECONDS
        current: Run | None = run
        while current is not None:
            run = current
            for done, message in enumerate(run.messages, 1):
                self.current = message
                try:
                    handler(worker_id, message)
                except BaseException as error:  # noqa: BLE001  # a handler may raise anything; the worker lives on
                    lane.leave_run(run)
                    return self._after_failure(lane, message, error)
                run.done = done
                commits.wanted = True
                if lane.run is not run:
                    if lane.left_at(run) < done:
                        return self._settle(lane, message)
                    if done < len(run.messages):
                        return run.messages[done]
            now = time.monotonic()
            if now < until:
                # Quick handlers get long runs. A slow one's is short: its messages could not go elsewhere.
                self._run_length = min(2 * self._run_length, RUN_MESSAGES)
            elif len(run.messages) > 1:
                self._run_length = max(1, self._run_length // 2)
            if now >= until and upstream.has_messages:
                lane.leave_run(run)
                return None
            until = now + QUANTUM_SECONDS
            current = lane.next_run(run, self._run_length)
        return None

    def _after_failure(self, lane: Lane, message: Message, error: BaseException) -> Message | None:
        """Log a failure and settle its message; the lane's next message, now in hand."""
        finish = self._failed(error, message)
        if finish is None:
            return None  # it is handed out again later, and the lane has offered what may go on
        return self._settle(lane, message) if finish else lane.advance(message, finish=False)

    def _failed(self, error: BaseException, message: Message) -> bool | None:
        """Log a failure; whether the message is to be committed all the same, None if it comes again."""
        if isinstance(error, Unsettled):
            for again, seconds in error.again:
                again._lane.session.defer(again, seconds)
            if error.again:
                return None
            error = error.cause
        commit = commit_wanted(error)
        log_error(
            logger,
            "failed to handle message",
            error,
            {
                "topic": message.topic,
                "partition": message.partition,
                "offset": message.offset,
                "worker_id": self._id,
                "commit_message": commit,
            },
        )
        return commit
