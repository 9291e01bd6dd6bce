"""The offsets of one partition: which are finished, and how far it is safe to commit. Pure logic."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

__all__ = ["OffsetTracker"]


class OffsetTracker:
    """Keeps invariant 1: the commit point never passes an offset that is not finished.

    Offsets come in the order of the partition, with gaps where the log was compacted or holds
    transaction markers; they may be finished in any order. Its owner holds a lock around every call. The
    poll thread glances at `commit_point`, `blocking` and the size of `finished` without it.
    """

    __slots__ = ("_pending", "changes", "commit_point", "finished")

    def __init__(self) -> None:
        #: The offset to commit (that of the next message to handle), or None while nothing is finished.
        self.commit_point: int | None = None
        #: Grows with every change of what a commit would say.
        self.changes = 0
        #: Delivered, and not yet passed by the commit point; ascending.
        self._pending: deque[int] = deque()
        #: Those of `_pending` that are finished beyond one that is not; read only, but by this class.
        self.finished: set[int] = set()

    def start(self, commit_point: int) -> None:
        """Begin with something to commit, although nothing is finished."""
        self.commit_point = commit_point
        self.changes += 1

    def add(self, offsets: Iterable[int]) -> None:
        """Note offsets that the broker delivered, in ascending order."""
        self._pending.extend(offsets)

    def finish(self, offset: int) -> bool:
        """Note that a message is finished; False if it already was, or was never delivered."""
        pending = self._pending
        if not pending:
            return False
        if pending[0] != offset:
            if not pending[0] < offset <= pending[-1] or offset in self.finished:
                return False
            self.finished.add(offset)
            self.changes += 1
            return True
        pending.popleft()
        finished = self.finished
        while finished and pending and pending[0] in finished:
            offset = pending.popleft()
            finished.discard(offset)
        self.commit_point = offset + 1
        self.changes += 1
        return True

    def finish_first(self, count: int) -> None:
        """The lowest `count` delivered offsets are finished, and none beyond them is."""
        popleft = self._pending.popleft
        offset = -1
        for _ in range(count):
            offset = popleft()
        self.commit_point = offset + 1
        self.changes += 1

    def finish_row(self, first: int, last: int, count: int) -> bool:
        """`count` offsets from `first` to `last` are finished, if they are the lowest delivered ones.

        False, and nothing is finished, if they are not.
        """
        pending = self._pending
        if len(pending) < count or pending[0] != first or pending[count - 1] != last:
            return False
        self.finish_first(count)
        return True

    @property
    def blocking(self) -> int | None:
        """The lowest delivered offset that is not finished: the one that holds the commit point back."""
        try:
            return self._pending[0]
        except IndexError:  # not looked at before: the poll thread glances at it without its owner's lock
            return None

    def __len__(self) -> int:
        """How many delivered offsets the commit point has not passed."""
        return len(self._pending)

    def __repr__(self) -> str:
        beyond = len(self.finished)
        return f"<OffsetTracker commit_point={self.commit_point} pending={len(self)} beyond={beyond}>"
