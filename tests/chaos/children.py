"""The consumer and producer processes of a run: started, killed, stalled, asked to end, and seen to end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.chaos.journal import Journal
from tests.chaos.settings import Settings

__all__ = ["Child", "Children"]

_ROOT = Path(__file__).parents[2]
#: A process that hangs gets this long to write its stacks.
_STACKS_SECONDS = 5.0


class Child:
    """One process. What is done to it is written into the conductor's journal."""

    def __init__(self, name: str, module: str, directory: Path, settings: Settings, journal: Journal) -> None:
        self.name = name
        self.stalled = False
        #: Until when it has to have ended; None while nobody asked it to.
        self.deadline: float | None = None
        self._limit = settings.end_limit
        self._journal = journal
        with (directory / f"{name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, settings.to_json(), str(directory / f"{name}.jsonl")],
                cwd=_ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._write("started", pid=self._process.pid)

    def _write(self, what: str, **fields: object) -> None:
        self._journal.write(what, name=self.name, **fields)

    @property
    def asked(self) -> bool:
        """Whether it was asked to end."""
        return self.deadline is not None

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        self._write("killed")
        self._process.kill()
        self._process.wait()
        self._write("ended", code=self._process.returncode)

    def ask(self) -> None:
        """SIGTERM; it has `end_limit` seconds."""
        self._write("asked")
        self.deadline = time.monotonic() + self._limit
        self._process.terminate()

    def stall(self) -> None:
        """SIGSTOP."""
        self._write("stalled")
        self.stalled = True
        os.kill(self._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        self.stalled = False
        self._process.send_signal(signal.SIGCONT)
        self._write("resumed")

    def has_ended(self, now: float) -> bool:
        """Whether it has ended, which is written. One that is past its deadline writes its stacks first."""
        code = self._process.poll()
        if code is None and self.deadline is not None and now > self.deadline:
            self._write("hung")
            self._process.send_signal(signal.SIGUSR1)
            try:
                code = self._process.wait(_STACKS_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                code = self._process.wait()
        if code is None:
            return False
        self._write("ended", code=code)
        return True

    def put_down(self) -> None:
        """End it in any case, when the run is broken off."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


class Children:
    """All processes that run; used by one thread at a time."""

    def __init__(self, directory: Path, settings: Settings, journal: Journal) -> None:
        self._directory = directory
        self._settings = settings
        self._journal = journal
        self._members = 0
        self.all: list[Child] = []

    def add_member(self) -> Child:
        """Start one more consumer process."""
        self._members += 1
        return self._start(f"member-{self._members:03}", "tests.chaos.member")

    def add_producer(self, number: int) -> Child:
        """Start a producer process."""
        return self._start(f"producer-{number}", "tests.chaos.sender")

    def _start(self, name: str, module: str) -> Child:
        child = Child(name, module, self._directory, self._settings, self._journal)
        self.all.append(child)
        return child

    def members(self) -> list[Child]:
        """The consumers that were not asked to end."""
        return [each for each in self.all if each.name.startswith("member") and not each.asked]

    def producers(self) -> list[Child]:
        """The producers that run."""
        return [each for each in self.all if each.name.startswith("producer")]

    def kill(self, child: Child) -> None:
        """SIGKILL to one."""
        child.kill()
        self.all.remove(child)

    def collect(self) -> None:
        """Take out of the list who has ended."""
        now = time.monotonic()
        self.all = [each for each in self.all if not each.has_ended(now)]

    def wait(self, group: list[Child]) -> None:
        """Wait until processes that were asked to end have done so, or are past their deadlines."""
        while any(each in self.all for each in group):
            self.collect()
            time.sleep(0.05)  # between two looks at other processes

    def put_down(self) -> None:
        """End all in any case."""
        for child in self.all:
            child.put_down()
