"""Real Apache Kafka brokers for tests and for work at the desk.

In Python: ``with ApacheKafka(brokers=3) as kafka: … kafka.broker_addrs``.
In a shell: ``python -m tests.kafka.apache up``, ``… status``, ``… down``.
Needs Java 17 and, once, Maven to bring the brokers.
"""

from .cluster import ApacheKafka
from .errors import ApacheKafkaError, MissingToolError
from .external import ExternalKafka

__all__ = ["ApacheKafka", "ApacheKafkaError", "ExternalKafka", "MissingToolError"]
