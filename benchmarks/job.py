"""The user's work on a message, the same on both sides, and the clock of a consuming run."""

from __future__ import annotations

import itertools
import threading

from benchmarks.pairs import Clock, Result

__all__ = ["PATIENCE", "Job", "payload"]

#: How long a run may take before it counts as stuck, in seconds.
PATIENCE = 120.0


class Job:
    """Looks at a value and counts; any thread.

    The clock runs from the `first` message to the last: joining the group and filling the first buffer is the
    same for everybody, and none of what is compared.
    """

    def __init__(self, messages: int) -> None:
        self.messages = messages
        self._first = max(1, messages // 50)
        self._counter = itertools.count(1)
        self._clock: Clock | None = None
        self._result: Result = {}
        self.done = threading.Event()

    def __call__(self, value: bytes | None) -> None:
        """Handle one message."""
        number = next(self._counter)
        if number >= self.messages:
            if number == self.messages:
                assert self._clock is not None
                self._result = self._clock.stop(self.messages - self._first)
                self.done.set()
        elif number == self._first:
            self._clock = Clock()
        if not value:
            raise ValueError("a message of the benchmark lost its value")

    def result(self) -> Result:
        """What the run measured, once all messages are done.

        Raises:
            TimeoutError: they were not handled in time.
        """
        if not self.done.wait(PATIENCE):
            raise TimeoutError(f"{self.messages} messages were not handled within {PATIENCE:g} seconds")
        return self._result


def payload(size: int) -> bytes:
    """A value of `size` bytes that no compression makes small."""
    return bytes((index * 2654435761 >> 13) & 0xFF for index in range(size))
