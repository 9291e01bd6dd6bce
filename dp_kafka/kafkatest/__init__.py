"""What users of dp_kafka test with: a Kafka cluster in the test's own process."""

from dp_kafka.kafkatest.embedded import DISCONNECT, EmbeddedCluster, EmbeddedClusterError, LoggedRequest

__all__ = ["DISCONNECT", "EmbeddedCluster", "EmbeddedClusterError", "LoggedRequest"]
