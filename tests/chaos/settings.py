"""What a run is made of: its seed, its traffic, its bounds; and how a child process is told of it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

__all__ = ["ORDERINGS", "PROTOCOLS", "Settings", "from_environment"]

ORDERINGS = ("partition", "key", "none")
#: How members share the partitions: eager and cooperative rebalances of the classic protocol, and KIP-848.
PROTOCOLS: dict[str, dict[str, Any]] = {
    "eager": {"partition.assignment.strategy": "roundrobin"},
    "cooperative": {"partition.assignment.strategy": "cooperative-sticky"},
    "kip848": {"group.protocol": "consumer"},
}


@dataclass(frozen=True)
class Settings:
    """One run. Durations are seconds."""

    seed: int
    ordering: str
    protocol: str
    #: How long faults are made.
    duration: float = 180.0
    topic: str = "chaos"
    group: str = "chaos"
    broker_addrs: list[str] = field(default_factory=list)
    partitions: int = 12
    producers: int = 2
    consumers: int = 3
    most_consumers: int = 5
    keys: int = 300
    #: Messages a second of each producer.
    rate: float = 80.0
    workers: int = 4
    #: The work of a handler: up to this long.
    work: float = 0.006
    #: How often a handler fails, of 1.
    failures: float = 0.03
    #: After which silence a member loses its partitions. Long enough for a busy machine to keep it.
    session: float = 10.0
    #: How long a process that was asked to end may take; its own limit for messages in hand is less.
    end_limit: float = 90.0
    #: How long a partition may stand still with messages in it.
    stall_limit: float = 120.0
    #: How long all that was sent may take to be handled, once the faults are over.
    drain_limit: float = 180.0

    def to_json(self) -> str:
        """As text, for a child's command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """The inverse of `to_json`."""
        return cls(**json.loads(text))

    def on(self, topic: str, broker_addrs: list[str]) -> Settings:
        """The same run, on a topic and with a group of that name."""
        return replace(self, topic=topic, group=topic, broker_addrs=broker_addrs)


def from_environment(environ: Mapping[str, str] = os.environ) -> list[Settings]:
    """The runs that CHAOS_SEED, CHAOS_MINUTES, CHAOS_ORDERING and CHAOS_PROTOCOL ask for.

    Without an ordering or a protocol the seed chooses, so that consecutive seeds go through all of them.
    The ordering `all` shares the minutes out among the three. Raises ValueError for what is unknown.
    """
    seed = int(environ.get("CHAOS_SEED") or int.from_bytes(os.urandom(3), "big"))
    minutes = float(environ.get("CHAOS_MINUTES") or 3)
    if minutes <= 0:
        raise ValueError(f"CHAOS_MINUTES is {minutes:g}: it must be above zero")
    ordering = environ.get("CHAOS_ORDERING") or ORDERINGS[seed % 3]
    if ordering not in (*ORDERINGS, "all"):
        raise ValueError(f"CHAOS_ORDERING is {ordering!r}: it must be one of {', '.join(ORDERINGS)}, or all")
    protocol = environ.get("CHAOS_PROTOCOL") or list(PROTOCOLS)[seed // 3 % 3]
    if protocol not in PROTOCOLS:
        raise ValueError(f"CHAOS_PROTOCOL is {protocol!r}: it must be one of {', '.join(PROTOCOLS)}")
    orderings = ORDERINGS if ordering == "all" else (ordering,)
    return [
        Settings(seed=seed, ordering=each, protocol=protocol, duration=60 * minutes / len(orderings))
        for each in orderings
    ]
