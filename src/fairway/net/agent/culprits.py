"""Who changed what was not to be changed, as far as one can tell.

nftables names the program. Route-netlink gives the port of who asked, which is the number of the process for its first
socket: a daemon can still be named by it, a command that has ended cannot.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from fairway.net.kernel.events import Event
from fairway.net.model.facts import (
    Address,
    AllowedSources,
    Fact,
    Firewall,
    ForwardAccept,
    IPNetwork,
    Neighbour,
    Route,
    Up,
    Veth,
)

Named = tuple[Event, str]
"""What was told, and who asked for it; empty if nobody knows."""


def program_of(event: Event) -> str:
    """Who asked for what `event` tells: "networkd (pid 812)", "pid 4711, which has ended"; empty if nobody knows."""
    if event.program:
        return f"{event.program} (pid {event.port})" if event.port else event.program
    if event.port <= 0 or event.port >= 1 << 22:  # the kernel itself, or a process's further socket: PID_MAX_LIMIT
        return ""
    try:
        name = Path(f"/proc/{event.port}/comm").read_text().strip()
    except OSError:
        return f"pid {event.port}, which has ended"
    return f"{name} (pid {event.port})"


def culprit(fact: Fact, named: Iterable[Named]) -> str:
    """Who of the events' authors changed `fact`; the last one that may have. Empty if nobody was seen."""
    found = ""
    for event, program in named:
        if program and _concerns(event, fact):
            found = program
    return found


def _concerns(event: Event, fact: Fact) -> bool:
    match fact:
        case Firewall() | AllowedSources() | ForwardAccept():
            return event.kind == "rules"
        case Route():
            # A link that was down takes its routes with it, and neighbours.
            return _same(event, "route", fact.destination) or _link(event, fact.link)
        case Neighbour():
            return _same(event, "neighbour", fact.address) or _link(event, fact.link)
        case Address():
            return event.kind == "address" and _covers(event.network, fact.interface.ip)
        case Veth():
            return _link(event, fact.name)
        case Up():
            return _link(event, fact.link)
        case _:
            return False


def _link(event: Event, name: str) -> bool:
    return event.kind == "link" and bool(name) and event.name == name


def _same(event: Event, kind: str, thing: object) -> bool:
    network: IPNetwork | None = event.network
    return event.kind == kind and network is not None and thing in (network, network.network_address)


def _covers(network: IPNetwork | None, address: object) -> bool:
    return network is not None and network.network_address == address
