"""What a producer says of its own health: its threads, what stands in its way, and its brokers."""

from __future__ import annotations

import time
from collections.abc import Callable

from dp_kafka.health.checks import BrokerCheck, ClientView, check_client
from dp_kafka.health.state import CheckState
from dp_kafka.producer.delivery import DeliveryThread
from dp_kafka.producer.output import OutputThread
from dp_kafka.threads import OnDemandThread

__all__ = ["DELIVERY_STUCK_SECONDS", "Vitals"]

#: How long the delivery thread may go without a round. It waits a tenth of a second at most by itself; the
#: rest is for the delivery callbacks of users, which run on it.
DELIVERY_STUCK_SECONDS = 60.0


class Vitals:
    """Answers `checker` and liveness for one producer. Any thread, several at a time."""

    def __init__(
        self,
        delivery: DeliveryThread,
        output: OnDemandThread[OutputThread],
        closing: Callable[[], bool],
        brokers: BrokerCheck,
    ) -> None:
        self._delivery = delivery
        self._output = output
        self._closing = closing
        self._brokers = brokers

    def check(self, state: CheckState) -> None:
        """Check producer and brokers, and update `state`; blocks for some seconds at most."""
        check_client(state, self._view, self._brokers)

    def _view(self) -> ClientView:
        initialised = self._delivery.initialised.is_set()
        trouble = self._delivery.reports.trouble
        return ClientView(
            "producer",
            closed=self._closing(),
            initialised=initialised,
            broken=self.stuck_or_dead(DELIVERY_STUCK_SECONDS),
            trouble=trouble.text(of_connections=not initialised),
            ask_brokers=not initialised and trouble.is_of_a_connection,
        )

    @property
    def crash(self) -> BaseException | None:
        """What the first of the threads that died has died of."""
        output = self._output.thread
        return self._delivery.pulse.crash or (None if output is None else output.pulse.crash)

    def stuck_or_dead(self, stuck_after: float) -> list[str]:
        """What of the threads is dead, or stuck for `stuck_after` seconds; never blocks."""
        limit = min(stuck_after, DELIVERY_STUCK_SECONDS)
        now = time.monotonic()
        problems = [self._delivery.pulse.problem("delivery thread", now, limit)]
        output = self._output.thread
        if output is not None:
            # Never stuck: it may wait for room and for the initialisation as long as that takes.
            problems.append(output.pulse.problem("output thread", now, limit))
        return [problem for problem in problems if problem is not None]
