"""Which way every node and router sends what is not on its own links: shortest paths, over routers only.

Nodes forward for their own pods and for nobody else; a path through a node does not count, even if it is the only one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from fairway.lab.model import Node, Topology
from fairway.net.model.errors import UsageError
from fairway.net.model.facts import IPAddress, IPInterface, IPNetwork
from fairway.net.model.pod import StaticRoute

FAMILIES = (4, 6)


@dataclass(frozen=True, slots=True)
class Unreachable:
    """No path leads from the node `source` to `pool` of the node `target`."""

    source: str
    target: str
    pool: IPNetwork


def static_routes(topology: Topology) -> dict[str, tuple[StaticRoute, ...]]:
    """The routes of every node and router, by name: those of its own in the file, and with "auto" the shortest ways.

    A route by hand stands in for the automatic one to the same destination. Ties go to the link, then the router,
    that comes first in the file. Nodes with agents need none to pools: those are told; and nor do routers, where nodes
    send to each other within VXLAN. Raises UsageError where a node
    has no way to another's pool.
    """
    if missing := unreachable(topology):
        source, target, pool = missing[0].source, missing[0].target, missing[0].pool
        raise UsageError(f"{topology.name}: no path leads from {source} to {target} with its pool {pool}")
    routes = {node.name: {route.destination: route for route in node.routes} for node in topology.nodes}
    told = {pool for node in topology.nodes for pool in node.pools} if topology.agents else set()
    routers = {node.name for node in topology.nodes if node.router}
    if topology.routes == "auto":
        for destination, gateways in _ways(topology):
            for name, gateway in gateways.items():
                if destination not in told or (name in routers and topology.cross_subnet == "router"):
                    routes[name].setdefault(destination, StaticRoute(destination, gateway))
    return {name: tuple(by_destination.values()) for name, by_destination in routes.items()}


def unreachable(topology: Topology) -> tuple[Unreachable, ...]:
    """The pools that a node of their family has no way to, one a pair of nodes and family; none with "manual"."""
    if topology.routes != "auto":
        return ()
    missing: list[Unreachable] = []
    for version in FAMILIES:
        speakers = _speakers(topology, version)
        segments = _Segments.of(topology, version)
        for target in topology.nodes:
            pools = [pool for pool in target.pools if pool.version == version]
            if not pools:
                continue
            reached = segments.next_hops_to_node(target.name)
            for source in speakers:
                if source is not target and source.name not in reached:
                    uncovered = (pool for pool in pools if not _by_hand(source, pool))
                    missing += [Unreachable(source.name, target.name, pool) for pool in islice(uncovered, 1)]
    return tuple(missing)


def _ways(topology: Topology) -> Iterator[tuple[IPNetwork, dict[str, IPAddress]]]:
    """Every pool and every link's subnet, with the next hop there of each node and router that needs one."""
    for version in FAMILIES:
        segments = _Segments.of(topology, version)
        for node in topology.nodes:
            pools = [pool for pool in node.pools if pool.version == version]
            gateways = segments.next_hops_to_node(node.name) if pools else {}
            for pool in pools:
                yield pool, gateways
        for segment in segments.all:
            yield segment.subnet, segments.next_hops_to_segment(segment)


def _speakers(topology: Topology, version: int) -> list[Node]:
    """The nodes, not routers, that have an address or a pool of the family."""
    named = {
        member.node
        for link in topology.links
        for member in link.members
        if any(interface.version == version for interface in member.addresses)
    }
    return [
        node
        for node in topology.nodes
        if not node.router and (node.name in named or any(pool.version == version for pool in node.pools))
    ]


def _by_hand(node: Node, pool: IPNetwork) -> bool:
    """Whether one of the routes written in the file covers `pool`."""
    return any(
        pool.prefixlen >= route.destination.prefixlen and pool.network_address in route.destination
        for route in node.routes
    )


@dataclass(frozen=True, slots=True)
class _Segment:
    """A link as one family sees it: its subnet, and its members' addresses there, by name."""

    index: int
    subnet: IPNetwork
    addresses: dict[str, IPAddress]


@dataclass(frozen=True, slots=True)
class _Segments:
    """All links as one family sees them; `of_member` in the order of the file."""

    routers: frozenset[str]
    all: list[_Segment] = field(default_factory=list)
    of_member: dict[str, list[_Segment]] = field(default_factory=dict)

    @classmethod
    def of(cls, topology: Topology, version: int) -> _Segments:
        segments = cls(frozenset(node.name for node in topology.nodes if node.router))
        for index, link in enumerate(topology.links):
            found: dict[str, IPInterface] = {}
            for member in link.members:
                for interface in member.addresses:
                    if interface.version == version:
                        found.setdefault(member.node, interface)
            if not found:
                continue
            subnet = next(iter(found.values())).network
            segment = _Segment(index, subnet, {name: interface.ip for name, interface in found.items()})
            segments.all.append(segment)
            for name in found:
                segments.of_member.setdefault(name, []).append(segment)
        return segments

    def next_hops_to_node(self, name: str) -> dict[str, IPAddress]:
        """For each other member of the network that has a way to the node `name`: the next hop."""
        return self._next_hops([name], reached={name})

    def next_hops_to_segment(self, segment: _Segment) -> dict[str, IPAddress]:
        """For each node and router that is not on `segment` and has a way there: the next hop."""
        routers = [name for name in segment.addresses if name in self.routers]
        return self._next_hops(routers, reached=set(segment.addresses))

    def _next_hops(self, nearest: Iterable[str], reached: set[str]) -> dict[str, IPAddress]:
        """Breadth first from `nearest` outwards: who is found across a link sends to the one it was found from."""
        hops: dict[str, IPAddress] = {}
        crossed: set[int] = set()
        queue = deque(nearest)
        while queue:
            hop = queue.popleft()
            for segment in self.of_member.get(hop, ()):
                if segment.index in crossed:
                    continue
                crossed.add(segment.index)
                gateway = segment.addresses[hop]
                for name in segment.addresses:
                    if name not in reached:
                        reached.add(name)
                        hops[name] = gateway
                        if name in self.routers:
                            queue.append(name)
        return hops
