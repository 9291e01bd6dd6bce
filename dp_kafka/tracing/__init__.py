"""Tracing with OpenTelemetry: spans of what is sent and received, and the context that goes with a message.

Nothing here imports the SDK: what spans become is up to the tracer provider that the application sets. And
nothing here is imported unless a configuration has `otel_enabled=True`. The spans of handlers are made by
`dp_kafka.processing.tracing`.
"""
