"""What a node and its pods should be in the kernel, as facts. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Address, IPv6Network, collapse_addresses, ip_interface, ip_network

from fairway.net.model.facts import (
    Address,
    AllowedSources,
    Fact,
    Firewall,
    ForeignChain,
    ForwardAccept,
    IPAddress,
    IPNetwork,
    Masquerade,
    Namespace,
    Neighbour,
    Refusal,
    Route,
    Sysctl,
    TunnelGuard,
    Up,
    Veth,
    Vxlan,
)
from fairway.net.model.names import TUNNEL_INTERFACE
from fairway.net.model.pod import GATEWAY_MAC, GATEWAYS, LearnedRoute, Pod, Site, StaticRoute, Tunnel
from fairway.net.model.pool import Pool

_IPV4_GATEWAY = ip_interface(f"{GATEWAYS[0]}/32")


def node_facts(home: str, *, ipv6: bool, advertised: Iterable[str] = ()) -> set[Fact]:
    """What a node needs before any pod: forwarding, the pods' gateway address, our firewall table.

    With `ipv6`, the interfaces in `advertised` go on taking router advertisements, which forwarding would end.
    """
    facts: set[Fact] = {
        Sysctl(home, "net/ipv4/ip_forward", "1"),
        Address(home, "lo", _IPV4_GATEWAY),
        Firewall(home),
    }
    if ipv6:
        facts.add(Sysctl(home, "net/ipv6/conf/all/forwarding", "1"))
        facts.update(Sysctl(home, f"net/ipv6/conf/{name}/accept_ra", "2") for name in advertised)
    return facts


def refusal_facts(home: str, pools: Iterable[Pool], versions: Collection[int]) -> set[Fact]:
    """What is sent to addresses that no pod has is refused: by the host's default route it would go back and forth.

    So for the pools of the IP versions that pods have addresses of.
    """
    return {Refusal(home, pool.block) for pool in pools if pool.block.version in versions}


def route_facts(home: str, routes: Iterable[StaticRoute]) -> set[Fact]:
    """The routes written by hand to other hosts' pods."""
    return {Route(home, route.destination, gateway=route.gateway) for route in routes}


def masquerade_fact(home: str, pools: Iterable[Pool], others: Iterable[IPNetwork]) -> Masquerade | None:
    """What pods of the pools that ask for it send to anywhere but pods, here or on the networks of `others`."""
    known = list(pools)
    sources = frozenset(pool.block for pool in known if pool.masquerade)
    if not sources:
        return None
    spared = frozenset(_collapsed([*others, *(pool.whole or pool.block for pool in known)]))
    words = [sorted(map(str, networks)) for networks in (sources, spared)]
    return Masquerade(home, hashlib.sha256(repr(words).encode()).hexdigest()[:12], sources, spared)


def _collapsed(networks: Iterable[IPNetwork]) -> Iterator[IPNetwork]:
    """The same addresses in networks that do not overlap, as a set of intervals must have them."""
    known = list(networks)
    yield from collapse_addresses(network for network in known if isinstance(network, IPv4Network))
    yield from collapse_addresses(network for network in known if isinstance(network, IPv6Network))


def learned_facts(home: str, hops: Iterable[LearnedRoute]) -> set[Route]:
    """The routes that other nodes told."""
    return {learned_fact(home, hop) for hop in hops}


def learned_fact(home: str, hop: LearnedRoute) -> Route:
    """One of them."""
    if hop.tunnelled:
        return Route(home, hop.destination, TUNNEL_INTERFACE, _tunnel_gateway(hop), learned=True, tunnel=hop.gateway)
    return Route(home, hop.destination, gateway=hop.gateway, learned=True)


def tunnel_facts(home: str, tunnel: Tunnel, hops: Iterable[LearnedRoute]) -> set[Fact]:
    """What those of `hops` that are tunnelled go by. Each node's device has a link-layer address made of its name."""
    tunnelled = [hop for hop in hops if hop.tunnelled]
    peers = frozenset(hop.gateway for hop in tunnelled)
    words = [TUNNEL_INTERFACE, tunnel.port, sorted(map(str, peers))]
    mark = hashlib.sha256(repr(words).encode()).hexdigest()[:12]
    facts: set[Fact] = {
        Vxlan(home, TUNNEL_INTERFACE, tunnel.mtu, tunnel_mac(tunnel.node), tunnel.port),
        TunnelGuard(home, mark, TUNNEL_INTERFACE, tunnel.port, peers),
        Up(home, TUNNEL_INTERFACE),
    }
    facts |= {Neighbour(home, TUNNEL_INTERFACE, _tunnel_gateway(hop), tunnel_mac(hop.node)) for hop in tunnelled}
    return facts


def _tunnel_gateway(hop: LearnedRoute) -> IPAddress:
    """The other host on the device. IPv6 takes no gateway there to which another route leads: a link-local one then."""
    if hop.gateway.version == 4:
        return hop.gateway
    octets = bytes.fromhex(tunnel_mac(hop.node).replace(":", ""))
    return IPv6Address(bytes.fromhex("fe80000000000000") + octets[:3] + b"\xff\xfe" + octets[3:])


def tunnel_mac(node: str) -> str:
    """The link-layer address of a node's VXLAN device: locally administered, and known to all who know its name."""
    return pod_mac(f"vxlan\0{node}")


def pod_facts(home: str, site: Site, pod: Pod, chains: Iterable[ForeignChain] = ()) -> set[Fact]:
    """Everything of one pod, on both sides of its veth pair; `chains` are foreign ones that must let it through."""
    namespace, inside = site.namespace, pod.interface
    mac = pod.mac or pod_mac(namespace)
    facts: set[Fact] = {
        Veth(home, pod.link, namespace, inside, pod.mtu, GATEWAY_MAC, mac, shared_peer=not site.own),
        *guard_facts(home, pod, chains),
        Up(home, pod.link, site.mark),
        Up(namespace, inside, site.mark),
    }
    if site.own:
        facts |= {Namespace(namespace, site.mark), Up(namespace, "lo", site.mark)}
    for address in pod.addresses:
        gateway = GATEWAYS[0 if address.version == 4 else 1]
        facts |= {
            Neighbour(home, pod.link, address, mac),
            Route(home, ip_network(address), link=pod.link),
            Address(namespace, inside, ip_interface(address)),
            Neighbour(namespace, inside, gateway, GATEWAY_MAC),
        }
        if pod.default_route:
            everywhere = ip_network("0.0.0.0/0" if address.version == 4 else "::/0")
            facts.add(Route(namespace, everywhere, link=inside, gateway=gateway))
    return facts | _settings(home, namespace, pod)


def guard_facts(home: str, pod: Pod, chains: Iterable[ForeignChain] = ()) -> set[Fact]:
    """What of one pod is in nftables: what it may send from, and that foreign `chains` let it through."""
    facts: set[Fact] = {AllowedSources(home, pod.link, frozenset(pod.addresses))}
    for chain in chains:
        if any(_filters(chain, address.version) for address in pod.addresses):
            facts |= {ForwardAccept(home, chain, pod.link, entering) for entering in (True, False)}
    return facts


def pod_mac(namespace: str) -> str:
    """The link-layer address of the pod in `namespace`: locally administered, the same every time."""
    octets = bytes([0x0A]) + hashlib.sha256(namespace.encode()).digest()[:5]
    return ":".join(f"{octet:02x}" for octet in octets)


def outer_facts(home: str, facts: Iterable[Fact]) -> set[Fact]:
    """What remains to be wanted of a pod's `facts` when its namespace is out of reach: what is in the host's."""
    outer: set[Fact] = set()
    for fact in facts:
        if isinstance(fact, Veth):
            outer.add(replace(fact, peer_namespace="", peer="", peer_mac=""))
        elif not isinstance(fact, Namespace) and fact.namespace == home:
            outer.add(fact)
    return outer


def _settings(home: str, namespace: str, pod: Pod) -> set[Fact]:
    """A pod with IPv6 may not advertise routes to its host, and its addresses need no probing for duplicates.

    Without, its link speaks no IPv6 at all; nor does each new link then cost a search through the same link-local
    address of all others.
    """
    outer, inner = f"net/ipv6/conf/{pod.link}", f"net/ipv6/conf/{pod.interface}"
    if all(address.version == 4 for address in pod.addresses):
        return {Sysctl(home, f"{outer}/disable_ipv6", "1")}
    wanted = {"disable_ipv6": "0", "accept_dad": "0", "accept_ra": "0"}
    facts: set[Fact] = {Sysctl(home, f"{outer}/{name}", value) for name, value in wanted.items()}
    return facts | {Sysctl(namespace, f"{inner}/{name}", value) for name, value in wanted.items()}


def _filters(chain: ForeignChain, version: int) -> bool:
    """Whether a packet of that IP version comes by `chain`."""
    if chain.engine == "nft":
        return chain.family == "inet" or chain.family == ("ip" if version == 4 else "ip6")
    return chain.engine == ("iptables-legacy" if version == 4 else "ip6tables-legacy")
