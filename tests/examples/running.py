"""Runs an example, or a server with one, as its own process, and waits for what it prints."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import IO, TypeVar

EXAMPLES = Path(__file__).parents[2] / "examples"
#: Seconds for something that is sure to come, on a busy machine too.
PATIENCE = 20.0

_Self = TypeVar("_Self", bound="Running")


class _Reader(threading.Thread):
    """Reads a stream to its end, so that the process never waits for it."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__()
        self._stream = stream
        self.lines: list[str] = []
        #: Put by this thread, taken by the test; None is the end.
        self._queue: queue.Queue[str | None] = queue.Queue()
        self.start()

    def run(self) -> None:
        for line in self._stream:
            self.lines.append(line.decode().rstrip("\n"))
            self._queue.put(self.lines[-1])
        self._queue.put(None)

    def expect(self, pattern: str) -> re.Match[str]:
        """Wait for the next line that contains `pattern`."""
        try:
            while (line := self._queue.get(timeout=PATIENCE)) is not None:
                if found := re.search(pattern, line):
                    return found
        except queue.Empty:
            raise AssertionError(f"no {pattern!r} within {PATIENCE:g} s: {self.lines}") from None
        raise AssertionError(f"it ended without {pattern!r}: {self.lines}")


class Running:
    """A Python that runs until the end of the `with` block, or until it ends by itself.

    Its environment is ours without the variables that examples read, and with those that are given.
    """

    def __init__(self, *arguments: str, folder: Path | None = None, **variables: str) -> None:
        ours = {key: value for key, value in os.environ.items() if not key.startswith("KAFKA_")}
        self._process = subprocess.Popen(
            [sys.executable, "-u", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env={**ours, **variables},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self.stdin: IO[bytes] = self._process.stdin
        self._output = _Reader(self._process.stdout)
        self._log = _Reader(self._process.stderr)

    @property
    def output(self) -> list[str]:
        """The lines that it has printed so far."""
        return self._output.lines

    @property
    def log(self) -> list[str]:
        """The lines that it has logged so far."""
        return self._log.lines

    def expect(self, pattern: str) -> re.Match[str]:
        """Wait for the next line of its output that contains `pattern`."""
        return self._output.expect(pattern)

    def expect_log(self, pattern: str) -> re.Match[str]:
        """Wait for the next line of its log that contains `pattern`."""
        return self._log.expect(pattern)

    def send(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def wait(self, timeout: float = PATIENCE) -> int:
        """Wait until it has ended, and all its output is in `output` and `log`; the exit code."""
        code = self._process.wait(timeout)
        self._output.join(PATIENCE)
        self._log.join(PATIENCE)
        return code

    def end(self, number: int = signal.SIGTERM, *, within: float = PATIENCE) -> int:
        """Send it a signal, and wait until it has ended, `within` seconds; the exit code."""
        self.send(number)
        return self.wait(within)

    def feed(self, text: bytes, *, and_close: bool = False) -> None:
        """Give it some stdin, and perhaps the end of it."""
        self.stdin.write(text)
        self.stdin.flush()
        if and_close:
            self.stdin.close()

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self.wait()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            with contextlib.suppress(BrokenPipeError):  # it ended without reading all of its stdin
                assert stream is not None
                stream.close()


class Example(Running):
    """One of the scripts in examples/, in which warnings are errors."""

    def __init__(self, name: str, *arguments: str, **variables: str) -> None:
        super().__init__("-W", "error", str(EXAMPLES / name), *arguments, **variables)
