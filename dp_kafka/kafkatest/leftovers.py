"""What a test leaves behind: threads of the library that still run, messages that are not committed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

from confluent_kafka import Consumer, TopicPartition

__all__ = ["PREFIX", "library_threads", "threads_left", "uncommitted"]

#: How the names of all threads of the library begin.
PREFIX = "dp-kafka:"


def library_threads() -> set[threading.Thread]:
    """The threads of the library that run now."""
    return {thread for thread in threading.enumerate() if thread.name.startswith(PREFIX)}


def threads_left(before: Iterable[threading.Thread], patience: float) -> list[str]:
    """The names of the library's threads that were not there `before`, and don't end in `patience` seconds.

    Some threads end by themselves a moment after `close()` has returned.
    """
    until = time.monotonic() + patience
    new = library_threads().difference(before)
    for thread in new:
        thread.join(max(0.0, until - time.monotonic()))
    return sorted(thread.name for thread in new if thread.is_alive())


def uncommitted(bootstrap_servers: str, group: str, topic: str, patience: float = 10.0) -> dict[int, int]:
    """How many messages of each partition of a topic a group has not committed; those of 0 left out.

    Asks a cluster with a client that joins no group; it blocks for at most `patience` seconds a request.
    """
    client = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": group, "log_level": 0})
    try:
        numbers = client.list_topics(topic, timeout=patience).topics[topic].partitions
        asked = [TopicPartition(topic, number) for number in numbers]
        left = {}
        for partition in client.committed(asked, timeout=patience):
            first, end = client.get_watermark_offsets(partition, timeout=patience)
            left[partition.partition] = end - max(first, partition.offset)
    finally:
        client.close()
    return {number: count for number, count in sorted(left.items()) if count}
