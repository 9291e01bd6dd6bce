"""EXPLAIN THREAD: finds out what exactly is wrong with certificates, and puts it on a client's errors.

librdkafka says of a broker's certificate only that it can't be verified: whether it has expired, is that of
another host, or of an authority that is not trusted, it does not tell. A probe of the brokers does.

Guarantees: at most one thread at a time, and one in `AGAIN_SECONDS`; it ends when the probes have ended, some
seconds later at most, and nobody waits for it; it adds to `errors`, and takes nothing away.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable

from dp_kafka.errors import KafkaClientError
from dp_kafka.health.checks import BrokerCheck
from dp_kafka.logs import log_event
from dp_kafka.pulse import is_about_tls

__all__ = ["AGAIN_SECONDS", "Explainer"]

logger = logging.getLogger("dp_kafka.health")

#: How often the same trouble is looked into.
AGAIN_SECONDS = 60.0


class Explainer:
    """Passes errors on to `report`, and has those of certificates explained. Any thread; never blocks."""

    def __init__(
        self,
        report: Callable[[BaseException], None],
        brokers: BrokerCheck,
        topic: str,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._report = report
        self._brokers = brokers
        self._topic = topic
        self._clock = clock
        #: Guards `_next`.
        self._lock = threading.Lock()
        #: When the next explanation may be sought.
        self._next = float("-inf")

    def __call__(self, error: BaseException) -> None:
        """Report an error."""
        self._report(error)
        if not isinstance(error, KafkaClientError) or not is_about_tls(error):
            return
        with self._lock:
            now = self._clock()
            due = now >= self._next
            if due:
                self._next = now + AGAIN_SECONDS
        if due:
            # While the interpreter shuts down no thread can be started: the error speaks for itself then.
            with contextlib.suppress(RuntimeError):
                threading.Thread(
                    target=self._explain, args=(error,), name=f"dp-kafka:explain:{self._topic}", daemon=True
                ).start()

    def _explain(self, error: KafkaClientError) -> None:
        for cause in self._brokers.causes():
            found = KafkaClientError(
                f"{error.name}: {cause}", code=error.code, name=error.name, log_data={"topic": self._topic}
            )
            found.__cause__ = error
            self._report(found)
            fields = {"topic": self._topic, "problem": cause}
            log_event(logger, logging.ERROR, "a broker can't be talked to with these certificates", fields)
