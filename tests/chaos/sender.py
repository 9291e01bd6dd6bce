"""A producer process: sends numbered messages, and notes which of them were acknowledged."""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path
from typing import Any

from dp_kafka import Producer, ProducerConfig
from tests.chaos.child import begin, ticks
from tests.chaos.journal import Journal
from tests.chaos.settings import Settings

_TICK = 0.05


class Sender:
    """Numbers what it sends `NAME-0`, `NAME-1`, …, with keys at random."""

    def __init__(self, name: str, settings: Settings, journal: Journal, producer: Producer) -> None:
        self._name = name
        self._settings = settings
        self._journal = journal
        self._producer = producer
        self._random = random.Random(f"{settings.seed}:{name}")
        self._began = time.monotonic()
        self.sent = 0

    def catch_up(self) -> None:
        """Send as many as are due by now; after a pause, not more than a second's."""
        due = int((time.monotonic() - self._began) * self._settings.rate)
        rest = min(due - self.sent, int(self._settings.rate))
        for _ in range(rest):
            number = f"{self._name}-{self.sent}"
            key = f"key-{self._random.randrange(self._settings.keys)}"
            self._producer.send_bytes(number.encode(), key=key, on_delivery=self._report)
            self.sent += 1

    def _report(self, error: Exception | None, message: Any) -> None:
        number = message.value().decode()
        if error is None:
            self._journal.write("acked", id=number, p=message.partition(), o=message.offset())
        else:
            self._journal.write("refused", id=number, error=str(error))


def main() -> int:
    """Send until SIGTERM; 0 when each message was acknowledged or reported, else 1."""
    settings, journal, ended = begin()
    producer = Producer(ProducerConfig(settings.broker_addrs, settings.topic, max_retry_period=2.0))
    producer.log_errors()
    sender = Sender(Path(sys.argv[2]).stem, settings, journal, producer)
    for _ in ticks(_TICK, ended):
        sender.catch_up()
    left = producer.close(timeout=settings.end_limit / 2)
    journal.write("stopped", sent=sender.sent, left=left)
    return 0 if not left else 1


if __name__ == "__main__":
    sys.exit(main())
