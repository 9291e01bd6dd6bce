"""The topic lookup of a health check: one client of its own, made at the first check and kept until close.

The clients that are checked can't do it: a consumer's client belongs to its poll thread, and a producer's
would create the topic that it asks for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from confluent_kafka import KafkaError, KafkaException

from dp_kafka import forks
from dp_kafka.errors import PERMANENT_ERROR_NAMES, ClosedError

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

__all__ = ["Found", "Lookup", "TopicLookup"]

#: Answers that mean no more than that the topic isn't there.
_NOT_THERE = frozenset({"UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC"})
#: No answer at all.
_SILENCE = frozenset({"_TRANSPORT", "_TIMED_OUT"})
#: What librdkafka says through its error callback while the lookup itself just gets no answer.
_TO_PUT_RIGHT = PERMANENT_ERROR_NAMES | {"_SSL"}


class Found(NamedTuple):
    """Whether the topic is there, with at least one partition; and what kept the lookup from finding it."""

    has_topic: bool
    cause: str = ""


class Lookup(Protocol):
    """What a broker check asks for its topic; the test kit has its own."""

    def __call__(self, timeout: float) -> Found:
        """Look the topic up, within `timeout` seconds; raises ClosedError once closed."""
        ...

    def close(self) -> None:
        """Let the client go."""
        ...


def _admin_client(properties: dict[str, Any]) -> AdminClient:
    # Imported by the first check: it takes as long as the rest of the library.
    from confluent_kafka.admin import AdminClient

    return AdminClient(properties)


class TopicLookup:
    """Looks one topic up, without creating it. Any thread; several may at the same time."""

    def __init__(
        self,
        properties: Mapping[str, Any],
        topic: str,
        client_factory: Callable[[dict[str, Any]], AdminClient] | None = None,
    ) -> None:
        self._properties = {**properties, "error_cb": self._on_error}
        self._topic = topic
        self._factory = client_factory or _admin_client
        #: Guards the client, which is made once, and `_closed`.
        self._lock = threading.Lock()
        self._client: AdminClient | None = None
        self._closed = False
        #: The last error that somebody has to put right. It is the client's, so all lookups share it.
        self._trouble = ""
        forks.track(self, TopicLookup._after_fork)

    def _after_fork(self) -> None:
        """Begin afresh, in a forked child: the client is the parent's."""
        forks.keep(self._client)
        self._client = None
        self._lock = threading.Lock()

    def __call__(self, timeout: float) -> Found:
        """Ask the cluster once, waiting at most `timeout` seconds for its answer.

        Raises:
            ClosedError: after `close`.
        """
        until = time.monotonic() + timeout
        client = self._the_client()
        self._trouble = ""
        try:
            answer = client.list_topics(topic=self._topic, timeout=max(0.0, until - time.monotonic()))
        except KafkaException as error:
            # Serves the error callback, which knows more than a time-out.
            client.poll(0)
            return Found(False, self._trouble or _cause(error.args[0]))
        client.poll(0)
        found = answer.topics.get(self._topic)
        if found is None:
            return Found(False)
        if found.error is not None:
            return Found(False, _cause(found.error))
        return Found(bool(found.partitions))

    def _the_client(self) -> AdminClient:
        client = self._client
        if client is None:
            # Outside the lock, as it may call the user's oauth_cb. Of two threads that come first one has
            # made its client for nothing.
            client = self._factory(self._properties)
        with self._lock:
            if self._closed:
                raise ClosedError("the topic can't be looked up because its client is closed")
            self._client = self._client or client
            return self._client

    def close(self) -> None:
        """Let the client go; a lookup that is under way ends by itself and lets it go then."""
        with self._lock:
            self._closed = True
            self._client = None

    def _on_error(self, error: KafkaError) -> None:
        if error.name() in _TO_PUT_RIGHT:
            self._trouble = _cause(error)


def _cause(error: KafkaError) -> str:
    name = error.name()
    if name in _NOT_THERE:
        return ""
    if name in _SILENCE:
        # A broker that takes connections and answers no questions is not one without the topic.
        return "no answer in time to the question whether the topic is there"
    return f"{name}: {error.str()}"
