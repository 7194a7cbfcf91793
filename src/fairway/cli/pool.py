"""fairway pool: what this host's pods take their addresses from."""

from __future__ import annotations

import click

from fairway.cli import names
from fairway.cli.host import this_host
from fairway.cli.output import json_option, print_json, print_table
from fairway.net.model.pod import parse_network


@click.group(epilog="\b\nExample:\n  fairway pool add 10.0.1.0/24 && fairway pool ls")
def pool() -> None:
    """What this host's pods take their addresses from."""


@pool.command(epilog="\b\nExample:\n  fairway pool add fd00:0:0:1::/64")
@click.argument("cidr")
@json_option
def add(cidr: str, as_json: bool) -> None:
    """Take addresses from CIDR too; the first pool of one's own stands in for the default one."""
    network = parse_network(cidr, "pool")
    with this_host() as host:
        host.pools.add(network)
    if as_json:
        print_json({"pool": {"network": str(network)}})
    else:
        click.echo(f"pods take addresses from {network}")


@pool.command("ls", epilog="\b\nExample:\n  fairway pool ls --json")
@json_option
def list_pools(as_json: bool) -> None:
    """List the pools, and how many of each one's addresses are taken."""
    with this_host() as host:
        pools = host.pools.all()
        taken = [address for pod in host.pods() for address in pod.addresses]
    counts = [sum(a.version == each.version and a in each for a in taken) for each in pools]
    if as_json:
        print_json({"pools": [{"network": str(p), "taken": n} for p, n in zip(pools, counts, strict=True)]})
        return
    rows = [(str(each), str(count)) for each, count in zip(pools, counts, strict=True)]
    print_table(("network", "taken"), rows, "no pools; add one: fairway pool add CIDR")


@pool.command("rm", epilog="\b\nExample:\n  fairway pool rm 10.0.1.0/24")
@click.argument("cidr", shell_complete=names.complete_pools)
@json_option
def remove(cidr: str, as_json: bool) -> None:
    """Take no more addresses from CIDR; refused while a pod has one of them."""
    network = parse_network(cidr, "pool")
    with this_host() as host:
        host.pools.remove(network)
    if as_json:
        print_json({"removed": str(network)})
    else:
        click.echo(f"removed the pool {network}")
