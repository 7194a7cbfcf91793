"""fairway revoke: let a host be a member no longer."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from fairway.cli.host import this_host
from fairway.cli.membership import state_of
from fairway.cli.output import json_option, print_json


@click.command(epilog="\b\nExample:\n  fairway revoke node02")
@click.argument("node")
@json_option
def revoke(node: str, as_json: bool) -> None:
    """Revoke NODE's certificates, on the host that began the network: every member ends its connection to it.

    Its blocks are free for others. It can join again by a new token.
    """
    from fairway.net.enrolment import Authority

    with this_host() as host:
        authority = Authority(state_of(host))
        revoked = authority.revoke(node, datetime.now(UTC))
        authority.close()
    if as_json:
        print_json({"revoked": node, "list": revoked.number})
    else:
        click.echo(f"{node} is revoked; its agent's peers are told by the agent of this host")
