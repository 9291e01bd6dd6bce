"""OUTPUT THREAD: sends what is put on `channels.output`; it runs only once that channel is used.

Guarantees:
- it sends in the order of the puts, and waits for the initialisation and for room as long as it takes;
- what it can't send comes on `errors`, and its `on_delivery` is called with the error, here;
- it ends when the channel is closed and empty, so nothing that was put is forgotten: once close() has no
  more time, the rest is given up, each message with its error, and counted.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from dp_kafka.errors import (
    ChannelClosed,
    ClosedError,
    DeliveryError,
    DpKafkaError,
    QueueFullError,
)
from dp_kafka.logs import log_error, log_event
from dp_kafka.producer.channels import BytesMessage, OutputChannel
from dp_kafka.producer.reports import ThinnedLog
from dp_kafka.producer.sender import Sender
from dp_kafka.pulse import Pulse

__all__ = ["OutputThread"]

logger = logging.getLogger("dp_kafka.producer")

#: How long it waits for room, or for the initialisation, before it looks whether it has to give up.
LOOK_SECONDS = 0.1
#: After how many messages it tells the channel at the latest: each time costs as much as a message.
SETTLE_MESSAGES = 64


class OutputThread(threading.Thread):
    """Takes messages from the output channel and sends each."""

    def __init__(
        self,
        topic: str,
        output: OutputChannel,
        initialised: threading.Event,
        sender: Sender,
        report: Callable[[BaseException], None],
        on_death: Callable[[], None],
    ) -> None:
        """Args: `report` puts an error on the errors channel; `on_death` closes the producer."""
        super().__init__(name=f"dp-kafka:output:{topic}", daemon=True)
        self._output = output
        self._initialised = initialised
        self._sender = sender
        self._report = report
        self._on_death = on_death
        self.pulse = Pulse()
        self._fields = {"topic": topic}
        self._log = ThinnedLog()
        #: Set by close(), which has no more time: what is not sent by then is given up.
        self.hurry = False
        #: How many were sent or given up that the channel still counts, and how many of them were given up.
        self._done = 0
        self._given_up = 0

    def run(self) -> None:
        """Send until the channel is closed and empty."""
        try:
            self._serve()
        except BaseException as error:  # noqa: BLE001  # reported, and the producer closes
            self.pulse.crash = error
            self._report(error)
            log_error(logger, "output thread died, the producer closes", error, self._fields)
            self._on_death()

    def _serve(self) -> None:
        while True:
            try:
                messages = self._output.take_all()
            except ChannelClosed:
                return
            for message in messages:
                try:
                    self._send(message)
                except BaseException as error:  # noqa: BLE001  # one that can't be sent must not stop the others
                    self._settle()
                    self._failed(message, error)
                self._done += 1
                if self._done >= SETTLE_MESSAGES:
                    self._settle()
            self._settle()

    def _settle(self) -> None:
        """Tell the channel what was done since the last time; it counts those messages no more."""
        if self._done:
            self._output.settle(self._done, self._given_up)
            self._done = self._given_up = 0

    def _send(self, message: BytesMessage) -> None:
        send = self._sender.send
        # The first try waits for nothing, so that what was sent before is settled before this waits.
        patience = 0.0
        while not self.hurry:
            if not self._initialised.is_set():
                self._settle()
                if not self._initialised.wait(LOOK_SECONDS):
                    continue
            try:
                send(
                    message.value,
                    message.key,
                    message.headers,
                    message.partition,
                    message.timestamp,
                    message.on_delivery,
                    patience,
                    message.trace_id,
                    message.inject,
                )
            except QueueFullError:
                self._settle()
                patience = LOOK_SECONDS
                continue
            return
        # Told to the channel together with the message that is given up, so that it is never counted twice.
        self._settle()
        self._given_up += 1
        raise ClosedError(
            "the producer closed before a message of its output channel could be sent", log_data=self._fields
        )

    def _failed(self, message: BytesMessage, error: BaseException) -> None:
        failure: DpKafkaError
        if isinstance(error, DpKafkaError):
            failure = error
        else:
            failure = DeliveryError(
                f"a message of the output channel could not be sent: {type(error).__name__}: {error}",
                topic=self._fields["topic"],
                has_key=message.key is not None,
            )
            failure.__cause__ = error
        self._report(failure)
        fields = self._log.due()
        if fields is not None:
            event = "a message of the output channel was not sent"
            log_event(logger, logging.ERROR, event, {**self._fields, "error": str(failure), **fields})
        if message.on_delivery is None:
            return
        try:
            message.on_delivery(failure, None)
        except BaseException as raised:  # noqa: BLE001  # user code
            log_error(logger, "a delivery callback failed", raised, self._fields)
            self._report(raised)
