"""The faults of a run, in an order that its seed decides: those of brokers, and those of consumer processes.

Both go on side by side, each on a thread of its own. A broker's fault begins when all replicas are in sync
again after the one before it: two brokers away at a time would stop every write, as min.insync.replicas says.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from typing import Any

from tests.chaos.children import Child, Children
from tests.chaos.journal import Journal
from tests.chaos.settings import Settings
from tests.kafka.apache import ApacheKafka

__all__ = ["BrokerFaults", "MemberFaults"]

#: Seconds that a busy machine may take to bring a broker back, or replicas into sync.
_RECOVERY = 150.0
_TICK = 0.1
#: Seconds between two faults of consumers. Sooner, and the group would hardly ever get to consuming: each
#: death that it does not hear of costs it a session timeout.
_PAUSE = (5.0, 15.0)


class _Bag:
    """Kinds of faults, shuffled anew each time that all have been taken: none is missing in a short run."""

    def __init__(self, kinds: Sequence[str], chance: random.Random) -> None:
        self._kinds = kinds
        self._chance = chance
        self._rest: list[str] = []

    def take(self) -> str:
        if not self._rest:
            self._rest = self._chance.sample(self._kinds, len(self._kinds))
        return self._rest.pop()


class _Faults(threading.Thread):
    """Makes faults until `end`, which raises what went wrong; `broken` is set when something has."""

    #: What they are faults of.
    of: str
    kinds: tuple[str, ...]

    def __init__(self, settings: Settings, journal: Journal, broken: threading.Event) -> None:
        super().__init__(name=f"chaos:{self.of}", daemon=True)
        self._settings = settings
        self._journal = journal
        self._chance = random.Random(f"{settings.seed}:{settings.ordering}:{self.of}")
        self._bag = _Bag(self.kinds, self._chance)
        self._over = threading.Event()
        self._broken = broken
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            self._make()
        except Exception as error:
            self._error = error
            self._broken.set()

    def _make(self) -> None:
        raise NotImplementedError

    def end(self) -> None:
        """Begin no more, and undo those that last."""
        self._over.set()
        self.join()
        if self._error is not None:
            raise self._error


class BrokerFaults(_Faults):
    """Kills a broker and restarts it, pauses one, moves the leaders."""

    of = "brokers"
    kinds = ("kill broker", "pause broker", "move leaders")

    def __init__(self, kafka: ApacheKafka, *common: Any) -> None:
        super().__init__(*common)
        self._kafka = kafka

    def _make(self) -> None:
        kafka, chance = self._kafka, self._chance
        while not self._over.wait(chance.uniform(3, 9)):
            kind, broker, hold = self._bag.take(), chance.choice(kafka.broker_ids), chance.uniform(3, 11)
            self._journal.write("fault", kind=kind, broker=broker, hold=round(hold, 1))
            if kind == "kill broker":
                kafka.kill(broker)
                self._over.wait(hold)
                kafka.restart(broker, timeout=_RECOVERY)
            elif kind == "pause broker":
                kafka.pause(broker)
                self._over.wait(hold)
                kafka.resume(broker)
            else:
                kafka.move_leaders(self._settings.topic, timeout=_RECOVERY)
            kafka.wait_in_sync(self._settings.topic, timeout=_RECOVERY)
            self._journal.write("fault over", kind=kind, broker=broker)


class MemberFaults(_Faults):
    """Kills a consumer process, ends one by SIGTERM, adds one, stalls one past its session timeout."""

    of = "members"
    kinds = ("kill member", "end member", "add member", "stall member")

    def __init__(self, children: Children, *common: Any) -> None:
        super().__init__(*common)
        self._children = children
        self._stalled: Child | None = None
        self._resume_at = 0.0

    def _make(self) -> None:
        chance, children = self._chance, self._children
        kind, due = self._bag.take(), time.monotonic() + chance.uniform(*_PAUSE)
        while not self._over.wait(_TICK):
            children.collect()
            now = time.monotonic()
            if self._stalled is not None and now >= self._resume_at:
                self._wake()
            if now >= due and (kind != "stall member" or self._stalled is None):
                self._fault(kind)
                kind, due = self._bag.take(), time.monotonic() + chance.uniform(*_PAUSE)
        if self._stalled is not None:
            self._wake()

    def _fault(self, kind: str) -> None:
        children, chance = self._children, self._chance
        # One is stalled at a time, and is left alone meanwhile; so two at least are there to choose from.
        candidates = [each for each in children.members() if not each.stalled]
        chosen, extra = chance.choice(candidates), chance.uniform(3, 8)
        if kind == "stall member":
            self._journal.write("fault", kind=kind, member=chosen.name)
            chosen.stall()
            self._stalled, self._resume_at = chosen, time.monotonic() + self._settings.session + extra
            return
        self._journal.write("fault", kind=kind, member=chosen.name)
        if kind == "kill member":
            children.kill(chosen)
        elif kind == "end member" or len(children.members()) >= self._settings.most_consumers:
            chosen.ask()
        else:
            children.add_member()
        while len(children.members()) < self._settings.consumers:
            children.add_member()

    def _wake(self) -> None:
        assert self._stalled is not None
        self._stalled.go_on()
        self._stalled = None
