"""The commands of `dp-kafka`, called as a test calls them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import pytest

import dp_kafka.cli

__all__ = ["Run", "caller"]

#: Runs a command: its exit code, stdout and stderr.
Run: TypeAlias = Callable[..., tuple[int, str, str]]


def caller(capsys: pytest.CaptureFixture[str]) -> Run:
    """What runs a command in this process, with what it prints apart from what was printed before."""

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = dp_kafka.cli.main(list(arguments))
        return code, *capsys.readouterr()

    return call
