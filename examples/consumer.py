"""A service that handles the messages of a topic one by one, several at a time.

    KAFKA_ADDR=localhost:9092 python examples/consumer.py
    python examples/consumer.py --embedded

Ctrl-C or SIGTERM ends it: handlers finish, and what they handled is committed.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading

from _embedded import feed, settings_for
from _graceful import serve, work

from dp_kafka import ConfigError, ConsumerGroup, KafkaSettings, Message
from dp_kafka.shutdown import SignalEvent

logger = logging.getLogger("example")


class Handler:
    """Logs each message, and counts them; called by several worker threads at a time."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        #: Guards the count.
        self._lock = threading.Lock()
        self.handled = 0

    def __call__(self, worker_id: int, message: Message) -> None:
        where = f"partition {message.partition}, offset {message.offset}"
        text = (message.data or b"").decode("utf-8", "replace")
        if not self._settings.log_quiet:
            logger.info("worker %d handles %s: %r", worker_id, where, text)
        work(self._settings)
        with self._lock:
            self.handled += 1
        if not self._settings.log_quiet:
            logger.info("worker %d is done with %s", worker_id, where)


def main() -> int:
    """Run the service: 0 when everything in hand was finished before it ended, else 1."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    ended = SignalEvent(signal.SIGINT, signal.SIGTERM)
    try:
        with settings_for(__doc__ or "") as (settings, embedded):
            handler = Handler(settings)
            consumer = ConsumerGroup(settings.consumer_config())
            consumer.register_handler(handler)
            if embedded:
                feed(settings)
            code = serve(consumer, settings, ended)
            logger.info("handled %d messages", handler.handled)
    except ConfigError as error:
        logger.error("the configuration is wrong: %s", error)
        return 1
    return code


if __name__ == "__main__":
    sys.exit(main())
