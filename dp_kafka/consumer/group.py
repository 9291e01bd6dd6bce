"""ConsumerGroup: the public class. It owns the threads of a group and closes them; they own the rest."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from dp_kafka import forks
from dp_kafka.channels import ErrorsChannel, LockFreeEvent, Signal
from dp_kafka.clients import ClientFactory
from dp_kafka.codecs.protocol import Codec
from dp_kafka.config import ConsumerGroupConfig, ProducerConfig
from dp_kafka.consumer.batch import BatchHandler
from dp_kafka.consumer.channels import ConsumeChannel, ConsumerGroupChannels
from dp_kafka.consumer.client import confluent_consumer
from dp_kafka.consumer.closing import GRACE_SECONDS, CloseThread
from dp_kafka.consumer.context import GroupContext
from dp_kafka.consumer.control import Control
from dp_kafka.consumer.forked import KIND, switch_off
from dp_kafka.consumer.handlers import Handlers, dead_letter_config
from dp_kafka.consumer.poller import Poller
from dp_kafka.consumer.upstream import UpstreamChannel
from dp_kafka.consumer.vitals import Vitals
from dp_kafka.consumer.workers import Handler
from dp_kafka.errorlog import ErrorLog
from dp_kafka.errors import ConfigError
from dp_kafka.health.checks import BrokerCheck
from dp_kafka.health.explain import Explainer
from dp_kafka.health.liveness import STUCK_SECONDS
from dp_kafka.health.state import CheckState
from dp_kafka.health.status import Status
from dp_kafka.initialisation import CONSTRUCTOR_SECONDS, REQUEST_SECONDS
from dp_kafka.interrupts import in_a_log_handler
from dp_kafka.logs import log_error
from dp_kafka.processing.chain import Middleware
from dp_kafka.producer.producer import Producer
from dp_kafka.state import State

if TYPE_CHECKING:
    from dp_kafka.consumer.telemetry import Telemetry

__all__ = ["ConsumerGroup"]

logger = logging.getLogger("dp_kafka.consumer")


class ConsumerGroup:
    """A member of a Kafka consumer group that feeds one topic's messages to worker threads.

    Making one starts its poll thread and tries to reach a broker; when none answers at once (two seconds at
    most) it is tried again in the background, and `is_initialised` tells. It consumes nothing until
    `start()`. Every method may be called from any thread, from a handler too. As a context manager it
    closes at the end. In a child that was forked after it was made, each use but `close` raises
    `ForkedError`.

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
        # Kept, as metrics ask it for as long as it lives.
        telemetry = self._telemetry = _telemetry(config)
        brokers = broker_check or BrokerCheck(config)
        control = self._control = Control({"topic": config.topic, "group": config.group_name})
        self._channels = ConsumerGroupChannels(
            upstream=UpstreamChannel() if telemetry is None else telemetry.upstream,
            errors=ErrorsChannel(),
            initialised=control.initialised,
            consume=ConsumeChannel(self.start, self.stop, self._close_soon),
            closer=Signal(self._close_soon),
            closed=LockFreeEvent(),
            state=control.machine,
        )
        context = self._context = GroupContext(
            config,
            control,
            self._channels.upstream,
            report=Explainer(self._channels.errors.put, brokers, config.topic),
            codec=codec,
            lag=None if telemetry is None else telemetry.lag,
        )
        self._error_log = ErrorLog(
            self._channels.errors,
            config.topic,
            lambda error: log_error(logger, "kafka consumer-group error", error, context.fields),
        )
        self._vitals = Vitals(context, brokers)
        self._poller = Poller(context, client_factory, self._close_soon)
        # Made last but for the threads: it may refuse its configuration.
        dead_letters = dead_letter_config(config)
        dead_letter_producer = None if dead_letters is None else producer_factory(dead_letters)
        self._handlers = Handlers(
            context,
            self._poller,
            dead_letter_producer,
            [] if telemetry is None else telemetry.outside,
            [] if telemetry is None else telemetry.inside,
            self._close_soon,
        )
        self._closer = CloseThread(
            context,
            self._poller,
            self._channels,
            self._handlers,
            dead_letter_producer,
            self._error_log,
            self._vitals.close,
        )
        self._forked = False
        forks.track(self, ConsumerGroup._after_fork)
        self._handlers.watch_dead_letters()
        self._poller.start()
        control.initialisation.wait_first_try(CONSTRUCTOR_SECONDS)

    # -- what it is ---------------------------------------------------------------------------------

    @property
    def topic(self) -> str:
        """The topic that it consumes."""
        return self._context.config.topic

    @property
    def group_name(self) -> str:
        """The consumer group that it is a member of."""
        return self._context.config.group_name

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
        """Whether a broker has answered, and the consumer is not closing."""
        return self._control.initialised.is_set() and not self._control.closing

    def __repr__(self) -> str:
        return f"<ConsumerGroup {self.group_name} of {self.topic}, {self.state}>"

    # -- life ---------------------------------------------------------------------------------------

    def initialise(self) -> None:
        """Try now to reach a broker, and wait for the outcome, eleven seconds at most.

        Returns at once when one has answered before.

        Raises:
            NotInitialisedError: none answered; it is tried again in the background all the same.
            ClosedError: the consumer is closing.
        """
        self._control.initialisation.request(REQUEST_SECONDS)

    def start(self) -> None:
        """Begin to consume, once initialised; returns at once. Nothing happens when it already does.

        While a stop is under way, the start follows it.

        Raises:
            ClosedError: the consumer is closing.
        """
        self._control.start()

    def stop(self) -> None:
        """Stop consuming; returns at once. Messages in hand are finished and committed, the group is left."""
        self._control.stop()

    def stop_and_wait(self, timeout: float | None = None) -> bool:
        """Stop, and wait until handlers have finished, their offsets are on the broker and the group is left.

        True when that is so; False after `timeout` seconds (None: no limit), while the stop goes on. False,
        too, when it is over and the broker has not taken the last commit, which the log tells; and when the
        consumer closes and had to leave messages in hand. A handler whose partition was lost, or not given
        back in time, is waited for as the others are; what users took themselves, for
        `message_consume_timeout`.

        Called from a handler, or a log handler, it asks for the stop and returns False at once: a handler
        can't wait for itself, nor a log handler for a thread that logs there. From a hook of `close` it
        returns at once, too, and tells what is so by then.
        """
        if self._in_own_thread() or in_a_log_handler():
            self._control.stop()
            return False
        if threading.current_thread() is self._closer.runner:
            timeout = 0
        deadline = None if timeout is None else time.monotonic() + timeout
        return self._control.stop_and_wait(timeout) and self._context.dropped.wait(deadline)

    def state_wait(self, state: State, timeout: float | None = None) -> bool:
        """Block until the consumer is, or was since the call, in `state`; True if so in `timeout` seconds."""
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
            a handler, a hook or a log handler it returns 0 at once; from a signal handler, too, if the signal
            came on top of a call that has to go on first.
        """
        if self._forked:
            return 0
        self._closer.close(hooks, None if timeout is None else time.monotonic() + timeout)
        current = threading.current_thread()
        if self._in_own_thread() or current is self._closer.runner:
            return 0
        if self._interrupted():
            return 0
        if current is self._error_log.thread:
            return 0
        # The closing thread keeps the deadline itself; the little more lets it tell what it had to leave.
        closed = self._channels.closed.wait(None if timeout is None else timeout + GRACE_SECONDS + 0.2)
        return self._closer.left if closed else self._poller.in_hand()

    def _interrupted(self) -> bool:
        """Whether the calling thread is a signal or log handler's, on top of what has to go on first."""
        channels = self._channels
        parts = (
            self._control,
            self._handlers,
            self._error_log,
            self._closer,
            channels.errors,
            channels.consume,
            channels.upstream,
        )
        return in_a_log_handler() or any(part.interrupted() for part in parts)

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
        self._handlers.use(middleware)

    def register_handler(self, handler: Handler) -> None:
        """Give every message to `handler(worker_id, message)`, on `num_workers` threads numbered from 1.

        When it returns, the message is committed and released. When it raises, the error is logged with
        its log data and the message is committed all the same, unless the error or one of its causes has
        `commit = False`. With more than one worker it must be thread-safe.

        Raises:
            HandlerRegistrationError: not callable, or there is a handler already.
            ClosedError: the consumer is closing.
        """
        self._handlers.register(handler)

    def register_batch_handler(self, handler: BatchHandler) -> None:
        """Give messages to `handler(batch)` on one thread, in lists of at most `batch_size`.

        A batch is handled when it is full, `batch_wait_time` after its first message, or when the consumer
        stops. When the handler returns, all of it is committed and released; failure is as for single
        messages, and `BatchError(failed)` names the failed ones.

        Raises:
            HandlerRegistrationError: not callable, or there is a handler already.
            ClosedError: the consumer is closing.
        """
        self._handlers.register_batch(handler)

    # -- errors and health ----------------------------------------------------------------------------

    def log_errors(self) -> None:
        """Log everything that comes on `errors`, on a thread of its own, until the consumer closes."""
        if not self._control.closing:
            self._error_log.start()

    def checker(self, state: CheckState) -> None:
        """Check consumer, brokers and topic, and update `state`: a check for `dp_kafka.health.HealthCheck`.

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
        closed consumer has no threads, and nothing stuck, unless a dead one closed it.
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
            log_error(
                logger, "health update not followed", error, {**self._context.fields, "status": str(status)}
            )

    # -- closing ------------------------------------------------------------------------------------

    def _in_own_thread(self) -> bool:
        current = threading.current_thread()
        return current is self._poller or current in self._context.workers

    def _after_fork(self) -> None:
        """Switch this group off, in a forked child."""
        self._forked = True
        switch_off(self._control, self._poller, self._channels)
        forks.refuse(self, KIND, but=("close",))

    def _close_soon(self) -> None:
        self._closer.close((), None)


def _telemetry(config: ConsumerGroupConfig) -> Telemetry | None:
    """Tracing and metrics, imported only here, so that OpenTelemetry costs nothing where it is off."""
    if not config.otel_enabled:
        return None
    from dp_kafka.consumer.telemetry import Telemetry

    return Telemetry(config)
