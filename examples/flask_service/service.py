"""The Kafka side of the service: a producer, a consumer with its workers, and their health, in one process.

A web server forks its workers, and Kafka clients do not survive a fork. So importing this module makes none:
each worker process calls `start()` for itself, after the fork, and `stop()` at its end.
"""

from __future__ import annotations

import collections
import dataclasses
import logging
import os
import threading
import time
from collections.abc import Iterable
from typing import Any

from dp_kafka import ConsumerGroup, ConsumerGroupConfig, KafkaSettings, Message, Producer
from dp_kafka.health import HealthCheck
from dp_kafka.shutdown import Left, graceful

logger = logging.getLogger("example")

#: Seconds between two rounds of health checks, and for how long CRITICAL counts as WARNING only.
CHECK_EVERY, CRITICAL_AFTER = 5.0, 30.0
#: How many of the handled events are shown.
SHOWN = 20


class Handled:
    """The events that this process has handled: how many, and the last ones. Any thread."""

    def __init__(self) -> None:
        #: Guards both.
        self._lock = threading.Lock()
        self._count = 0
        self._last: collections.deque[str] = collections.deque(maxlen=SHOWN)

    def add(self, event: str) -> None:
        """One more."""
        with self._lock:
            self._count += 1
            self._last.append(event)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        with self._lock:
            return {"process": os.getpid(), "handled": self._count, "last": list(self._last)}


@dataclasses.dataclass(frozen=True)
class Clients:
    """What one process has."""

    producer: Producer
    consumer: ConsumerGroup
    health: HealthCheck


class Service:
    """Owns the clients of this process, from `start()` to `stop()`. Other methods: any thread in between."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._clients: Clients | None = None
        self.handled = Handled()

    def start(self) -> None:
        """Make the clients and begin to consume. Blocks some seconds when no broker answers, and goes on.

        Raises ConfigError when the settings can't work: then the worker should not start.
        """
        # Both configurations first: of what can't work nothing is begun.
        producer_config, consumer_config = self._settings.producer_config(), self._consumer_config()
        producer, consumer = Producer(producer_config), ConsumerGroup(consumer_config)
        consumer.register_handler(self._handle)
        for client in (producer, consumer):
            client.log_errors()
        health = HealthCheck("1.0.0", interval=CHECK_EVERY, critical_timeout=CRITICAL_AFTER)
        health.add_check("Kafka producer", producer.checker)
        health.add_check("Kafka consumer", consumer.checker)
        health.add_liveness(producer, consumer)
        health.start()
        consumer.start()
        self._clients = Clients(producer, consumer, health)

    def _consumer_config(self) -> ConsumerGroupConfig:
        config = self._settings.consumer_config()
        if protocol := os.environ.get("GROUP_PROTOCOL"):
            config = dataclasses.replace(config, librdkafka={**config.librdkafka, "group.protocol": protocol})
        return config

    def stop(self) -> Left:
        """Finish what is in hand, commit, deliver, and end every thread, within GRACEFUL_SHUTDOWN_TIMEOUT."""
        if self._clients is None:
            return Left()
        clients, self._clients = self._clients, None
        return graceful(
            clients.consumer,
            clients.producer,
            clients.health,
            timeout=self._settings.graceful_shutdown_timeout,
        )

    @property
    def producer(self) -> Producer:
        """This process's producer."""
        return self._started.producer

    def health(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """The WSGI app of this process's health: the document, and /liveness."""
        return self._started.health(environ, start_response)

    @property
    def _started(self) -> Clients:
        if self._clients is None:
            raise RuntimeError(
                "the service is not started in this process: call service.start() in each worker, after the "
                "fork (gunicorn.conf.py does it in post_worker_init)"
            )
        return self._clients

    def _handle(self, _worker_id: int, message: Message) -> None:
        """Called on several worker threads at a time; when it returns, the message is committed."""
        if self._settings.snooze:
            time.sleep(0.5)  # as long as real work would take
        self.handled.add(f"{message.partition}/{message.offset}")
        if not self._settings.log_quiet:
            logger.info("handled partition %d, offset %d", message.partition, message.offset)
