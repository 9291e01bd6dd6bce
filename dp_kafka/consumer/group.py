"""ConsumerGroup: the public class. It owns the threads of a group and closes them; they own the rest."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from dp_kafka import forks
from dp_kafka.channels import ErrorsChannel, Signal
from dp_kafka.codecs.protocol import Codec
from dp_kafka.config import ConsumerGroupConfig, ProducerConfig
from dp_kafka.consumer.batch import BatchHandler, BatchWorker
from dp_kafka.consumer.channels import ConsumeChannel, ConsumerGroupChannels
from dp_kafka.consumer.closing import GRACE_SECONDS, CloseThread, Helpers
from dp_kafka.consumer.control import Control
from dp_kafka.consumer.forked import KIND, switch_off
from dp_kafka.consumer.poller import INIT_SECONDS, ClientFactory, Poller, confluent_consumer
from dp_kafka.consumer.upstream import UpstreamChannel
from dp_kafka.consumer.vitals import Vitals
from dp_kafka.consumer.workers import Handler, Worker
from dp_kafka.consumer.workerthread import WorkerThread
from dp_kafka.errors import ClosedError, ConfigError, HandlerRegistrationError
from dp_kafka.health.checks import BrokerCheck
from dp_kafka.health.explain import Explainer
from dp_kafka.health.liveness import STUCK_SECONDS
from dp_kafka.health.state import CheckState
from dp_kafka.health.status import Status
from dp_kafka.logs import log_error
from dp_kafka.processing.chain import AnyHandler, Middleware, wrap
from dp_kafka.processing.deadletter import DeadLetters
from dp_kafka.processing.decoding import decoding
from dp_kafka.processing.retry import retrying
from dp_kafka.producer.producer import Producer
from dp_kafka.state import State

if TYPE_CHECKING:
    from dp_kafka.consumer.telemetry import Telemetry

__all__ = ["ConsumerGroup"]

logger = logging.getLogger("dp_kafka.consumer")

#: How long the constructor waits for the first attempt at initialisation; it goes on in the background.
CONSTRUCTOR_SECONDS = 2.0
#: How many errors the errors channel keeps.
ERRORS_KEPT = 20


class ConsumerGroup:
    """A member of a Kafka consumer group that feeds one topic's messages to worker threads.

    Making one starts its poll thread and tries to reach a broker; when none answers at once (two seconds
    at most) it is tried again in the background, and `is_initialised` tells. It consumes nothing until
    `start()`. Every method may be called from any thread, from a handler too. As a context manager it
    closes at the end.

    Args:
        config: what to consume, and how.
        codec: makes `message.event` of each value before the handler is called (see dp_kafka.codecs). A
            message that it can't decode fails as if its handler had failed with the codec's error.
        client_factory: makes the Kafka client from librdkafka properties; the test kit gives its own.
        broker_check: what `checker` asks of the brokers; the test kit gives its own.
        producer_factory: makes the producer of dead letters; the test kit gives its own.

    Raises:
        ConfigError: librdkafka refuses the configuration, or the codec can't decode. A broker that is away
            raises nothing.
    """

    def __init__(
        self,
        config: ConsumerGroupConfig,
        *,
        codec: Codec | None = None,
        client_factory: ClientFactory = confluent_consumer,
        broker_check: BrokerCheck | None = None,
        producer_factory: Callable[[ProducerConfig], Producer] = Producer,
    ) -> None:
        if not isinstance(config, ConsumerGroupConfig):
            raise ConfigError(f"a ConsumerGroup takes a ConsumerGroupConfig, but got {type(config).__name__}")
        if codec is not None and not callable(getattr(codec, "decode", None)):
            raise ConfigError(
                f"codec must have a method decode(bytes), but is {type(codec).__name__}: give one of "
                "dp_kafka.codecs, as in AvroCodec(schema) or JsonCodec()",
                field="codec",
            )
        self._config = config
        self._codec = codec
        self._control = Control()
        self._fields = {"topic": config.topic, "group": config.group_name}
        self._telemetry = _telemetry(config)
        self._channels = ConsumerGroupChannels(
            upstream=UpstreamChannel() if self._telemetry is None else self._telemetry.upstream,
            errors=ErrorsChannel(ERRORS_KEPT),
            initialised=self._control.initialised,
            consume=ConsumeChannel(self.start, self.stop, self._close_soon),
            closer=Signal(self._close_soon),
            closed=threading.Event(),
            state=self._control.machine,
        )
        #: Guards the handler's registration and the list of threads. Reentrant, as a signal handler that
        #: closes may come on top of either.
        self._lock = threading.RLock()
        self._workers: list[Worker | BatchWorker] = []
        self._middlewares: list[Middleware] = []
        self._error_logger: threading.Thread | None = None
        brokers = broker_check or BrokerCheck(config)
        self._poller = Poller(
            config,
            self._control,
            self._channels.upstream,
            client_factory,
            Explainer(self._channels.errors.put, brokers, config.topic),
            self._close_soon,
            codec,
            None if self._telemetry is None else self._telemetry.lag,
        )
        self._vitals = Vitals(self._control, self._poller, self._workers, brokers)
        self._closer = CloseThread(
            self._fields, self._control, self._poller, self._channels, self._helpers, self._vitals.close
        )
        # Made last but for the threads: it may refuse its configuration.
        self._dead_letters = (
            None if config.dead_letter is None else self._dead_letter_producer(producer_factory)
        )
        self._forked = False
        forks.track(self, ConsumerGroup._after_fork)
        self._poller.start()
        self._control.wait_first_attempt(CONSTRUCTOR_SECONDS)

    # -- what it is ---------------------------------------------------------------------------------

    @property
    def topic(self) -> str:
        """The topic that it consumes."""
        return self._config.topic

    @property
    def group_name(self) -> str:
        """The consumer group that it is a member of."""
        return self._config.group_name

    @property
    def channels(self) -> ConsumerGroupChannels:
        """Its channels and signals."""
        return self._channels

    @property
    def state(self) -> State:
        """Where it is in its life."""
        return self._control.state

    @property
    def is_initialised(self) -> bool:
        """Whether a broker has answered, and the group is not closing."""
        return self._control.initialised.is_set() and not self._control.closing

    def __repr__(self) -> str:
        return f"<ConsumerGroup {self.group_name} of {self.topic}, {self.state}>"

    # -- life ---------------------------------------------------------------------------------------

    def initialise(self) -> None:
        """Try now to reach a broker, and wait some seconds for the outcome; nothing if one has answered.

        Raises:
            NotInitialisedError: none answered; it is tried again in the background all the same.
            ClosedError: the group is closing.
        """
        self._control.initialise(timeout=2 * INIT_SECONDS)

    def start(self) -> None:
        """Begin to consume, once initialised; returns at once. Nothing happens when it already does.

        While a stop is under way, the start follows it.

        Raises:
            ClosedError: the group is closing.
        """
        self._control.start()

    def stop(self) -> None:
        """Stop consuming; returns at once. Messages in hand are finished and committed, the group is left."""
        self._control.stop()

    def stop_and_wait(self, timeout: float | None = None) -> bool:
        """Stop, and wait until handlers have finished, their offsets are on the broker and the group is left.

        True when that is so; False after `timeout` seconds (None: no limit), while the stop goes on. Called
        from a handler it asks for the stop and returns False at once: a handler can't wait for itself.
        """
        if self._in_own_thread():
            self._control.stop()
            return False
        return self._control.stop_and_wait(timeout)

    def state_wait(self, state: State, timeout: float | None = None) -> bool:
        """Block until the group is, or was since the call, in `state`; True if so in `timeout` seconds."""
        return self._control.machine.wait(state, timeout)

    def close(self, *hooks: Callable[[], object], timeout: float | None = None) -> int:
        """Stop for good, as `stop_and_wait` does first; then run `hooks`, leave the group, end every thread.

        A collected part of a batch is handled. Hooks run one after another, outside every lock, after the
        last new message and before the client goes: they may commit what the user has kept, and call
        anything. What a hook raises is logged and put on `errors`.

        Args:
            timeout: seconds after which messages still in hand are left, to be delivered again. None: wait
                for handlers as long as they take, and `message_consume_timeout` for messages that users hold.

        Returns:
            How many messages were left in hand; also logged, with the stacks of threads that still run. A
            further call waits for the first one, and its hooks are not run; the earlier deadline counts. From
            a handler or a hook it returns 0 at once; from a signal handler, too, if the signal came on top of
            a call that has to go on first.
        """
        if self._forked:
            return 0
        self._closer.begin(hooks, None if timeout is None else time.monotonic() + timeout)
        current = threading.current_thread()
        if self._in_own_thread() or current in (self._closer.runner, self._error_logger):
            return 0
        if self._control.interrupted() or cast(Any, self._lock)._is_owned():
            return 0
        # The closing thread keeps the deadline itself; the little more lets it tell what it had to leave.
        closed = self._channels.closed.wait(None if timeout is None else timeout + GRACE_SECONDS + 0.2)
        return self._closer.left if closed else self._poller.in_hand()

    def __enter__(self) -> ConsumerGroup:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None
    ) -> None:
        self.close()

    # -- handlers -----------------------------------------------------------------------------------

    def use(self, middleware: Middleware) -> None:
        """Wrap the handler in a middleware: a function that takes a handler and gives one in its place.

        The first one used is the outermost. Between them and the broker stand the library's own: retries,
        then dead letters; so a middleware sees each attempt, and what it raises is the attempt's failure.

        Raises:
            HandlerRegistrationError: not callable, or a handler is registered already.
        """
        if not callable(middleware):
            raise HandlerRegistrationError(
                f"a middleware must be callable, but got {type(middleware).__name__}: give a function that "
                "takes a handler and returns one"
            )
        with self._lock:
            if self._workers:
                raise HandlerRegistrationError(
                    "use() comes before the handler is registered: the handler would run without it"
                )
            self._middlewares.append(middleware)

    def _wrapped(self, handler: AnyHandler) -> AnyHandler:
        """The handler inside the user's middlewares, retries and dead letters."""
        config = self._config
        own: list[Middleware] = []
        if config.dead_letter is not None and self._dead_letters is not None:
            own.append(DeadLetters(config.dead_letter, config.group_name, self._dead_letters))
        if config.retry is not None:
            own.append(retrying(config.retry))
        if self._telemetry is not None:
            own = [*self._telemetry.outside, *own, *self._telemetry.inside]
        # Innermost, so that a middleware sees a message that can't be decoded fail.
        inner = [] if self._codec is None else [decoding]
        return wrap(handler, [*own, *self._middlewares, *inner])

    def _dead_letter_producer(self, make: Callable[[ProducerConfig], Producer]) -> Producer:
        config, dead_letter = self._config, self._config.dead_letter
        assert dead_letter is not None
        return make(
            ProducerConfig(
                config.broker_addrs,
                dead_letter.topic,
                min_retry_period=config.min_retry_period,
                max_retry_period=config.max_retry_period,
                min_brokers_healthy=1,
                otel_enabled=config.otel_enabled,
                security=config.security,
                # Given up by librdkafka when its worker gives it up, so that it is not sent twice at once.
                librdkafka={
                    "delivery.timeout.ms": round(dead_letter.timeout * 1_000),
                    **dead_letter.librdkafka,
                },
            )
        )

    def register_handler(self, handler: Handler) -> None:
        """Give every message to `handler(worker_id, message)`, on `num_workers` threads numbered from 1.

        When it returns, the message is committed and released. When it raises, the error is logged with
        its log data and the message is committed all the same, unless the error or one of its causes has
        `commit = False`. With more than one worker it must be thread-safe.

        Raises:
            HandlerRegistrationError: not callable, or there is a handler already.
            ClosedError: the group is closing.
        """
        self._register(
            handler,
            lambda wrapped: [
                Worker(
                    number,
                    self.topic,
                    wrapped,
                    self._channels.upstream,
                    self._worker_died,
                    durable=self._config.commit_interval == 0,
                )
                for number in range(1, self._config.num_workers + 1)
            ],
        )

    def register_batch_handler(self, handler: BatchHandler) -> None:
        """Give messages to `handler(batch)` on one thread, in lists of at most `batch_size`.

        A batch is handled when it is full, `batch_wait_time` after its first message, or when the group
        stops. When the handler returns, all of it is committed and released; failure is as for single
        messages, and `BatchError(failed)` names the failed ones.

        Raises:
            HandlerRegistrationError: not callable, or there is a handler already.
            ClosedError: the group is closing.
        """
        self._register(
            handler,
            lambda wrapped: [
                BatchWorker(
                    self.topic,
                    wrapped,
                    self._channels.upstream,
                    self._worker_died,
                    batch_size=self._config.batch_size,
                    batch_wait_time=self._config.batch_wait_time,
                    durable=self._config.commit_interval == 0,
                )
            ],
        )

    def _register(
        self, handler: AnyHandler, make: Callable[[AnyHandler], list[Worker] | list[BatchWorker]]
    ) -> None:
        if not callable(handler):
            raise HandlerRegistrationError(
                f"a handler must be callable, but got {type(handler).__name__}: give a function or a method"
            )
        with self._lock:
            if self._control.closing:
                raise ClosedError("no handler can be registered because the consumer group is closing")
            if self._workers:
                raise HandlerRegistrationError(
                    "failed to register handler because a handler or batch handler had already been "
                    "registered, only 1 allowed"
                )
            self._workers.extend(make(self._wrapped(handler)))
            if isinstance(self._workers[0], BatchWorker):
                self._poller.set_batched()
            self._poller.has_workers = True
            self._poller.workers = tuple(self._workers)
            for worker in self._workers:
                worker.start()

    # -- errors and health ----------------------------------------------------------------------------

    def log_errors(self) -> None:
        """Log everything that comes on `errors`, on a thread of its own, until the group closes."""
        with self._lock:
            if self._error_logger is not None or self._control.closing:
                return
            self._error_logger = threading.Thread(
                target=self._log_errors, name=f"dp-kafka:errors:{self.topic}", daemon=True
            )
            self._error_logger.start()

    def _log_errors(self) -> None:
        for error in self._channels.errors:
            log_error(logger, "kafka consumer-group error", error, self._fields)

    def _worker_died(self, worker: WorkerThread, error: BaseException) -> None:
        """On the dying worker: tell, and close."""
        # What it had in hand may not come back, so that the end of it is not to be waited for for ever.
        self._poller.has_workers = False
        self._channels.errors.put(error)
        fields = {**self._fields, "worker": worker.name}
        try:
            log_error(logger, "worker thread died, the consumer group closes", error, fields)
        finally:  # also when a filter of the user's logging raises
            self._close_soon()

    def checker(self, state: CheckState) -> None:
        """Check group, brokers and topic, and update `state`: a check for `dp_kafka.health.HealthCheck`.

        WARNING until initialised; CRITICAL when closed, when one of its threads has died or is stuck, when
        the broker refuses what it needs, and with fewer than `min_brokers_healthy` healthy brokers; else OK.
        Asks all brokers at once and blocks five seconds at most. It creates no topic, opens nothing again.

        Raises:
            TypeError: `state` is no CheckState.
            HealthCheckError: `state` refused the update.
        """
        self._vitals.check(state)

    def stuck_or_dead(self, stuck_after: float = STUCK_SECONDS) -> list[str]:
        """What of its threads is dead or stuck, one sentence each; never blocks.

        A worker is stuck when it has been with one message or batch for more than `stuck_after` seconds. A
        closed group has no threads, and nothing stuck, unless a dead one closed it.
        """
        return self._vitals.stuck_or_dead(stuck_after)

    def on_health_update(self, status: Status | str) -> None:
        """Start when `status` is OK, stop when it is WARNING or CRITICAL; returns at once, and never raises.

        Anything else is ignored. For `HealthCheck.subscribe`; who subscribes should not call start and stop.
        """
        try:
            if status == Status.OK:
                self.start()
            elif status in (Status.WARNING, Status.CRITICAL):
                self.stop()
        except Exception as error:  # noqa: BLE001  # whoever tells of the health can do nothing about it
            log_error(logger, "health update not followed", error, {**self._fields, "status": str(status)})

    # -- closing ------------------------------------------------------------------------------------

    def _in_own_thread(self) -> bool:
        current = threading.current_thread()
        return current is self._poller or current in self._workers

    def _after_fork(self) -> None:
        """Switch this group off, in a forked child."""
        self._forked = True
        switch_off(self._control, self._poller, self._channels)
        forks.refuse(self, KIND, but=("close",))

    def _close_soon(self) -> None:
        self._closer.begin((), None)

    def _helpers(self) -> Helpers:
        with self._lock:
            return Helpers(list(self._workers), self._error_logger, self._dead_letters)


def _telemetry(config: ConsumerGroupConfig) -> Telemetry | None:
    """Tracing and metrics, imported only here, so that OpenTelemetry costs nothing where it is off."""
    if not config.otel_enabled:
        return None
    from dp_kafka.consumer.telemetry import Telemetry

    return Telemetry(config)
