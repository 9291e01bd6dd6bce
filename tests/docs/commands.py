"""Checks commands that a page shows: what they name must exist, and take the options they are given."""

from __future__ import annotations

import configparser
import contextlib
import importlib.util
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator

import dp_kafka.cli
from dp_kafka import KafkaSettings

from .pages import ROOT, Block

#: Commands of the system, of which a page may show any.
_OTHERS = {"cd", "curl", "docker", "echo", "git", "jq", "kill", "printf", "seq", "source"}
#: The folders in which commands are shown to be called; a page changes to another one by `cd`.
_FOLDERS = (ROOT, ROOT / "examples" / "flask_service")
_SEPARATORS = {"|", "||", "&&", ";", "&"}


def shown(block: Block) -> Iterator[str]:
    """The commands of a block: the lines after `$` in `console`, every line in `sh`."""
    for line in block.text.replace("\\\n", " ").splitlines():
        if block.language == "console" and line.startswith("$ "):
            yield line[2:]
        elif block.language == "sh" and line.strip() and not line.startswith("#"):
            yield line


def check(line: str) -> None:
    """Raises AssertionError for a command that does not exist, or that this check does not know."""
    for words in _simple_commands(line):
        while words and (assigned := re.match(r"([A-Z_]+)=", words[0])):
            _check_variable(assigned[1])
            words = words[1:]
        if not words or words[0] in _OTHERS:
            continue
        name = words[0].rsplit("/", 1)[-1]
        known = _KNOWN.get(name)
        assert known is not None, f"no check for the command {words[0]!r}: add one, or show another"
        known(words[1:])


def _simple_commands(line: str) -> Iterator[list[str]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in lexer:
        if word in _SEPARATORS:
            yield words
            words = []
        elif word not in ("<", ">"):
            words.append(word)
    yield words


def _check_variable(name: str) -> None:
    documented = KafkaSettings.__doc__ or ""
    assert re.search(rf"\b{name}\b", documented) or name == "PYTHON", f"{name} is read by nobody"


def _make(words: list[str]) -> None:
    targets = [word for word in words if "=" not in word]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(
        ["make", "--dry-run", *targets],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def _python(words: list[str]) -> None:
    if words[0] == "-m":
        module, arguments = words[1], words[2:]
        if module == "dp_kafka":
            _dp_kafka(arguments)
        elif module == "pytest":
            _exist([word for word in arguments if "/" in word])
        else:
            assert importlib.util.find_spec(module) is not None, f"there is no module {module}"
        return
    script, options = words[0], [word for word in words[1:] if word.startswith("--")]
    _exist([script])
    if options:
        done = subprocess.run(
            [sys.executable, script, "--help"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        for option in options:
            assert option in done.stdout, f"{script} has no option {option}"


def _exist(paths: list[str]) -> None:
    for path in paths:
        found = [folder for folder in _FOLDERS if (folder / path.partition("::")[0]).exists()]
        assert found, f"there is no {path}"


def _dp_kafka(words: list[str]) -> None:
    """The command's own help: it parses what stands before, and shows the options that there are."""
    depth = 2 if words[0] in ("acls", "topics") else 1
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        dp_kafka.cli.main([*words[:depth], "--help"])
    text = out.getvalue()
    assert "usage" in text.lower(), f"there is no command dp-kafka {' '.join(words)}"
    for word in words[depth:]:
        option = word.partition("=")[0]
        assert not option.startswith("--") or option in text, f"dp-kafka {words[0]} has no option {option}"


def _pip(words: list[str]) -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    for word in words:
        if asked := re.search(r"\[(.*)\]$", word):
            extras = set(asked[1].split(","))
            assert extras <= set(settings["options.extras_require"]), f"there is no such extra: {word}"


def _gunicorn(words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gunicorn", "--help"], capture_output=True, text=True, timeout=30, check=True
    )
    for word in words:
        if word.startswith("--"):
            assert word.partition("=")[0] in done.stdout, f"gunicorn has no option {word}"


_KNOWN: dict[str, Callable[[list[str]], None]] = {
    "make": _make,
    "python": _python,
    "python3": _python,
    "dp-kafka": _dp_kafka,
    "pip": _pip,
    "gunicorn": _gunicorn,
}
