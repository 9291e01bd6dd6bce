"""A consumer group in memory: who is a member, who owns which partitions, and what is committed.

Rebalances are those of the classic protocol: every member gives back all it has, and when the last one has,
all get their new partitions. A member learns of it, and answers, when it polls. The cluster's lock guards
everything here; callbacks run outside of it, in the member's own thread.

    rebalance ──▶ each member: REVOKE ──polls──▶ given back ──▶ all have: ASSIGN to each ──polls──▶ owned
    lose      ──▶ this member: LOST, out of the group at once ──polls──▶ it joins again: rebalance
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

__all__ = ["Change", "Commit", "Group", "Member", "Partition"]


class Partition(NamedTuple):
    """A partition of a topic."""

    topic: str
    number: int


class Commit(NamedTuple):
    """A committed offset with its metadata."""

    offset: int
    metadata: str


class Change(enum.Enum):
    """What a member has to be told when it polls next."""

    ASSIGN = "assign"
    REVOKE = "revoke"
    LOST = "lost"


class Member:
    """One consumer's place in its group."""

    def __init__(self, topics: Iterable[str]) -> None:
        self.topics = frozenset(topics)
        #: What it was given and has not given back.
        self.owned: list[Partition] = []
        #: Whether it has an assignment, though it may be empty.
        self.assigned = False
        #: Whether it fetches what it owns: it has been told of all of it.
        self.fetching = False
        #: Changes that it has not been told of, in their order.
        self.changes: deque[tuple[Change, list[Partition]]] = deque()


class Group:
    """The coordinator's view of one group."""

    def __init__(self, partitions_of: Callable[[str], list[Partition]]) -> None:
        self._partitions_of = partitions_of
        self.members: list[Member] = []
        self.committed: dict[Partition, Commit] = {}
        #: How many assignments the group has had.
        self.generation = 0
        #: A member that is told to give back, and has not yet.
        self._awaited: list[Member] = []

    def join(self, member: Member) -> None:
        """A new member: everybody gives back, and gets anew."""
        self.members.append(member)
        self.rebalance()

    def leave(self, member: Member) -> None:
        """A member goes, and what it had goes to the others."""
        if member in self.members:
            self.members.remove(member)
            self._forget(member)
            self.rebalance()

    def rebalance(self) -> None:
        """Have every member give back what it has."""
        for member in self.members:
            # An assignment that it has not heard of yet is not made.
            member.changes = deque(change for change in member.changes if change[0] is not Change.ASSIGN)
            if member.assigned and member not in self._awaited:
                self._awaited.append(member)
                member.fetching = False
                member.changes.append((Change.REVOKE, list(member.owned)))
        self._assign_if_all_have_given_back()

    def given_back(self, member: Member) -> None:
        """A member has been told to give back, and has."""
        self._forget(member)
        self._assign_if_all_have_given_back()

    def lose(self, member: Member, partitions: list[Partition] | None) -> None:
        """Take partitions from a member without asking it: these alone, or (None) all, and its membership."""
        if partitions is not None:
            member.owned = [partition for partition in member.owned if partition not in partitions]
            member.fetching = False
            member.changes.append((Change.LOST, partitions))
            return
        lost = list(member.owned)
        self.members.remove(member)
        self._forget(member)
        member.changes.clear()
        member.changes.append((Change.LOST, lost))
        self.rebalance()

    def told_of_loss(self, member: Member, partitions: list[Partition]) -> None:
        """A member has heard of its loss: it comes back, or gets what it lost anew."""
        if member not in self.members:
            self.join(member)
        elif member not in self._awaited:
            member.changes.append((Change.ASSIGN, partitions))

    def _forget(self, member: Member) -> None:
        member.owned = []
        member.assigned = member.fetching = False
        if member in self._awaited:
            self._awaited.remove(member)

    def _assign_if_all_have_given_back(self) -> None:
        if self._awaited or not self.members:
            return
        self.generation += 1
        shares: dict[Member, list[Partition]] = {member: [] for member in self.members}
        turn = 0
        for topic in sorted({topic for member in self.members for topic in member.topics}):
            subscribed = [member for member in self.members if topic in member.topics]
            for partition in self._partitions_of(topic):
                shares[subscribed[turn % len(subscribed)]].append(partition)
                turn += 1
        for member, share in shares.items():
            member.changes.append((Change.ASSIGN, share))
