"""fairway explain: what becomes of a packet from A to B, stage by stage, and what mends it."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

import click

from fairway.cli import names
from fairway.cli.output import json_option, print_json
from fairway.cli.places import enter_labs, find_place, places
from fairway.net.model.errors import UsageError

if TYPE_CHECKING:
    from fairway.net.explain import Place
    from fairway.net.host.snapshot import Namespaces

_EXIT_CODES = {"accepted": 0, "unknown": 3}
_LOST = 1


@click.command(
    epilog="\b\nExamples:\n  fairway explain demo01 demo03\n  fairway explain demo01 10.0.3.2 --protocol tcp --port 443"
)
@click.argument("source", metavar="A", shell_complete=names.complete_places)
@click.argument("destination", metavar="B", shell_complete=names.complete_places)
@click.option("--protocol", type=click.Choice(["icmp", "tcp", "udp"]), default="icmp", show_default=True)
@click.option("--port", type=click.IntRange(1, 65535), help="The port at B.")
@click.option("-4", "version", flag_value=4, type=int, default=None, help="By IPv4.")
@click.option("-6", "version", flag_value=6, type=int, default=None, help="By IPv6.")
@json_option
@click.pass_context
def explain(
    ctx: click.Context,
    source: str,
    destination: str,
    protocol: str,
    port: int | None,
    version: int | None,
    as_json: bool,
) -> None:
    """Say what becomes of a packet from A to B, and of the answer to it: every stage on every host.

    A and B are pods, nodes or addresses; A may be `host`, this one. Nothing is sent. Exit code 0 if packet and answer
    would arrive, 1 if not, 3 if it cannot be told.
    """
    from fairway.net.explain import Question, text_of
    from fairway.net.explain import explain as answer
    from fairway.net.host.snapshot import Namespaces

    if port is not None and protocol == "icmp":
        raise UsageError("ICMP has no ports", mend="say --protocol tcp or udp")
    enter_labs()
    world = Namespaces({place.namespace: place.name for place in places()})
    question = Question(_place(world, source), _place(world, destination), protocol, port, version)
    explanation = answer(world, question, _wires())
    if as_json:
        print_json(explanation.json())
    else:
        click.echo(text_of(explanation))
    ctx.exit(_EXIT_CODES.get(explanation.verdict.value, _LOST))


def _place(world: Namespaces, name: str) -> Place:
    """What `name` means: an address, a pod or node, or any other namespace that has a name."""
    from fairway.net.explain import Place

    try:
        address = ip_address(name)
    except ValueError:
        pass
    else:
        return Place(name, world.owner(address), (address,), exact=True)
    try:
        found = find_place(name)
    except UsageError:
        if name and name in world:
            return Place(name, name)
        raise
    return Place(found.name, found.namespace, found.addresses)


def _wires() -> dict[tuple[str, str], tuple[str, ...]]:
    """The interfaces that the relays of labs join: what carries a link's delay and loss."""
    from fairway import lab
    from fairway.lab.faults import find_relays
    from fairway.lab.topology import link_namespace, link_ports

    wires = {}
    for running in lab.running():
        relayed = {relay.namespace for relay in find_relays(f"{running.name}.")}
        topology = running.topology
        if topology is None or not relayed:
            continue
        for link in topology.links:
            namespace, ports = link_namespace(topology, link.name), link_ports(topology, link.name)
            if namespace in relayed:
                wires.update({(namespace, port): tuple(each for each in ports if each != port) for port in ports})
    return wires
