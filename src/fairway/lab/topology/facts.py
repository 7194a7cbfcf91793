"""What the kernel must hold for a lab's own ground: namespaces, links between them, addresses, the routers' routes.

Pods, and the routes of nodes, are not here: each node's host sees to those.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from fairway.lab.model import Link, Member, Node, Topology
from fairway.lab.topology.routes import static_routes
from fairway.lab.topology.values import MTU_MIN_IPV6
from fairway.net.model.facts import (
    Address,
    Bridge,
    BridgePort,
    Fact,
    Namespace,
    Neighbour,
    Route,
    Sysctl,
    Up,
    Veth,
)

BRIDGE = "br0"
"""The bridge in the namespace of a link."""

MEMBERS_BEFORE_NEIGHBOURS = 20
"""Links with more members have their neighbours written down: the kernel learns 1024 in all namespaces together."""


def facts(topology: Topology, relayed: bool) -> set[Fact]:
    """All facts of the lab's ground; `relayed`: links with faults are left open for a relay, not given to netem."""
    found: set[Fact] = set()
    for node in topology.nodes:
        found.update(_node_facts(topology, node))
    for link in topology.links:
        found.update(_link_facts(topology, link, relayed))
    found.update(_router_routes(topology))
    return found


def is_cable(link: Link, relayed: bool) -> bool:
    """Whether `link` is one veth pair from node to node; if not, it has a namespace of its own."""
    return len(link.members) == 2 and not (relayed and link.faults)


def node_namespace(topology: Topology, node: str) -> str:
    """The namespace of the node or router called `node`."""
    return f"{topology.name}.{node}"


def link_namespace(topology: Topology, link: str) -> str:
    """The namespace of the link called `link`, where it has one."""
    return f"{topology.name}.{link}"


def link_ports(topology: Topology, link: str) -> tuple[str, ...]:
    """The ports in the namespace of the link called `link`, in the order of its members."""
    (found,) = (each for each in topology.links if each.name == link)
    return tuple(f"p{position}" for position in range(len(found.members)))


def _node_facts(topology: Topology, node: Node) -> Iterator[Fact]:
    """The namespace and its settings: it forwards, and takes addresses as they are given."""
    namespace = node_namespace(topology, node.name)
    mark = f"fairway lab {topology.name} {'router' if node.router else 'node'} {node.name}"
    yield Namespace(namespace, mark)
    yield Up(namespace, "lo", mark)
    yield Sysctl(namespace, "net/ipv4/ip_forward", "1")
    yield Sysctl(namespace, "net/ipv6/conf/all/forwarding", "1")
    ends = [(link, member) for link in topology.links for member in link.members if member.node == node.name]
    for link, member in ends:
        if link.mtu >= MTU_MIN_IPV6:  # below, the kernel has no IPv6 on the interface, and no settings for it
            yield Sysctl(namespace, f"net/ipv6/conf/{member.interface}/accept_dad", "0")
            yield Sysctl(namespace, f"net/ipv6/conf/{member.interface}/accept_ra", "0")
    if node.router or len(ends) > 1:  # answers may come another way; the kernel takes the stricter of all and its own
        for interface in ("all", *(member.interface for _, member in ends)):
            yield Sysctl(namespace, f"net/ipv4/conf/{interface}/rp_filter", "0")


def _link_facts(topology: Topology, link: Link, relayed: bool) -> Iterator[Fact]:
    """The link itself, its members' interfaces, and their addresses."""
    if is_cable(link, relayed):
        first, second = link.members
        yield Veth(
            node_namespace(topology, first.node),
            first.interface,
            node_namespace(topology, second.node),
            second.interface,
            link.mtu,
            _mac(topology, link, first),
            _mac(topology, link, second),
        )
    else:
        yield from _switch_facts(topology, link, relayed)
    for member in link.members:
        namespace = node_namespace(topology, member.node)
        yield Up(namespace, member.interface, _mark(topology, link))
        for interface in member.addresses:
            yield Address(namespace, member.interface, interface)
    if len(link.members) > MEMBERS_BEFORE_NEIGHBOURS:
        yield from _neighbours(topology, link)


def _switch_facts(topology: Topology, link: Link, relayed: bool) -> Iterator[Fact]:
    """The link's namespace and its ports; they are joined by a bridge, or by a relay where the link has faults."""
    namespace = link_namespace(topology, link.name)
    bridged = not (relayed and link.faults)
    yield Namespace(namespace, _mark(topology, link))
    if bridged:
        yield Bridge(namespace, BRIDGE, link.mtu)
        yield Up(namespace, BRIDGE, _mark(topology, link))
    yield Sysctl(namespace, "net/ipv6/conf/all/disable_ipv6", "1")  # a switch says nothing of its own
    for member, port in zip(link.members, link_ports(topology, link.name), strict=True):
        yield Veth(
            node_namespace(topology, member.node),
            member.interface,
            namespace,
            port,
            link.mtu,
            _mac(topology, link, member),
            _mac(topology, link, member, "port"),
        )
        yield Up(namespace, port, f"{_mark(topology, link)} to {member.node}")
        if bridged:
            yield BridgePort(namespace, port, BRIDGE)


def _neighbours(topology: Topology, link: Link) -> Iterator[Fact]:
    """Every member's addresses, in every other member's neighbour table, if that one has the family."""
    macs = {member.node: _mac(topology, link, member) for member in link.members}
    for here in link.members:
        namespace = node_namespace(topology, here.node)
        versions = {interface.version for interface in here.addresses}
        for there in link.members:
            if there is here:
                continue
            for interface in there.addresses:
                if interface.version in versions:
                    yield Neighbour(namespace, here.interface, interface.ip, macs[there.node])


def _router_routes(topology: Topology) -> Iterator[Fact]:
    """The routes of routers, which have no host to give them to."""
    routes = static_routes(topology)
    for node in topology.nodes:
        if not node.router:
            continue
        ends = [member for link in topology.links for member in link.members if member.node == node.name]
        for route in routes[node.name]:
            via = next(end for end in ends if any(route.gateway in each.network for each in end.addresses))
            yield Route(node_namespace(topology, node.name), route.destination, via.interface, route.gateway)


def _mark(topology: Topology, link: Link) -> str:
    return f"fairway lab {topology.name} link {link.name}"


def _mac(topology: Topology, link: Link, member: Member, end: str = "node") -> str:
    """A locally administered address that is the same every time."""
    digest = hashlib.sha256(f"{topology.name}/{link.name}/{member.node}/{end}".encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (0x02, *digest[:5]))
