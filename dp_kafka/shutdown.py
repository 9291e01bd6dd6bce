"""The way down of a service: its health checks, consumer groups and producers, in order, by one deadline.

The order keeps what was accepted. First no consumer takes a further message: handlers finish, and what they
finished is committed. Only then the producers deliver, as handlers may have sent until the last moment.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, cast

from dp_kafka.errors import ForkedError
from dp_kafka.logs import log_error, log_event
from dp_kafka.signals import SignalEvent

__all__ = ["Left", "SignalEvent", "graceful"]

logger = logging.getLogger("dp_kafka.shutdown")

#: The part of the timeout, and the most seconds of it, that is kept for producers: a handler that doesn't end
#: must not cost the messages that others have sent.
PRODUCERS_PART, PRODUCERS_SECONDS = 0.2, 2.0
#: Seconds past the deadline in which clients tell what they had to leave.
GRACE_SECONDS = 1.0


class _Consumer(Protocol):
    """The part of a ConsumerGroup that is used here."""

    def stop_and_wait(self, timeout: float | None = None) -> bool: ...
    def close(self, *, timeout: float | None = None) -> int: ...


class _Producer(Protocol):
    """The part of a Producer that is used here."""

    def flush(self, timeout: float | None = None) -> int: ...
    def close(self, timeout: float | None = None) -> int: ...


class _HealthCheck(Protocol):
    """The part of a HealthCheck that is used here."""

    def unsubscribe(self, consumer: Any) -> None: ...
    def stop(self, timeout: float | None = None) -> bool: ...


Client: TypeAlias = _Consumer | _Producer | _HealthCheck


@dataclass(frozen=True)
class Left:
    """What a shutdown had to leave; false when everything was finished.

    `in_hand`: messages that handlers, or users, had in hand; Kafka delivers them again. `undelivered`: those
    that producers gave up; each came to its `on_delivery` and to `errors`. `unfinished`: the clients that
    had not ended by the deadline, or failed to.
    """

    in_hand: int = 0
    undelivered: int = 0
    unfinished: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.in_hand or self.undelivered or self.unfinished)

    def __str__(self) -> str:
        parts = []
        if self.in_hand:
            parts.append(f"{self.in_hand} messages in hand")
        if self.undelivered:
            parts.append(f"{self.undelivered} messages undelivered")
        if self.unfinished:
            parts.append(f"not ended: {', '.join(self.unfinished)}")
        return "; ".join(parts) or "nothing"


def graceful(*clients: Client | None, timeout: float = 10.0) -> Left:
    """End the clients of a service in the right order, and say what had to be left.

    1. consumer groups: no further message; handlers finish, their offsets are committed, the group is left
       (`stop_and_wait`), and every thread ends (`close`); all groups at the same time;
    2. producers: what was sent is delivered (`flush`), then they close; all at the same time;
    3. health checks stop. Their subscriptions end at the very beginning: none starts a consumer again.

    Give any number of `ConsumerGroup`, `Producer` and `HealthCheck`, in any order; None is passed over. What
    is closed already, or belongs to the process that this one was forked from, has nothing left.

    Call it from the thread that runs the service, after the signal came (`SignalEvent`): not from the handler
    of the signal, which interrupts who knows what, and not from that of a message, which can't wait for
    itself.

    Args:
        timeout: seconds for all of it. It blocks no longer, but for a second in which what did not end is
            given up and told. A fifth of it, two seconds at most, is kept for the producers.

    Returns:
        What had to be left, which is also logged, at ERROR; nothing when everything was finished.

    Raises:
        TypeError: something that can't be ended. Nothing was done.
        ValueError: `timeout` is no number of seconds. Nothing was done.
    """
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 <= timeout < math.inf:
        raise ValueError(f"timeout must be a number of seconds, 0 or more, but is {timeout!r}")
    consumers, producers, checks = _sorted(clients)
    end = time.monotonic() + timeout
    for check in checks:
        for consumer in consumers:
            check.unsubscribe(consumer)
    kept = min(PRODUCERS_PART * timeout, PRODUCERS_SECONDS) if producers else 0.0
    ends = _all_at_once([_named(consumer, _end_consumer) for consumer in consumers], end - kept)
    ends += _all_at_once([_named(producer, _end_producer) for producer in producers], end)
    ends += _all_at_once([_named(check, _end_check) for check in checks], end)
    left = Left(
        sum(each.in_hand for each in ends),
        sum(each.undelivered for each in ends),
        tuple(name for each in ends for name in each.unfinished),
    )
    if left:
        fields = {"left": str(left), "timeout_seconds": timeout}
        log_event(logger, logging.ERROR, "shut down with something left", fields)
    else:
        log_event(logger, logging.INFO, "shut down, everything was finished", {})
    return left


def _sorted(clients: Sequence[object]) -> tuple[list[_Consumer], list[_Producer], list[_HealthCheck]]:
    """The clients by what they can do, each once."""
    consumers: list[_Consumer] = []
    producers: list[_Producer] = []
    checks: list[_HealthCheck] = []
    for client in {id(client): client for client in clients if client is not None}.values():
        if callable(getattr(client, "stop_and_wait", None)):
            consumers.append(cast(_Consumer, client))
        elif callable(getattr(client, "flush", None)) and callable(getattr(client, "close", None)):
            producers.append(cast(_Producer, client))
        elif callable(getattr(client, "unsubscribe", None)) and callable(getattr(client, "stop", None)):
            checks.append(cast(_HealthCheck, client))
        else:
            raise TypeError(
                f"graceful takes ConsumerGroups, Producers and HealthChecks, but got {type(client).__name__}"
            )
    return consumers, producers, checks


# -- one client, by a deadline: an instant of time.monotonic() ----------------------------------------


def _end_consumer(consumer: _Consumer, end: float) -> Left:
    stopped = consumer.stop_and_wait(_until(end))
    in_hand = consumer.close(timeout=_until(end))
    return Left(in_hand=in_hand, unfinished=() if stopped else (repr(consumer),))


def _end_producer(producer: _Producer, end: float) -> Left:
    # Before the close, so that what delivery callbacks send is taken.
    producer.flush(_until(end))
    return Left(undelivered=producer.close(timeout=_until(end)))


def _end_check(check: _HealthCheck, end: float) -> Left:
    return Left(unfinished=() if check.stop(_until(end)) else (repr(check),))


def _until(end: float) -> float:
    return max(0.0, end - time.monotonic())


# -- several of them -----------------------------------------------------------------------------------

_End: TypeAlias = "tuple[str, Callable[[float], Left]]"


def _named(client: Any, end_client: Callable[[Any, float], Left]) -> _End:
    return repr(client), lambda end: end_client(client, end)


def _all_at_once(todo: Sequence[_End], end: float) -> list[Left]:
    """End all of these at the same time; one that fails is told, and holds up nobody."""
    if not todo:
        return []
    results: dict[int, Left] = {}

    def run(number: int) -> None:
        name, end_it = todo[number]
        try:
            results[number] = end_it(end)
        except ForkedError:
            # The parent's: it is whole there, and nothing of it runs here.
            results[number] = Left()
        except Exception as error:  # noqa: BLE001  # the others have to end all the same
            log_error(logger, "a client could not be ended", error, {"client": name})

    threads = []
    here = [0]  # one of them, most often the only one
    for number in range(1, len(todo)):
        thread = threading.Thread(target=run, args=(number,), name=f"dp-kafka:shutdown:{number}", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # While the interpreter shuts down no thread can be started: one after the other, then.
            here.append(number)
        else:
            threads.append(thread)
    for number in here:
        run(number)
    for thread in threads:
        thread.join(_until(end + GRACE_SECONDS))
    return [results.get(number, Left(unfinished=(name,))) for number, (name, _) in enumerate(todo)]
