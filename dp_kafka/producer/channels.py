"""The channels of a producer, and the message that its output channel takes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dp_kafka.channels import Channel, ErrorsChannel, deadline_of
from dp_kafka.errors import DpKafkaError
from dp_kafka.headers import Headers, HeaderValue, checked_headers, current_trace_id

__all__ = ["BytesMessage", "DeliveryCallback", "InjectFunction", "OutputChannel", "ProducerChannels"]

#: Called with (error, message). The error is None when the broker has acknowledged the message; else it is
#: mostly a DeliveryError. The message is confluent_kafka's, with its topic, partition and offset; None when
#: a message of the output channel was never handed to librdkafka.
DeliveryCallback = Callable[[DpKafkaError | None, Any], object]

#: Adds headers to the list that a message is sent with; for tracing.
InjectFunction = Callable[[list[tuple[str, HeaderValue]]], None]


class BytesMessage:
    """A message for `channels.output`; it can be changed until it is put there.

    `value`, `key`, `headers`, `partition`, `timestamp` and `on_delivery` are as in `Producer.send_bytes`.
    Where a message can't be handed to librdkafka, `on_delivery` is called on the output thread.
    `trace_id` is that of the context in which the message is made, as it is sent on another thread; None
    where `headers` have one, or the context has none. `inject` is for tracing alone.

    Raises:
        TypeError: a value that is not bytes, or a header of a wrong type.
    """

    __slots__ = ("headers", "inject", "key", "on_delivery", "partition", "timestamp", "trace_id", "value")

    def __init__(
        self,
        value: bytes | None,
        *,
        key: bytes | str | None = None,
        headers: Headers | None = None,
        partition: int | None = None,
        timestamp: int | None = None,
        on_delivery: DeliveryCallback | None = None,
    ) -> None:
        # Checked here and not where it is sent, so that the mistake shows to whoever made it.
        if value is not None and not isinstance(value, bytes):
            raise TypeError(f"a BytesMessage takes bytes or None, but got {type(value).__name__}")
        self.value = value
        self.key = key
        self.headers: list[tuple[str, HeaderValue]] | None = None
        traced = False
        if headers is not None:
            self.headers, traced = checked_headers(headers)
        self.partition = partition
        self.timestamp = timestamp
        self.on_delivery = on_delivery
        #: Of the context; not looked up where the headers have one, as it costs as much as the rest of this.
        self.trace_id = None if traced else current_trace_id()
        #: Set on the copy that an output channel with tracing makes of the message.
        self.inject: InjectFunction | None = None


class OutputChannel(Channel[BytesMessage]):
    """Takes messages to send; the first put starts the thread that sends them.

    `queue.Queue.unfinished_tasks` counts what was put and is not yet sent or given up, so there is no
    moment in which a message counts neither as queued nor as in hand.
    """

    def __init__(self, maxsize: int, start: Callable[[], None]) -> None:
        """Args: `start` starts the output thread if it does not run yet."""
        super().__init__(maxsize)
        self._start: Callable[[], None] | None = start
        #: Whether the output thread waits for a message, and how many messages close() gave up. Guarded by
        #: `mutex`.
        self._hungry = False
        self._given_up = 0

    def put(self, item: BytesMessage, block: bool = True, timeout: float | None = None) -> None:
        """Queue a message, waiting for room at most `timeout` seconds (None: until there is room).

        Raises:
            ChannelClosed: the producer is closed.
            TypeError: not a BytesMessage.
            queue.Full: no room in time.
        """
        if not isinstance(item, BytesMessage):
            raise TypeError(f"the output channel takes a BytesMessage, but got {type(item).__name__}")
        # Before the message goes in: close() then finds either a thread that sends it, or no message.
        if self._start is not None:
            self._start()
            self._start = None
        deadline = None if block and timeout is None else deadline_of(block, timeout)
        # As of a Channel, without its calls: this runs for each message.
        with self.mutex:
            if self._closed or len(self.queue) >= self.maxsize:
                self._wait_for_room_locked(deadline)
            self.queue.append(item)
            self.unfinished_tasks += 1
            if self._hungry:
                self.not_empty.notify()

    def _wait_for_item_locked(self, deadline: float | None) -> None:
        self._hungry = True
        try:
            super()._wait_for_item_locked(deadline)
        finally:
            self._hungry = False

    def take_all(self) -> list[BytesMessage]:
        """Wait for a message and take all that are there: one lock for many messages.

        Raises:
            ChannelClosed: the producer is closed and nothing is left.
        """
        first = self.get()
        with self.mutex:
            items = [first, *self.queue]
            self.queue.clear()
            self.not_full.notify_all()
        return items

    def settle(self, count: int, given_up: int = 0) -> None:
        """Of the messages that were taken `count` are sent or given up: as `task_done`, for many at once."""
        with self.mutex:
            self.unfinished_tasks -= count
            self._given_up += given_up
            if not self.unfinished_tasks:
                self.all_tasks_done.notify_all()

    def left(self) -> int:
        """How many messages a close has to leave: those that are not sent, given up or not yet."""
        with self.mutex:
            return self.unfinished_tasks + self._given_up

    def wait_sent(self, timeout: float | None) -> bool:
        """Wait until all that was put is sent or given up, at most `timeout` seconds; True if so."""
        with self.all_tasks_done:
            return self.all_tasks_done.wait_for(lambda: self.unfinished_tasks == 0, timeout)


@dataclass(frozen=True)
class ProducerChannels:
    """What a producer is fed and read by; any thread may use any of it.

    - `output`: a `Channel` that takes each `BytesMessage` to send it; 10,000 fit.
    - `errors`: a `Channel` of exceptions: what went wrong; the last 20 are kept, older ones are counted in
      its `dropped`.
    - `initialised`: set once a broker has answered.
    - `closer`: setting it closes the producer, without waiting for that.
    - `closed`: set when the close has finished.
    """

    output: OutputChannel
    errors: ErrorsChannel
    initialised: threading.Event
    closer: threading.Event
    closed: threading.Event
