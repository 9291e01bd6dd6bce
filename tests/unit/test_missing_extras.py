"""What needs an extra that is not installed says how to install it; each place that says so has a test."""

from __future__ import annotations

import configparser
import importlib
import re
import sys
from pathlib import Path

import pytest

from dp_kafka import DpKafkaError
from dp_kafka.cli.commands.manifest import read_manifest
from tests.packaging import smoke

ROOT = Path(__file__).parents[2]

#: Where the library names an extra to install, and the test that hides the package to see it named.
NAMED = {
    ("dp_kafka/avro/engines.py", "fast"): "test_without_fastavro_the_avro_package_does_it",
    ("dp_kafka/cli/__init__.py", "cli"): (
        "test_without_click_the_demo_runs_and_other_commands_name_the_extra"
    ),
    ("dp_kafka/cli/commands/manifest.py", "cli"): "test_a_manifest_without_pyyaml_names_the_extra",
    ("dp_kafka/codecs/json.py", "fast"): "test_json_without_orjson",
    ("dp_kafka/codecs/registry.py", "registry"): "test_without_its_packages_it_says_what_to_install",
    ("dp_kafka/config/telemetry.py", "otel"): ("test_what_is_missing_is_named_with_the_extra_that_brings_it"),
}


def test_a_manifest_without_pyyaml_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(DpKafkaError, match=r"pip install 'dp-kafka\[cli\]'"):
        read_manifest(tmp_path / "manifest.yml", app=None, domain=None)


def test_every_place_that_names_an_extra_names_one_that_exists_and_has_a_test() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    named = {
        (path.relative_to(ROOT).as_posix(), extra)
        for path in ROOT.glob("dp_kafka/**/*.py")
        for extra in re.findall(r"pip install 'dp-kafka\[([^\]]*)\]'", path.read_text())
    }
    assert named == set(NAMED)
    assert {extra for _, extra in named} <= set(setup["options.extras_require"])
    tests = "\n".join(path.read_text() for path in ROOT.glob("tests/**/test_*.py"))
    assert [test for test in NAMED.values() if f"def {test}(" not in tests] == []


def test_every_extra_is_tried_by_the_tests_of_the_distributions() -> None:
    """`make test-wheel` installs each alone; a new one needs a function there that says what it brings."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert set(smoke.EXTRAS) == set(setup["options.extras_require"])


def test_every_import_that_may_fail_says_what_to_install() -> None:
    """Or goes without it, as the codecs do with what makes them faster."""
    guarded = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.glob("dp_kafka/**/*.py")
        if re.search(r"except \(?(ImportError|ModuleNotFoundError)", path.read_text())
    }
    assert guarded <= {place for place, _ in NAMED}


@pytest.mark.parametrize("package", ["dp_kafka.codecs", "dp_kafka.health"])
def test_a_name_that_a_package_has_not_is_an_attribute_error_with_it(package: str) -> None:
    """Their names are imported when somebody asks for them; `hasattr` and typing errors work as elsewhere."""
    module = importlib.import_module(package)
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'Jsoncodec'"):
        _ = module.Jsoncodec
    assert not hasattr(module, "Jsoncodec")
