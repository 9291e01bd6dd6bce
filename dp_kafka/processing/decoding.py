"""Decoding: a wrapper that decodes messages before the handler sees them; what it can't decode has failed."""

from __future__ import annotations

from typing import Any

from dp_kafka.consumer.message import Message
from dp_kafka.errors import BatchError
from dp_kafka.events.errors import UnmarshalError
from dp_kafka.processing.chain import AnyHandler

__all__ = ["UndecodedError", "decoding"]


class UndecodedError(BatchError, UnmarshalError):
    """Raised when messages of a batch cannot be decoded; its cause says what was wrong with the first."""


def decoding(handler: AnyHandler) -> AnyHandler:
    """Wrap a handler so that `message.event` is there when it is called; the innermost of all wrappers.

    A message that can't be decoded never reaches the handler. Of a batch the others do, and only those that
    can't be decoded fail, beside those that the handler itself fails.
    """

    def decoded(*args: Any) -> object:
        last = args[-1]
        if not isinstance(last, list):
            _ = last.event
            return handler(*args)
        undecoded, cause = _undecoded(last)
        if cause is None:
            return handler(last)
        ids = {id(message) for message in undecoded}
        rest = [message for message in last if id(message) not in ids]
        if rest:
            try:
                handler(rest)
            except BatchError as error:
                raise BatchError((*error.failed, *undecoded), str(error)) from error
        kind = UndecodedError if isinstance(cause, UnmarshalError) else BatchError
        raise kind(
            undecoded, f"{len(undecoded)} of {len(last)} messages could not be decoded, the first: {cause}"
        ) from cause

    return decoded


def _undecoded(batch: list[Message]) -> tuple[list[Message], BaseException | None]:
    """The messages that can't be decoded, and why the first of them can't."""
    undecoded: list[Message] = []
    cause: BaseException | None = None
    for message in batch:
        try:
            _ = message.event
        except BaseException as error:  # noqa: BLE001  # whatever a codec raises is this message's failure
            undecoded.append(message)
            cause = cause or error
    return undecoded, cause
