"""Dead letters: a wrapper that sends a given-up message to another topic, before it is committed."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from dp_kafka.config import DeadLetter
from dp_kafka.consumer.message import Message
from dp_kafka.consumer.unsettled import Unsettled
from dp_kafka.headers import HeaderValue
from dp_kafka.logs import error_text, log_error, log_event
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
#: The most characters of an exception's text that go along.
_LONGEST_TEXT = 1_000
#: librdkafka reports a message's failure about a second after its time is up, when it looks for such.
_REPORT_SECONDS = 2.0


class _Letter:
    """A message that was given up, on its way to the topic; in one worker's hand at a time."""

    __slots__ = ("attempts", "cause", "failure", "message", "reported", "tries")

    def __init__(self, message: Message, cause: BaseException) -> None:
        self.message = message
        self.cause = cause
        #: How often the handler had the message. `message.attempt` counts on while the letter waits.
        self.attempts = message.attempt
        #: How often the letter was sent in vain.
        self.tries = 0
        #: Set when the broker has answered, or librdkafka in its place.
        self.reported = threading.Event()
        self.failure: BaseException | None = None


class DeadLetters:
    """The middleware of one consumer group; its producer belongs to the group, which closes it.

    Any worker may call it. A message whose dead letter could not be sent carries its letter with it, comes
    again after a pause, and is then not handled but sent.
    """

    def __init__(self, config: DeadLetter, group_name: str, producer: Producer) -> None:
        self._config = config
        self._group = group_name
        self._producer = producer

    def __call__(self, handler: AnyHandler) -> AnyHandler:
        """Wrap a handler."""

        def with_dead_letters(*args: Any) -> None:
            messages = handled_messages(args)
            letters: list[_Letter] = [m._letter for m in messages if m._letter is not None]
            causes = [letter.cause for letter in letters]
            again: list[tuple[Message, float]] = []
            if letters:
                messages = [message for message in messages if message._letter is None]
                args = (*args[:-1], list(messages))
            if messages:
                try:
                    handler(*args)
                except Unsettled as unsettled:
                    causes.append(unsettled.cause)
                    again += unsettled.again
                    letters += [_Letter(message, unsettled.cause) for message in unsettled.failed]
                except BaseException as error:  # noqa: BLE001  # whatever it is, it goes to the topic
                    causes.append(error)
                    letters += [_Letter(message, error) for message in failed_messages(error, messages)]
            again += self._send(letters)
            if again:
                raise Unsettled(causes[-1], again=again, failed=[])

        return with_dead_letters

    def _send(self, letters: list[_Letter]) -> list[tuple[Message, float]]:
        """Send letters, and wait for the broker; the messages of those that it did not take, with pauses."""
        sent = [letter for letter in letters if not self._let_go(letter)]
        for letter in sent:
            self._produce(letter)
        until = time.monotonic() + self._config.timeout + _REPORT_SECONDS
        return [(letter.message, pause) for letter in sent if (pause := self._settle(letter, until))]

    @staticmethod
    def _let_go(letter: _Letter) -> bool:
        """Whether its handler has let the message go: then somebody else may have it by now."""
        released = letter.message.released
        if released:
            log_error(
                logger,
                "failed message was released by its handler, it is no dead letter",
                letter.cause,
                _where(letter.message),
            )
        return released

    def _produce(self, letter: _Letter) -> None:
        message = letter.message
        letter.reported.clear()

        def on_delivery(error: BaseException | None, _message: object) -> None:
            letter.failure = error
            letter.reported.set()

        try:
            # In the message's own context: its trace goes on in the dead letter.
            message.context.run(
                self._producer.send_bytes,
                message.data,
                key=message.key,
                headers=[
                    *(pair for pair in message.headers if not pair[0].startswith(PREFIX)),
                    *self._headers(letter),
                ],
                on_delivery=on_delivery,
                timeout=self._config.timeout,
            )
        except Exception as error:  # noqa: BLE001  # whatever it is, the message must not be lost
            on_delivery(error, None)

    def _settle(self, letter: _Letter, until: float) -> float | None:
        """Wait for what became of a letter; the pause before it is sent again, None if it is delivered."""
        message = letter.message
        fields = {
            **_where(message),
            "dead_letter_topic": self._config.topic,
            "attempts": letter.attempts,
        }
        if not letter.reported.wait(max(0.0, until - time.monotonic())):
            letter.failure = TimeoutError("the broker has not answered in time")
        if letter.failure is None:
            message._letter = None
            log_error(logger, "message given up, it is in the dead letter topic", letter.cause, fields)
            return None
        letter.tries += 1
        message._letter = letter
        pause = get_retry_time(letter.tries, _MIN_PERIOD, _MAX_PERIOD)
        log_event(
            logger,
            logging.ERROR,
            "dead letter not delivered, its message waits",
            {**fields, "error": error_text(letter.failure), "retry_in_seconds": round(pause, 3)},
        )
        return pause

    def _headers(self, letter: _Letter) -> list[tuple[str, HeaderValue]]:
        message, cause = letter.message, letter.cause
        values = (
            message.topic,
            message.partition,
            message.offset,
            "" if message.timestamp is None else message.timestamp,
            self._group,
            letter.attempts,
            f"{type(cause).__module__}.{type(cause).__qualname__}",
            error_text(cause)[:_LONGEST_TEXT],
        )
        # As bytes: an exception's text may hold what UTF-8 cannot encode, and must not stop the letter.
        return [
            (name, str(value).encode("utf-8", "backslashreplace"))
            for name, value in zip(HEADERS, values, strict=True)
        ]


def _where(message: Message) -> dict[str, Any]:
    return {"topic": message.topic, "partition": message.partition, "offset": message.offset}
