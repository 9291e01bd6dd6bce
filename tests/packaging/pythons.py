"""Which Pythons this machine has, of those that the library supports."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

_ASK = "import ensurepip, sys, venv; print(sys.base_prefix, sys.implementation.name, *sys.version_info[:3])"


@dataclass(frozen=True)
class Python:
    """An interpreter that can make virtual environments."""

    command: str
    version: tuple[int, int, int]

    @property
    def minor(self) -> str:
        """As in 3.12."""
        return f"{self.version[0]}.{self.version[1]}"


def running() -> Python:
    """The one that runs this."""
    return Python(sys.executable, sys.version_info[:3])


def supported() -> list[str]:
    """The versions that setup.cfg says it runs on, as in 3.12."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    prefix = "Programming Language :: Python :: 3."
    return [
        line.removeprefix("Programming Language :: Python :: ").strip()
        for line in setup["metadata"]["classifiers"].splitlines()
        if line.startswith(prefix)
    ]


def found() -> list[Python]:
    """One Python of each supported version, the newest that there is; the running one for its version."""
    best = {running().minor: running()}
    for command in _candidates():
        version = _version(command)
        if version is None:
            continue
        python = Python(command, version)
        known = best.get(python.minor)
        if python.minor in supported() and (
            known is None or (known.command != sys.executable and known.version < version)
        ):
            best[python.minor] = python
    return sorted(best.values(), key=lambda python: python.version)


def _candidates() -> Iterator[str]:
    for version in supported():
        command = shutil.which(f"python{version}")
        if command is not None:
            yield command
    home = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from map(str, sorted(home.glob("versions/*/bin/python")))


def _version(command: str) -> tuple[int, int, int] | None:
    """Its version; None for what does not run, or cannot make a virtual environment."""
    try:
        asked = subprocess.run(
            [command, "-I", "-c", _ASK], capture_output=True, text=True, timeout=30, check=False
        )
    except OSError:
        return None
    words = asked.stdout.split()
    if asked.returncode != 0 or len(words) != 5 or words[1] != "cpython":
        return None
    return int(words[2]), int(words[3]), int(words[4])
