"""Where a case runs: the broker's addresses, and the topics that were filled for it."""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass

__all__ = ["Place", "TopicSpec"]


@dataclass(frozen=True)
class TopicSpec:
    """A topic to be made, and filled evenly over its partitions; without messages it stays empty."""

    partitions: int
    messages: int = 0
    #: Bytes of each value.
    size: int = 100


@dataclass(frozen=True)
class Place:
    """What the process of a case is told. Travels as JSON."""

    broker_addrs: list[str]
    #: "embedded" or "apache".
    kind: str
    topic: str
    spec: TopicSpec
    pairs: int
    #: Below 1 for a quick look: the number of messages and the seconds of a run are multiplied by it.
    scale: float = 1.0

    def count(self, messages: int) -> int:
        """How many messages a run that has `messages` at full scale handles."""
        return max(100, int(messages * self.scale))

    def seconds(self, seconds: float) -> float:
        """How long a run that takes `seconds` at full scale takes."""
        return max(0.5, seconds * self.scale)

    def new_group(self) -> str:
        """A group that nobody has used yet."""
        return f"bench-{uuid.uuid4().hex[:12]}"

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Place:
        read = json.loads(text)
        return cls(**{**read, "spec": TopicSpec(**read["spec"])})
