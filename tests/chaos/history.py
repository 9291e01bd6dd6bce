"""The history of a recorded run: what the journals say, as messages, handlings, assignments and processes."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.journal import Event, read_all

__all__ = ["Assignment", "Handling", "History", "Place", "load"]

#: A message's partition and offset.
Place = tuple[int, int]

#: That of a message which was acknowledged without one.
_UNKNOWN: Place = (-1, -1)
#: How an assignment may end so that messages which it has handled are rightly handled again.
_UNCLEAN = ("killed", "lost")
#: With these a group says that it has gone on without a member.
_EXPELLED = ("UNKNOWN_MEMBER_ID", "FENCED_MEMBER_EPOCH")


@dataclass(eq=False)
class Assignment:
    """A partition in the hands of one member, from its assignment until it is given up."""

    member: str
    partition: int
    since: float
    #: "revoked", "lost", "stopped" or "killed"; "open" while nothing tells.
    end: str = "open"

    @property
    def unclean(self) -> bool:
        """Whether it ended by a kill or a lost session: what was handled may not be committed."""
        return self.end in _UNCLEAN

    def __str__(self) -> str:
        return f"{self.member}'s assignment of partition {self.partition} ({self.end})"


@dataclass(eq=False)
class Handling:
    """One message in the hands of a handler, over all attempts of one assignment."""

    place: Place
    id: str
    key: str
    assignment: Assignment
    begun: float
    done: float | None = None
    attempts: int = 1


@dataclass
class Process:
    """What was done to a process, and how it ended."""

    name: str
    #: When it was told to end.
    asked: float | None = None
    #: Whether it said at its end, and rightly, that a commit is missing: meanwhile it had lost its session.
    uncommitted: bool = False
    killed: bool = False
    hung: bool = False
    code: int | None = None


@dataclass
class History:
    """Everything that the verdict needs."""

    settings: dict[str, Any]
    processes: dict[str, Process] = field(default_factory=dict)
    #: Faults by kind.
    faults: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    #: When and where each message was stored, by its id.
    acked: dict[str, tuple[float, Place]] = field(default_factory=dict)
    #: Messages that the producer reported as not delivered.
    refused: set[str] = field(default_factory=set)
    #: What each producer said at its end: how many it had accepted.
    sent: dict[str, int] = field(default_factory=dict)
    handlings: list[Handling] = field(default_factory=list)
    lost_sessions: int = 0
    failures: int = 0
    #: Committed offsets as seen from outside, with the metadata, in the order of time.
    samples: list[tuple[float, dict[int, int], dict[int, str]]] = field(default_factory=list)
    committed: dict[int, int] = field(default_factory=dict)
    log: dict[int, int] = field(default_factory=dict)
    drained: bool = False
    #: What breaks the order of handling; found while the journals are read, because it is their order.
    disorder: list[str] = field(default_factory=list)


def load(directory: Path) -> History:
    """Read the journals of a run."""
    journals = read_all(directory)
    conductor = journals.pop("conductor")
    history = History(settings=conductor[0])
    for event in conductor:
        _conduct(history, event)
    for name, events in journals.items():
        if name.startswith("member"):
            _Member(history, name).read(events)
        else:
            _read_producer(history, name, events)
    history.samples.sort(key=lambda sample: sample[0])
    _find_places(history)
    return history


def _find_places(history: History) -> None:
    """The places of messages that were acknowledged without one: from those who handled them.

    So the broker answers when it has the message already, from an attempt whose answer never came.
    """
    handled = {each.id: each.place for each in history.handlings}
    for number, (at, place) in history.acked.items():
        if place == _UNKNOWN:
            history.acked[number] = (at, handled.get(number, place))


def _conduct(history: History, event: Event) -> None:
    what = event["what"]
    if what == "started":
        history.processes[event["name"]] = Process(event["name"])
    elif what == "asked":
        history.processes[event["name"]].asked = event["at"]
    elif what in ("killed", "hung"):
        setattr(history.processes[event["name"]], what, True)
    elif what == "ended":
        history.processes[event["name"]].code = event["code"]
    elif what == "fault":
        history.faults[event["kind"]] += 1
    elif what == "committed":
        history.samples.append((event["at"], _by_number(event["offsets"]), _by_number(event["metadata"])))
    elif what == "end":
        history.committed, history.log = _by_number(event["committed"]), _by_number(event["log"])
    elif what == "drained":
        history.drained = True


def _by_number(found: dict[str, Any]) -> dict[int, Any]:
    return {int(number): value for number, value in found.items()}


def _read_producer(history: History, name: str, events: list[Event]) -> None:
    for event in events:
        if event["what"] == "acked":
            known = event["o"] is not None
            history.acked[event["id"]] = (event["at"], (event["p"], event["o"]) if known else _UNKNOWN)
        elif event["what"] == "refused":
            history.refused.add(event["id"])
        elif event["what"] == "stopped":
            history.sent[name] = event["sent"]


class _Member:
    """Reads one member's journal: lines are in the order in which things happened in that process."""

    def __init__(self, history: History, name: str) -> None:
        self._history = history
        self._name = name
        #: The last assignment of each partition.
        self._current: dict[int, Assignment] = {}
        #: The assignment of each session number: a handler may begin or end after its partition was lost.
        self._of_session: dict[int, Assignment] = {}
        self._all: list[Assignment] = []
        #: Whether the group has answered, since the last assignment, that it does not know this member.
        self._expelled = False
        #: When it last lost a session.
        self._lost_at = -math.inf
        self._handlings: dict[tuple[Assignment, int], Handling] = {}
        #: What must be done before anything else of the same assignment (and key) begins.
        self._in_hand: dict[tuple[Assignment, str], Handling] = {}
        self._last: dict[tuple[Assignment, str], int] = {}

    def read(self, events: list[Event]) -> None:
        for event in events:
            getattr(self, "_" + event["what"].replace(" ", "_"), self._other)(event)
        process = self._history.processes[self._name]
        for each in self._all:
            if each.end == "open":
                each.end = "killed" if process.killed else "stopped"

    def _other(self, event: Event) -> None:
        """Nothing that matters here."""

    def _assigned(self, event: Event) -> None:
        self._expelled = False
        for number in event["partitions"]:
            self._assign(number, event["at"])

    def _assign(self, number: int, at: float) -> Assignment:
        self._current[number] = Assignment(self._name, number, at)
        self._all.append(self._current[number])
        return self._current[number]

    def _commit_failed(self, event: Event) -> None:
        self._expelled = event["name"] in _EXPELLED

    def _revoked(self, event: Event) -> None:
        # A member that was stalled may hear of its next rebalance before it hears that it is none any more.
        # librdkafka then calls it a revoke; the commit in it was refused, as the group does not know it.
        if self._expelled:
            self._lost(event)
        else:
            self._give_up(event, "revoked")

    def _lost(self, event: Event) -> None:
        self._history.lost_sessions += 1
        self._lost_at = event["at"]
        self._give_up(event, "lost")

    def _gave_up(self, event: Event) -> None:
        """It stopped, and the coordinator was silent for a session timeout: as good as a lost session."""
        self._lost(event)

    def _stopped(self, event: Event) -> None:
        process = self._history.processes[self._name]
        lost = process.asked is not None and self._lost_at >= process.asked
        process.uncommitted = lost and not event["stopped"] and not event["left"]

    def _give_up(self, event: Event, how: str) -> None:
        for number in event["partitions"]:
            if number in self._current and self._current[number].end == "open":
                self._current[number].end = how

    def _begin(self, event: Event) -> None:
        number, offset = event["p"], event["o"]
        assignment = self._of_session.get(event["session"])
        if assignment is None:
            assignment = self._current.get(number)
            if assignment is None:
                self._history.disorder.append(f"{self._name} handled {number}@{offset}, never assigned to it")
                assignment = self._assign(number, event["at"])
            self._of_session[event["session"]] = assignment
        handling = self._handlings.get((assignment, offset))
        if handling is None or handling.done is not None:
            handling = Handling((number, offset), event["id"], event["key"], assignment, event["at"])
            self._handlings[assignment, offset] = handling
            self._history.handlings.append(handling)
        else:
            handling.attempts += 1
        self._check_order(handling)

    def _check_order(self, handling: Handling) -> None:
        ordering = self._history.settings["ordering"]
        if ordering == "none":
            return
        place = (handling.assignment, handling.key if ordering == "key" else "")
        before, last = self._in_hand.get(place), self._last.get(place, -1)
        offset = handling.place[1]
        if before is not None and before is not handling:
            self._history.disorder.append(
                f"{handling.assignment}: {offset} was begun while {before.place[1]} was not done"
            )
        elif offset <= last:
            self._history.disorder.append(f"{handling.assignment}: {offset} was begun after {last}")
        self._in_hand[place] = handling

    def _done(self, event: Event) -> None:
        handling = self._handling(event)
        handling.done = event["at"]
        ordering = self._history.settings["ordering"]
        place = (handling.assignment, handling.key if ordering == "key" else "")
        self._in_hand.pop(place, None)
        self._last[place] = handling.place[1]

    def _failed(self, event: Event) -> None:
        self._history.failures += 1

    def _handling(self, event: Event) -> Handling:
        return self._handlings[self._of_session[event["session"]], event["o"]]


def done_by_place(history: History) -> dict[Place, list[Handling]]:
    """The handlings that came to their end, of each message, in the order in which it was assigned."""
    found: dict[Place, list[Handling]] = defaultdict(list)
    for each in history.handlings:
        if each.done is not None:
            found[each.place].append(each)
    for several in found.values():
        several.sort(key=lambda each: (each.assignment.since, each.begun))
    return found


def by_partition(places: Iterator[Place]) -> dict[int, list[int]]:
    """Offsets of each partition, ascending."""
    found: dict[int, list[int]] = defaultdict(list)
    for partition, offset in places:
        found[partition].append(offset)
    for offsets in found.values():
        offsets.sort()
    return found
