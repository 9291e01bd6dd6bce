"""The commands of `dp-kafka`: it owns which module answers to which name, and imports no other.

`demo` needs nothing but the library. Every other name belongs to the module `dp_kafka.cli.commands`, which
may import click and rich (the extra `cli`), offers `main(arguments: list[str]) -> int`, and has its own help.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from collections.abc import Sequence

from dp_kafka._version import __version__

__all__ = ["main"]

_COMMANDS = "dp_kafka.cli.commands"
#: What that module imports beside the library.
_EXTRA = ("click", "rich", "yaml")
_INSTALL = "pip install 'dp-kafka[cli]'"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, by default that of `sys.argv`; gives its exit code.

    Raises `SystemExit` after `--help`, and for a command or an option that is not there.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    name = next(iter(given), None)
    if name == "demo":
        from dp_kafka.cli import demo

        return demo.main(given[1:])
    missing = [package for package in _EXTRA if importlib.util.find_spec(package) is None]
    if not missing:
        code: int = importlib.import_module(_COMMANDS).main(given)
        return code
    parser = _parser()
    if name is not None and not name.startswith("-"):
        parser.error(_not_here(name, missing))
    parser.parse_args(given)
    parser.print_help()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dp-kafka",
        description="Commands of dp_kafka.",
        usage="%(prog)s [--help] [--version] COMMAND ...",
        epilog=f"More commands come with: {_INSTALL}",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", title="commands")
    commands.add_parser("demo", help="send and consume messages on a broker that runs in this process")
    return parser


def _not_here(name: str, missing: Sequence[str]) -> str:
    packages = "the package" + ("s " if len(missing) > 1 else " ") + " and ".join(missing)
    return f"{name!r} is not available without {packages}, only demo is: {_INSTALL}"
