"""fairway init: begin a network of hosts, with its authority on this one."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from fairway.cli import membership
from fairway.cli.host import this_host
from fairway.cli.output import json_option, print_json
from fairway.net.model.errors import UsageError
from fairway.net.model.names import check_name
from fairway.net.model.pod import parse_address, parse_network


@click.command(epilog="\b\nExample:\n  fairway init --pool 10.0.0.0/16 --address 192.0.2.1")
@membership.name_option
@click.option("--pool", "pools", multiple=True, metavar="CIDR", help="What hosts get their blocks of; 10.0.0.0/16.")
@click.option(
    "--block-length", type=click.IntRange(0, 128), default=0, help="Prefix length of blocks; 24, 64 for IPv6."
)
@click.option("--address", "addresses", multiple=True, help="This host's own, for the others; found by itself.")
@click.option("--port", type=click.IntRange(1, 65535), default=membership.PORT, show_default=True, help="UDP port.")
@json_option
def init(
    name: str | None, pools: tuple[str, ...], block_length: int, addresses: tuple[str, ...], port: int, as_json: bool
) -> None:
    """Begin a network: this host is its first member, and decides who joins."""
    from fairway.net.enrolment import Authority, Block, Membership, request

    node = check_name("node", name or membership.this_name())
    wanted = [parse_network(pool, "--pool") for pool in pools or ("10.0.0.0/16",)]
    now = datetime.now(UTC)
    with this_host() as host:
        state = membership.state_of(host)
        member, authority = Membership(state), Authority(state)
        if member.joined:
            raise UsageError("this host belongs to a network already", mend="see: fairway peers")
        own = [parse_address(address, "--address") for address in addresses] or [
            parse_address(address) for address in host.call("addresses")["addresses"]
        ]
        if not own:
            raise UsageError("this host has no address that others could reach", mend="give one: --address ADDRESS")
        if not authority.here:  # else an earlier try was cut off here
            authority.create(node, [Block(pool, block_length) for pool in wanted], now, port)
        authority.set_endpoints([membership.endpoint_text(address, port) for address in own])
        key = member.pending_key()
        begun = authority.network().authority
        granted = authority.enrol(begun, request(key, node), now)
        blocks = membership.pools_of(host, member.accept(granted, key, begun, now))
        fingerprint = authority.fingerprint.hex()
        authority.close()
    if as_json:
        print_json({"node": node, "blocks": blocks, "authority": fingerprint})
    else:
        click.echo(f"{node} has begun a network; its pods take addresses from {', '.join(blocks)}")
        click.echo("next, here: fairway agent; then, for every other host: fairway token", err=True)
