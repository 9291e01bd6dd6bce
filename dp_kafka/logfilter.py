"""TraceIdFilter: puts the trace id of the current context on log records."""

from __future__ import annotations

import logging

from dp_kafka.headers import current_trace_id

__all__ = ["TraceIdFilter"]


class TraceIdFilter(logging.Filter):
    """Gives every log record the attribute `trace_id`: that of the message being handled, else "".

    It looks where the record is made: on the thread of the handler, or within `use_trace_id` or
    `message.context`. So add it to logging handlers (a logger's filters do not see what its children log),
    and where records go through a `logging.handlers.QueueHandler`, to that one. A record that has a
    `trace_id` keeps it. It lets every record through, never blocks, and any thread may call it.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Set `record.trace_id`; always True."""
        if not hasattr(record, "trace_id"):
            record.trace_id = current_trace_id() or ""
        return True
