"""What a consumer group says of its own health: its threads, what stands in its way, and its brokers."""

from __future__ import annotations

import time

from dp_kafka.consumer.context import GroupContext
from dp_kafka.health.checks import BrokerCheck, ClientView, check_client
from dp_kafka.health.state import CheckState

__all__ = ["POLL_STUCK_SECONDS", "Vitals"]

#: How long the poll thread may go without a turn. It waits a tenth of a second at most by itself; the rest is
#: for what librdkafka may take to commit and to leave a group.
POLL_STUCK_SECONDS = 60.0


class Vitals:
    """Answers `checker` and liveness for one group. Any thread, several at a time."""

    def __init__(self, context: GroupContext, brokers: BrokerCheck) -> None:
        self._context = context
        self._control = context.control
        self._brokers = brokers

    def check(self, state: CheckState) -> None:
        """Check group and brokers, and update `state`; blocks for some seconds at most."""
        check_client(state, self._view, self._brokers)

    def _view(self) -> ClientView:
        initialised = self._control.initialised.is_set()
        return ClientView(
            "consumer-group",
            closed=self._control.closing,
            initialised=initialised,
            broken=self._broken(POLL_STUCK_SECONDS),
            trouble=self._context.trouble.text(of_connections=not initialised),
            ask_brokers=not initialised and self._context.trouble.is_of_a_connection,
        )

    def stuck_or_dead(self, stuck_after: float) -> list[str]:
        """What of the threads is dead, or stuck for `stuck_after` seconds; never blocks."""
        now = time.monotonic()
        found = self._broken(min(stuck_after, POLL_STUCK_SECONDS))
        for slow in self._context.watchdog.longer_than(stuck_after, now, list(self._context.workers)):
            where = f"{slow.message.topic}[{slow.message.partition}]@{slow.message.offset}"
            found.append(f"{slow.worker.name} has been with {where} for {slow.seconds:.0f} seconds")
        return found

    def _broken(self, stuck_after: float) -> list[str]:
        now = time.monotonic()
        context = self._context
        problems = [
            context.pulse.problem("poll thread", now, stuck_after),
            context.letters.problem("producer of dead letters", now, stuck_after),
        ]
        problems += [
            f"{worker.name} died of {type(worker.crash).__name__}"
            for worker in context.workers
            if worker.crash
        ]
        return [problem for problem in problems if problem is not None]

    def close(self) -> None:
        """The consumer is closed: brokers are not asked any more."""
        self._brokers.close()
