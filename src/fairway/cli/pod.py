"""fairway pod: this host's pods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fairway.cli import names
from fairway.cli.host import foreign_chains, leave_foreign_chains_option, this_host
from fairway.cli.output import json_option, plural, print_json, print_table
from fairway.net.model.names import POD_INTERFACE
from fairway.net.model.pod import GATEWAYS, Pod, parse_address

if TYPE_CHECKING:
    from fairway.net.host import Host


@click.group(epilog="\b\nExample:\n  fairway pod add demo01 --address 10.0.1.2 && fairway exec demo01 -- ip addr")
def pod() -> None:
    """Add, list, show and remove this host's pods."""


@pod.command(epilog="\b\nExample:\n  fairway pod add demo01 --address 10.0.1.2 --mtu 1400")
@click.argument("name")
@click.option("--address", "addresses", metavar="A", multiple=True, help="An address of the pod's; may be repeated.")
@click.option("--mtu", type=click.IntRange(68, 65535), help="The largest packet; without it the uplink's.")
@leave_foreign_chains_option
@json_option
def add(name: str, addresses: tuple[str, ...], mtu: int | None, leave_foreign_chains: bool, as_json: bool) -> None:
    """Add the pod NAME: a network namespace with addresses of its own, ready for traffic."""
    wanted = [parse_address(address, "--address") for address in addresses]
    with this_host(leave_foreign_chains=leave_foreign_chains) as host:
        added = host.add_pod(name, wanted, mtu or 0)
        document = _document(host, added)
        if leave_foreign_chains:
            document["foreign_chains"] = foreign_chains(host)
    if as_json:
        print_json({"pod": document})
    else:
        click.echo(f"{added.name} {' '.join(map(str, added.addresses))}")


@pod.command("ls", epilog="\b\nExample:\n  fairway pod ls --json")
@json_option
def list_pods(as_json: bool) -> None:
    """List this host's pods."""
    with this_host() as host:
        pods = host.pods()
        documents = [_document(host, each) for each in pods]
    if as_json:
        print_json({"pods": documents})
        return
    rows = [(each.name, " ".join(map(str, each.addresses)), str(each.mtu), each.link) for each in pods]
    print_table(("name", "addresses", "mtu", "interface"), rows, "no pods; add one: fairway pod add NAME")


@pod.command(epilog="\b\nExample:\n  fairway pod show demo01")
@click.argument("name", shell_complete=names.complete_pods)
@json_option
def show(name: str, as_json: bool) -> None:
    """Show all that is known of the pod NAME."""
    with this_host() as host:
        found = host.pod(name)
        document = _document(host, found)
    if as_json:
        print_json({"pod": document})
        return
    versions = {address.version for address in found.addresses}
    lines = {
        "name": found.name,
        "addresses": " ".join(map(str, found.addresses)),
        "gateway": " ".join(str(gateway) for gateway in GATEWAYS if gateway.version in versions),
        "mtu": str(found.mtu),
        "inside": f"{POD_INTERFACE} in {document['path']}",
        "outside": found.link,
    }
    for key, value in lines.items():
        click.echo(f"{key:<11}{value}")


@pod.command("rm", epilog="\b\nExample:\n  fairway pod rm demo01 demo02")
@click.argument("pods", metavar="NAME...", nargs=-1, required=True, shell_complete=names.complete_pods)
@json_option
def remove(pods: tuple[str, ...], as_json: bool) -> None:
    """Remove pods; none, if one of them is not there."""
    wanted = list(dict.fromkeys(pods))
    with this_host() as host:
        for name in wanted:
            host.pod(name)
        for name in wanted:
            host.remove_pod(name)
    if as_json:
        print_json({"removed": wanted})
    else:
        click.echo(f"removed {plural(len(wanted), 'pod')}: {', '.join(wanted)}")


def _document(host: Host, pod: Pod) -> dict[str, Any]:
    namespace = host.identity.namespace(pod.name)
    return {
        "name": pod.name,
        "addresses": [str(address) for address in pod.addresses],
        "mtu": pod.mtu,
        "interface": pod.link,
        "namespace": namespace,
        "path": f"/run/netns/{namespace}",
    }
