"""Where a new assignment starts: at the committed offsets, without what is finished beyond. POLL THREAD.

Left to itself, librdkafka asks for the committed offsets once it has an assignment. When that is refused, as
the coordinator has just moved, say, it does not ask again, and the partition stands still until the next
rebalance. So an assignment is made with its offsets, and here they are asked for until they are known.

Where nothing is committed yet and the group starts at the end, the end is looked up, and committed. Else what
came, but was not committed before the next rebalance, would be passed over: the end is further on by then.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from confluent_kafka import OFFSET_END, KafkaError, KafkaException, TopicPartition

from dp_kafka.consumer.commits import RETRY_SECONDS
from dp_kafka.consumer.metadata import decode
from dp_kafka.errors import KafkaClientError
from dp_kafka.logs import log_event

__all__ = ["Start", "read_starts"]

logger = logging.getLogger("dp_kafka.consumer")

#: How long one question may take.
ANSWER_SECONDS = 5.0
#: How long it is asked again. No coordinator for so long costs the membership anyway; a new session follows.
PATIENCE_SECONDS = 60.0


class Start(NamedTuple):
    """Where one partition starts."""

    partition: TopicPartition  #: with the offset of the first message to fetch
    finished: list[int]  #: offsets beyond it that an earlier assignment has finished
    committed: bool = True  #: whether the group has the offset; else it is to be committed


def read_starts(
    client: Any,
    partitions: list[TopicPartition],
    *,
    initial: int,
    wait: Callable[[float], bool],
    fields: Mapping[str, Any],
) -> list[Start] | None:
    """Ask the coordinator for the committed offsets until it answers.

    Args:
        client: the consumer, in a callback for an assignment.
        partitions: what was assigned.
        initial: where a partition starts that has no committed offset.
        wait: called with seconds to wait before the next try; False when nobody wants to know any more.
        fields: for the log.

    Returns:
        None if `wait` said that nobody wants to know.

    Raises:
        KafkaClientError: no answer for a minute, or one that no further try changes.
    """
    patience = time.monotonic() + PATIENCE_SECONDS
    while partitions:
        error: KafkaError | None
        try:
            found = client.committed(partitions, timeout=ANSWER_SECONDS)
        except KafkaException as exception:
            error = exception.args[0]
        else:
            error = next((each.error for each in found if each.error is not None), None)
            if error is None:
                return _at_the_end(client, [_start(each, initial) for each in found])
        assert error is not None
        failure = KafkaClientError.from_kafka_error(error)
        if failure.permanent or time.monotonic() >= patience:
            raise failure
        log_event(
            logger,
            logging.WARNING,
            "committed offsets not read, it is tried again",
            {**fields, "error": error.str(), "code": error.code(), "name": error.name()},
        )
        if not wait(RETRY_SECONDS):
            return None
    return []


def _start(committed: TopicPartition, initial: int) -> Start:
    topic, number, offset = committed.topic, committed.partition, committed.offset
    if offset < 0:
        return Start(TopicPartition(topic, number, initial), [])
    # The epoch of the leader, where it was committed, lets librdkafka notice a log that was cut off.
    epoch: dict[str, Any] = {} if committed.leader_epoch is None else {"leader_epoch": committed.leader_epoch}
    return Start(TopicPartition(topic, number, offset, **epoch), decode(offset, committed.metadata))


def _at_the_end(client: Any, starts: list[Start]) -> list[Start]:
    """With the offsets of those that start at the end; without an answer librdkafka looks it up by itself."""
    wanted = [start.partition for start in starts if start.partition.offset == OFFSET_END]
    if not wanted:
        return starts
    try:
        answers = client.offsets_for_times(wanted, timeout=ANSWER_SECONDS)
    except KafkaException:
        return starts
    ends = {each.partition: each.offset for each in answers if each.error is None and each.offset >= 0}
    return [_from_end(start, ends.get(start.partition.partition)) for start in starts]


def _from_end(start: Start, end: int | None) -> Start:
    if end is None:
        return start
    partition = TopicPartition(start.partition.topic, start.partition.partition, end)
    return Start(partition, [], committed=False)
