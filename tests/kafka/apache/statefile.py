"""The file by which the processes of ``up``, ``status`` and ``down`` speak of the same cluster."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import reaper
from .errors import ApacheKafkaError

NAME = "apache-kafka.json"


@dataclass(frozen=True)
class StateFile:
    """What ``up`` leaves behind. Read by the owner alone: it may hold passwords."""

    version: str
    options: dict[str, Any]
    token: str
    data_dir: str
    addresses: dict[str, list[str]]
    users: dict[str, str]
    certs_dir: str | None
    pids: dict[str, int]

    def write(self, state_dir: Path) -> None:
        """Writes it in one step: a reader sees the old file or the new one."""
        state_dir.mkdir(parents=True, exist_ok=True)
        path = state_dir / NAME
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.touch(mode=0o600)
        temporary.write_text(json.dumps(asdict(self), indent=2) + "\n")
        temporary.replace(path)

    @property
    def running(self) -> list[int]:
        """Process ids of its brokers that live."""
        return reaper.find(self.token)


@contextlib.contextmanager
def alone(state_dir: Path) -> Iterator[None]:
    """Keeps other processes from taking the same cluster up or down during the block (they wait)."""
    state_dir.mkdir(parents=True, exist_ok=True)
    with (state_dir / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def read(state_dir: Path) -> StateFile | None:
    """The state of the cluster that ``up`` left in the directory; None when there is none."""
    path = state_dir / NAME
    try:
        return StateFile(**json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise ApacheKafkaError(f"{path} is not a state file of this launcher: remove it") from error


def down(state_dir: Path) -> int:
    """Ends the brokers of a state file, removes their data and the file; how many brokers it ended."""
    state = read(state_dir)
    if state is None:
        return 0
    ended = reaper.reap(state.token, [Path(state.data_dir)])
    (state_dir / NAME).unlink()
    return ended
