"""Owns the way round a lost wake-up in librdkafka's mock cluster, which delays one command in fifty by 1 s.

The mock's thread sleeps in poll() on a pipe and on its sockets. Awake, it first takes the commands from its
queue and then empties the pipe. The sequence of events to protect against: command A's byte is in the pipe,
the thread takes A and answers; the caller queues command B and writes its byte; the thread empties the pipe
of both bytes and goes to sleep. B waits until poll() times out after a second. A connection to one of its
listeners wakes the thread as well, so that is made, and closed again, for a command that takes long.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

__all__ = ["kept_awake"]

_FIRST_AFTER = 0.003  # seconds; a command that was not lost takes a tenth of a millisecond
_LONGEST_PAUSE = 0.25
_CONNECT_TIMEOUT = 0.1


@contextmanager
def kept_awake(addresses: Sequence[tuple[str, int]]) -> Iterator[None]:
    """While the block runs, see to it that the thread behind `addresses` does not sleep over its work."""
    done = threading.Event()
    waker = threading.Thread(
        target=_wake_until, args=(done, addresses), name="dp-kafka:embedded-waker", daemon=True
    )
    try:
        waker.start()
    except RuntimeError:  # at the end of the interpreter no thread can start; then it takes its second
        yield
        return
    try:
        yield
    finally:
        done.set()
        waker.join()


def _wake_until(done: threading.Event, addresses: Sequence[tuple[str, int]]) -> None:
    pause = _FIRST_AFTER
    while not done.wait(pause):
        for address in addresses:
            try:
                socket.create_connection(address, timeout=_CONNECT_TIMEOUT).close()
            except OSError:
                continue  # this broker is down: another one has the same thread
            break
        pause = min(pause * 2, _LONGEST_PAUSE)
