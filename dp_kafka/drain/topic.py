"""The drain of one topic for one group: refuse or go ahead, and commit the ends of all its partitions."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack

from dp_kafka.admin.client import Admin
from dp_kafka.admin.groups import GroupInfo, describe_group
from dp_kafka.admin.offsets import GroupOffsets, commit_offsets, ends_of, starts_of
from dp_kafka.admin.topics import topic_info
from dp_kafka.drain.config import DrainProgress, DrainResult, DrainTopicConfig, DrainTopicInput
from dp_kafka.errors import DpKafkaError, DrainError, KafkaClientError
from dp_kafka.groupmember import GONE_ON, Member
from dp_kafka.logs import log_error, log_event

__all__ = ["TopicDrain"]

logger = logging.getLogger("dp_kafka.drain")

#: Partitions that are committed at once, between two reports of the progress.
_AT_ONCE = 100
#: Polls between two looks at what other members have committed, and the seconds that a look may take.
_POLLS, _LAST_LOOK = 5, 0.2
#: Seconds to wait for an assignment before it is tried anew, where brokers do not say who is in a group.
_PATIENCE = 20.0


class TopicDrain:
    """Drains one topic, on the thread that calls `run`. Offsets are kept by partition number."""

    def __init__(
        self,
        config: DrainTopicConfig,
        what: DrainTopicInput,
        admin: Admin,
        until: float,
        stop: threading.Event,
        report: Callable[[DrainProgress], None],
    ) -> None:
        self._config = config
        self._what = what
        self._admin = admin
        self._until = until
        self._stop = stop
        self._report = report
        self._from: dict[int, int] = {}
        #: Where the group stands as far as is known; and the partitions where that is not the end yet.
        self._stands: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        self._pending: set[int] = set()

    def run(self) -> DrainResult:
        """Drain it. Never raises: what goes wrong is in the result."""
        started = time.monotonic()
        error: DpKafkaError | None = None
        fields = {"topic": self._what.topic, "group": self._what.group_name}
        try:
            self._drain()
        except DpKafkaError as refused:
            error = refused
        except Exception as unexpected:  # noqa: BLE001  # the other topics go on
            error = DrainError(f"the drain failed: {type(unexpected).__name__}: {unexpected}")
            error.__cause__ = unexpected
        result = DrainResult(
            self._what.topic,
            self._what.group_name,
            dict(self._from),
            dict(self._stands),
            time.monotonic() - started,
            error,
        )
        if error is not None:
            log_error(logger, "topic not drained", error, {**fields, "count": result.count})
        else:
            seconds = round(result.seconds, 3)
            log_event(
                logger, logging.INFO, "topic drained", {**fields, "count": result.count, "seconds": seconds}
            )
        return result

    def _drain(self) -> None:
        topic, group = self._what.topic, self._what.group_name
        info = topic_info(self._admin, topic, timeout=self._left())
        known = self._group()
        if known is not None and known.members and not self._config.live_members:
            raise self._refusal(_counted(known))
        numbers = [partition.partition for partition in info.partitions]
        with GroupOffsets(self._config.broker_addrs, group, self._config.admin()) as offsets:
            self._look(numbers, offsets)
            self._tell()
            if known is None or not known.members:
                self._commit_from_outside(known)
            if self._pending:
                self._commit_as_member(offsets, ask_who=known is None)

    def _group(self) -> GroupInfo | None:
        """Who is in the group; None where brokers can't tell."""
        try:
            return describe_group(self._admin, self._what.group_name, timeout=self._left())
        except KafkaClientError as error:
            if error.name == "_UNSUPPORTED_FEATURE":
                return None
            raise

    def _look(self, numbers: list[int], offsets: GroupOffsets) -> None:
        """Take the ends, and where the group stands."""
        topic = self._what.topic
        partitions = [(topic, number) for number in numbers]
        self._ends = _by_number(ends_of(self._admin, partitions, timeout=self._left()))
        starts = _by_number(starts_of(self._admin, partitions, timeout=self._left()))
        committed = _by_number(offsets.committed(partitions, timeout=self._left()))
        for number, end in self._ends.items():
            # What retention has removed is not there to be consumed, and a commit past the end is of an older
            # topic of the same name.
            self._from[number] = min(max(committed.get(number, 0), starts[number]), end)
        self._stands = dict(self._from)
        # Where nothing is committed yet, the end is, though there may be no message: so that the group begins
        # there and not at the start or at an end that has moved on.
        self._pending = {number for number, end in self._ends.items() if committed.get(number) != end}

    def _commit_from_outside(self, known: GroupInfo | None) -> None:
        """Commit for a group that has no member; what is pending afterwards needs one."""
        topic, group = self._what.topic, self._what.group_name
        for some in _chunks(sorted(self._pending), _AT_ONCE):
            if self._stop.is_set():
                raise DrainError("the drain was interrupted")
            wanted = {(topic, number): self._ends[number] for number in some}
            try:
                commit_offsets(self._admin, group, wanted, timeout=self._left())
            except KafkaClientError as error:
                if error.name not in GONE_ON:
                    raise
                # The group has members, or had some once and the broker is strict.
                if known is not None and not self._config.live_members:
                    raise self._refusal("members that came since the drain began") from error
                return
            self._done(some)

    def _commit_as_member(self, offsets: GroupOffsets, *, ask_who: bool) -> None:
        """Commit as a member of the group: what is assigned to this one; the others have to do the rest."""
        with ExitStack() as stack:
            member = self._joined(stack, ask_who)
            if not self._config.live_members and self._others(member):
                raise self._refusal("other live members")
            self._commit_own(member, offsets)
            while self._pending:
                # A rebalance may give this member more, and the others may consume what is theirs.
                if not all(member.poll(self._until - _LAST_LOOK) for _ in range(_POLLS)):
                    raise self._too_late("other members have the rest, and did not consume it")
                self._commit_own(member, offsets)

    def _joined(self, stack: ExitStack, ask_who: bool) -> Member:
        """A member of the group, with an assignment, that `stack` has leave it again."""
        config = self._config.member(self._what.topic, self._what.group_name)
        while time.monotonic() < self._until and not self._stop.is_set():
            with ExitStack() as attempt:
                member = attempt.enter_context(Member(config, self._stop, watch_others=ask_who))
                # A busy embedded broker may forget a member that waits, without a word.
                if member.join(min(self._until, time.monotonic() + _PATIENCE) if ask_who else self._until):
                    stack.push(attempt.pop_all())
                    return member
        raise self._too_late("the group gave it no assignment")

    def _others(self, member: Member) -> bool:
        """Whether there are other members, as far as can be told without asking the broker."""
        return member.others if member.others is not None else bool(self._ends.keys() - member.assigned)

    def _commit_own(self, member: Member, offsets: GroupOffsets) -> None:
        topic = self._what.topic
        pending = [(topic, number) for number in self._pending]
        stands = _by_number(offsets.committed(pending, timeout=self._left()))
        # Whoever had it before may have come further than the ends that were taken at the start.
        self._done(number for number, offset in stands.items() if offset >= self._ends[number])
        for some in _chunks(sorted(self._pending & member.assigned), _AT_ONCE):
            try:
                member.commit({number: self._ends[number] for number in some}, self._until)
            except KafkaClientError as error:
                if error.name not in GONE_ON:
                    raise
                return
            self._done(some)

    def _done(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self._stands[number] = self._ends[number]
            self._pending.discard(number)
        self._tell()

    def _tell(self) -> None:
        done = sum(offset - self._from[number] for number, offset in self._stands.items())
        total = sum(end - self._from[number] for number, end in self._ends.items())
        self._report(DrainProgress(self._what.topic, self._what.group_name, done, total))

    def _left(self) -> float:
        if self._stop.is_set():
            raise DrainError("the drain was interrupted")
        left = self._until - time.monotonic()
        if left <= 0:
            raise self._too_late("the cluster was too slow")
        return left

    def _too_late(self, why: str) -> DrainError:
        if self._stop.is_set():
            return DrainError("the drain was interrupted")
        return DrainError(
            f"not drained within {self._config.timeout:g} s: {why}",
            log_data={"partitions": sorted(self._pending)},
        )

    def _refusal(self, what: str) -> DrainError:
        return DrainError(
            f"group {self._what.group_name!r} has {what}. They would go on from where they are: "
            "stop them first, or drain with live_members=True",
            log_data={"topic": self._what.topic, "group": self._what.group_name},
        )


def _counted(group: GroupInfo) -> str:
    count = len(group.members)
    shown = [f"{member.client_id} at {member.host}" for member in group.members]
    names = ", ".join(shown[:3]) + (" …" if count > 3 else "")
    return f"{count} live member{'' if count == 1 else 's'}: {names}"


def _by_number(offsets: Mapping[tuple[str, int], int]) -> dict[int, int]:
    return {number: offset for (_, number), offset in offsets.items()}


def _chunks(numbers: list[int], size: int) -> list[list[int]]:
    return [numbers[first : first + size] for first in range(0, len(numbers), size)]
