"""DRAIN THREADS: several topics are drained at once, each on a thread of its own.

Guarantees: one topic that can't be drained holds up no other; the caller's progress function is called on
the caller's thread; all threads have ended when `drain_topics` returns or raises.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence

from dp_kafka.admin.client import Admin
from dp_kafka.config import checks
from dp_kafka.config.rdkafka import admin_properties
from dp_kafka.drain.config import DrainProgress, DrainResult, DrainTopicConfig, DrainTopicInput
from dp_kafka.drain.topic import TopicDrain
from dp_kafka.errors import ConfigError

__all__ = ["drain_topics"]

#: Topics that are drained at the same time.
_AT_ONCE = 16


def drain_topics(
    config: DrainTopicConfig,
    *inputs: DrainTopicInput,
    progress: Callable[[DrainProgress], object] | None = None,
) -> list[DrainResult]:
    """Commit as consumed what is in the topics now, for their groups; a result for each, in their order.

    What comes after the start is left. Nothing is read or handled: each partition's end is committed. Kafka
    takes such a commit only while the group has no member. So a group with live members is refused, unless
    `live_members` is set: then the drain joins it and commits for the partitions that it is given. A topic
    that could not be drained has an `error` in its result, is logged, and holds up no other.

    The embedded cluster does not tell who is in a group, and takes no commit from outside one that had
    members. There the drain joins to find out, which may take their session timeout; members with
    group.protocol=consumer are not noticed.

    Blocks, until `timeout` at most and a few seconds to let go of the clients. `progress` is called on this
    thread, whenever partitions of a topic are done. An exception of it, or Ctrl-C, ends the drain and is
    raised when all threads have ended; what was committed by then stays committed.

    Raises:
        ConfigError: an argument is none of those, or two are the same.
    """
    _check(config, inputs)
    until = time.monotonic() + config.timeout
    stop = threading.Event()
    properties = admin_properties(config.broker_addrs, config.admin())
    admin = Admin(properties, stop=stop)
    #: The drain threads put how far they are, and the index of a topic that is done; this thread takes.
    events: queue.SimpleQueue[DrainProgress | int] = queue.SimpleQueue()
    results: dict[int, DrainResult] = {}
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    for index in range(len(inputs)):
        todo.put(index)

    def work() -> None:
        while True:
            try:
                index = todo.get_nowait()
            except queue.Empty:
                return
            results[index] = TopicDrain(config, inputs[index], admin, until, stop, events.put).run()
            events.put(index)

    threads = [
        threading.Thread(target=work, name=f"dp-kafka:drain:{each.topic}", daemon=True)
        for each in inputs[:_AT_ONCE]
    ]
    try:
        for thread in threads:
            thread.start()
        left = len(inputs)
        while left:
            # Every topic ends by the deadline, whatever the cluster does, and says so.
            event = events.get()
            if not isinstance(event, DrainProgress):
                left -= 1
            elif progress is not None:
                progress(event)
    finally:
        stop.set()
        for thread in threads:
            if thread.ident is not None:  # where no more threads can be started
                thread.join()
    return [results[index] for index in range(len(inputs))]


def _check(config: DrainTopicConfig, inputs: Sequence[DrainTopicInput]) -> None:
    if not isinstance(config, DrainTopicConfig):
        raise ConfigError(
            f"drain_topics takes a DrainTopicConfig first, but got {type(config).__name__}", field="config"
        )
    for position, each in enumerate(inputs):
        if not isinstance(each, DrainTopicInput):
            raise ConfigError(
                f"drain_topics takes DrainTopicInputs, but got {type(each).__name__}", field="inputs"
            )
        if each in inputs[:position]:
            raise ConfigError(
                f"topic {checks.shown(each.topic)} is named twice for one group", field="inputs"
            )
