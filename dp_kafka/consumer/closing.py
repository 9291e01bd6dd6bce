"""CLOSE THREAD of a consumer group: ends everything, in one order, by a deadline, and counts what is left.

Guarantees:
- `closed` is set at the end whatever goes wrong before;
- hooks run after the last new message and before the client goes, outside every lock, whatever they raise;
- with a deadline it ends soon after it, unless a hook does not, and says which threads still run.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from dp_kafka.consumer.channels import ConsumerGroupChannels
from dp_kafka.consumer.context import GroupContext
from dp_kafka.consumer.handlers import Handlers
from dp_kafka.consumer.poller import Poller
from dp_kafka.errorlog import ErrorLog
from dp_kafka.interrupts import Beginning
from dp_kafka.logs import log_error, log_event, log_still_running
from dp_kafka.producer.producer import Producer

__all__ = ["GRACE_SECONDS", "CloseThread"]

logger = logging.getLogger("dp_kafka.consumer")

#: How long after the deadline threads may take to give up what they hold.
GRACE_SECONDS = 0.3
#: How long it waits for the client to go. librdkafka gives up on brokers that do not answer before that.
LET_GO_SECONDS = 60.0
#: The longest wait before it looks again at a deadline that a later close() may have brought forward.
LOOK_SECONDS = 0.05


class CloseThread(threading.Thread):
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
        super().__init__(name=f"dp-kafka:close:{context.config.topic}", daemon=True)
        self._fields = context.fields
        self._control = context.control
        self._poller = poller
        self._channels = channels
        self._handlers = handlers
        self._dead_letters = dead_letters
        self._error_log = error_log
        self._last = last
        self._beginning = Beginning()
        #: Taken by who runs. A Ctrl-C just behind the start of the thread makes the next close() begin again.
        self._once = threading.Lock()
        self._hooks: Sequence[Callable[[], object]] = ()
        #: The thread that closes: this one, or where none can be started, the caller's.
        self.runner: threading.Thread | None = None
        #: How many messages were left in hand.
        self.left = 0

    def begin(self, hooks: Sequence[Callable[[], object]], deadline: float | None) -> None:
        """Begin to close, if this is the first call; a later one may bring the deadline forward."""
        # Before the group is said to close: whoever sees that it does, sees by when.
        self._control.bring_forward(deadline)
        with self._beginning.attempt() as first:
            if first:
                self._begin(hooks)
            elif hooks:
                event = "hooks of a further close() are not run: the consumer is closing already"
                log_event(logger, logging.WARNING, event, {**self._fields, "hooks": len(hooks)})

    def interrupted(self) -> bool:
        """Whether the calling thread is a signal handler's, on top of a `begin` of its own."""
        return self._beginning.interrupted()

    def _begin(self, hooks: Sequence[Callable[[], object]]) -> None:
        self._hooks = hooks
        # At once: whoever starts after a close is told so, whether or not the thread runs by then.
        self._control.close()
        try:
            # A thread of its own: the caller may be a handler, which close() waits for, and has a timeout.
            self.start()
        except RuntimeError:
            # While the interpreter shuts down no thread can be started. Those that would wait for themselves
            # cannot close; the state tells that nothing is consumed any more.
            if threading.current_thread() in (self._poller, *self._handlers.workers):
                raise
            self.run()

    def run(self) -> None:
        """Close, and tell."""
        if not self._once.acquire(blocking=False):
            return
        channels = self._channels
        self.runner = threading.current_thread()
        try:
            self._close()
        except BaseException as error:  # noqa: BLE001  # whoever waits for the end must get it
            channels.errors.put(error)
            log_error(logger, "closing the consumer failed", error, self._fields)
        finally:
            # If the poll thread has not said it: without a session nothing was in hand.
            self._control.settle(finished=self._poller.membership is None)
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
        while not self._control.drained.wait(LOOK_SECONDS) and not self._is_over():
            pass
        # 2. The user's own last work, while commits still reach the broker.
        for hook in self._hooks:
            try:
                hook()
            except BaseException as error:  # noqa: BLE001  # the group must close whatever a hook does
                log_error(logger, "a hook of close() failed", error, self._fields)
                channels.errors.put(error)
        # 3. The poll thread commits the rest, leaves the group and closes its client.
        self.left = poller.in_hand()
        self._control.may_leave.set()
        # 4. Whoever waits for a message is told that none comes; workers end.
        channels.upstream.close()
        threads = (poller, *self._handlers.workers)
        for thread in threads:
            self._join(thread)
        self.left = max(self.left, poller.in_hand())
        if self._dead_letters is not None:
            remaining = self._control.remaining()
            self._dead_letters.close(None if remaining is None else max(0.0, remaining))
        # 5. Signals and channels, last: whoever reads errors has seen those of the shutdown.
        running = [thread for thread in threads if thread.is_alive()]
        if running or self.left:
            self._log_left(running)
        channels.errors.close()
        channels.consume.close()
        channels.closer.set()
        if (logging_thread := self._error_log.thread) is not None:
            self._join(logging_thread)

    def _join(self, thread: threading.Thread) -> None:
        """Join a thread until it ends, or until a little after the deadline.

        The poll thread not for ever, without a deadline either: where a broker's name can't be resolved,
        librdkafka's thread may hang there, and with it the end of the client. In a forked process glibc may
        never answer.
        """
        while thread.is_alive() and not self._is_over(GRACE_SECONDS):
            if thread is self._poller and self._poller.closing_for() >= LET_GO_SECONDS:
                return
            thread.join(LOOK_SECONDS)

    def _is_over(self, grace: float = 0.0) -> bool:
        remaining = self._control.remaining()
        return remaining is not None and remaining + grace <= 0

    def _log_left(self, running: Sequence[threading.Thread]) -> None:
        log_event(
            logger,
            logging.ERROR,
            "closed with work left: messages in hand are delivered again to another consumer",
            {**self._fields, "in_hand": self.left, "threads": [thread.name for thread in running]},
        )
        log_still_running(logger, running, self._fields)
