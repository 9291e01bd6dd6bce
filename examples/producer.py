"""Sends each line of stdin as a message, and ends when all are delivered.

    KAFKA_ADDR=localhost:9092 python examples/producer.py <lines.txt
    python examples/producer.py --embedded

The last line counts also when no newline ends it. Ctrl-C or SIGTERM ends it too: what was read is delivered.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator

from _embedded import settings_for

from dp_kafka import (
    ConfigError,
    ConsumerGroup,
    DpKafkaError,
    KafkaSettings,
    Message,
    MessageTooLargeError,
    NotInitialisedError,
    Producer,
    QueueFullError,
)
from dp_kafka.shutdown import SignalEvent, graceful

logger = logging.getLogger("example")

#: How many bytes are read at a time.
CHUNK = 64 * 1024
#: Seconds between two looks at what a signal may have asked for.
LOOK_EVERY = 0.25
#: Seconds that `--embedded` waits for what was delivered to be read back.
SHOW_WITHIN = 10.0


class Tally:
    """Counts messages on one thread, and lets another wait for a number of them."""

    def __init__(self) -> None:
        #: Guards the numbers.
        self._changed = threading.Condition()
        self.done = 0
        self.failed = 0

    def delivered(self, error: DpKafkaError | None, _message: object) -> None:
        """The `on_delivery` of each message: the broker has it, or it could not be delivered."""
        if error is not None:
            self.refused(error)
            return
        with self._changed:
            self.done += 1

    def refused(self, error: Exception) -> None:
        """Count a message that will not arrive."""
        logger.error("%s", error)
        with self._changed:
            self.failed += 1

    def arrived(self, _worker_id: int, message: Message) -> None:
        """The handler that shows a message which was read back."""
        print(f"arrived in partition {message.partition}: {message.data!r}", flush=True)
        with self._changed:
            self.done += 1
            self._changed.notify_all()

    def wait_done(self, number: int, timeout: float) -> bool:
        """Wait until `number` messages have arrived, at most `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self.done >= number, timeout)


def read_lines(ended: SignalEvent, descriptor: int) -> Iterator[bytes]:
    """The lines of a file, pipe or terminal with their newlines, until its end or the shutdown."""
    pieces: list[bytes] = []
    while ended.fileno() not in select.select([ended.fileno(), descriptor], [], [])[0]:
        chunk = os.read(descriptor, CHUNK)
        if not chunk:
            break
        first, *others = chunk.split(b"\n")
        pieces.append(first)
        for piece in others:
            yield b"".join(pieces) + b"\n"
            pieces = [piece]
    # At the end of the input this is a line that no newline ends; at a shutdown it was read all the same.
    if last := b"".join(pieces):
        yield last


def send(producer: Producer, value: bytes, tally: Tally, ended: SignalEvent) -> bool:
    """Send one message, waiting for a broker as long as it takes. False when the shutdown came before one."""
    while True:
        try:
            producer.send_bytes(value, on_delivery=tally.delivered, timeout=LOOK_EVERY)
        except (NotInitialisedError, QueueFullError) as error:
            if ended.is_set():
                tally.refused(error)
                return False
        except MessageTooLargeError as error:
            tally.refused(error)
            return True
        else:
            return True


def send_all(producer: Producer, settings: KafkaSettings, tally: Tally, ended: SignalEvent) -> None:
    """Send the lines of stdin, and wait until they are delivered, or until the shutdown."""
    if settings.wait_producer_ready and not producer.is_initialised:
        logger.info("waiting for a broker of %s", ", ".join(settings.broker_addrs))
        while not producer.is_initialised and not ended.wait(LOOK_EVERY):
            pass
    for line in read_lines(ended, sys.stdin.fileno()):
        if not send(producer, line.rstrip(b"\r\n") if settings.chomp_msg else line, tally, ended):
            return
    while producer.flush(timeout=LOOK_EVERY) and not ended.is_set():
        pass


@contextlib.contextmanager
def shown(settings: KafkaSettings, sent: Tally) -> Iterator[None]:
    """Read back and print what arrives in the topic, and at the end wait for all that was delivered."""
    arrivals = Tally()
    config = settings.consumer_config(topic=settings.produced_topic, num_workers=1)
    with ConsumerGroup(config) as consumer:
        consumer.register_handler(arrivals.arrived)
        consumer.start()
        yield
        arrivals.wait_done(sent.done, SHOW_WITHIN)


def main() -> int:
    """Send everything: 0 when it was delivered, 1 when something was not."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    logger.setLevel(logging.INFO)
    ended = SignalEvent(signal.SIGINT, signal.SIGTERM)
    tally = Tally()
    try:
        with settings_for(__doc__ or "") as (settings, embedded):
            producer = Producer(settings.producer_config())
            with shown(settings, tally) if embedded else contextlib.nullcontext():
                send_all(producer, settings, tally, ended)
                left = graceful(producer, timeout=settings.graceful_shutdown_timeout)
    except ConfigError as error:
        logger.error("the configuration is wrong: %s", error)
        return 1
    print(f"delivered {tally.done} messages to {settings.produced_topic}")
    if tally.failed or left:
        logger.error("%d could not be sent; left: %s", tally.failed, left)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
