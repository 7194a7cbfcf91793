"""fairway route: routes to other hosts' pods, written by hand."""

from __future__ import annotations

import click

from fairway.cli import names
from fairway.cli.host import this_host
from fairway.cli.output import json_option, print_json, print_table
from fairway.net.model.errors import UsageError
from fairway.net.model.pod import StaticRoute, parse_address, parse_network


@click.group(epilog="\b\nExample:\n  fairway route add 10.0.3.0/24 --via 100.100.198.253")
def route() -> None:
    """Routes to other hosts' pods."""


@route.command(epilog="\b\nExample:\n  fairway route add 10.0.3.0/24 --via 100.100.198.253")
@click.argument("cidr")
@click.option("--via", required=True, metavar="ADDRESS", help="The other host's own address.")
@json_option
def add(cidr: str, via: str, as_json: bool) -> None:
    """Reach the pods in CIDR by way of another host, from now on and after a restart."""
    added = StaticRoute(parse_network(cidr, "route"), parse_address(via, "--via"))
    if added.destination.version != added.gateway.version:
        raise UsageError(
            f"{added.destination} is IPv{added.destination.version} and {via} is not",
            mend="give an address of the same IP version",
        )
    with this_host() as host:
        host.routes.add(added)
    if as_json:
        print_json({"route": _document(added)})
    else:
        click.echo(f"{added.destination} is reached via {added.gateway}")


@route.command("ls", epilog="\b\nExample:\n  fairway route ls --json")
@json_option
def list_routes(as_json: bool) -> None:
    """List the routes written by hand."""
    with this_host() as host:
        routes = host.routes.all()
    if as_json:
        print_json({"routes": [_document(each) for each in routes]})
        return
    rows = [(str(each.destination), str(each.gateway)) for each in routes]
    print_table(("destination", "via"), rows, "no routes; add one: fairway route add CIDR --via ADDRESS")


@route.command("rm", epilog="\b\nExample:\n  fairway route rm 10.0.3.0/24")
@click.argument("cidr", shell_complete=names.complete_routes)
@json_option
def remove(cidr: str, as_json: bool) -> None:
    """Forget the route to CIDR."""
    destination = parse_network(cidr, "route")
    with this_host() as host:
        host.routes.remove(destination)
    if as_json:
        print_json({"removed": str(destination)})
    else:
        click.echo(f"removed the route to {destination}")


def _document(route: StaticRoute) -> dict[str, str]:
    return {"destination": str(route.destination), "via": str(route.gateway)}
