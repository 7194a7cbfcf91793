"""fairway pod: this host's pods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fairway.cli import names
from fairway.cli.host import foreign_chains, leave_foreign_chains_option, this_host
from fairway.cli.output import json_option, plural, print_json, print_table
from fairway.net.model.pod import GATEWAYS, Pod, parse_address

if TYPE_CHECKING:
    from fairway.net.host import Host


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
    wanted = [parse_address(address, "--address") for address in addresses]
    with this_host(leave_foreign_chains=leave_foreign_chains) as host:
        added = host.add_pod(name, wanted, mtu or 0, pools=pools)
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
    rows = [(_short(each), " ".join(map(str, each.addresses)), str(each.mtu), each.link, source(each)) for each in pods]
    print_table(("name", "addresses", "mtu", "interface", "source"), rows, "no pods; add one: fairway pod add NAME")


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
        "inside": f"{found.interface} in {document['path']}",
        "outside": found.link,
        "source": source(found),
    }
    for key, value in lines.items():
        click.echo(f"{key:<11}{value}")


@pod.command("rm", epilog="\b\nExample:\n  fairway pod rm demo01 demo02")
@click.argument("pods", metavar="NAME...", nargs=-1, required=True, shell_complete=names.complete_pods)
@click.option("--force", is_flag=True, help="Remove even what a container runtime made and is to remove itself.")
@json_option
def remove(pods: tuple[str, ...], force: bool, as_json: bool) -> None:
    """Remove pods; none, if one of them is not there."""
    with this_host() as host:
        wanted = list(dict.fromkeys(host.pod(name).name for name in pods))
        for name in wanted:
            host.remove_pod(name, force=force)
    if as_json:
        print_json({"removed": wanted})
    else:
        click.echo(f"removed {plural(len(wanted), 'pod')}: {', '.join(wanted)}")


def _document(host: Host, pod: Pod) -> dict[str, Any]:
    namespace = host.identity.site(pod).namespace
    document = {
        "name": pod.name,
        "addresses": [str(address) for address in pod.addresses],
        "mtu": pod.mtu,
        "interface": pod.link,
        "inside": pod.interface,
        "namespace": namespace if pod.attachment is None else "",
        "path": f"/run/netns/{namespace}" if pod.attachment is None else namespace,
        "source": source(pod),
    }
    if pod.attachment is not None:
        known = pod.attachment.kubernetes
        document["attachment"] = {
            "container": pod.attachment.container,
            "network": pod.attachment.network,
            "mac": pod.mac,
            "kubernetes": {"namespace": known.namespace, "pod": known.pod, "labels": dict(known.labels)},
        }
    return document


def source(pod: Pod) -> str:
    """Who asked for the pod: Fairway itself, or a runtime, for which network, and for which Kubernetes pod."""
    if pod.attachment is None:
        return "fairway"
    known = pod.attachment.kubernetes
    words = ["runtime", pod.attachment.network, f"{known.namespace}/{known.pod}" if known.pod else ""]
    return " ".join(word for word in words if word)


def _short(pod: Pod) -> str:
    """A name for a table; of a container's ID as much as tells it from others, as runtimes show it."""
    container, _, interface = pod.name.partition("/")
    return f"{container[:_CONTAINER_SHOWN]}/{interface}" if interface else container
