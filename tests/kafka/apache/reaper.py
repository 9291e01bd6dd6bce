"""Ends the brokers of a cluster whose owner is gone, and removes their data.

Brokers are found by a token in their command line, unique to their cluster: a process id that the system has
given to another program meanwhile is never signalled.

As a script (``python reaper.py TOKEN DIR…``) it is a cluster's leash: it waits until its standard input
closes, which happens however its owner ends (SIGKILL included), and then reaps, unless it read ``detach``.
Only the standard library is imported, so that it starts fast and stays small.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

#: Seconds between two looks at processes that are not our children, for which there is nothing to wait on.
_LOOK = 0.05


def token_option(token: str) -> str:
    """The argument that marks a cluster's processes."""
    return f"-Ddp_kafka.cluster={token}"


def find(token: str) -> list[int]:
    """Process ids of a cluster's living processes; zombies have no command line and are not among them."""
    mark = token_option(token)
    return [pid for pid, arguments in _processes() if mark in arguments]


def _processes() -> list[tuple[int, list[str]]]:
    proc = Path("/proc")
    if (proc / "self" / "cmdline").exists():
        found = []
        for entry in proc.iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):  # it ended while we looked, or belongs to another user
                    arguments = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                    found.append((int(entry.name), arguments))
        return found
    listing = subprocess.run(
        ["ps", "-axww", "-o", "pid=,args="], capture_output=True, text=True, timeout=10, check=True
    ).stdout
    return [(int(line.split()[0]), line.split()[1:]) for line in listing.splitlines()]


def reap(token: str, directories: Sequence[Path], grace: float = 5.0) -> int:
    """Ends a cluster's processes (SIGTERM, after ``grace`` seconds SIGKILL), then removes the directories.

    Returns how many processes there were. Raises TimeoutError when one survives SIGKILL for 10 s.
    """
    pids = find(token)
    for pid in pids:
        signal_process(pid, signal.SIGCONT)
        signal_process(pid, signal.SIGTERM)
    if not _gone(token, grace):
        for pid in find(token):
            signal_process(pid, signal.SIGKILL)
        if not _gone(token, 10.0):
            raise TimeoutError(f"processes {find(token)} survive SIGKILL")
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)
    return len(pids)


def signal_process(pid: int, number: signal.Signals) -> None:
    """Sends a signal to a process that may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _gone(token: str, timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while find(token):
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK)
    return True


def main() -> None:
    """The leash."""
    token, *directories = sys.argv[1:]
    if "detach" not in sys.stdin.read():
        reap(token, [Path(directory) for directory in directories], grace=2.0)


if __name__ == "__main__":
    main()
