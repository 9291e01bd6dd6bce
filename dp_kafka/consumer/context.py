"""What the parts of one consumer group have in common: made once by the group, and passed round."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dp_kafka.codecs.protocol import Codec
from dp_kafka.config import ConsumerGroupConfig
from dp_kafka.consumer.control import Control
from dp_kafka.consumer.dropped import Dropped
from dp_kafka.consumer.upstream import UpstreamChannel
from dp_kafka.consumer.watchdog import Watchdog
from dp_kafka.consumer.workerthread import WorkerThread
from dp_kafka.pulse import Pulse, Trouble

if TYPE_CHECKING:
    from dp_kafka.consumer.lag import Lag

__all__ = ["GroupContext"]


@dataclass(frozen=True)
class GroupContext:
    """The configuration of one group, and the objects through which its parts hear of each other."""

    config: ConsumerGroupConfig
    #: What callers want, and the state.
    control: Control
    #: The messages that may be taken now.
    upstream: UpstreamChannel
    #: Puts an error on the errors channel; any thread.
    report: Callable[[BaseException], None]
    #: What makes events of messages' values.
    codec: Codec | None = None
    #: How far the group is behind, if anybody wants to know.
    lag: Lag | None = None
    #: Signs of life of the poll thread, and what stands in the way of its work.
    pulse: Pulse = field(default_factory=Pulse)
    trouble: Trouble = field(default_factory=Trouble)
    #: What the producer of dead letters died of.
    letters: Pulse = field(default_factory=Pulse)
    #: The threads that handle messages; filled once, when a handler is registered.
    workers: list[WorkerThread] = field(default_factory=list)
    #: The lanes that were dropped while handlers had messages of them in hand.
    dropped: Dropped = field(default_factory=Dropped)
    #: Who of them is slow.
    watchdog: Watchdog = field(init=False)
    #: What every line of the log says.
    fields: dict[str, Any] = field(init=False)

    @property
    def handlers_end(self) -> bool:
        """Whether what is in hand comes back by itself: workers hold it, and their handlers are waited for.

        What a worker that died had in hand may not come back, and neither may what users hold themselves.
        """
        return bool(self.workers) and not any(worker.crash for worker in self.workers)

    def __post_init__(self) -> None:
        object.__setattr__(self, "watchdog", Watchdog(self.config.slow_handler_seconds))
        object.__setattr__(self, "fields", {"topic": self.config.topic, "group": self.config.group_name})
