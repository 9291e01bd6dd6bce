"""Log lines as events with fields: readable as text, and whole for a structured formatter."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dp_kafka.errors import stack_trace, unwrap_log_data

__all__ = ["error_text", "log_error", "log_event", "log_still_running", "thread_stack"]


def log_event(
    logger: logging.Logger,
    level: int,
    event: str,
    fields: Mapping[str, Any],
    *,
    exc_info: BaseException | None = None,
    stack: traceback.StackSummary | None = None,
) -> None:
    """Log `event` with its fields as `key=value`; the mapping itself is the record's `dp_kafka` attribute.

    `stack` is that of another thread: it follows in the text, and is the field `stack_trace`.
    """
    if not logger.isEnabledFor(level):
        return
    text = _fields(fields)
    more: dict[str, Any] = {}
    if stack is not None:
        text += "\n" + "".join(stack.format())
        more["stack_trace"] = [
            {"file": call.filename, "function": call.name, "line": call.lineno} for call in stack
        ]
    _emit(logger, level, event, text, {"event": event, **fields, **more}, exc_info)


def log_error(
    logger: logging.Logger, event: str, error: BaseException, fields: Mapping[str, Any] | None = None
) -> None:
    """Log an exception at ERROR with its merged log data, its stack, and `fields`."""
    merged: dict[str, Any] = {
        "error": error_text(error),
        "error_type": type(error).__name__,
        **unwrap_log_data(error),
        **(fields or {}),
    }
    if not logger.isEnabledFor(logging.ERROR):
        return
    said = {"event": event, **merged, "stack_trace": stack_trace(error)}
    _emit(logger, logging.ERROR, event, _fields(merged), said, error)


def _emit(
    logger: logging.Logger,
    level: int,
    event: str,
    text: str,
    fields: Mapping[str, Any],
    exc_info: BaseException | None,
) -> None:
    try:
        logger.log(
            level,
            "%s %s" if text else "%s%s",
            event,
            text,
            extra={"dp_kafka": fields},
            exc_info=exc_info,
            stacklevel=3,
        )
    except Exception:  # noqa: BLE001  # user code
        # A filter that fails, or a handler: as with logging's own handlers it must end nobody who logs.
        if logging.raiseExceptions:
            with contextlib.suppress(Exception):
                traceback.print_exc()


def log_still_running(
    logger: logging.Logger, threads: Iterable[threading.Thread], fields: Mapping[str, Any]
) -> None:
    """Log at ERROR what each of these threads, which should have ended, is doing."""
    for thread in threads:
        stack = thread_stack(thread.ident)
        if stack is not None:
            log_event(logger, logging.ERROR, "still running", {**fields, "thread": thread.name}, stack=stack)


def thread_stack(ident: int | None) -> traceback.StackSummary | None:
    """Where the thread of this `ident` is; None if it has ended."""
    frame = sys._current_frames().get(ident or 0)
    return None if frame is None else traceback.extract_stack(frame)


def error_text(error: BaseException) -> str:
    """The text of an exception, whatever its class; never raises."""
    return _text(str, error)


def _fields(fields: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={_text(repr, value)}" for key, value in fields.items())


def _text(form: Callable[[object], str], value: object) -> str:
    """`str` or `repr` of what users raise and give to be logged: their failure must not end our threads."""
    try:
        return form(value)
    except Exception as error:  # noqa: BLE001  # user code
        return f"<{type(value).__name__}, whose {form.__name__}() raised {type(error).__name__}>"
