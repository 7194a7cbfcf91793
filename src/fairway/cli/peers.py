"""fairway peers: the other hosts of this host's network."""

from __future__ import annotations

from typing import Any

import click

from fairway.cli.host import this_host
from fairway.cli.output import json_option, milliseconds, print_json, print_table
from fairway.cli.spans import span


@click.command(epilog="\b\nExample:\n  fairway peers --json")
@json_option
def peers(as_json: bool) -> None:
    """List the other hosts of the network, and how the connection to each does."""
    with this_host() as host:
        document = host.call("peers.ls")
    if as_json:
        print_json(document)
        return
    header = ("node", "address", "state", "for", "routes", "rtt ms", "lost", "sent", "received", "refused")
    print_table(header, map(_row, document["peers"]), "no peers yet; let a host join: fairway token")


def _row(peer: dict[str, Any]) -> tuple[str, ...]:
    lost = f"{100 * peer['packets_lost'] / peer['packets_sent']:.1f} %" if peer["packets_sent"] else ""
    return (
        peer["node"],
        peer["address"],
        peer["state"],
        span(peer["since_s"]),
        f"{peer['routes']}, {peer['stale']} stale" if peer["stale"] else str(peer["routes"]),
        "" if peer["rtt_ms"] is None else milliseconds(peer["rtt_ms"]),
        lost,
        _size(peer["bytes_sent"]),
        _size(peer["bytes_received"]),
        str(peer["counters"].get("refused", 0) or ""),
    )


def _size(count: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B" if count else ""
