"""The handler of a consumer group: its registration, what is wrapped round it, and who runs it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial

from dp_kafka.config import ConsumerGroupConfig, ProducerConfig
from dp_kafka.consumer.batch import BatchHandler, BatchWorker
from dp_kafka.consumer.context import GroupContext
from dp_kafka.consumer.poller import Poller
from dp_kafka.consumer.workers import Handler, Worker
from dp_kafka.consumer.workerthread import WorkerThread
from dp_kafka.errors import ClosedError, HandlerRegistrationError
from dp_kafka.interrupts import is_owned
from dp_kafka.logs import log_error
from dp_kafka.processing.chain import AnyHandler, Middleware, wrap
from dp_kafka.processing.deadletter import DeadLetters
from dp_kafka.processing.decoding import decoding
from dp_kafka.processing.retry import retrying
from dp_kafka.producer.exit import ending
from dp_kafka.producer.producer import Producer

__all__ = ["Handlers", "dead_letter_config"]

logger = logging.getLogger("dp_kafka.consumer")


class Handlers:
    """Takes one handler for a group, and starts its worker threads."""

    def __init__(
        self,
        context: GroupContext,
        poller: Poller,
        dead_letters: Producer | None,
        outside: list[Middleware],
        inside: list[Middleware],
        close_group: Callable[[], None],
    ) -> None:
        """Args: `outside` and `inside` stand round dead letters and retries, and within them."""
        self._context = context
        self._poller = poller
        self._dead_letters = dead_letters
        self._outside = outside
        self._inside = inside
        self._close_group = close_group
        #: Guards the registration: the middlewares, and the workers of the context. Reentrant, as a signal
        #: handler that closes the group may come on top of it. No middleware is called under it.
        self._lock = threading.RLock()
        self._middlewares: list[Middleware] = []
        #: Whether a handler is being wrapped, which a failing middleware undoes.
        self._registering = False

    @property
    def workers(self) -> list[WorkerThread]:
        """The threads that run the handler, as they are now; none starts once the consumer is closing."""
        with self._lock:
            return list(self._context.workers)

    def interrupted(self) -> bool:
        """Whether the calling thread is a signal handler's, on top of a registration of its own."""
        return is_owned(self._lock)

    def use(self, middleware: Middleware) -> None:
        """Wrap the handler that is registered later; `ConsumerGroup.use` says the rest."""
        if not callable(middleware):
            raise HandlerRegistrationError(
                f"a middleware must be callable, but got {type(middleware).__name__}: give a function that "
                "takes a handler and returns one"
            )
        with self._lock:
            if self._context.workers or self._registering:
                raise HandlerRegistrationError(
                    "use() comes before the handler is registered: the handler would run without it"
                )
            self._middlewares.append(middleware)

    def register(self, handler: Handler) -> None:
        """Run it on `num_workers` threads; `ConsumerGroup.register_handler` says the rest."""
        config, upstream = self._context.config, self._context.upstream
        self._register(
            handler,
            lambda wrapped: [
                Worker(
                    number, config.topic, wrapped, upstream, self._died, durable=config.commit_interval == 0
                )
                for number in range(1, config.num_workers + 1)
            ],
        )

    def register_batch(self, handler: BatchHandler) -> None:
        """Run it on one thread; `ConsumerGroup.register_batch_handler` says the rest."""
        config, upstream = self._context.config, self._context.upstream

        def make(wrapped: AnyHandler) -> list[WorkerThread]:
            self._poller.set_batched()
            return [
                BatchWorker(
                    config.topic,
                    wrapped,
                    upstream,
                    self._died,
                    batch_size=config.batch_size,
                    batch_wait_time=config.batch_wait_time,
                    durable=config.commit_interval == 0,
                )
            ]

        self._register(handler, make)

    def _register(self, handler: AnyHandler, make: Callable[[AnyHandler], list[WorkerThread]]) -> None:
        if not callable(handler):
            raise HandlerRegistrationError(
                f"a handler must be callable, but got {type(handler).__name__}: give a function or a method"
            )
        begun = False
        try:
            with self._lock:
                self._refuse_when_closing()
                if self._context.workers or self._registering:
                    raise HandlerRegistrationError(
                        "failed to register handler because a handler or batch handler had already been "
                        "registered, only 1 allowed"
                    )
                begun = self._registering = True
            wrapped = self._wrapped(handler)
            with self._lock:
                # Looked at again: a middleware may have closed the group, or somebody else meanwhile.
                self._refuse_when_closing()
                self._start(make(wrapped))
        finally:
            if begun:
                self._registering = False

    def _start(self, workers: list[WorkerThread]) -> None:
        context = self._context
        context.workers.extend(workers)
        try:
            for worker in workers:
                worker.start()
        except BaseException:
            # No thread can be started, say. Nobody must take those that do not run for a handler.
            context.workers[:] = [worker for worker in workers if worker.ident is not None]
            raise

    def _refuse_when_closing(self) -> None:
        if self._context.control.closing:
            raise ClosedError("no handler can be registered because the consumer is closing")

    def _wrapped(self, handler: AnyHandler) -> AnyHandler:
        """The handler inside the user's middlewares, retries and dead letters."""
        config = self._context.config
        own: list[Middleware] = list(self._outside)
        if config.dead_letter is not None and self._dead_letters is not None:
            own.append(DeadLetters(config.dead_letter, config.group_name, self._dead_letters))
        if config.retry is not None:
            own.append(retrying(config.retry))
        # Innermost, so that a middleware sees a message that can't be decoded fail.
        inner = [] if self._context.codec is None else [decoding]
        return wrap(handler, [*own, *self._inside, *self._middlewares, *inner])

    def watch_dead_letters(self) -> None:
        """Close the group when its producer of dead letters ends before it; once the group can be closed."""
        if self._dead_letters is not None:
            self._dead_letters._when_closed(partial(self._dead_letters_ended, self._dead_letters))

    def _dead_letters_ended(self, producer: Producer, crash: BaseException | None) -> None:
        """On a thread of that producer: tell, and close.

        Else a message that is given up would wait for ever, and what comes behind it with it, in a group that
        looks healthy. Its letter can't be sent, so it is not committed, and another member has it again.
        """
        context = self._context
        if context.control.closing or ending.is_set():
            return
        error = crash or ClosedError("the producer of dead letters was closed before its consumer")
        context.letters.crash = error
        context.report(error)
        fields = {**context.fields, "dead_letter_topic": producer.topic}
        log_error(logger, "producer of dead letters died, the consumer closes", error, fields)
        self._close_group()

    def _died(self, worker: WorkerThread, error: BaseException) -> None:
        """On the dying worker: tell, and close."""
        context = self._context
        context.report(error)
        fields = {**context.fields, "worker": worker.name}
        log_error(logger, "worker thread died, the consumer closes", error, fields)
        self._close_group()


def dead_letter_config(config: ConsumerGroupConfig) -> ProducerConfig | None:
    """The configuration of the producer of a group's dead letters; None for a group without."""
    dead_letter = config.dead_letter
    if dead_letter is None:
        return None
    return ProducerConfig(
        config.broker_addrs,
        dead_letter.topic,
        min_retry_period=config.min_retry_period,
        max_retry_period=config.max_retry_period,
        min_brokers_healthy=1,
        otel_enabled=config.otel_enabled,
        security=config.security,
        # Given up by librdkafka when its worker gives it up, so that it is not sent twice at once.
        librdkafka={"delivery.timeout.ms": round(dead_letter.timeout * 1_000), **dead_letter.librdkafka},
    )
