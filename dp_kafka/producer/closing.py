"""CLOSE THREAD of a producer: ends everything, in one order, by a deadline, and counts what it had to leave.

Guarantees:
- `closed` is set at the end whatever goes wrong before;
- what was accepted is delivered, or its error is on `errors`, or it is counted in `left`;
- with a deadline it ends `GRACE_SECONDS` after it at the latest, and says which threads still run.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection

from dp_kafka.closing import LOOK_SECONDS, ClosingThread, Deadline
from dp_kafka.errorlog import ErrorLog
from dp_kafka.health.checks import BrokerCheck
from dp_kafka.logs import log_error, log_event, log_still_running
from dp_kafka.producer.channels import ProducerChannels
from dp_kafka.producer.delivery import DeliveryThread
from dp_kafka.producer.output import OutputThread
from dp_kafka.producer.sender import Sender
from dp_kafka.threads import OnDemandThread

__all__ = ["GRACE_SECONDS", "CloseThread"]

logger = logging.getLogger("dp_kafka.producer")

#: How long after the deadline threads may take to give up what they hold.
GRACE_SECONDS = 0.6
#: How long a close without a deadline waits for the initialisation if the output channel has messages.
INITIALISATION_SECONDS = 10.0
#: How long it waits for the client to go, once each message has its report.
LET_GO_SECONDS = 10.0


class CloseThread(ClosingThread):
    """Closes one producer, once."""

    def __init__(
        self,
        topic: str,
        channels: ProducerChannels,
        delivery: DeliveryThread,
        sender: Sender,
        output: OnDemandThread[OutputThread],
        error_log: ErrorLog,
        brokers: BrokerCheck,
    ) -> None:
        """Args: `output` starts none once the output channel is closed."""
        super().__init__(topic, Deadline())
        self._fields = {"topic": topic}
        self._channels = channels
        self._delivery = delivery
        self._sender = sender
        self._output = output
        self._error_log = error_log
        self._brokers = brokers

    def _waited_for(self) -> Collection[threading.Thread | None]:
        return (self._delivery, self._output.thread)

    def _refuse(self) -> None:
        self._sender.refuse(self._sender.closed_error)
        self._delivery.initialisation.close()
        self._sender.close()

    def _failed(self, error: BaseException) -> None:
        self._channels.errors.put(error)
        log_error(logger, "closing the producer failed", error, self._fields)

    def _finish(self) -> None:
        self._sender.close()
        self._delivery.end()
        self._channels.errors.close()
        self._channels.closed.set()
        # Nobody waits for this: letting its client go may take as long as the resolution of a name.
        self._brokers.close()

    def _close(self) -> None:
        channels, delivery, sender = self._channels, self._delivery, self._sender
        # 1. Who waits for the initialisation is told that it will not come.
        sender.refuse(sender.closed_error)
        delivery.initialisation.close()
        # 2. The output channel takes no more; what it holds is sent, while the deadline allows.
        channels.output.close()
        output = self._output.thread
        if output is not None:
            self._drain(output)
        # 3. No further send: what was accepted before is in librdkafka's queue now.
        sender.close()
        # 4. Deliver it, while the deadline allows.
        while delivery.is_alive() and delivery.flush(LOOK_SECONDS) and not self._deadline.has_passed():
            pass
        # 5. The delivery thread gives up the rest, each message with its error, and lets the client go.
        delivery.end()
        # Not for ever, without a deadline either: nobody waits for a message any more, and where a broker's
        # name can't be resolved librdkafka's thread may hang. In a forked process glibc may never answer.
        until = time.monotonic() + LET_GO_SECONDS
        self._join(delivery, GRACE_SECONDS, lambda: time.monotonic() >= until)
        self.left = delivery.left() + channels.output.left()
        if not delivery.is_alive():
            # Done already, unless it died before its time.
            delivery.let_go()
        # 6. Signals and channels, last: whoever reads errors has seen those of the shutdown.
        channels.errors.close()
        channels.closer.set()
        logging_thread = self._error_log.thread
        if logging_thread is not None:
            self._join(logging_thread, GRACE_SECONDS)
        threads = (delivery, output, logging_thread)
        self._log_left([thread for thread in threads if thread is not None and thread.is_alive()])

    def _drain(self, output: OutputThread) -> None:
        """Wait until the output thread has sent all, or has to give up the rest."""
        # Without a deadline a cluster that is away would hold the close for ever.
        until = time.monotonic() + INITIALISATION_SECONDS
        initialised = self._delivery.initialised
        while not self._deadline.is_set and self._drains(output) and not initialised.wait(LOOK_SECONDS):
            output.hurry = time.monotonic() >= until
        while self._drains(output) and not self._deadline.has_passed():
            output.join(LOOK_SECONDS)
        output.hurry = True
        self._join(output, GRACE_SECONDS)

    def _drains(self, output: OutputThread) -> bool:
        """Whether more can be sent: without the delivery thread nobody makes room in librdkafka's queue."""
        return output.is_alive() and self._delivery.is_alive()

    def _log_left(self, running: list[threading.Thread]) -> None:
        if self.left:
            log_event(
                logger,
                logging.ERROR,
                "closed with messages left, which were given up",
                {**self._fields, "left": self.left},
            )
        if not running:
            return
        fields = {**self._fields, "threads": [thread.name for thread in running]}
        if not self._delivery.initialised.is_set():
            log_event(
                logger,
                logging.WARNING,
                "closed while an attempt at initialisation is under way: its thread ends with it",
                fields,
            )
            return
        log_event(
            logger,
            logging.ERROR,
            "closed while threads still run: a delivery callback, a log handler or the client holds them",
            fields,
        )
        log_still_running(logger, running, self._fields)
