"""fairway pod: this host's pods."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from fairway.cli import names
from fairway.cli.host import leave_foreign_chains_option, this_host, warn_of_chains
from fairway.cli.output import json_option, plural, print_json, print_table
from fairway.cli.places import enter_labs
from fairway.net.model.pod import parse_address

_CONTAINER_SHOWN = 13


@click.group(epilog="\b\nExample:\n  fairway pod add demo01 --address 10.0.1.2 && fairway exec demo01 -- ip addr")
def pod() -> None:
    """Add, list, show and remove this host's pods."""


@pod.command(epilog="\b\nExample:\n  fairway pod add demo01 --address 10.0.1.2 --mtu 1400")
@click.argument("name")
@click.option("--address", "addresses", metavar="A", multiple=True, help="An address of the pod's; may be repeated.")
@click.option("--mtu", type=click.IntRange(68, 65535), help="The largest packet; without it the uplink's.")
@click.option("--pool", "pools", multiple=True, help="Take its addresses from the pools of this name.")
@leave_foreign_chains_option
@json_option
def add(
    name: str,
    addresses: tuple[str, ...],
    mtu: int | None,
    pools: tuple[str, ...],
    leave_foreign_chains: bool,
    as_json: bool,
) -> None:
    """Add the pod NAME: a network namespace with addresses of its own, ready for traffic."""
    arguments = {
        "name": name,
        "addresses": [str(parse_address(address, "--address")) for address in addresses],
        "mtu": mtu or 0,
        "pools": list(pools),
        "leave_foreign_chains": leave_foreign_chains,
    }
    with this_host(leave_foreign_chains=leave_foreign_chains) as host:
        document = host.call("pod.add", arguments)
    warn_of_chains(document["pod"])
    if as_json:
        print_json(document)
    else:
        added = document["pod"]
        click.echo(f"{added['name']} {' '.join(added['addresses'])}")


@pod.command("ls", epilog="\b\nExample:\n  fairway pod ls --json")
@json_option
def list_pods(as_json: bool) -> None:
    """List this host's pods."""
    with this_host() as host:
        document = host.call("pod.ls")
    if as_json:
        print_json(document)
        return
    rows = [
        (_short(each["name"]), " ".join(each["addresses"]), str(each["mtu"]), each["interface"], _source(each))
        for each in document["pods"]
    ]
    print_table(("name", "addresses", "mtu", "interface", "source"), rows, "no pods; add one: fairway pod add NAME")


@pod.command(epilog="\b\nExample:\n  fairway pod show demo01")
@click.argument("name", shell_complete=names.complete_pods)
@json_option
def show(name: str, as_json: bool) -> None:
    """Show all that is known of the pod NAME."""
    with this_host() as host:
        document = host.call("pod.show", {"name": name})
    if as_json:
        print_json(document)
        return
    found = document["pod"]
    lines = {
        "name": found["name"],
        "addresses": " ".join(found["addresses"]),
        "gateway": " ".join(found["gateways"]),
        "mtu": str(found["mtu"]),
        "inside": f"{found['inside']} in {found['path']}",
        "outside": found["interface"],
        "source": _source(found),
    }
    for key, value in lines.items():
        click.echo(f"{key:<11}{value}")


@pod.command(
    epilog="\b\nExamples:\n  fairway pod move demo01 --to node02\n  fairway pod move demo01 --to node02 --renumber"
)
@click.argument("name", metavar="POD")
@click.option("--to", "node", required=True, metavar="NODE", help="The node that it moves to.")
@click.option("--renumber", is_flag=True, help="It gets an address of that node's; without, it keeps its own.")
@click.option(
    "--lab", help="The lab that POD is in, if several have one of the name.", shell_complete=names.complete_labs
)
@json_option
def move(name: str, node: str, renumber: bool, lab: str | None, as_json: bool) -> None:
    """Move the pod POD of a lab to another node while it runs, and say for how long it was not to be reached.

    Its namespace stays, and so do the processes in it. With its address, TCP and QUIC connections go on; with a new
    one, QUIC's go on where the client is the pod's, and TCP's end. The lab has agents, which tell the others.
    """
    enter_labs()
    from fairway.lab.moving import move as moved

    done = moved(name, node, lab=lab, renumber=renumber)
    if as_json:
        document = asdict(done)
        document |= {key: list(map(str, document[key])) for key in ("former", "addresses")}
        print_json(document)
        return
    addresses = " ".join(map(str, done.addresses))
    click.echo(f"{done.pod} has moved from {done.source} to {done.target}, in {done.whole_ms:.0f} ms")
    click.echo(f"address    {addresses}" + (f", before: {' '.join(map(str, done.former))}" if renumber else ", kept"))
    if done.tcp:
        end = f"; {done.tcp_lost} cut off: their address is gone" if done.tcp_lost else ", all go on"
        click.echo(f"tcp        {plural(done.tcp, 'connection')} of the pod's{end}")
    if done.udp:
        end = f"; {done.udp_lost} stay behind" if done.udp_lost else ", all go on"
        click.echo(f"quic, udp  {plural(done.udp, 'connected socket')} of the pod's{end}")
    gap = f"{done.gap_ms:.0f} ms" if done.lost else "none"
    click.echo(f"gap        {gap}; {done.lost} of {done.sent} echoes lost, one sent each millisecond")


@pod.command("rm", epilog="\b\nExample:\n  fairway pod rm demo01 demo02")
@click.argument("pods", metavar="NAME...", nargs=-1, required=True, shell_complete=names.complete_pods)
@click.option("--force", is_flag=True, help="Remove even what a container runtime made and is to remove itself.")
@json_option
def remove(pods: tuple[str, ...], force: bool, as_json: bool) -> None:
    """Remove pods; none, if one of them is not there."""
    with this_host() as host:
        document = host.call("pod.rm", {"names": list(pods), "force": force})
    if as_json:
        print_json(document)
    else:
        removed = document["removed"]
        click.echo(f"removed {plural(len(removed), 'pod')}: {', '.join(removed)}")


def _source(pod: dict[str, Any]) -> str:
    """Who asked for the pod: Fairway itself, or a runtime, for which network, and for which Kubernetes pod."""
    if "attachment" not in pod:
        return str(pod["source"])
    known = pod["attachment"]["kubernetes"]
    kubernetes = f"{known['namespace']}/{known['pod']}" if known["pod"] else ""
    return " ".join(word for word in (pod["source"], pod["attachment"]["network"], kubernetes) if word)


def _short(name: str) -> str:
    """A name for a table; of a container's ID as much as tells it from others, as runtimes show it."""
    container, _, interface = name.partition("/")
    return f"{container[:_CONTAINER_SHOWN]}/{interface}" if interface else container
