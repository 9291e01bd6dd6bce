"""The same two jobs in the clients that a user might pick instead; they live in an environment of their own.

Each module here has `produce(place, messages)` and `consume(place, messages)`. They are imported only in the
process of a case, by the interpreter of that environment (the extra `peers`).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

from benchmarks import consuming, producing
from benchmarks.cases import Case
from benchmarks.pairs import Bar, Result
from benchmarks.place import Place, TopicSpec

__all__ = ["PEER_CASES", "cases"]

#: Module and name of each peer, and how many messages a run has: the slow ones get fewer.
_PEERS = (
    ("ours", "dp_kafka", 50_000),
    ("quix", "Quix Streams", 20_000),
    ("faststream", "FastStream (confluent)", 5_000),
    ("aiokafka", "aiokafka", 10_000),
    ("kafka_python", "kafka-python", 10_000),
)
_FILLED = TopicSpec(partitions=12, messages=50_000)
_EMPTY = TopicSpec(partitions=12)
_RATE = (Bar("rate", "ratio", None, "msg/s"),)


def _peer(module: str, job: str, messages: int) -> Callable[[Place], Result]:
    def run(place: Place) -> Result:
        peer = importlib.import_module(f"benchmarks.peers.{module}_peer")
        result: Result = getattr(peer, job)(place, place.count(messages))
        return result

    return run


def cases() -> list[Case]:
    """A producing and a consuming case for each peer, against plain confluent-kafka in the same process."""
    return [
        Case(
            f"peer-{module}-{job}",
            f"{title}: {what}",
            "plain confluent-kafka",
            spec,
            _RATE,
            _peer(module, job, messages),
            plain,
            most_pairs=3,
        )
        for job, what, spec, plain in (
            ("produce", "send, each message reported", _EMPTY, producing.plain_send),
            ("consume", "handle and commit", _FILLED, lambda place: consuming.plain(place, 50_000)),
        )
        for module, title, messages in _PEERS
    ]


PEER_CASES = cases()
