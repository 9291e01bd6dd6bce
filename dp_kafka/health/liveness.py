"""Liveness: whether the threads of clients are there and move. It asks no broker, so it answers at once.

A service that is not alive does not get better by waiting: it is what an orchestrator restarts a service for.
A broker that is away is no reason for that, and is not looked at here.
"""

from __future__ import annotations

from typing import Protocol

from dp_kafka.errors import ForkedError
from dp_kafka.health.state import CheckState
from dp_kafka.health.status import Status

__all__ = ["STUCK_SECONDS", "Liveness", "Watched"]

#: How long a handler may be with one message before its worker counts as stuck.
STUCK_SECONDS = 300.0


class Watched(Protocol):
    """What liveness asks of a client; ConsumerGroup and Producer have it."""

    def stuck_or_dead(self, stuck_after: float = STUCK_SECONDS) -> list[str]:
        """What of its threads is dead, or stuck for `stuck_after` seconds, one sentence each."""
        ...


class Liveness:
    """Asks clients for threads that are stuck or dead. Usable as a check; any thread; never blocks.

    Args:
        clients: consumer groups and producers.
        stuck_after: seconds that a handler may be with one message or batch.
    """

    def __init__(self, *clients: Watched, stuck_after: float = STUCK_SECONDS) -> None:
        self._clients = clients
        self._stuck_after = stuck_after

    def problems(self) -> list[str]:
        """What is stuck or dead, one sentence each; empty when all is alive."""
        found = []
        for client in self._clients:
            try:
                found += client.stuck_or_dead(self._stuck_after)
            except ForkedError as error:
                # Of the parent process: its threads are not there.
                found.append(str(error))
        return found

    def __call__(self, state: CheckState) -> None:
        """Update `state`: OK "alive", or CRITICAL with what is stuck or dead."""
        problems = self.problems()
        if problems:
            state.update(Status.CRITICAL, "; ".join(problems))
        else:
            state.update(Status.OK, "alive")
