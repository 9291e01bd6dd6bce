"""Looks from outside at what the group has committed, and how long the partitions are."""

from __future__ import annotations

import threading
import time

from confluent_kafka import Consumer, KafkaException, TopicPartition

from tests.chaos.journal import Journal
from tests.chaos.settings import Settings

__all__ = ["Sampler"]

_PERIOD = 2.0


class Sampler(threading.Thread):
    """Writes the committed offsets into the conductor's journal, every two seconds, until `end`.

    The verdict compares them with what had been handled by then: no commit may pass an unhandled message
    at any time, not only at the end.
    """

    def __init__(self, settings: Settings, journal: Journal) -> None:
        super().__init__(name="chaos:sampler", daemon=True)
        self._settings = settings
        self._journal = journal
        self._over = threading.Event()
        self._client = Consumer(
            {
                "bootstrap.servers": ",".join(settings.broker_addrs),
                "group.id": settings.group,
                "log_level": 0,
                "error_cb": lambda _error: None,  # brokers that are away are expected here
            }
        )

    def run(self) -> None:
        while not self._over.wait(_PERIOD):
            try:
                self._sample()
            except KafkaException:
                continue  # the coordinator is away; the next sample may come through

    def _sample(self) -> dict[int, int]:
        topic = self._settings.topic
        asked = [TopicPartition(topic, number) for number in range(self._settings.partitions)]
        found = self._client.committed(asked, timeout=5.0)
        failed = [each.error for each in found if each.error is not None]
        if failed:
            raise KafkaException(failed[0])
        offsets = {each.partition: max(each.offset, 0) for each in found}
        metadata = {each.partition: each.metadata for each in found if each.metadata}
        self._journal.write("committed", offsets=offsets, metadata=metadata)
        return offsets

    def _ends(self) -> dict[int, int]:
        topic = self._settings.topic
        return {
            number: self._client.get_watermark_offsets(TopicPartition(topic, number), timeout=10.0)[1]
            for number in range(self._settings.partitions)
        }

    def wait_drained(self, timeout: float) -> bool:
        """Wait until everything is committed; when nothing is sent any more, and nothing is faulty."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            try:
                if self._sample() == self._ends():
                    return True
            except KafkaException:
                pass  # looked at again below
            time.sleep(0.5)  # between two questions to another process
        return False

    def end(self) -> None:
        """Write how far the group and the log have come, and stop."""
        self._over.set()
        self.join()
        deadline = time.monotonic() + 60
        while True:
            try:
                self._journal.write("end", committed=self._sample(), log=self._ends())
                break
            except KafkaException:
                if time.monotonic() > deadline:
                    raise
        self._client.close()
