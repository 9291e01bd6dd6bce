"""What the Kafka client of a consumer group says is wrong: kept, reported, logged. POLL THREAD."""

from __future__ import annotations

import logging
from typing import Any

from confluent_kafka import KafkaError

from dp_kafka.consumer.context import GroupContext
from dp_kafka.errors import KafkaClientError
from dp_kafka.kafkaerror import KafkaErrorLike
from dp_kafka.logs import log_event

__all__ = ["ClientErrors"]

logger = logging.getLogger("dp_kafka.consumer")

#: What librdkafka tells once, and not again while it is so.
_TOLD_ONCE = frozenset({"GROUP_AUTHORIZATION_FAILED", "TOPIC_AUTHORIZATION_FAILED"})


class ClientErrors:
    """Takes the errors of one group's clients, from a callback or in a message's place."""

    def __init__(self, context: GroupContext) -> None:
        self._context = context
        #: Whether no broker can be reached, as far as the client has said.
        self.all_down = False
        #: How many errors it has told of, and the last of them.
        self.errors = 0
        self.last_error: KafkaClientError | None = None
        #: What ends the session under way: the client does nothing any more.
        self.fatal: KafkaErrorLike | None = None

    def take(self, error: KafkaErrorLike) -> None:
        """Take one error."""
        self.errors += 1
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self.all_down = True
        # As an event of the consumer it comes with the bare code, and is_fatal() is not set.
        if error.fatal() or error.code() == KafkaError._FATAL:
            self.fatal = error
        translated = self.last_error = KafkaClientError.from_kafka_error(error)
        self._context.trouble.note(translated, lasting=error.name() in _TOLD_ONCE)
        self._context.report(translated)
        level = logging.ERROR if translated.permanent else logging.WARNING
        fields = {"error": str(translated), "code": error.code(), "name": error.name()}
        log_event(logger, level, "kafka client error", {**self._context.fields, **fields})

    def poll(self, client: Any) -> None:
        """Serve the client's callbacks where no message can come; an error can, and is told only once."""
        raw = client.poll(0)
        if raw is not None and (error := raw.error()) is not None:
            self.take(error)
