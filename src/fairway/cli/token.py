"""fairway token: what lets another host join."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click

from fairway.cli.host import this_host
from fairway.cli.membership import state_of
from fairway.cli.output import json_option, print_json
from fairway.net.model.pod import parse_network


@click.command(epilog="\b\nExamples:\n  fairway token\n  fairway token --name node02 --block 10.0.2.0/24 --minutes 10")
@click.option("--name", "node", default="", metavar="NODE", help="Only for a host of this name.")
@click.option("--block", "blocks", multiple=True, metavar="CIDR", help="The block that the host gets; else a free one.")
@click.option("--minutes", type=click.IntRange(1, 43200), default=60, show_default=True, help="How long it is good.")
@click.option("--no-moves", is_flag=True, help="The host may announce its own blocks only: no pods move there.")
@json_option
def token(node: str, blocks: tuple[str, ...], minutes: int, no_moves: bool, as_json: bool) -> None:
    """Make a token with which one host may join, once; on the host that began the network."""
    from fairway.net.enrolment import Authority

    now = datetime.now(UTC)
    with this_host() as host:
        authority = Authority(state_of(host))
        made = authority.token(
            now,
            node=node,
            blocks=[parse_network(block, "--block") for block in blocks],
            lifetime=timedelta(minutes=minutes),
            mobile=not no_moves,
        )
        endpoints = authority.network().endpoints
        authority.close()
    if as_json:
        print_json({"token": str(made), "endpoints": list(endpoints), "expires": _text(now, minutes)})
    else:
        click.echo(str(made))
        where = endpoints[0] if endpoints else "HOST"
        click.echo(f"on the other host, within {minutes} minutes: fairway join {where} TOKEN", err=True)


def _text(now: datetime, minutes: int) -> str:
    return (now + timedelta(minutes=minutes)).isoformat(timespec="seconds")
