"""The command line: ``python -m tests.kafka.apache {fetch,up,status,down}``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from . import archive, artifacts, statefile
from .cluster import ApacheKafka
from .errors import ApacheKafkaError
from .security import PLAINTEXT


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; 0, or 1 with the reason on stderr. ``status`` gives 3 when nothing runs."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        code: int = options.run(options)
    except ApacheKafkaError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tests.kafka.apache", description="Apache Kafka brokers for tests.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    up = commands.add_parser("up", help="start brokers, and leave them running")
    up.add_argument("--brokers", type=int, default=3, choices=(1, 2, 3), help="default: 3")
    up.add_argument("--tls", action="store_true", help="add listeners with TLS")
    up.add_argument("--sasl", action="store_true", help="add listeners with SASL: PLAIN and SCRAM")
    up.add_argument(
        "--acl", action="store_true", help="authorize: what no ACL allows, only super users may do"
    )
    up.add_argument(
        "--property",
        action="append",
        default=[],
        type=_property,
        metavar="NAME=VALUE",
        help="for server.properties; may be given several times",
    )
    up.set_defaults(run=_up)
    status = commands.add_parser("status", help="show what runs")
    status.set_defaults(run=_status)
    down = commands.add_parser("down", help="end the brokers and remove their data (logs stay)")
    down.set_defaults(run=_down)
    for command in (up, status, down):
        command.add_argument(
            "--state", type=Path, default=Path(".kafka"), metavar="DIR", help="default: .kafka"
        )
    fetch = commands.add_parser("fetch", help="bring the brokers with Maven, and make them start fast; once")
    fetch.set_defaults(run=_fetch)
    return parser


def _property(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _up(options: argparse.Namespace) -> int:
    wanted: dict[str, Any] = {
        "brokers": options.brokers,
        "tls": options.tls,
        "sasl": options.sasl,
        "authorizer": options.acl,
        "broker_properties": dict(options.property),
    }
    with statefile.alone(options.state):
        state = _running(options.state, wanted) or _start(options.state, wanted)
    _print_settings(state, options.state)
    return 0


def _running(state_dir: Path, wanted: dict[str, Any]) -> statefile.StateFile | None:
    """The cluster that runs already and is what is wanted. What a crash or a reboot left is cleared away."""
    state = statefile.read(state_dir)
    if state is None or not state.running:
        statefile.down(state_dir)
        return None
    if state.options != wanted or len(state.running) != wanted["brokers"]:
        raise ApacheKafkaError(
            f"{state_dir} runs another cluster, {state.options}: take it down, or use another --state"
        )
    return state


def _start(state_dir: Path, wanted: dict[str, Any]) -> statefile.StateFile:
    kafka = ApacheKafka(state_dir=state_dir, **wanted)
    kafka.start()
    certificates = kafka.security.certificates
    state = statefile.StateFile(
        version=artifacts.version(),
        options=wanted,
        token=kafka.token,
        data_dir=str(kafka.data_dir),
        addresses=kafka.addresses,
        users=kafka.users,
        certs_dir=str(certificates.directory) if certificates else None,
        pids={str(broker): kafka.pid(broker) for broker in kafka.broker_ids},
    )
    state.write(state_dir)
    kafka.detach()
    return state


def _print_settings(state: statefile.StateFile, state_dir: Path) -> None:
    """Prints what a client needs, as lines that a shell can read."""
    for listener, addresses in state.addresses.items():
        name = "KAFKA_ADDR" if listener == PLAINTEXT else f"KAFKA_{listener}_ADDR"
        print(f"{name}={','.join(addresses)}")
    if state.certs_dir:
        print(f"KAFKA_CERTS={state.certs_dir}")
    if state.users:
        print(f"# users {', '.join(state.users)}: their passwords are in {state_dir / statefile.NAME}")


def _status(options: argparse.Namespace) -> int:
    state = statefile.read(options.state)
    if state is None or not state.running:
        print(f"no brokers run from {options.state}")
        return 3
    for (broker, pid), address in zip(state.pids.items(), state.addresses[PLAINTEXT], strict=True):
        how = f"process {pid}" if pid in state.running else "ended"
        print(f"broker {broker}  {address}  {how}  {options.state / f'broker-{broker}.log'}")
    _print_settings(state, options.state)
    return 0


def _down(options: argparse.Namespace) -> int:
    with statefile.alone(options.state):
        print(f"ended {statefile.down(options.state)} brokers")
    return 0


def _fetch(_: argparse.Namespace) -> int:
    print(artifacts.fetch())
    print(archive.record())
    return 0


if __name__ == "__main__":
    sys.exit(main())
