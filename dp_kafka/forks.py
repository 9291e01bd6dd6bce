"""What becomes of live clients in a forked child: they refuse to be used, and they cannot hang it.

A fork copies memory, but no thread but the one that forks. So a client of the parent can do nothing in the
child: librdkafka's threads and ours are not there, a lock that one of them held stays held for ever, and to
destroy the Kafka client may wait for threads that will never answer. Therefore, in the child:

- every public method of a client made before the fork raises `ForkedError`, and `close()` returns at once;
- its Kafka client is never destroyed, so the child's end does not wait for it;
- a client that is made in the child is not affected.

It costs nothing outside a fork: methods are covered in the child, not checked in the parent.
"""

from __future__ import annotations

import ctypes
import logging
import os
import weakref
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from dp_kafka.errors import ForkedError
from dp_kafka.logs import log_error

__all__ = ["forked_error", "keep", "refuse", "refuser", "track"]

logger = logging.getLogger("dp_kafka.forks")

_Owner = TypeVar("_Owner")

#: Every live client object, and what to do with it in a forked child. Any thread adds; the one thread of a
#: child reads.
_live: weakref.WeakKeyDictionary[Any, Callable[[Any], None]] = weakref.WeakKeyDictionary()


def track(owner: _Owner, after_fork: Callable[[_Owner], None]) -> None:
    """Call `after_fork(owner)` in every forked child, while `owner` lives.

    It must take no lock, as the thread that held it may not exist there. Give a plain function: a bound
    method would keep `owner` alive.
    """
    _live[owner] = after_fork


def keep(client: object) -> None:
    """Never let this Kafka client be destroyed in this process, not even when the interpreter ends."""
    if client is not None:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(client))


def refuse(owner: object, kind: str, *, but: tuple[str, ...] = ()) -> None:
    """Make every public method of `owner` raise `ForkedError`, except those named in `but`."""
    refused = refuser(kind)
    for name in dir(type(owner)):
        if not name.startswith("_") and name not in but and callable(getattr(type(owner), name)):
            # On the instance, where it comes before the class's own.
            setattr(owner, name, refused)


def forked_error(kind: str) -> ForkedError:
    """The error for the use of a parent's client."""
    return ForkedError(
        f"this {kind} was made before os.fork(), and its threads do not exist in this child process: make it "
        "after the fork (gunicorn: in the post_fork hook, or without --preload; multiprocessing: in the "
        'child\'s own function, or with the start method "spawn")',
        log_data={"pid": os.getpid()},
    )


def refuser(kind: str) -> Callable[..., NoReturn]:
    """A function that raises that error, whatever it is called with."""

    def refused(*_args: object, **_kwargs: object) -> NoReturn:
        raise forked_error(kind)

    return refused


def _after_fork_in_child() -> None:
    for owner, after_fork in list(_live.items()):
        try:
            after_fork(owner)
        except Exception as error:  # noqa: BLE001  # the others have to be switched off all the same
            log_error(logger, "a client of the parent process could not be switched off in the child", error)
    # Done with: a child of this child finds them as they are now.
    _live.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)
