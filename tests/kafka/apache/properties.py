"""The server.properties of one broker: which listeners it has, and the settings that make tests quick."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .ports import HOST
from .security import CONTROLLER, INTERNAL, Security


@dataclass(frozen=True)
class Node:
    """A broker's place in the cluster: its id and the port of each of its listeners."""

    id: int
    ports: Mapping[str, int]

    def address(self, listener: str) -> str:
        """host:port of a listener."""
        return f"{HOST}:{self.ports[listener]}"


def server_properties(
    node: Node, nodes: Sequence[Node], data_dir: Path, security: Security, extra: Mapping[str, object]
) -> dict[str, str]:
    """All properties of a broker that is its own controller; those in ``extra`` win."""
    values: dict[str, object] = {
        "process.roles": "broker,controller",
        "node.id": node.id,
        "controller.quorum.voters": ",".join(f"{each.id}@{each.address(CONTROLLER)}" for each in nodes),
        "listeners": _addresses(node, list(node.ports)),
        "advertised.listeners": _addresses(node, [name for name in node.ports if name != CONTROLLER]),
        "controller.listener.names": CONTROLLER,
        "inter.broker.listener.name": INTERNAL,
        "log.dirs": data_dir,
        **_replication(len(nodes)),
        **_QUICK,
        **security.properties,
        **extra,
    }
    return {name: str(value) for name, value in values.items()}


def _addresses(node: Node, listeners: Sequence[str]) -> str:
    return ",".join(f"{name}://{node.address(name)}" for name in listeners)


def _replication(brokers: int) -> dict[str, object]:
    factor = min(3, brokers)
    return {
        "default.replication.factor": factor,
        "offsets.topic.replication.factor": factor,
        "transaction.state.log.replication.factor": factor,
        "transaction.state.log.min.isr": max(1, factor - 1),
        "share.coordinator.state.topic.replication.factor": factor,
        "share.coordinator.state.topic.min.isr": max(1, factor - 1),
    }


_QUICK: dict[str, object] = {
    "auto.create.topics.enable": "false",
    "num.partitions": 1,
    # Fewer partitions of the internal topics: each costs start and fail-over time.
    "offsets.topic.num.partitions": 6,
    "transaction.state.log.num.partitions": 3,
    "share.coordinator.state.topic.num.partitions": 3,
    # Classic groups: no wait for the first members, and sessions as short as a test wants.
    "group.initial.rebalance.delay.ms": 0,
    "group.min.session.timeout.ms": 1000,
    # KIP-848 groups: the broker sets both periods, and assignments go out with heartbeats.
    "group.consumer.min.session.timeout.ms": 1000,
    "group.consumer.session.timeout.ms": 6000,
    "group.consumer.min.heartbeat.interval.ms": 100,
    "group.consumer.heartbeat.interval.ms": 500,
    "group.consumer.assignment.interval.ms": 0,
    # A killed or stalled broker loses its leaderships after this long, not after 9 s.
    "broker.session.timeout.ms": 4000,
    "broker.heartbeat.interval.ms": 500,
    "leader.imbalance.check.interval.seconds": 10,
    # The cleaner's default buffer of 128 MB would not fit the small heap.
    "log.cleaner.dedupe.buffer.size": 8 * 1024 * 1024,
    "num.network.threads": 2,
    "num.io.threads": 4,
    "background.threads": 4,
}


def write_properties(path: Path, properties: Mapping[str, str]) -> None:
    """Writes a file that only its owner may read: it can hold passwords and keys."""
    lines = [f"{name}={_escaped(value)}" for name, value in properties.items()]
    path.touch(mode=0o600)
    path.write_text("\n".join(lines) + "\n")


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n")
