"""How a wrapper round the handler tells its worker that messages are to be tried again."""

from __future__ import annotations

from dp_kafka.consumer.message import Message

__all__ = ["Unsettled"]


class Unsettled(Exception):  # not an error of its own: what became of a failure
    """Raised by a wrapper: some messages are handed out again later, others have failed for good.

    `again`: messages with the seconds after which each is handed out again. `failed`: those that have
    failed with `cause` for good, and are committed or not as `cause` says. All others have succeeded.
    """

    def __init__(
        self, cause: BaseException, *, again: list[tuple[Message, float]], failed: list[Message]
    ) -> None:
        super().__init__()
        self.cause = cause
        self.again = again
        self.failed = failed
