"""The distributions as users get them: `make test-wheel` runs this, `make test` does not.

PYTHONS says on which Pythons: "all" that the machine has and the library supports, or "running", which also
leaves out the extras of those who work on the library.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from . import pythons, smoke
from .environments import Distributions, Environment, built
from .pythons import ROOT, Python

pytestmark = pytest.mark.timeout(900)

ALL = os.environ.get("PYTHONS", "all") == "all"
PYTHONS = pythons.found() if ALL else [pythons.running()]
#: Extras of users, which can be combined in any way.
USERS = tuple(smoke.WITHOUT)
#: Those of whoever works on it. The clients to compare with want other versions of what the others need.
ALONE = [extra for extra in smoke.EXTRAS if ALL or extra in USERS]

each_python = pytest.mark.parametrize("python", PYTHONS, ids=lambda python: python.minor)


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    base = tmp_path_factory.getbasetemp()
    # With pytest-xdist each process has a folder of its own in that of the run.
    return built((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "distributions")


@each_python
def test_the_wheel_works_in_a_clean_environment(
    python: Python, distributions: Distributions, tmp_path: Path
) -> None:
    environment = Environment(python, tmp_path)
    environment.install(distributions.wheel)
    assert f"{'.'.join(map(str, python.version))}: " in environment.smoke()


@each_python
def test_the_source_distribution_works_in_a_clean_environment(
    python: Python, distributions: Distributions, tmp_path: Path
) -> None:
    environment = Environment(python, tmp_path)
    environment.install(distributions.sdist)
    environment.smoke()


@each_python
def test_the_extras_of_users_work_together(
    python: Python, distributions: Distributions, tmp_path: Path
) -> None:
    environment = Environment(python, tmp_path)
    environment.install(distributions.wheel, USERS)
    environment.smoke(*USERS)


@pytest.mark.parametrize("extra", ALONE)
def test_each_extra_works_alone(extra: str, distributions: Distributions, tmp_path: Path) -> None:
    environment = Environment(pythons.running(), tmp_path)
    environment.install(distributions.wheel, (extra,))
    environment.smoke(extra)


def test_the_source_distribution_has_what_a_packager_needs(distributions: Distributions) -> None:
    with tarfile.open(distributions.sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
    wanted = {"LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile", "setup.cfg", "setup.py"}
    assert wanted <= names
    for folder in ("dp_kafka", "tests", "docs", "examples", "benchmarks"):
        here = {
            path.relative_to(ROOT).as_posix()
            for path in (ROOT / folder).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        assert here - names == set(), f"the source distribution lacks files of {folder}"
    assert "dp_kafka/py.typed" in names


def test_the_source_distribution_makes_the_wheel_that_the_tree_makes(distributions: Distributions) -> None:
    assert contents(distributions.wheel) == contents(distributions.wheel_of_tree)


def contents(wheel: Path) -> dict[str, str]:
    """The names of a wheel's files, and what is in them; dates may differ."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}
