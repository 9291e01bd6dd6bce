"""A web app whose clients are made when it is imported: with --preload that is before the fork.

Each of them has its connections when the import ends. A fork while librdkafka looks up a name would leave
glibc's lock held in the child, where then no client at all reaches a broker; see docs/production.md.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from typing import Any

from dp_kafka import ConsumerGroup, ConsumerGroupConfig, DpKafkaError, KafkaSettings, Producer
from dp_kafka.health import HealthCheck, Status
from dp_kafka.shutdown import graceful

_settings = KafkaSettings.from_env()
_addresses, _topic = _settings.broker_addrs, _settings.produced_topic

producer = Producer(_settings.producer_config())
consumer = ConsumerGroup(
    ConsumerGroupConfig(
        _addresses, _topic, _settings.consumed_group, librdkafka={"group.protocol": "consumer"}
    )
)


class _Told:
    """Hears of the health check."""

    def __init__(self) -> None:
        self.healthy = threading.Event()

    def on_health_update(self, status: Status) -> None:
        if status == Status.OK:
            self.healthy.set()


handled, told = threading.Event(), _Told()
consumer.register_handler(lambda worker_id, message: handled.set())
consumer.start()
health = HealthCheck(interval=0.05)
health.add_check("producer", producer.checker)
health.add_liveness(producer, consumer)
health.subscribe(consumer)
health.subscribe(told)
health.start()
producer.send_bytes(b"imported", timeout=10)
assert handled.wait(15)
assert told.healthy.wait(15)


def _send() -> str:
    producer.send_bytes(b"sent", timeout=5)
    assert producer.flush(5) == 0
    return "sent"


def _stop() -> str:
    return f"stopped {consumer.stop_and_wait(5)}"


def _fresh() -> str:
    """Clients that are made in the process that serves."""
    with Producer(_settings.producer_config()) as own:
        own.send_bytes(b"fresh", timeout=5)
    return "fresh"


def _shut_down() -> str:
    return f"left {graceful(health, consumer, producer, timeout=5)}"


_ACTIONS: dict[str, Callable[[], str]] = {
    "/send": _send,
    "/stop": _stop,
    "/fresh": _fresh,
    "/shutdown": _shut_down,
}


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Do what the path names, and answer with what came of it; other paths are for the health check."""
    action = _ACTIONS.get(environ["PATH_INFO"])
    if action is None:
        return health(environ, start_response)
    try:
        status, text = "200 OK", action()
    except DpKafkaError as error:
        status, text = "500 Internal Server Error", f"{type(error).__name__}: {error}"
    start_response(status, [("Content-Type", "text/plain"), ("Process", str(os.getpid()))])
    return [text.encode()]
