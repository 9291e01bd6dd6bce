"""The way of a message from a send call into librdkafka's queue: headers, hand-over, back-pressure, refusal.

Guarantees:
- what `send` returned from is in librdkafka's queue; what it raised for is not, unless a signal handler
  raised, such as that of Ctrl-C: then nobody knows;
- it waits for room, or for the initialisation, no longer than it was given, and not on the delivery thread;
- once `close` has returned nothing more gets into the queue.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

from confluent_kafka import KafkaError, KafkaException

from dp_kafka.config import ProducerConfig
from dp_kafka.errors import (
    ClosedError,
    DeliveryError,
    DpKafkaError,
    MessageTooLargeError,
    NotInitialisedError,
    QueueFullError,
)
from dp_kafka.headers import (
    TRACE_ID_HEADER,
    Headers,
    HeaderValue,
    checked_headers,
    current_trace_id,
    has_trace_id,
    header_list,
    new_trace_id,
)
from dp_kafka.interrupts import is_owned
from dp_kafka.producer.channels import DeliveryCallback, InjectFunction
from dp_kafka.producer.delivery import DeliveryThread

__all__ = ["Sender"]

#: How long a send waits for room in librdkafka's queue when it is given no timeout.
ROOM_SECONDS = 10.0
#: The longest that it waits before it looks again whether there is room.
ROOM_LOOK_SECONDS = 0.1
#: How long `close` waits for a send that is in the middle of its hand-over: microseconds, unless a signal
#: handler of the user came in between and takes its time.
HAND_OVER_SECONDS = 5.0
#: What a hand-over raises for a message that is not queued.
_REFUSALS = (BufferError, KafkaException, TypeError, UnicodeEncodeError, DpKafkaError)


class Sender:
    """Hands messages over to the client of a delivery thread; any thread may use it."""

    def __init__(self, config: ProducerConfig, delivery: DeliveryThread) -> None:
        self._config = config
        self._topic = config.topic
        self._fields = {"topic": config.topic}
        self._delivery = delivery
        self._reports = delivery.reports
        #: One bound method for all messages: it costs least.
        self._delivered = delivery.reports.delivered
        #: The last callback and the report that calls it: mostly the next message has the same. A new one for
        #: each of a full queue of messages costs as much as the rest of the way, in garbage collections.
        self._last: tuple[DeliveryCallback | None, Callable[..., None]] = (None, self._delivered)
        #: Guards `_produce`, too: after `close` has replaced it, what was accepted before is in librdkafka's
        #: queue, where flush sees it.
        self._hand_over = delivery.reports.hand_over
        self._produce: Callable[..., None] = delivery.produce
        #: Whether a send found it initialised: to ask for that each time costs as much as the header's check.
        self._initialised = False
        #: Makes the error for a sender that must not be used any more; None while it may.
        self._refusal: Callable[[], DpKafkaError] | None = None
        #: Guards the replacement of the headers; the list itself is never changed in place.
        self._headers_lock = threading.Lock()
        self._headers: list[tuple[str, HeaderValue]] = []

    def send(  # noqa: PLR0912  # each message's way, without a call that it could do without
        self,
        value: Any,
        key: bytes | str | None,
        headers: Headers | None,
        partition: int | None,
        timestamp: int | None,
        on_delivery: DeliveryCallback | None,
        timeout: float | None,
        trace_id: str | None = None,
        inject: InjectFunction | None = None,
    ) -> None:
        """Queue a message; `Producer.send_bytes` says what it raises and when it waits.

        `inject` may change the message's headers, which are a list of its own, before it goes.
        """
        all_headers: list[tuple[str, HeaderValue]]
        all_headers, traced = ([], False) if headers is None else checked_headers(headers)
        common = self._headers
        if common:
            traced = traced or has_trace_id(common)
            all_headers = [*common, *all_headers]
        if not traced:
            all_headers.append((TRACE_ID_HEADER, trace_id or current_trace_id() or new_trace_id()))
        if inject is not None:
            inject(all_headers)
        reports = self._reports
        last, report = self._last
        if on_delivery is not last:
            report = self._new_report(on_delivery)
        deadline: float | None = None
        if not self._initialised:
            deadline = self._wait_initialised(timeout)
        options: dict[str, Any] | None = None
        if partition is not None or timestamp is not None:
            given = {"partition": partition, "timestamp": timestamp}
            options = {name: option for name, option in given.items() if option is not None}
        while True:
            try:
                with self._hand_over:
                    # Before it is handed over: its report may come before this thread goes on.
                    reports.handed_over += 1
                    try:
                        if options is None:
                            self._produce(self._topic, value, key, on_delivery=report, headers=all_headers)
                        else:
                            self._produce(
                                self._topic, value, key, on_delivery=report, headers=all_headers, **options
                            )
                    except _REFUSALS:
                        reports.handed_over -= 1
                        raise
                    except BaseException:
                        # A signal handler's, before the call or behind it: queued or not.
                        reports.doubtful += 1
                        raise
            except BufferError:
                if deadline is None:
                    deadline = time.monotonic() + (ROOM_SECONDS if timeout is None else timeout)
                self._wait_for_room(deadline)
            except KafkaException as error:
                raise self._translated(error, value, key) from error
            except (TypeError, UnicodeEncodeError) as error:
                refused = _refused_argument(error)
                break
            else:
                return
        # Not in the except clause: the codec's error holds the key, and would stay as the context.
        raise refused

    def _new_report(self, on_delivery: DeliveryCallback | None) -> Callable[..., None]:
        if on_delivery is None:
            return self._delivered
        report = self._reports.delivered_to(on_delivery)
        # In one step, so that no thread takes the report of another's callback.
        self._last = (on_delivery, report)
        return report

    def add_header(self, key: str, value: HeaderValue) -> None:
        """Send a header with every later message; an empty key is ignored."""
        added = header_list([(key, value)])
        if not key:
            return
        with self._headers_lock:
            self._headers = [*self._headers, *added]

    # -- the end ------------------------------------------------------------------------------------

    def refuse(self, refusal: Callable[[], DpKafkaError]) -> None:
        """From now on whoever waits, or would wait, for the initialisation gets this error. Takes no lock."""
        self._refusal = refusal

    def after_fork(self, refusal: Callable[[], DpKafkaError]) -> None:
        """Refuse every send in a forked child, where the event of the initialisation is not set any more."""
        self._refusal = refusal
        self._initialised = False

    def close(self) -> None:
        """Refuse every further send; what was accepted is in librdkafka's queue when this returns."""
        held = self._hand_over.acquire(timeout=HAND_OVER_SECONDS)
        self._produce = self._refused
        if held:
            self._hand_over.release()

    def interrupted(self) -> bool:
        """Whether the calling thread is a signal handler's, on top of a send of its own.

        Python handles signals within produce(), too, before the message is queued. The send goes on only
        when the handler returns, so the handler must not wait for `close`.
        """
        return is_owned(self._hand_over)

    def _refused(self, *_args: object, **_kwargs: object) -> NoReturn:
        raise self._refusal() if self._refusal is not None else self.closed_error()

    def closed_error(self) -> ClosedError:
        """The error for a send after close()."""
        return ClosedError(f"the producer of {self._topic} is closed: make a new one", log_data=self._fields)

    # -- waiting ------------------------------------------------------------------------------------

    def _wait_initialised(self, timeout: float | None) -> float | None:
        """Wait for the initialisation; the deadline of the whole send, None if there is no need to wait."""
        if self._delivery.initialised.is_set():
            self._initialised = True
            return None
        if self._refusal is not None:
            raise self._refusal()
        deadline = None if timeout is None else time.monotonic() + timeout
        if timeout is None or not self._delivery.initialisation.wait(timeout):
            # Looked at again: who waits is woken when the producer closes.
            if self._refusal is not None:
                raise self._refusal()
            reason = self._delivery.initialisation.error
            raise NotInitialisedError(
                f"the producer of {self._topic} is not initialised: no broker of "
                f"{list(self._config.broker_addrs)} has answered yet, it is tried again in the background",
                log_data=self._fields,
            ) from reason
        return deadline

    def _wait_for_room(self, deadline: float) -> None:
        """Wait a little for room in librdkafka's queue.

        Raises:
            QueueFullError: the deadline has passed, or this is the thread that makes room.
        """
        remaining = deadline - time.monotonic()
        own_thread = threading.current_thread() is self._delivery
        if remaining > 0 and not own_thread:
            self._delivery.wait_for_room(min(ROOM_LOOK_SECONDS, remaining))
            return
        why = (
            "and a delivery callback, which has to return before there is room, cannot wait for it: send "
            "from another thread"
            if own_thread
            else "and no room came in time: the brokers are slower than the sends, or away"
        )
        raise QueueFullError(
            f"librdkafka's queue is full ({self._delivery.reports.missing} messages) {why}",
            log_data=self._fields,
        ) from None

    def _translated(self, error: KafkaException, value: Any, key: Any) -> DpKafkaError:
        cause = error.args[0]
        if cause.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            limit = self._config.librdkafka.get(
                "message.max.bytes", self._config.max_message_bytes or 1_000_000
            )
            size = len(value or b"") + len(key.encode() if isinstance(key, str) else key or b"")
            return MessageTooLargeError(
                f"a message of {size} bytes is larger than the limit of {limit} bytes: send less, or raise "
                "max_message_bytes here and message.max.bytes on the topic",
                log_data={**self._fields, "size": size, "limit": limit},
            )
        return DeliveryError.from_kafka_error(cause, topic=self._topic, has_key=key is not None)


def _refused_argument(error: TypeError | UnicodeEncodeError) -> BaseException:
    """What to raise when confluent_kafka refuses a key or a header; the message is not queued.

    The headers were checked before. To read a header's key it calls PyObject_Str, which handles signals that
    are pending; when the handler of one raises, it takes that for a wrong key, and the exception is gone.
    """
    if isinstance(error, UnicodeEncodeError):
        return ValueError(f"the key is text that UTF-8 cannot encode: {error.reason}")
    if "header key" not in str(error):
        return error
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        return KeyboardInterrupt()
    return InterruptedError(
        "a signal handler raised an exception while a message was handed over: it is not sent, and "
        "confluent_kafka has lost the exception; let signal handlers set an event instead of raising"
    )
