"""The checks of clients: is the client whole, and are enough of its brokers reachable, with the topic?"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence, Set

from dp_kafka import forks
from dp_kafka.config import ConsumerGroupConfig, ProducerConfig
from dp_kafka.config.rdkafka import consumer_properties, lookup_properties, producer_properties
from dp_kafka.errors import ClosedError, HealthCheckError
from dp_kafka.health.findings import Finding, verdict
from dp_kafka.health.lookup import Found, Lookup, TopicLookup
from dp_kafka.health.probe import Answer, BrokerProbe, Probe, Prober
from dp_kafka.health.state import CheckState
from dp_kafka.health.status import Status
from dp_kafka.logs import log_event

__all__ = ["CHECK_SECONDS", "BrokerCheck", "ClientView", "check_client"]

logger = logging.getLogger("dp_kafka.health")

#: How long a check of the brokers takes at most, however many there are.
CHECK_SECONDS = 5.0


class BrokerCheck:
    """Asks all configured addresses at once, looks the topic up once, and reports to a CheckState.

    It is a check itself, for services that want one without a client: `health.add_check("kafka",
    BrokerCheck(config))`. Any thread may call it, several at a time too; it blocks at most `timeout` seconds.

    Args:
        config: of the producer or consumer group whose brokers and topic these are.
        timeout: seconds for all of it.
        probe, lookup: ask one address, and look the topic up; the test kit gives its own.
    """

    def __init__(
        self,
        config: ProducerConfig | ConsumerGroupConfig,
        *,
        timeout: float = CHECK_SECONDS,
        probe: Probe | None = None,
        lookup: Lookup | None = None,
    ) -> None:
        if isinstance(config, ProducerConfig):
            self._healthy = "kafka producer is healthy"
            properties = producer_properties(config)
        else:
            self._healthy = "kafka consumer group is healthy"
            properties = consumer_properties(config)
        self._addresses: tuple[str, ...] = tuple(config.broker_addrs)
        self._topic = config.topic
        self._enough = config.min_brokers_healthy
        self._timeout = timeout
        self._prober = Prober(probe or BrokerProbe(properties))
        self._lookup = lookup or TopicLookup(lookup_properties(config), config.topic)
        #: Guards `_problems`: what was logged last of each address.
        self._lock = threading.Lock()
        self._problems: dict[str, str] = {}
        forks.track(self, BrokerCheck._after_fork)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()

    def __call__(self, state: CheckState) -> None:
        """Check, and update `state`.

        Raises:
            TypeError: `state` is no CheckState.
            ClosedError: the check is closed.
        """
        require_state(state)
        state.update(*self.verdict())

    def verdict(self) -> tuple[Status, str]:
        """Check, and return status and message. Raises ClosedError after `close`."""
        until = time.monotonic() + self._timeout
        answers: dict[str, Answer] = {}
        found: Found | None = None
        for address, answer in self._prober.ask(self._addresses, until):
            answers[address] = answer
            if answer.reachable and found is None:
                # While the other probes go on. Before anybody has answered there is nobody to ask for it.
                found = self._lookup(max(0.0, until - time.monotonic()))
        silent = Answer("no answer in time")
        self._log_changes({address: answers.get(address, silent).problem for address in self._addresses})
        return verdict(
            [self._finding(address, answers.get(address, silent), found) for address in self._addresses],
            self._topic,
            self._enough,
            self._healthy,
        )

    @staticmethod
    def _finding(address: str, answer: Answer, found: Found | None) -> Finding:
        if not answer.reachable:
            return Finding(address, False, False, answer.problem if answer.to_put_right else "")
        if found is None:
            return Finding(address, True, False)
        return Finding(address, True, found.has_topic, found.cause)

    def causes(self) -> list[str]:
        """What is wrong with certificates at the brokers, each once; blocks at most `timeout` seconds."""
        answers = self._prober.ask(self._addresses, time.monotonic() + self._timeout)
        return list(dict.fromkeys(answer.problem for _, answer in answers if answer.to_put_right))

    def _log_changes(self, problems: dict[str, str]) -> None:
        """Log why an address is not reachable, once, as the message has no room for it."""
        with self._lock:
            before, self._problems = self._problems, problems
        for address, problem in problems.items():
            if problem and problem != before.get(address):
                log_event(
                    logger,
                    logging.WARNING,
                    "broker not reachable",
                    {"address": address, "topic": self._topic, "problem": problem},
                )

    def close(self) -> None:
        """Let the client of the topic lookup go, and refuse further checks. Never blocks."""
        self._lookup.close()


@dataclasses.dataclass(frozen=True)
class ClientView:
    """What a client tells its check about itself.

    `kind`: "producer" or "consumer-group". `broken`: what of its threads is dead or stuck, a few words each.
    `trouble`: an error that stands in the way of its work and that somebody has to put right; `ask_brokers`:
    it is of a connection, and probing the brokers may say more of it.
    """

    kind: str
    closed: bool
    initialised: bool
    broken: Sequence[str] = ()
    trouble: str = ""
    ask_brokers: bool = False


def check_client(state: CheckState, look: Callable[[], ClientView], brokers: BrokerCheck) -> None:
    """Check a client: first the client itself, then, if it is whole and initialised, its brokers.

    Raises:
        TypeError: `state` is no CheckState.
        HealthCheckError: the state refused the update.
    """
    require_state(state)
    view = look()
    if view.ask_brokers and (causes := brokers.causes()):
        view = dataclasses.replace(view, trouble="; ".join([*causes, view.trouble]))
    status, message = _of_client(view) or _of_brokers(look, brokers)
    try:
        state.update(status, message)
    except Exception as error:
        raise HealthCheckError(f"error updating {view.kind} healthcheck status: {error}") from error


def _of_client(view: ClientView) -> tuple[Status, str] | None:
    """What the client says by itself; None if nothing is wrong with it."""
    name = f"kafka {view.kind}"
    trouble = f" ({view.trouble})" if view.trouble else ""
    if view.broken:
        return Status.CRITICAL, f"{name} is broken: {'; '.join(view.broken)}"
    if view.closed:
        return Status.CRITICAL, f"{name} is closed"
    if not view.initialised:
        return Status.WARNING, f"{name} is not initialised{trouble}"
    if view.trouble:
        return Status.CRITICAL, f"{name} is refused{trouble}"
    return None


def _of_brokers(look: Callable[[], ClientView], brokers: BrokerCheck) -> tuple[Status, str]:
    try:
        found = brokers.verdict()
    except ClosedError:
        # Closed since the first look.
        return Status.CRITICAL, f"kafka {look().kind} is closed"
    # A check takes seconds, in which the client may have been closed, or a thread of it may have died.
    return _of_client(look()) or found


def require_state(state: object) -> None:
    """Raise TypeError unless `state` can be updated as a CheckState can."""
    # A dict can be updated, too.
    if not callable(getattr(state, "update", None)) or isinstance(state, (Mapping, Set)):
        raise TypeError(
            "state must not be None: a checker reports to a dp_kafka.health.CheckState"
            if state is None
            else f"a checker reports to a dp_kafka.health.CheckState, but got {type(state).__name__}"
        )
