"""Redriving: dead letters are sent back to the topics that they came from.

```python
result = redrive(RedriveConfig(["localhost:9092"], "content-published-dead-letters"))
```
"""

from dp_kafka.redrive.config import RedriveConfig, RedriveError, RedriveProgress, RedriveResult
from dp_kafka.redrive.redrive import redrive

__all__ = ["RedriveConfig", "RedriveError", "RedriveProgress", "RedriveResult", "redrive"]
