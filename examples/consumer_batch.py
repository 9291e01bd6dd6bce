"""A service that handles the messages of a topic in batches.

    KAFKA_ADDR=localhost:9092 python examples/consumer_batch.py
    python examples/consumer_batch.py --embedded

A batch is handled when it has KAFKA_BATCH_SIZE messages, or KAFKA_BATCH_WAIT_TIME after its first one.
Ctrl-C or SIGTERM ends it: the batch in hand is finished, a collected part of one too, and committed.
"""

from __future__ import annotations

import logging
import signal
import sys

from _embedded import feed, settings_for
from _graceful import serve, work

from dp_kafka import ConfigError, ConsumerGroup, KafkaSettings, Message
from dp_kafka.shutdown import SignalEvent

logger = logging.getLogger("example")


class BatchHandler:
    """Logs each batch, and counts; called by one thread, so its numbers need no lock."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self.batches = 0
        self.handled = 0

    def __call__(self, batch: list[Message]) -> None:
        number = self.batches + 1
        if not self._settings.log_quiet:
            messages = ", ".join(f"{message.partition}/{message.offset}" for message in batch)
            logger.info("handles batch %d (partition/offset): %s", number, messages)
        work(self._settings)
        self.batches = number
        self.handled += len(batch)
        if not self._settings.log_quiet:
            logger.info("is done with batch %d", number)


def main() -> int:
    """Run the service: 0 when everything in hand was finished before it ended, else 1."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    ended = SignalEvent(signal.SIGINT, signal.SIGTERM)
    try:
        with settings_for(__doc__ or "") as (settings, embedded):
            handler = BatchHandler(settings)
            consumer = ConsumerGroup(settings.consumer_config())
            consumer.register_batch_handler(handler)
            if embedded:
                feed(settings)
            code = serve(consumer, settings, ended)
            logger.info("handled %d messages in %d batches", handler.handled, handler.batches)
    except ConfigError as error:
        logger.error("the configuration is wrong: %s", error)
        return 1
    return code


if __name__ == "__main__":
    sys.exit(main())
