"""fairway join: become a member of a network."""

from __future__ import annotations

import asyncio

import click

from fairway.cli import membership
from fairway.cli.host import this_host
from fairway.cli.output import json_option, print_json
from fairway.net.model.names import check_name


@click.command(epilog="\b\nExample:\n  fairway join 192.0.2.1 fairway1-Zm9v... --name node02")
@click.argument("host", metavar="HOST[:PORT]")
@click.argument("token")
@membership.name_option
@json_option
def join(host: str, token: str, name: str | None, as_json: bool) -> None:
    """Join a network by way of HOST, any of its members. This host's key is made here and never leaves it."""
    from fairway.net.agent.peers.joining import join as ask
    from fairway.net.agent.peers.joining import parse_endpoint
    from fairway.net.enrolment import Membership, Token

    node = check_name("node", name or membership.this_name())
    where, parsed = parse_endpoint(host, membership.PORT), Token.parse(token)
    with this_host() as here:
        member = Membership(membership.state_of(here))
        credentials = asyncio.run(ask(member, where, parsed, node))
        blocks = membership.pools_of(here, credentials)
    if as_json:
        print_json({"node": node, "blocks": blocks, "expires": credentials.expires.isoformat()})
    else:
        click.echo(f"{node} has joined; its pods take addresses from {', '.join(blocks)}")
        click.echo("next, here: fairway agent", err=True)
