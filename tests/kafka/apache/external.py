"""A Kafka cluster that somebody else runs: topics can be made on it, faults cannot."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from confluent_kafka.admin import AdminClient

from . import asking
from .errors import ApacheKafkaError


class ExternalKafka:
    """The part of ApacheKafka's interface that works on any cluster (plaintext listeners)."""

    def __init__(self, broker_addrs: Sequence[str]) -> None:
        self.broker_addrs = [each.strip() for each in broker_addrs]

    def admin(self) -> AdminClient:
        """An admin client of the cluster."""
        return AdminClient({"bootstrap.servers": ",".join(self.broker_addrs), "log_level": 0})

    def create_topic(
        self,
        name: str,
        partitions: int = 1,
        replication_factor: int | None = None,
        config: Mapping[str, str] | None = None,
        timeout: float = 30.0,
    ) -> None:
        """Creates a topic, with the cluster's own replication factor by default.

        Returns when each broker of ``broker_addrs`` knows its leaders.
        """
        deadline = time.monotonic() + timeout
        asking.create_topic(self.admin(), name, partitions, replication_factor or -1, config, timeout)
        for address in self.broker_addrs:
            admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
            while not _led(admin, name, partitions):
                if time.monotonic() > deadline:
                    raise ApacheKafkaError(f"{address} does not know the leaders of {name}")
                time.sleep(0.05)  # between two questions to another process


def _led(admin: AdminClient, topic: str, partitions: int) -> bool:
    found = admin.list_topics(topic, timeout=10.0).topics[topic].partitions
    return len(found) == partitions and all(each.leader >= 0 for each in found.values())
