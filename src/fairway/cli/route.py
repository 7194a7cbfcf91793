"""fairway route: routes to other hosts' pods, written by hand."""

from __future__ import annotations

import click

from fairway.cli import names
from fairway.cli.host import this_host
from fairway.cli.output import json_option, print_json, print_table
from fairway.net.model.pod import parse_address, parse_network


@click.group(epilog="\b\nExample:\n  fairway route add 10.0.3.0/24 --via 100.100.198.253")
def route() -> None:
    """Routes to other hosts' pods."""


@route.command(epilog="\b\nExample:\n  fairway route add 10.0.3.0/24 --via 100.100.198.253")
@click.argument("cidr")
@click.option("--via", required=True, metavar="ADDRESS", help="The other host's own address.")
@json_option
def add(cidr: str, via: str, as_json: bool) -> None:
    """Reach the pods in CIDR by way of another host, from now on and after a restart."""
    arguments = {"destination": str(parse_network(cidr, "route")), "via": str(parse_address(via, "--via"))}
    with this_host() as host:
        document = host.call("route.add", arguments)
    if as_json:
        print_json(document)
    else:
        click.echo(f"{document['route']['destination']} is reached via {document['route']['via']}")


@route.command("ls", epilog="\b\nExample:\n  fairway route ls --json")
@json_option
def list_routes(as_json: bool) -> None:
    """List the routes written by hand."""
    with this_host() as host:
        document = host.call("route.ls")
    if as_json:
        print_json(document)
        return
    rows = [(each["destination"], each["via"]) for each in document["routes"]]
    print_table(("destination", "via"), rows, "no routes; add one: fairway route add CIDR --via ADDRESS")


@route.command("rm", epilog="\b\nExample:\n  fairway route rm 10.0.3.0/24")
@click.argument("cidr", shell_complete=names.complete_routes)
@json_option
def remove(cidr: str, as_json: bool) -> None:
    """Forget the route to CIDR."""
    with this_host() as host:
        document = host.call("route.rm", {"destination": str(parse_network(cidr, "route"))})
    if as_json:
        print_json(document)
    else:
        click.echo(f"removed the route to {document['removed']}")
