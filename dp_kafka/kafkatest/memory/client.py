"""What consumers and producers in memory have in common: how they hear of the cluster, and of its outages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError

from dp_kafka.kafkatest.memory.cluster import MemoryCluster, kafka_error

__all__ = ["POLL_SECONDS", "MemoryClient"]

#: The longest that a poll waits, whatever it is asked: so soon its caller sees that it is to stop.
POLL_SECONDS = 0.01
#: How long a question of a client waits for a cluster that is down, in seconds.
_LONGEST_OUTAGE = 1.0


class MemoryClient:
    """A client of a cluster in memory; its owner's thread alone calls what is here."""

    def __init__(self, cluster: MemoryCluster, properties: dict[str, Any]) -> None:
        self._cluster = cluster
        self._error_cb: Callable[[KafkaError], object] | None = properties.get("error_cb")
        #: The last outage that its owner has heard of.
        self._outage = 0

    def list_topics(self, topic: str | None = None, timeout: float = -1) -> Any:
        """Topics with their partitions; raises KafkaException when the cluster is down for `timeout`."""
        # It waits only when its owner knows of the outage: whoever is to hear of it polls first. And not for
        # as long as a real one: users' tests are to be quick.
        patience = 0 if self._has_outage_to_tell() else min(max(timeout, 0), _LONGEST_OUTAGE)
        if not self._cluster.wait_up(patience):
            self._cluster.unreachable()
        return self._cluster.metadata(topic)

    def _has_outage_to_tell(self) -> bool:
        return not self._cluster.is_up and self._outage != self._cluster.outages

    def _tell_of_outage(self) -> bool:
        """Call the error callback if the cluster went down since it was last called; whether it did."""
        if not self._has_outage_to_tell():
            return False
        self._outage = self._cluster.outages
        if self._error_cb is not None:
            self._error_cb(kafka_error("_ALL_BROKERS_DOWN", "the cluster in memory is down"))
        return True
