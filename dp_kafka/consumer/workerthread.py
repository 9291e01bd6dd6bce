"""What worker threads have in common: they show what they have in hand, and none dies unseen.

A handler may raise whatever it wants. What ends a worker is an error of this library (or of the interpreter:
no memory, say), after which nobody can tell what else is wrong. So its message is released unfinished, and
the consumer closes as it does when its poll thread dies: other workers finish what they have in hand, that
is committed, and the group is left, so that another member takes over the partitions with the unfinished
message. A new worker in the place of the dead one would go on beside the unfinished message, which holds
back every commit of its partition, in a process that looks healthy.
"""

from __future__ import annotations

import abc
import logging
import threading
from collections.abc import Callable

from dp_kafka.consumer.message import Message

__all__ = ["OnDeath", "WorkerThread"]

logger = logging.getLogger("dp_kafka.consumer")

#: Called on the dying thread: `on_death(worker, error)`.
OnDeath = Callable[["WorkerThread", BaseException], None]


class WorkerThread(threading.Thread, abc.ABC):
    """A thread that handles messages until there are no more to come."""

    def __init__(self, name: str, on_death: OnDeath) -> None:
        super().__init__(name=name, daemon=True)
        self._on_death = on_death
        #: The message being handled (of a batch: its first one), for whoever watches for slow handlers.
        self.current: Message | None = None
        #: What it died of.
        self.crash: BaseException | None = None

    def run(self) -> None:
        """Work; when an error gets out of that, let go of what is in hand and tell the group."""
        try:
            self.work()
        except BaseException as error:  # noqa: BLE001  # the group reports it and closes
            self.crash = error
            try:
                self.let_go()
            finally:
                self.current = None
                self._on_death(self, error)

    @abc.abstractmethod
    def work(self) -> None:
        """Handle messages until the upstream channel is closed."""

    @abc.abstractmethod
    def let_go(self) -> None:
        """Release, unfinished, whatever is in hand."""
