"""Signal handlers that come on top of a call of their own thread, and close the client which that call uses.

The call goes on only when the handler returns. So the handler must not wait for what needs the call to go on:
a lock that it holds, or an end that it has begun.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Beginning", "is_owned"]


def is_owned(lock: Any) -> bool:
    """Whether the calling thread holds this reentrant lock, or this condition of one."""
    owned: bool = lock._is_owned()
    return owned


class Beginning:
    """That something is begun once, whoever begins it: several threads, or a handler on top of one."""

    def __init__(self) -> None:
        #: Taken by the first, for good. To take it is one step, in which no handler can come.
        self._first = threading.Lock()
        self._local = threading.local()

    @contextmanager
    def attempt(self) -> Iterator[bool]:
        """Gives whether this is the first attempt; what it stands around is the beginning."""
        before = self.interrupted()
        self._local.under_way = True
        try:
            yield self._first.acquire(blocking=False)
        finally:
            self._local.under_way = before

    def interrupted(self) -> bool:
        """Whether the calling thread is in the middle of an attempt."""
        under_way: bool = getattr(self._local, "under_way", False)
        return under_way
