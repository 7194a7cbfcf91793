"""fairway check: what is not as it should be on this host."""

from __future__ import annotations

from typing import Any

import click

from fairway.cli.host import leave_foreign_chains_option, this_host, warn_of_chains
from fairway.cli.output import Progress, json_option, plural, print_json


@click.command(epilog="\b\nExample:\n  fairway check || fairway check --repair")
@click.option("--repair", is_flag=True, help="Mend what is found.")
@leave_foreign_chains_option
@json_option
@click.pass_context
def check(ctx: click.Context, repair: bool, leave_foreign_chains: bool, as_json: bool) -> None:
    """Compare this host with what was asked for; exit code 1 if something differs and is not repaired."""
    arguments = {"leave_foreign_chains": leave_foreign_chains}
    with this_host(leave_foreign_chains=leave_foreign_chains) as host, Progress("repair") as progress:
        document = host.call("repair" if repair else "check", arguments, progress.show)
    warn_of_chains(document)
    if as_json:
        print_json(document)
    else:
        _print(document, repair)
    if document["failures"] or (document["drift"] and not repair):
        ctx.exit(1)


def _print(document: dict[str, Any], repair: bool) -> None:
    failed = {failure["text"]: failure["message"] for failure in document["failures"]}
    for found in document["drift"]:
        words = found["text"]
        done = "" if not repair else f" - not repaired: {failed[words]}" if words in failed else " - repaired"
        click.echo(f"{words}{done}")
    if not document["drift"]:
        click.echo("all is as it should be")
    elif not repair:
        click.echo(f"{plural(len(document['drift']), 'difference')}; to mend: fairway check --repair", err=True)
