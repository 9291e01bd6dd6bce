"""A consumer process: one member of the group. Its handler writes each message into the journal."""

from __future__ import annotations

import logging
import random
import sys
import threading
import time

from dp_kafka import ConsumerGroup, ConsumerGroupConfig, HandlerError, Message, Ordering, RetryPolicy
from dp_kafka.consumer.lane import Lane
from tests.chaos.child import begin, ticks
from tests.chaos.journal import Journal
from tests.chaos.settings import PROTOCOLS, Settings

#: What the library logs that the verdict needs: how assignments begin and end, and which commits failed.
_EVENTS = {
    "partitions assigned": "assigned",
    "partitions revoked": "revoked",
    "partitions lost": "lost",
    "commit failed, it is tried again": "commit failed",
    "stopped without the broker's answer to a commit: what was handled may be handled again": "gave up",
}


class Recorder(logging.Handler):
    """Copies some of the library's log events, with their fields, into the journal."""

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self._journal = journal

    def emit(self, record: logging.LogRecord) -> None:
        fields = getattr(record, "dp_kafka", {})
        what = _EVENTS.get(fields.get("event", ""))
        if what is not None:
            more = {name: fields[name] for name in ("in_hand", "name") if name in fields}
            self._journal.write(what, partitions=fields["partitions"], **more)


class RecordingHandler:
    """Writes `begin`, works, and writes `done`; or writes `failed` and fails, at random.

    `session` numbers the assignments from which messages came: a handler that was on its way when its
    partition was lost must not be taken for one of the next assignment.
    """

    def __init__(self, settings: Settings, journal: Journal) -> None:
        self._settings = settings
        self._journal = journal
        self._random = random.Random()
        self._lock = threading.Lock()  # guards the numbers
        self._sessions: dict[Lane, int] = {}

    def __call__(self, _worker_id: int, message: Message) -> None:
        with self._lock:
            session = self._sessions.setdefault(message._lane, len(self._sessions) + 1)
        where = {"p": message.partition, "o": message.offset, "session": session}
        key = (message.key or b"").decode()
        number = (message.data or b"").decode()
        self._journal.write("begin", **where, id=number, key=key, attempt=message.attempt)
        time.sleep(self._random.random() * self._settings.work)  # the work
        if self._random.random() < self._settings.failures:
            self._journal.write("failed", **where)
            raise HandlerError("at random")
        self._journal.write("done", **where)


def main() -> int:
    """Consume until SIGTERM; 0 when what was in hand was finished and committed, else 1."""
    settings, journal, ended = begin()
    logging.getLogger("dp_kafka").addHandler(Recorder(journal))
    group = ConsumerGroup(
        ConsumerGroupConfig(
            settings.broker_addrs,
            settings.topic,
            settings.group,
            ordering=Ordering(settings.ordering),
            retry=RetryPolicy(max_attempts=0, min_period=0.2, max_period=2.0),
            num_workers=settings.workers,
            message_consume_timeout=settings.session,
            max_retry_period=2.0,
            librdkafka=PROTOCOLS[settings.protocol],
        )
    )
    group.log_errors()
    group.register_handler(RecordingHandler(settings, journal))
    group.start()
    for _ in ticks(0.5, ended):
        if group.channels.closed.is_set():
            journal.write("closed by itself")
            return 2
    stopped = group.stop_and_wait(settings.end_limit / 2)
    left = group.close(timeout=settings.end_limit / 3)
    journal.write("stopped", stopped=stopped, left=left)
    return 0 if stopped and not left else 1


if __name__ == "__main__":
    sys.exit(main())
