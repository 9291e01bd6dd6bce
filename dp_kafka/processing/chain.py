"""The chain of wrappers round a handler: which of them goes round which.

A middleware is a function that takes a handler and gives another one in its place:

    def timed(handler):
        def wrapper(*args):
            started = time.perf_counter()
            try:
                return handler(*args)
            finally:
                durations.append(time.perf_counter() - started)
        return wrapper

    consumer.use(timed)

The arguments are those of the handler: `(worker_id, message)`, or `(batch,)`. What a middleware raises, or
lets through, is the handler's failure; what it swallows is its success.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from dp_kafka.consumer.message import Message
from dp_kafka.errors import BatchError, HandlerRegistrationError

__all__ = ["AnyHandler", "Middleware", "failed_messages", "handled_messages", "wrap"]

#: A handler of single messages or of batches.
AnyHandler: TypeAlias = Callable[..., object]
#: Takes a handler and gives another in its place.
Middleware: TypeAlias = Callable[[AnyHandler], AnyHandler]


def wrap(handler: AnyHandler, middlewares: Sequence[Middleware]) -> AnyHandler:
    """The handler inside its middlewares, the first of them outermost."""
    for middleware in reversed(middlewares):
        wrapped: object = middleware(handler)
        if not callable(wrapped):
            name = getattr(middleware, "__name__", type(middleware).__name__)
            raise HandlerRegistrationError(
                f"a middleware must return a handler, but {name} returned {type(wrapped).__name__}"
            )
        handler = wrapped
    return handler


def handled_messages(args: tuple[Any, ...]) -> list[Message]:
    """The messages that a handler was called with: its batch, or the one message."""
    last = args[-1]
    return list(last) if isinstance(last, list) else [last]


def failed_messages(error: BaseException, messages: list[Message]) -> list[Message]:
    """Those of `messages` that failed with `error`: those that a BatchError names, else all of them.

    Args: `messages` as they were before the handler ran, which may do to its batch what it likes.
    """
    if not isinstance(error, BatchError):
        return messages
    named = {id(message) for message in error.failed}
    return [message for message in messages if id(message) in named]
