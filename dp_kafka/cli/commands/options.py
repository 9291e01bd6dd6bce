"""The options that several commands have, and the settings that they and the environment make."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import click

from dp_kafka.config import KafkaSettings, checks

__all__ = ["as_json", "brokers", "examples", "settings_of", "timeout"]

F = TypeVar("F", bound=Callable[..., Any])


def brokers(command: F) -> F:
    """`--brokers`: an argument of the command called `brokers`."""
    return click.option(
        "-b",
        "--brokers",
        metavar="HOST:PORT,…",
        help="Addresses of brokers; by default KAFKA_ADDR.",
    )(command)


def as_json(command: F) -> F:
    """`--json`: an argument of the command called `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Write JSON, for scripts.")(command)


def timeout(seconds: float) -> Callable[[F], F]:
    """`--timeout`, with its default: an argument of the command called `timeout`."""
    return click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        default=seconds,
        show_default=True,
        metavar="SECONDS",
        help="Give up after so long.",
    )


def examples(*lines: str) -> str:
    """The end of a help text: examples, line by line as they are."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def settings_of(addresses: str | None) -> KafkaSettings:
    """The settings of the environment, with these addresses in place of KAFKA_ADDR.

    Raises:
        ConfigError: a variable or an address is malformed.
    """
    settings = KafkaSettings.from_env()
    if addresses is None:
        return settings
    split = [address.strip() for address in addresses.split(",")]
    return dataclasses.replace(settings, broker_addrs=checks.addresses("--brokers", split))
