"""Avro: events as bytes by a schema, and back.

```python
schema = Schema(definition)
data = schema.marshal(event)
event = schema.unmarshal(data, Order)
```
"""

from dp_kafka.avro.schema import Schema
from dp_kafka.events.errors import SchemaError, UnmarshalError

__all__ = ["Schema", "SchemaError", "UnmarshalError"]
