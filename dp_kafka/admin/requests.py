"""Requests of an admin client: it owns their repetition, their deadline, and what their errors become."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Protocol, TypeVar

from confluent_kafka import KafkaError, KafkaException

from dp_kafka.errors import PERMANENT_ERROR_NAMES, KafkaClientError
from dp_kafka.retry import get_retry_time

__all__ = ["RETRY_BACKOFF", "RETRY_MAX", "TIMEOUT", "Requests", "translated"]

K = TypeVar("K")
V = TypeVar("V")

#: Seconds for one request, and for all its repetitions where nobody says otherwise.
REQUEST_SECONDS, TIMEOUT = 10.0, 30.0
#: How often a request is repeated where AdminConfig does not say (Sarama's default).
RETRY_MAX = 5
#: Seconds of the first pause before a repetition, and of the longest.
RETRY_BACKOFF, _LONGEST_PAUSE = 0.1, 5.0
#: Seconds after which a future is given up that librdkafka should have completed long before.
_GRACE = 2.0

#: Answers after which the same request may well succeed: who leads or coordinates is just changing.
_PASSING = frozenset(
    {
        # Of the admin client "no leaders found", which is also said while a leader is away.
        "_NOENT",
        "_TIMED_OUT",
        "_TIMED_OUT_QUEUE",
        "_TRANSPORT",
        "_WAIT_COORD",
        "BROKER_NOT_AVAILABLE",
        "COORDINATOR_LOAD_IN_PROGRESS",
        "COORDINATOR_NOT_AVAILABLE",
        "KAFKA_STORAGE_ERROR",
        "LEADER_NOT_AVAILABLE",
        "NETWORK_EXCEPTION",
        "NOT_CONTROLLER",
        "NOT_COORDINATOR",
        "NOT_LEADER_FOR_PARTITION",
        "REBALANCE_IN_PROGRESS",
        "REQUEST_TIMED_OUT",
        "THROTTLING_QUOTA_EXCEEDED",
    }
)
#: Answers of librdkafka itself that no broker gave.
_UNANSWERED = frozenset({"_TIMED_OUT", "_TRANSPORT", "_TIMED_OUT_QUEUE"})
#: What the error callback says while the request itself just gets no answer.
_TELLING = PERMANENT_ERROR_NAMES | {"_SSL", "_RESOLVE"}


def translated(error: BaseException) -> KafkaClientError:
    """The dp_kafka error for what a client raised."""
    inner = error.args[0] if isinstance(error, KafkaException) and error.args else None
    if isinstance(inner, KafkaError):
        found = KafkaClientError.from_kafka_error(inner)
        if "Request(processor=" not in str(found):
            return found
        # A controller that refuses shows the whole request, with the principal and its own addresses.
        plain = KafkaError(inner.code())
        return KafkaClientError.from_kafka_error(plain)
    if isinstance(error, (FutureTimeoutError, TimeoutError)):
        return KafkaClientError(
            "_TIMED_OUT: no answer in time", code=KafkaError._TIMED_OUT, name="_TIMED_OUT"
        )
    return KafkaClientError(f"{type(error).__name__}: {error}", code=KafkaError._FAIL, name="_FAIL")


class Polled(Protocol):
    """A client whose callbacks are called while somebody polls it."""

    def poll(self, timeout: float = ..., /) -> object:
        """Call the callbacks that are due."""
        ...


class Requests:
    """The requests of one client, mostly an AdminClient. Any thread may make them, several at a time.

    Setting `stop` makes every pause end, so that requests in hand are the last.
    """

    def __init__(
        self,
        client: Polled,
        *,
        retry_max: int = RETRY_MAX,
        retry_backoff: float = RETRY_BACKOFF,
        stop: threading.Event | None = None,
        brokers: str = "",
    ) -> None:
        """Args: `brokers` are the client's addresses, for errors."""
        self._client = client
        self._retry_max = retry_max
        self._retry_backoff = retry_backoff
        self._stop = stop or threading.Event()
        self._brokers = brokers
        #: The last error that somebody has to put right, and whether no broker can be reached at all; whoever
        #: polls writes them, all threads share them.
        self._trouble = ""
        self._all_down = False

    def on_error(self, error: KafkaError) -> None:
        """The client's error callback, if it is ours."""
        if error.name() == "_ALL_BROKERS_DOWN":
            self._all_down = True
        elif error.name() in _TELLING:
            self._trouble = f"{error.name()}: {error.str()}"

    def each(
        self,
        send: Callable[[list[K], float], Mapping[K, Future[V]]],
        keys: Sequence[K],
        until: float,
    ) -> dict[K, V | KafkaClientError]:
        """Send a request for `keys`, and repeat it for those that failed for a passing reason.

        Args:
            send: takes the keys and the seconds for one request, and gives a future for each key.
            until: the instant of `time.monotonic()` at which all of it ends.

        Returns what came for each key: the answer, or the error. Blocks.
        """
        answers: dict[K, V | KafkaClientError] = {}
        todo = list(keys)
        for attempt in range(1, self._retry_max + 2):
            seconds = max(0.01, min(REQUEST_SECONDS, until - time.monotonic()))
            answered = self._once(send, todo, seconds)
            answers.update(answered)
            todo = [key for key in todo if _passing(answers[key])]
            if not todo or attempt > self._retry_max:
                break
            longest = max(self._retry_backoff, _LONGEST_PAUSE)
            pause = get_retry_time(attempt, self._retry_backoff, longest)
            if time.monotonic() + pause >= until or self._stop.wait(pause):
                break
        return answers

    def call(self, request: Callable[[float], Future[V] | V], until: float) -> V:
        """Make one request, and repeat it while it fails for a passing reason; `request` takes its seconds.

        Raises:
            KafkaClientError: it failed for good, or too often, or time was up.
        """

        def send(_keys: list[None], seconds: float) -> dict[None, Future[V]]:
            answer = request(seconds)
            if isinstance(answer, Future):
                return {None: answer}
            done: Future[V] = Future()
            done.set_result(answer)
            return {None: done}

        (answer,) = self.each(send, [None], until).values()
        if isinstance(answer, KafkaClientError):
            try:
                raise answer
            finally:
                del answer  # its stack has this frame
        return answer

    def _once(
        self, send: Callable[[list[K], float], Mapping[K, Future[V]]], keys: list[K], seconds: float
    ) -> dict[K, V | KafkaClientError]:
        self._trouble, self._all_down = "", False
        try:
            futures = send(keys, seconds)
        except KafkaClientError as error:  # of another client's requests, explained by them
            return dict.fromkeys(keys, error.with_traceback(None))
        except KafkaException as error:
            return dict.fromkeys(keys, self._explained(error))
        end = time.monotonic() + seconds + _GRACE
        found: dict[K, V | KafkaClientError] = {}
        for key, future in futures.items():
            try:
                found[key] = future.result(max(0.0, end - time.monotonic()))
            except Exception as error:  # noqa: BLE001  # librdkafka's future may carry anything
                # Its stack has this frame, which has the future, which has it: only the garbage collector
                # would end the client.
                found[key] = self._explained(error.with_traceback(None))
        return found

    def _explained(self, error: BaseException) -> KafkaClientError:
        """The translated error; what the connection suffers from comes with it."""
        self._client.poll(0)  # serves the error callback
        said = translated(error)
        if said.name not in _UNANSWERED:
            return said
        if not self._trouble:
            if not self._brokers or not (self._all_down or said.name == "_TRANSPORT"):
                return said
            away = f"no broker of {self._brokers} has answered: check the addresses, and that they are up"
            return KafkaClientError(
                f"{said.name}: {away}", code=said.code, name=said.name, retriable=said.retriable
            )
        name = self._trouble.partition(":")[0]
        # Nothing gets better by repeating it, so it is not among the passing errors.
        return KafkaClientError(self._trouble, code=said.code, name=name, permanent=True)


def _passing(answer: object) -> bool:
    return isinstance(answer, KafkaClientError) and answer.name in _PASSING
