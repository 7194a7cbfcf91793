"""fairway pool: what this host's pods take their addresses from."""

from __future__ import annotations

from typing import Any

import click

from fairway.cli import names
from fairway.cli.host import this_host
from fairway.cli.output import json_option, print_json, print_table
from fairway.net.model.pod import parse_network
from fairway.net.model.pool import DEFAULT_COOLDOWN_S, Pool, PoolUse


@click.group(epilog="\b\nExample:\n  fairway pool add 10.0.1.0/24 && fairway pool ls")
def pool() -> None:
    """What this host's pods take their addresses from."""


@pool.command(
    epilog="\b\nExamples:\n  fairway pool add fd00:0:0:1::/64\n"
    "  fairway pool add 10.8.3.0/24 --name shop --of 10.8.0.0/16 --for-namespace shop"
)
@click.argument("cidr")
@click.option("--name", default="", help="What it is called; several pools may share a name.")
@click.option("--of", "whole", metavar="CIDR", help="The whole network that this host's block is a part of.")
@click.option("--for-namespace", "namespaces", multiple=True, help="Only for pods of this Kubernetes namespace.")
@click.option("--for-network", "networks", multiple=True, help="Only for pods of the CNI network of this name.")
@click.option(
    "--cooldown",
    type=click.IntRange(0),
    default=DEFAULT_COOLDOWN_S,
    show_default=True,
    help="Seconds that an address rests before another pod gets it, while there are others.",
)
@click.option("--masquerade", is_flag=True, help="Hide its pods behind the host's address outside the network.")
@json_option
def add(
    cidr: str,
    name: str,
    whole: str | None,
    namespaces: tuple[str, ...],
    networks: tuple[str, ...],
    cooldown: int,
    masquerade: bool,
    as_json: bool,
) -> None:
    """Take addresses from CIDR too; the first pool of one's own stands in for the default one."""
    added = Pool(
        parse_network(cidr, "pool"),
        name,
        parse_network(whole, "--of") if whole else None,
        frozenset(namespaces),
        frozenset(networks),
        cooldown,
        masquerade,
    )
    with this_host() as host:
        host.pools.add(added)
    if as_json:
        print_json({"pool": _document(added)})
    else:
        click.echo(f"pods take addresses from {added.block}")


@pool.command("ls", epilog="\b\nExample:\n  fairway pool ls --json")
@json_option
def list_pools(as_json: bool) -> None:
    """List the pools, and how many of each one's addresses are taken."""
    with this_host() as host:
        uses = host.pools.statistics()
    if as_json:
        print_json({"pools": [_document(each.pool) | _use(each) for each in uses]})
        return
    rows = [
        (each.pool.title, str(each.pool.block), str(each.taken), _count(each.capacity - each.taken), _whom(each.pool))
        for each in uses
    ]
    print_table(("name", "network", "taken", "free", "for"), rows, "no pools; add one: fairway pool add CIDR")


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


def _document(pool: Pool) -> dict[str, Any]:
    return {
        "name": pool.title,
        "network": str(pool.block),
        "of": str(pool.whole or ""),
        "namespaces": sorted(pool.kubernetes_namespaces),
        "networks": sorted(pool.networks),
        "cooldown_s": pool.cooldown_s,
        "masquerade": pool.masquerade,
    }


def _use(use: PoolUse) -> dict[str, int]:
    return {"taken": use.taken, "capacity": use.capacity}


def _count(number: int) -> str:
    """A number, or the power of two that a person would say instead."""
    return str(number) if number < 1 << 24 else f"about 2^{number.bit_length()}"


def _whom(pool: Pool) -> str:
    words = [f"namespace {name}" for name in sorted(pool.kubernetes_namespaces)]
    words += [f"network {name}" for name in sorted(pool.networks)]
    return ", ".join(words) or "all"
