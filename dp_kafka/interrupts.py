"""Signal handlers, and log handlers, that come on top of a call of their own thread, and close a client.

The call goes on only when the handler returns. So the handler must not wait for what needs the call to go on:
a lock that it holds, or an end that it has begun. The lock of a log handler is one of those.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

__all__ = ["Beginning", "calls_under_way", "in_a_log_handler", "is_owned"]

T = TypeVar("T")


def is_owned(lock: Any) -> bool:
    """Whether the calling thread holds this reentrant lock, or this condition of one."""
    owned: bool = lock._is_owned()
    return owned


def calls_under_way(kind: type[T]) -> Iterator[T]:
    """The objects of a type in whose methods the calling thread is; a signal handler asks.

    Where each message takes a lock, one that knew its owner would cost too much.
    """
    frame = sys._getframe(1).f_back
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, kind):
            yield owner
        frame = frame.f_back


def in_a_log_handler() -> bool:
    """Whether the calling thread is in a handler of Python's logging, and so holds the lock of that.

    A thread of the library that logs there, or users' code that it runs, waits until the call is over.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        # This takes the lock, round `emit`. What a handler calls itself elsewhere is done without.
        if frame.f_code.co_name == "handle":
            handler = frame.f_locals.get("self")
            if isinstance(handler, logging.Handler) and handler.lock is not None:
                return True
        frame = frame.f_back
    return False


class Beginning:
    """That something is begun once, whoever begins it: several threads, or a handler on top of one.

    What fails, such as by a Ctrl-C in the middle of it, was not begun, and the next one begins it.
    """

    def __init__(self) -> None:
        #: Whose attempt is the first, under one key. To find nobody there and to write it is one step, in
        #: which no handler can come, and behind which everybody sees whose it is.
        self._first: dict[str, object] = {}
        self._local = threading.local()

    @contextmanager
    def attempt(self) -> Iterator[bool]:
        """Gives whether this is the first attempt; what it stands around is the beginning."""
        before, attempt = self.interrupted(), object()
        self._local.under_way = True
        try:
            yield self._first.setdefault("attempt", attempt) is attempt
        except BaseException:
            if self._first.get("attempt") is attempt:
                del self._first["attempt"]
            raise
        finally:
            self._local.under_way = before

    def interrupted(self) -> bool:
        """Whether the calling thread is in the middle of an attempt."""
        under_way: bool = getattr(self._local, "under_way", False)
        return under_way
