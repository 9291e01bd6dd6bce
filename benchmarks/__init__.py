"""Benchmarks: this library and plain confluent-kafka doing the same job, alternately, on the same broker.

``make bench`` runs them on the embedded broker, ``make bench-kafka`` on Apache Kafka; the rest is told by
``python -m benchmarks --help``. The way of one run:

- `__main__` starts a broker and runs each case in a process of its own (`child`), so that none inherits the
  threads and the garbage of another;
- a case (`cases`) has two sides, ours and theirs, and measures them in pairs (`pairs`): ours, theirs, theirs,
  ours, … Only what was measured within one pair is compared, as the machine is never quiet for long;
- the plain side has librdkafka's settings from the same configuration object as ours.
"""
