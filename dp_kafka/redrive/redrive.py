"""The redrive: read dead letters, send them back, commit what the brokers have acknowledged.

Guarantees: a letter is committed only once its original topic has it, so none is lost, whatever ends the
redrive; one that was sent when it ended may be sent again by the next. Letters that come during the redrive
wait for the next one, so a message that fails again does not go round in circles.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable

from dp_kafka.admin.client import new_admin
from dp_kafka.admin.offsets import GroupOffsets, ends_of, starts_of
from dp_kafka.admin.topics import list_topics
from dp_kafka.errors import ConfigError, KafkaClientError, UnknownTopicError
from dp_kafka.groupmember import GONE_ON
from dp_kafka.logs import log_event
from dp_kafka.reading import GroupReader
from dp_kafka.redrive.config import RedriveConfig, RedriveError, RedriveProgress, RedriveResult
from dp_kafka.redrive.letters import Letter, letter_of
from dp_kafka.redrive.sender import Sender

__all__ = ["redrive"]

logger = logging.getLogger("dp_kafka.redrive")

#: Letters that are sent before the next commit: how many are sent twice at most when the process is killed.
_BATCH = 500


def redrive(
    config: RedriveConfig,
    *,
    progress: Callable[[RedriveProgress], object] | None = None,
    stop: threading.Event | None = None,
) -> RedriveResult:
    """Send the dead letters that are in the topic now back to where they came from; blocks until it is done.

    Key, value and headers are those of the original message, without what the dead letter told; it goes to
    the partition that it came from. The progress is committed for `group_name`, so the next redrive goes on
    there; two at a time share the partitions. Order is kept within a partition of the dead letter topic.

    `progress` is called on this thread after each batch. Setting `stop` ends it after the batch in hand,
    whose progress is committed. Ctrl-C, too, loses nothing, but may send a batch again next time.

    Raises:
        RedriveError: a letter can't go back, or its topic did not take it. Its `result` tells what was done.
        ConfigError: `config` is no RedriveConfig.
        UnknownTopicError: the dead letter topic is not there.
        KafkaClientError: the cluster cannot be asked, or refuses the group.
    """
    if not isinstance(config, RedriveConfig):
        raise ConfigError(f"redrive takes a RedriveConfig, but got {type(config).__name__}", field="config")
    return _Redrive(config, progress or (lambda _: None), stop or threading.Event()).run()


class _Redrive:
    """One redrive, on one thread."""

    def __init__(
        self, config: RedriveConfig, progress: Callable[[RedriveProgress], object], stop: threading.Event
    ) -> None:
        self._config = config
        self._progress = progress
        self._stop = stop
        self._started = time.monotonic()
        self._by_topic: Counter[str] = Counter()
        self._skipped = 0
        #: Where the group stands, by partition, and where it shall.
        self._stands: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        self._total = 0

    def run(self) -> RedriveResult:
        partitions = self._look()
        with Sender(self._config, partitions) as sender:
            if self._left():
                with GroupReader(self._config.member(), self._stop, self._ends) as reader:
                    self._read(reader, sender)
        result = self._result()
        fields = {
            "topic": result.topic,
            "count": result.count,
            "skipped": result.skipped,
            "left": result.left,
        }
        log_event(logger, logging.INFO, "dead letters redriven", fields)
        return result

    def _look(self) -> dict[str, int]:
        """Take the ends, and where the group stands; how many partitions each topic of the cluster has."""
        topic, addresses = self._config.topic, self._config.broker_addrs
        admin = new_admin(addresses, self._config.admin())
        there = {each.name: len(each.partitions) for each in list_topics(admin, timeout=self._config.timeout)}
        if topic not in there:
            raise UnknownTopicError(f"there is no topic {topic!r} on this cluster", log_data={"topic": topic})
        partitions = [(topic, number) for number in range(there[topic])]
        ends, starts = ends_of(admin, partitions), starts_of(admin, partitions)
        with GroupOffsets(
            self._config.broker_addrs, self._config.group_name, self._config.admin()
        ) as offsets:
            committed = offsets.committed(partitions)
        for each in partitions:
            self._ends[each[1]] = ends[each]
            self._stands[each[1]] = min(max(committed.get(each, 0), starts[each]), ends[each])
        self._total = self._left()
        if self._config.limit is not None:
            self._total = min(self._total, self._config.limit)
        return there

    def _read(self, reader: GroupReader, sender: Sender) -> None:
        if not reader.join(time.monotonic() + self._config.timeout):
            if self._stop.is_set():
                return
            raise self._error(f"the group gave no assignment within {self._config.timeout:g} s")
        while not reader.finished and not self._stop.is_set():
            most = min(_BATCH, self._total - self._done) if self._config.limit is not None else _BATCH
            if most <= 0:
                return
            records = reader.take(most, time.monotonic() + self._config.timeout)
            letters = [letter_of(record) for record in records]
            if not letters:
                if reader.finished or self._stop.is_set():
                    return
                raise self._error(f"no letter came within {self._config.timeout:g} s")
            self._send(letters, reader, sender)
            self._progress(RedriveProgress(self._done, self._total))

    def _send(self, letters: list[Letter], reader: GroupReader, sender: Sender) -> None:
        """Send a batch, and commit each partition up to the first letter that did not go back."""
        failures: dict[int, str] = {}
        going: list[Letter] = []
        for letter in letters:
            why_not = sender.why_not(letter)
            if why_not and not self._config.skip_unknown:
                failures.setdefault(letter.partition, f"offset {letter.offset} can't go back: {why_not}")
            if not why_not and letter.partition not in failures:
                going.append(letter)
        outcomes = {id(letter): error for letter, error in zip(going, sender.send(going), strict=True)}
        offsets: dict[int, int] = {}
        stopped: dict[int, str] = {}
        for letter in letters:
            error = outcomes.get(id(letter))
            if letter.partition in stopped:
                continue
            if error is not None:
                stopped[letter.partition] = f"offset {letter.offset} was not sent back: {error}"
            elif id(letter) in outcomes:
                self._by_topic[letter.original_topic] += 1
                offsets[letter.partition] = letter.offset + 1
            elif self._config.skip_unknown:
                self._skipped += 1
                offsets[letter.partition] = letter.offset + 1
            else:
                stopped[letter.partition] = failures[letter.partition]
        self._commit(offsets, reader)
        if stopped:
            number, why = next(iter(stopped.items()))
            raise self._error(f"partition {number}, {why}")

    def _commit(self, offsets: dict[int, int], reader: GroupReader) -> None:
        if not offsets:
            return
        try:
            reader.commit(offsets, time.monotonic() + self._config.timeout)
        except KafkaClientError as error:
            # Between reading and committing: another redrive has the partition now.
            if error.name not in GONE_ON:
                raise self._error(f"the progress could not be committed: {error}") from error
            fields = {"topic": self._config.topic, "partitions": sorted(offsets), "error": str(error)}
            log_event(logger, logging.WARNING, "progress not committed, letters may go back twice", fields)
        else:
            self._stands |= offsets

    @property
    def _done(self) -> int:
        return sum(self._by_topic.values()) + self._skipped

    def _left(self) -> int:
        return sum(end - self._stands[number] for number, end in self._ends.items())

    def _result(self) -> RedriveResult:
        return RedriveResult(
            self._config.topic,
            self._config.group_name,
            dict(self._by_topic),
            self._skipped,
            self._left(),
            time.monotonic() - self._started,
        )

    def _error(self, why: str) -> RedriveError:
        result = self._result()
        data = {"topic": self._config.topic, "group": self._config.group_name, "count": result.count}
        return RedriveError(
            f"redrive of topic {self._config.topic!r} ended: {why}", result=result, log_data=data
        )
