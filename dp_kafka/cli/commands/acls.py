"""`dp-kafka acls`: apply the accesses of manifests, or show what applying them would change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from dp_kafka.admin import AclResult, Acls, Admin, apply, compare, new_admin, operation_name
from dp_kafka.cli.commands import options, showing
from dp_kafka.cli.commands.manifest import read_manifest
from dp_kafka.errors import AclError

__all__ = ["acls"]


@click.group()
def acls() -> None:
    """Give applications access to topics, from their manifests."""


@acls.command(
    "apply",
    epilog=options.examples(
        "dp-kafka acls apply apps/*.yml --domain example.org --dry-run",
        "dp-kafka acls apply apps/importer.yml --json | jq '.[].error'",
    ),
)
@click.argument(
    "manifests",
    nargs=-1,
    required=True,
    metavar="MANIFEST…",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@click.option("--domain", help="The last part of principals; by default the manifest's kafka.domain.")
@click.option("--app", help="The first part of principals; by default the manifest's name.")
@click.option("--dry-run", is_flag=True, help="Show the difference, and change nothing.")
@options.timeout(30.0)
@options.as_json
@options.brokers
def apply_(
    manifests: tuple[Path, ...],
    domain: str | None,
    app: str | None,
    dry_run: bool,
    timeout: float,
    as_json: bool,
    brokers: str | None,
) -> int:
    """Create the ACLs that the topics of MANIFEST… mean; those that are there already stay.

    A manifest names topics, the subnets from which the application uses them, and its access (read, write).
    The principal is User:CN=<name>.<subnet>.<domain>. None is ever removed: --dry-run marks with ! those of
    the same principals and topics that no manifest has. Exit code 0: all are there. 1: not all.
    """
    if app is not None and len(manifests) > 1:
        raise click.UsageError("--app is for a single manifest: each has its own name")
    wanted = Acls(
        dict.fromkeys(
            binding
            for path in manifests
            for binding in read_manifest(path, app=app, domain=domain).get_acls()
        )
    )
    settings = options.settings_of(brokers)
    admin = new_admin(settings.broker_addrs, settings.admin_config())
    if dry_run:
        return _difference(wanted, admin, timeout, as_json)
    try:
        results: Sequence[AclResult] = apply(wanted, admin, timeout=timeout)
    except AclError as error:
        results = error.results
    if as_json:
        showing.write_json([_result(each) for each in results])
    else:
        _show(
            [(_mark(each), each.binding, "" if each.error is None else str(each.error)) for each in results]
        )
        created = sum(each.created for each in results)
        there = sum(each.ok and not each.created for each in results)
        failed = len(results) - created - there
        showing.write_line(f"{created} created, {there} there already, {failed} failed")
    return 0 if all(each.ok for each in results) else 1


def _difference(wanted: Acls, admin: Admin, timeout: float, as_json: bool) -> int:
    found = compare(wanted, admin, timeout=timeout)
    if as_json:
        showing.write_json(
            {
                "missing": [_binding(each) for each in found.missing],
                "present": [_binding(each) for each in found.present],
                "extra": [_binding(each) for each in found.extra],
            }
        )
    else:
        _show(
            [
                *(("+", each, "") for each in found.missing),
                *(("=", each, "") for each in found.present),
                *(("!", each, "in no manifest") for each in found.extra),
            ]
        )
        counts = f"{len(found.missing)} to create, {len(found.present)} there already"
        showing.write_line(f"{counts}, {len(found.extra)} in no manifest")
    return 1 if found.missing else 0


def _mark(result: AclResult) -> str:
    if result.error is not None:
        return "✗"
    return "+" if result.created else "="


def _show(rows: list[tuple[str, Any, str]]) -> None:
    colours = {"+": "green", "!": "yellow", "✗": "red"}
    out = showing.console()
    for mark, binding, remark in rows:
        text = f"{mark} {binding.principal}  {operation_name(binding.operation)}  {binding.name}"
        text += "" if binding.host == "*" else f"  from {binding.host}"
        text += f"  ({remark})" if remark else ""
        out.print(text, style=colours.get(mark, ""), soft_wrap=True)


def _binding(binding: Any) -> dict[str, str]:
    return {
        "topic": binding.name,
        "principal": binding.principal,
        "operation": operation_name(binding.operation),
        "host": binding.host,
    }


def _result(result: AclResult) -> dict[str, object]:
    error = None if result.error is None else str(result.error)
    return {**_binding(result.binding), "created": result.created, "error": error}
