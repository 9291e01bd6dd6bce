"""Kafka in memory, for the fakes: topics and groups, and the clients that the library is given for them."""

from dp_kafka.kafkatest.memory.cluster import MemoryCluster
from dp_kafka.kafkatest.memory.records import Record

__all__ = ["MemoryCluster", "Record"]
