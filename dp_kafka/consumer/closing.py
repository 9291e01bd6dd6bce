"""CLOSE THREAD of a consumer group: ends everything, in one order, by a deadline, and counts what is left.

Guarantees:
- `closed` is set at the end whatever goes wrong before;
- hooks run after the last new message and before the client goes, outside every lock, whatever they raise;
- with a deadline it ends soon after it, unless a hook does not, and says which threads still run.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Sequence

from dp_kafka.closing import LOOK_SECONDS, ClosingThread
from dp_kafka.consumer.channels import ConsumerGroupChannels
from dp_kafka.consumer.context import GroupContext
from dp_kafka.consumer.handlers import Handlers
from dp_kafka.consumer.poller import Poller
from dp_kafka.errorlog import ErrorLog
from dp_kafka.logs import log_error, log_event, log_still_running
from dp_kafka.producer.producer import Producer

__all__ = ["GRACE_SECONDS", "CloseThread"]

logger = logging.getLogger("dp_kafka.consumer")

#: How long after the deadline threads may take to give up what they hold.
GRACE_SECONDS = 0.3
#: How long it waits for the client to go. librdkafka gives up on brokers that do not answer before that.
LET_GO_SECONDS = 60.0


class CloseThread(ClosingThread):
    """Closes one consumer group, once."""

    def __init__(
        self,
        context: GroupContext,
        poller: Poller,
        channels: ConsumerGroupChannels,
        handlers: Handlers,
        dead_letters: Producer | None,
        error_log: ErrorLog,
        last: Callable[[], None],
    ) -> None:
        """Args: `last` is called when all is closed."""
        super().__init__(context.config.topic, context.control.deadline)
        self._fields = context.fields
        self._control = context.control
        self._poller = poller
        self._channels = channels
        self._handlers = handlers
        self._dead_letters = dead_letters
        self._error_log = error_log
        self._last = last
        self._hooks: list[Callable[[], object]] = []
        self._hooks_are_over = False

    def close(self, hooks: Sequence[Callable[[], object]], deadline: float | None) -> None:
        """Begin to close, if this is the first call; a later one may bring the deadline forward."""

        # Those of an earlier call that was interrupted are known, and run.
        late = [hook for hook in hooks if not any(hook is known for known in self._hooks)]

        def first() -> None:
            # At once: whoever starts after a close is told so, whether or not the thread runs by then.
            self._control.close()
            if not self._hooks_are_over:
                self._hooks.extend(late)
                late.clear()

        self.begin(deadline, first)
        if late:
            event = "hooks of a further close() are not run: the consumer is closing already"
            log_event(logger, logging.WARNING, event, {**self._fields, "hooks": len(late)})

    def _waited_for(self) -> Collection[threading.Thread]:
        return (self._poller, *self._handlers.workers)

    def _refuse(self) -> None:
        """Nothing is consumed by a consumer that closes."""

    def _failed(self, error: BaseException) -> None:
        self._channels.errors.put(error)
        log_error(logger, "closing the consumer failed", error, self._fields)

    def _finish(self) -> None:
        channels = self._channels
        # If the poll thread has not said it: without a session nothing was in hand.
        self._control.settle(finished=self._poller.membership is None and self._control.committed)
        self._control.drained.set()
        self._control.may_leave.set()
        channels.upstream.close()
        channels.errors.close()
        channels.consume.close()
        channels.closer.set()
        channels.closed.set()
        # Nobody waits for this: letting a client go may take as long as the resolution of a name.
        self._last()

    def _close(self) -> None:
        poller, channels = self._poller, self._channels
        # 1. No new message: the poll thread drains its session, and waits for what is in hand.
        while not self._control.drained.wait(LOOK_SECONDS) and not self._deadline.has_passed():
            pass
        # 2. The user's own last work, while commits still reach the broker.
        for hook in self._hooks:  # which may grow meanwhile
            try:
                hook()
            except BaseException as error:  # noqa: BLE001  # the group must close whatever a hook does
                log_error(logger, "a hook of close() failed", error, self._fields)
                channels.errors.put(error)
        self._hooks_are_over = True
        # 3. The poll thread commits the rest, leaves the group and closes its client.
        self.left = poller.in_hand()
        self._control.may_leave.set()
        # 4. Whoever waits for a message is told that none comes; workers end.
        channels.upstream.close()
        # The poll thread not for ever, without a deadline either: where a broker's name can't be resolved,
        # librdkafka's thread may hang there, and with it the end of the client. In a forked process glibc may
        # never answer.
        self._join(poller, GRACE_SECONDS, lambda: poller.closing_for() >= LET_GO_SECONDS)
        workers = tuple(self._handlers.workers)
        for worker in workers:
            self._join(worker, GRACE_SECONDS)
        self.left = max(self.left, poller.in_hand())
        if self._dead_letters is not None:
            self._dead_letters.close(self._deadline.remaining())
        # 5. Signals and channels, last: whoever reads errors has seen those of the shutdown.
        running = [thread for thread in (poller, *workers) if thread.is_alive()]
        if running or self.left:
            self._log_left(running)
        channels.errors.close()
        channels.consume.close()
        channels.closer.set()
        if (logging_thread := self._error_log.thread) is not None:
            self._join(logging_thread, GRACE_SECONDS)

    def _log_left(self, running: Sequence[threading.Thread]) -> None:
        log_event(
            logger,
            logging.ERROR,
            "closed with work left: messages in hand are delivered again to another consumer",
            {**self._fields, "in_hand": self.left, "threads": [thread.name for thread in running]},
        )
        log_still_running(logger, running, self._fields)
