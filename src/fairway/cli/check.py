"""fairway check: what is not as it should be on this host."""

from __future__ import annotations

import click

from fairway.cli import drift
from fairway.cli.host import foreign_chains, leave_foreign_chains_option, this_host
from fairway.cli.output import Progress, json_option, plural, print_json
from fairway.net.model.operations import Failure, Operation


@click.command(epilog="\b\nExample:\n  fairway check || fairway check --repair")
@click.option("--repair", is_flag=True, help="Mend what is found.")
@leave_foreign_chains_option
@json_option
@click.pass_context
def check(ctx: click.Context, repair: bool, leave_foreign_chains: bool, as_json: bool) -> None:
    """Compare this host with what was asked for; exit code 1 if something differs and is not repaired."""
    failures: list[Failure] = []
    chains: list[dict[str, str]] = []
    with this_host(leave_foreign_chains=leave_foreign_chains) as host:
        if repair:
            with Progress("repair") as progress:
                found, failures = host.repair(progress.show)
        else:
            found = host.check()
        if leave_foreign_chains:
            chains = foreign_chains(host)
    if as_json:
        document = {
            "drift": [drift.document(operation) for operation in found],
            "repaired": repair and not failures,
            "failures": [
                drift.document(failure.operation) | {"message": failure.error.message, "mend": failure.error.mend}
                for failure in failures
            ],
        }
        print_json(document | ({"foreign_chains": chains} if leave_foreign_chains else {}))
    else:
        _print(found, failures, repair)
    if failures or (found and not repair):
        ctx.exit(1)


def _print(found: list[Operation], failures: list[Failure], repair: bool) -> None:
    failed = {failure.operation: failure.error for failure in failures}
    for operation in found:
        error = failed.get(operation)
        done = "" if not repair else " - repaired" if error is None else f" - not repaired: {error.message}"
        click.echo(f"{drift.words(operation)}{done}")
    if not found:
        click.echo("all is as it should be")
    elif not repair:
        click.echo(f"{plural(len(found), 'difference')}; to mend: fairway check --repair", err=True)
