"""Facts in words that a person understands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fairway.net.model.facts import (
    HERE,
    Address,
    AllowedSources,
    Bridge,
    BridgePort,
    Fact,
    Firewall,
    ForwardAccept,
    Masquerade,
    Namespace,
    Neighbour,
    PolicyRules,
    Refusal,
    Route,
    Sysctl,
    TunnelGuard,
    Up,
    Veth,
    Vxlan,
)


def describe(fact: Fact) -> str:
    """Which thing it is, and in which namespace: "the route to 10.0.1.2 by fwy-demo01 in two-hosts.node03"."""
    return _THINGS[type(fact)](fact) + _inside(fact)


def _inside(fact: Fact) -> str:
    return "" if isinstance(fact, Namespace) or fact.namespace == HERE else f" in {fact.namespace}"


def _veth(fact: Veth) -> str:
    peer = f"{fact.peer} in {fact.peer_namespace}" if fact.peer_namespace != fact.namespace else fact.peer
    return f"the link {fact.name} to {peer}"


def _accept(fact: ForwardAccept) -> str:
    chain = fact.chain
    family = f"{chain.family} " if chain.engine == "nft" else ""
    way = "from" if fact.entering else "to"
    where = f"{family}{chain.table} {chain.chain} ({chain.engine})"
    return f"the rule that accepts what goes {way} {fact.link}, in the chain {where}"


def _sources(fact: AllowedSources) -> str:
    addresses = ", ".join(
        str(address) for address in sorted(fact.addresses, key=lambda address: (address.version, address))
    )
    if fact.link.isdecimal():
        return f"what let the interface {fact.link}, which is gone, send from {addresses}"
    return f"the chain that lets {fact.link} send from {addresses or 'no address'} only"


def _route(fact: Route) -> str:
    destination = "the default route" if fact.destination.prefixlen == 0 else f"the route to {_short(fact)}"
    if fact.tunnel is not None:
        return f"{destination} via {fact.tunnel} within VXLAN"
    via = f" via {fact.gateway}" if fact.gateway is not None else ""
    return f"{destination}{via}{f' by {fact.link}' if fact.link else ''}"


def _short(fact: Route) -> str:
    whole = fact.destination.prefixlen == fact.destination.max_prefixlen
    return str(fact.destination.network_address if whole else fact.destination)


_THINGS: dict[type[Fact], Callable[[Any], str]] = {
    Namespace: lambda fact: f"the namespace {fact.name}",
    Veth: _veth,
    Bridge: lambda fact: f"the bridge {fact.name}",
    BridgePort: lambda fact: f"the port {fact.link} of the bridge {fact.bridge}",
    Vxlan: lambda fact: f"the VXLAN device {fact.name}",
    TunnelGuard: lambda fact: "the table that says who may send VXLAN to this host",
    Sysctl: lambda fact: f"the setting {fact.path.replace('/', '.')}",
    Firewall: lambda fact: "Fairway's own nftables table",
    AllowedSources: _sources,
    Masquerade: lambda fact: "the chain that hides pods' addresses from outside the network",
    PolicyRules: lambda fact: "the network policies in Fairway's nftables table",
    ForwardAccept: _accept,
    Up: lambda fact: f"the interface {fact.link}",
    Address: lambda fact: f"the address {fact.interface} of {fact.link}",
    Neighbour: lambda fact: f"the neighbour entry for {fact.address} on {fact.link}",
    Route: _route,
    Refusal: lambda fact: f"the route that refuses what no pod of {fact.destination} has",
}
