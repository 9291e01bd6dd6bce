"""Distributions of this tree, built once, and clean virtual environments in which they are installed."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

from .pythons import ROOT, Python

SMOKE = Path(__file__).with_name("smoke.py")

#: What would let an environment see more than what was installed in it.
_LEAKS = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")


def run(*command: str | Path, cwd: Path) -> str:
    """What a command prints; an AssertionError with all of it when it fails."""
    environment = {name: value for name, value in os.environ.items() if name not in _LEAKS}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**environment, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


class Distributions:
    """The source distribution of this tree, and the two wheels: built from it, and from the tree."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def sdist(self) -> Path:
        """The source distribution."""
        return self._only("from-sdist", "*.tar.gz")

    @property
    def wheel(self) -> Path:
        """The wheel that the source distribution makes, which is the one that is published."""
        return self._only("from-sdist", "*.whl")

    @property
    def wheel_of_tree(self) -> Path:
        """The wheel that the tree makes."""
        return self._only("from-tree", "*.whl")

    def _only(self, folder: str, pattern: str) -> Path:
        (path,) = (self._folder / folder).glob(pattern)
        return path

    def build(self) -> None:
        """Build them, of a copy of what is under version control: nothing that lies about here gets in."""
        tree = self._folder / "tree"
        for name in run(
            "git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT
        ).splitlines():
            if (ROOT / name).is_file():
                copy = tree / name
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, copy)
        build = (sys.executable, "-m", "build")
        run(*build, "--outdir", self._folder / "from-sdist", tree, cwd=self._folder)
        run(*build, "--wheel", "--outdir", self._folder / "from-tree", tree, cwd=self._folder)


def built(folder: Path) -> Distributions:
    """The distributions, in a folder that all processes of a test run share: the first one builds them."""
    folder.mkdir(exist_ok=True)
    distributions = Distributions(folder)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            distributions.build()
            (folder / "done").touch()
    return distributions


class Environment:
    """A virtual environment with nothing in it but what `install` puts there."""

    def __init__(self, python: Python, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "venv" / "bin" / "python"
        # pip stays outside: it is not what is tested, and takes longer than the rest.
        run(python.command, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)

    def install(self, distribution: Path, extras: tuple[str, ...] = ()) -> None:
        """Install a distribution with its dependencies, and look whether they agree."""
        wanted = f"{distribution}[{','.join(extras)}]" if extras else str(distribution)
        self._pip("install", "--quiet", wanted)
        self._pip("check")

    def smoke(self, *extras: str) -> str:
        """Use what is installed, from outside of this tree; what that said."""
        return run(self.python, "-I", "-W", "error", SMOKE, *extras, cwd=self.folder)

    def _pip(self, *words: str) -> None:
        run(sys.executable, "-m", "pip", "--python", self.python, *words, cwd=self.folder)
