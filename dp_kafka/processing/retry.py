"""Retry: a wrapper that has a failed message handed out again, as a RetryPolicy says."""

from __future__ import annotations

import logging
import random as _random
from collections.abc import Callable

from dp_kafka.config import RetryPolicy
from dp_kafka.consumer.message import Message
from dp_kafka.consumer.unsettled import Unsettled
from dp_kafka.logs import error_text, log_event
from dp_kafka.processing.chain import AnyHandler, Middleware, failed_messages, handled_messages
from dp_kafka.retry import get_retry_time

__all__ = ["retrying"]

logger = logging.getLogger("dp_kafka.consumer")


def retrying(policy: RetryPolicy, *, random: Callable[[], float] = _random.random) -> Middleware:
    """A middleware that retries as `policy` says; `random` gives numbers from 0 up to 1, for the jitter."""

    def middleware(handler: AnyHandler) -> AnyHandler:
        def retried(*args: object) -> object:
            messages = handled_messages(args)
            try:
                return handler(*args)
            except Unsettled:
                raise
            except BaseException as error:
                again: list[tuple[Message, float]] = []
                failed: list[Message] = []
                for message in failed_messages(error, messages):
                    # What the handler let go itself can't be taken back: the next message is under way.
                    if message.released or not policy.retries(error, message.attempt):
                        failed.append(message)
                        continue
                    pause = get_retry_time(
                        message.attempt, policy.min_period, policy.max_period, random=random
                    )
                    again.append((message, pause))
                    _log(error, message, pause)
                if not again:
                    raise
                raise Unsettled(error, again=again, failed=failed) from error

        return retried

    return middleware


def _log(error: BaseException, message: Message, pause: float) -> None:
    log_event(
        logger,
        logging.WARNING,
        "handler failed, the message is tried again",
        {
            "topic": message.topic,
            "partition": message.partition,
            "offset": message.offset,
            "attempt": message.attempt,
            "retry_in_seconds": round(pause, 3),
            "error": error_text(error),
            "error_type": type(error).__name__,
        },
    )
