"""The commands of `dp-kafka` beside the demo: their list, and what an error becomes in each of them.

Exit codes: 0 it is done, and well; 1 it is not: unhealthy, behind, not all drained or delivered; 2 the
arguments or the settings are wrong; 3 the cluster could not be asked; 130 and 143 it was ended by SIGINT and
SIGTERM.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence

import click

from dp_kafka._version import __version__
from dp_kafka.cli import demo
from dp_kafka.cli.commands.acls import acls
from dp_kafka.cli.commands.consume import consume
from dp_kafka.cli.commands.drain import drain
from dp_kafka.cli.commands.ending import Terminated, raise_terminated
from dp_kafka.cli.commands.health import health
from dp_kafka.cli.commands.lag import lag
from dp_kafka.cli.commands.produce import produce
from dp_kafka.cli.commands.redrive import redrive
from dp_kafka.cli.commands.topics import topics
from dp_kafka.errors import ConfigError, DpKafkaError, KafkaClientError, NotInitialisedError

__all__ = ["main"]

NO, WRONG, AWAY = 1, 2, 3


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Brokers, TLS and names come from the KAFKA_* environment variables, unless options give them. "
    "`dp-kafka COMMAND --help` shows examples.",
)
@click.version_option(__version__, prog_name="dp-kafka", message="%(prog)s %(version)s")
@click.option("-v", "--verbose", is_flag=True, help="Show the log of the library and its client.")
def commands(verbose: bool) -> None:
    """Look after Kafka topics and groups: health, lag, draining, dead letters, messages, ACLs."""
    logger = logging.getLogger("dp_kafka")
    if verbose:
        logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
        logger.setLevel(logging.INFO)
    else:
        # Without any handler Python would write warnings to stderr: what matters is in the result.
        logger.addHandler(logging.NullHandler())


@commands.command("demo", context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run_demo(arguments: tuple[str, ...]) -> int:
    """Send and consume messages on a broker that runs in this process."""
    return demo.main(arguments)


for _command in (health, lag, drain, redrive, produce, consume, topics, acls):
    commands.add_command(_command)


def main(arguments: Sequence[str]) -> int:
    """Run one command, and give its exit code. What goes wrong is a line on stderr, and no stack."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        # Only the main thread may; elsewhere, as in a test, SIGTERM is somebody else's.
        signal.signal(signal.SIGTERM, raise_terminated)
    except ValueError:
        before = None
    try:
        return _run(arguments)
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def _run(arguments: Sequence[str]) -> int:
    try:
        code = commands.main(list(arguments), prog_name="dp-kafka", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return WRONG
    except (click.Abort, DpKafkaError, KeyboardInterrupt, Terminated) as error:
        return _say(*_failure(error))
    except BrokenPipeError:
        # Whoever read the output has gone, as in `consume | head`; Python writes what is left when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NO
    return code if isinstance(code, int) else 0


def _failure(error: BaseException) -> tuple[str, int]:
    """What is said of an error, and the exit code."""
    if isinstance(error, Terminated):
        return "terminated", 128 + signal.SIGTERM
    # click makes an Abort of Ctrl-C, as of a question that was answered with no.
    if isinstance(error, KeyboardInterrupt) or isinstance(error.__cause__, KeyboardInterrupt):
        return "interrupted", 128 + signal.SIGINT
    if isinstance(error, click.Abort):
        return "aborted", NO
    if isinstance(error, ConfigError):
        return str(error), WRONG
    return str(error), AWAY if isinstance(error, (KafkaClientError, NotInitialisedError)) else NO


def _say(text: str, code: int) -> int:
    print(f"dp-kafka: {text}", file=sys.stderr)  # noqa: T201
    return code
