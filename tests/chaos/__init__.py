"""The chaos suite: traffic on three Apache Kafka brokers while brokers and consumers are killed or stalled.

``make chaos`` runs it: `run` plays the traffic and the faults, everybody writes a journal, and `verdict`,
which needs nothing but the journals, says whether the library kept its promises.
"""
