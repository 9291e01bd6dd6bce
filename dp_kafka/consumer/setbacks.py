"""Offsets that go back within one assignment: the partition begins again with a new lane. POLL THREAD.

That happens when the topic was deleted and made again, when a leader was elected that had not all of the log,
and when the broker says that an offset is out of range. What comes then may be new messages at the offsets of
old ones. In the books of the old lane they would count as finished: never handled again, or never committed.

    30 messages handled, committed 30 -> the topic is made again -> its offsets 0, 1, 2 come

So the old lane is dropped, and commits of what is in hand are refused: they name offsets of the old log. No
message is passed over. Where something before the first that came is unfinished, it is fetched once more.
"""

from __future__ import annotations

import logging
from typing import Any

from confluent_kafka import TopicPartition

from dp_kafka.consumer.lane import Lane
from dp_kafka.consumer.message import RawMessage
from dp_kafka.consumer.rebalances import Rebalances
from dp_kafka.consumer.session import Session
from dp_kafka.logs import log_event

__all__ = ["begin_again"]

logger = logging.getLogger("dp_kafka.consumer")


def begin_again(
    client: Any, session: Session, rebalances: Rebalances, lane: Lane, raws: list[RawMessage]
) -> None:
    """Replace a lane that got offsets at or before the last one; `raws` are the messages from there on."""
    found = raws[0].offset()
    unfinished, finished = lane.unfinished()
    fields = {"topic": lane.topic, "partition": lane.partition, "offset": found, "in_hand": lane.in_hand}
    log_event(logger, logging.WARNING, "offsets went back: the partition begins again there", fields)
    rebalances.drop([lane])
    new = session.open_lane(lane.topic, lane.partition)
    new.paused = lane.paused
    if unfinished is None or found <= unfinished:
        back = new.add(raws)
        if back:
            begin_again(client, session, rebalances, new, back)
        return
    # What was finished from `found` on says nothing of what is there now.
    new.start_at(unfinished, (offset for offset in finished if offset < found))
    client.seek(TopicPartition(lane.topic, lane.partition, unfinished))
