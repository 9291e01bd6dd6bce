"""Draining topics: what a group has not consumed yet is committed as consumed, without handling it.

```python
results = drain_topics(
    DrainTopicConfig(["localhost:9092"], timeout=30),
    DrainTopicInput("content-published", "importer"),
)
```
"""

from dp_kafka.drain.config import DrainProgress, DrainResult, DrainTopicConfig, DrainTopicInput
from dp_kafka.drain.drain import drain_topics
from dp_kafka.errors import DrainError

__all__ = [
    "DrainError",
    "DrainProgress",
    "DrainResult",
    "DrainTopicConfig",
    "DrainTopicInput",
    "drain_topics",
]
