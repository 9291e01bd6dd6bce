"""The verdict on a recorded run: whether anything was lost, handled again without a reason, or hung."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from dp_kafka.consumer.metadata import decode
from tests.chaos.history import Assignment, Handling, History, Place, done_by_place, load

__all__ = ["Verdict", "judge"]

#: How many violations of a kind are told one by one.
_SHOWN = 5
_REPEATED = "each repetition belongs to a kill or a lost session"


@dataclass
class Verdict:
    """The figures of a run, and what it violates; it passes if that is nothing."""

    settings: dict[str, Any]
    acknowledged: int
    handled: int
    failures: int
    after_kill: int
    after_loss: int
    lost_sessions: int
    #: Members that lost their session while they stopped, and ended with 1 to say so.
    uncommitted_stops: int
    #: Messages that a new assignment passed over, because the metadata named them as finished.
    passed_over: int
    #: Looks at the committed offsets.
    samples: int
    stall: float
    faults: dict[str, int]
    #: By promise.
    violations: dict[str, list[str]] = field(default_factory=dict)

    @property
    def unexplained(self) -> int:
        """Messages that were handled again without a kill or a lost session, after a clean stop say."""
        return len(self.violations.get(_REPEATED, ()))

    @property
    def passed(self) -> bool:
        """Whether every promise was kept."""
        return not self.violations

    def __str__(self) -> str:
        faults = ", ".join(f"{count} {kind}" for kind, count in sorted(self.faults.items()))
        lines = [
            f"{self.acknowledged} acknowledged, {self.handled} handled, {self.failures} failures tried again",
            f"handled again: {self.after_kill} after a kill, {self.after_loss} after a lost session "
            f"({self.lost_sessions} sessions lost, {self.uncommitted_stops} of them in a stop that said so), "
            f"{self.unexplained} without such a reason",
            f"passed over, as finished beyond the committed offset: {self.passed_over}",
            f"longest stall {self.stall:.1f} s; {self.samples} looks at the committed offsets",
            f"faults: {faults}",
        ]
        for promise, found in self.violations.items():
            lines.append(f"VIOLATED: {promise}: {len(found)}")
            lines += [f"  {each}" for each in found[:_SHOWN]]
        return "\n".join([*lines, "PASSED" if self.passed else "FAILED"])


def judge(directory: Path) -> Verdict:
    """Judge the run that left its journals in a directory."""
    history = load(directory)
    done = done_by_place(history)
    after: Counter[str] = Counter()
    stall = _longest_stall(history, done)
    found = {
        "every acknowledged message is handled": list(_lost(history, done)),
        "a message is stored once": list(_stored_twice(history, done)),
        "every accepted message is acknowledged or reported": list(_unreported(history)),
        _REPEATED: list(_unexplained(done, after)),
        "messages are handled in order": history.disorder,
        "no commit passes an unhandled message": list(_committed_too_far(history, done)),
        "no committed offset goes back": list(_gone_back(history)),
        "in the end everything is committed": list(_uncommitted(history)),
        "no process hangs or ends by itself": list(_hung(history)),
        "no partition stands still": [f"for {stall:.1f} s"]
        if stall > history.settings["stall_limit"]
        else [],
        "the run tells something": list(_empty(history)),
    }
    return Verdict(
        settings=history.settings,
        acknowledged=len(history.acked),
        handled=len(done),
        failures=history.failures,
        after_kill=after["killed"],
        after_loss=after["lost"],
        lost_sessions=history.lost_sessions,
        uncommitted_stops=sum(each.uncommitted for each in history.processes.values()),
        passed_over=_passed_over(history, done),
        samples=len(history.samples),
        stall=stall,
        faults=dict(history.faults),
        violations={promise: several for promise, several in found.items() if several},
    )


def _shown(place: Place) -> str:
    return f"{place[0]}@{place[1]}"


def _lost(history: History, done: dict[Place, list[Handling]]) -> Iterator[str]:
    for number, (_, place) in history.acked.items():
        if not any(each.id == number for each in done.get(place, ())):
            yield f"{number}, acknowledged as {_shown(place)}"


def _stored_twice(history: History, done: dict[Place, list[Handling]]) -> Iterator[str]:
    places: dict[str, set[Place]] = defaultdict(set)
    for number, (_, place) in history.acked.items():
        places[number].add(place)
    for place, several in done.items():
        for each in several:
            places[each.id].add(place)
    for number, found in places.items():
        if len(found) > 1:
            yield f"{number} as {', '.join(map(_shown, sorted(found)))}"


def _unreported(history: History) -> Iterator[str]:
    for producer, sent in history.sent.items():
        for number in range(sent):
            id = f"{producer}-{number}"
            if id not in history.acked and id not in history.refused:
                yield id
    for name in history.processes:
        if name.startswith("producer") and name not in history.sent:
            yield f"all of {name}, which did not end"


def _unexplained(done: dict[Place, list[Handling]], after: Counter[str]) -> Iterator[str]:
    """Repetitions without a reason; counts the others by their reasons.

    The handlings of a message are taken in the order in which its partition was assigned. Each but the last
    has to be of an assignment that ended uncleanly: after a clean one, everything that it has done is
    committed. So a member that wakes up after it has lost its partition, and finishes what it had in hand,
    comes before the one that had the partition after it, though it may be done later.
    """
    for place, several in done.items():
        for before, again in pairwise(several):
            if before.assignment.unclean and before.assignment is not again.assignment:
                after[before.assignment.end] += 1
            else:
                yield f"{again.id} at {_shown(place)}: by {before.assignment}, then by {again.assignment}"


def _committed_too_far(history: History, done: dict[Place, list[Handling]]) -> Iterator[str]:
    """Commits seen from outside that say more than was done by then."""
    first = {place: min(each.done or 0.0 for each in several) for place, several in done.items()}
    # For each partition and offset: when everything up to it was done.
    by_then: dict[int, list[float]] = {}
    for partition, end in history.log.items():
        times = (first.get((partition, offset), float("inf")) for offset in range(end))
        by_then[partition] = list(accumulate(times, max))
    for at, offsets, metadata in history.samples:
        for partition, offset in offsets.items():
            reached = by_then.get(partition, [])
            if offset > len(reached) or (offset and not reached[offset - 1] < at):
                yield f"partition {partition} committed up to {offset}"
        for partition, text in metadata.items():
            for offset in decode(offsets[partition], text):
                if not first.get((partition, offset), float("inf")) < at:
                    yield f"partition {partition} committed {offset} by its metadata"


def _gone_back(history: History) -> Iterator[str]:
    highest: dict[int, int] = defaultdict(int)
    for _, offsets, _ in history.samples:
        for partition, offset in offsets.items():
            if offset < highest[partition]:
                yield f"partition {partition} from {highest[partition]} to {offset}"
            highest[partition] = max(highest[partition], offset)


def _uncommitted(history: History) -> Iterator[str]:
    if not history.log:
        yield "the end was never reached"
    for partition, end in history.log.items():
        if history.committed.get(partition) != end:
            yield f"partition {partition}: {history.committed.get(partition)} of {end}"


def _hung(history: History) -> Iterator[str]:
    for each in history.processes.values():
        if each.hung or each.code is None:
            yield f"{each.name} did not end"
        elif each.code != (1 if each.uncommitted else 0) and not each.killed:
            yield f"{each.name} ended with {each.code}"
        elif not each.killed and each.asked is None:
            yield f"{each.name} ended by itself"
    if not history.drained:
        yield f"not everything was handled {history.settings['drain_limit']:g} s after the faults"


def _passed_over(history: History, done: dict[Place, list[Handling]]) -> int:
    """How many messages an assignment did not handle, though it handled earlier ones of the partition."""
    lowest: dict[Assignment, int] = {}
    for each in history.handlings:
        offset = each.place[1]
        lowest[each.assignment] = min(offset, lowest.get(each.assignment, offset))
    beyond: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for (partition, offset), several in done.items():
        beyond[partition].append((offset, min(each.done or 0.0 for each in several)))
    again = {(each.assignment, each.place[1]) for each in history.handlings}
    return sum(
        1
        for assignment, first in lowest.items()
        for offset, at in beyond[assignment.partition]
        if offset > first and at < assignment.since and (assignment, offset) not in again
    )


def _longest_stall(history: History, done: dict[Place, list[Handling]]) -> float:
    """The longest time in which a partition had acknowledged messages, and none of it was handled."""
    events: dict[int, list[tuple[float, int]]] = defaultdict(list)
    for at, place in history.acked.values():
        several = done.get(place)
        if several is not None:
            handled = min(each.done or 0.0 for each in several)
            events[place[0]].append((handled, -1))
            # A handler may be quicker than the report of the acknowledgement.
            events[place[0]].append((min(at, handled), 1))
    longest = 0.0
    for times in events.values():
        waiting, since = 0, 0.0
        for at, change in sorted(times, key=lambda each: (each[0], -each[1])):
            if waiting == 0:
                since = at
            waiting += change
            if change < 0:
                longest = max(longest, at - since)
                since = at
    return longest


def _empty(history: History) -> Iterator[str]:
    if not history.acked:
        yield "nothing was acknowledged"
    if not history.samples:
        yield "nobody looked at the committed offsets"
    if not history.faults:
        yield "there were no faults"
