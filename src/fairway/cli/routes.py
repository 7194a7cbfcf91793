"""fairway routes: what hosts tell each other of their pods."""

from __future__ import annotations

from typing import Any

import click

from fairway.cli.host import this_host
from fairway.cli.output import json_option, print_json, print_table
from fairway.cli.spans import span


@click.command(epilog="\b\nExample:\n  fairway routes --json")
@json_option
def routes(as_json: bool) -> None:
    """List who announced what, how old it is, and whether it is in the kernel.

    Routes written by hand: fairway route ls.
    """
    with this_host() as host:
        document = host.call("routes.ls")
    if as_json:
        print_json(document)
        return
    header = ("prefix", "node", "via", "age", "version", "in the kernel")
    print_table(header, map(_row, document["routes"]), "nothing was announced")


def _row(route: dict[str, Any]) -> tuple[str, ...]:
    return (
        route["prefix"],
        route["node"],
        (route["via"] or ("this host" if route.get("own") else "")) + (", VXLAN" if route.get("tunnelled") else ""),
        span(route["age_s"]) if "age_s" in route else "",
        str(route.get("version", "")),
        _place(route) + (", to be confirmed" if route.get("stale") else ""),
    )


def _place(route: dict[str, Any]) -> str:
    if route.get("own"):
        return "its pods are here"
    if not route["best"]:
        return "no: another node's is better"
    return "yes" if route["in_kernel"] else "no"
