"""Dead letters: a wrapper that sends a given-up message to another topic, before it is committed."""

from __future__ import annotations

import logging
import threading
from typing import Any

from dp_kafka.config import DeadLetter
from dp_kafka.consumer.message import Message
from dp_kafka.consumer.unsettled import Unsettled
from dp_kafka.headers import HeaderValue
from dp_kafka.logs import log_error, log_event
from dp_kafka.processing.chain import AnyHandler, failed_messages, handled_messages
from dp_kafka.producer.producer import Producer
from dp_kafka.retry import get_retry_time

__all__ = ["HEADERS", "PREFIX", "DeadLetters"]

logger = logging.getLogger("dp_kafka.consumer")

#: What the headers that a dead letter has beside the message's own begin with.
PREFIX = "dead-letter."
#: Those headers; all values are text.
HEADERS = tuple(
    PREFIX + name
    for name in (
        "topic",
        "partition",
        "offset",
        "timestamp",
        "group",
        "attempts",
        "exception.type",
        "exception.message",
    )
)
#: Seconds between attempts to send a dead letter that the broker does not take.
_MIN_PERIOD, _MAX_PERIOD = 1.0, 32.0


class DeadLetters:
    """The middleware of one consumer group; its producer belongs to the group, which closes it.

    Any worker may call it. A message whose dead letter could not be sent carries with it why its handler
    failed and how often the sending was tried; it is in one worker's hand at a time.
    """

    def __init__(self, config: DeadLetter, group_name: str, producer: Producer) -> None:
        self._config = config
        self._group = group_name
        self._producer = producer

    def __call__(self, handler: AnyHandler) -> AnyHandler:
        """Wrap a handler."""

        def with_dead_letters(*args: Any) -> object:
            # A message whose dead letter could not be sent is here for that alone: its handler is done.
            waiting = [message for message in handled_messages(args) if message.given_up is not None]
            again: list[tuple[Message, float]] = []
            failed: list[Message] = []
            cause: BaseException | None = None
            for message in waiting:
                cause = message.given_up[0] if message.given_up else cause
                again += self._send(message, cause) if cause else []
            if waiting:
                rest = [m for m in handled_messages(args) if m not in waiting]
                if not rest:
                    return self._settle(cause, again, failed)
                args = (*args[:-1], rest)
            try:
                handler(*args)
            except Unsettled as unsettled:
                cause = unsettled.cause
                again += unsettled.again
                for message in unsettled.failed:
                    again += self._send(message, cause)
            except Exception as error:  # noqa: BLE001  # whatever it is, it goes to the topic
                cause = error
                for message in failed_messages(error, args):
                    again += self._send(message, error)
            return self._settle(cause, again, failed)

        return with_dead_letters

    @staticmethod
    def _settle(
        cause: BaseException | None, again: list[tuple[Message, float]], failed: list[Message]
    ) -> None:
        if again and cause is not None:
            raise Unsettled(cause, again=again, failed=failed) from cause

    def _send(self, message: Message, cause: BaseException) -> list[tuple[Message, float]]:
        """Send a dead letter and wait for the broker; if it does not take it, the message comes again."""
        if message.released:
            log_error(logger, "failed message was released by its handler, it is no dead letter", cause)
            return []
        reported = threading.Event()
        outcome: list[BaseException | None] = []

        def on_delivery(error: BaseException | None, _message: Any) -> None:
            outcome.append(error)
            reported.set()

        failure: BaseException | None
        try:
            self._producer.send_bytes(
                message.data,
                key=message.key,
                headers=[
                    *(pair for pair in message.headers if not pair[0].startswith(PREFIX)),
                    *self._headers(message, cause),
                ],
                on_delivery=on_delivery,
                timeout=self._config.timeout,
            )
        except Exception as error:  # noqa: BLE001  # whatever it is, the message must not be lost
            failure = error
        else:
            if not reported.wait(self._config.timeout):
                failure = TimeoutError(f"not acknowledged within {self._config.timeout} s")
            else:
                failure = outcome[0]
        fields = {
            "topic": message.topic,
            "partition": message.partition,
            "offset": message.offset,
            "dead_letter_topic": self._config.topic,
            "attempts": message.attempt,
        }
        if failure is None:
            message.given_up = None
            log_error(logger, "message given up, it is in the dead letter topic", cause, fields)
            return []
        tries = 1 if message.given_up is None else message.given_up[1] + 1
        message.given_up = (cause, tries)
        pause = get_retry_time(tries, _MIN_PERIOD, _MAX_PERIOD)
        log_event(
            logger,
            logging.ERROR,
            "dead letter not delivered, its partition waits",
            {**fields, "error": str(failure), "retry_in_seconds": round(pause, 3)},
        )
        return [(message, pause)]

    def _headers(self, message: Message, cause: BaseException) -> list[tuple[str, HeaderValue]]:
        values = (
            message.topic,
            message.partition,
            message.offset,
            "" if message.timestamp is None else message.timestamp,
            self._group,
            message.attempt,
            f"{type(cause).__module__}.{type(cause).__qualname__}",
            cause,
        )
        return [(name, str(value)) for name, value in zip(HEADERS, values, strict=True)]
