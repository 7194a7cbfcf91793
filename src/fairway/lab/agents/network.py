"""The network of a lab's agents: its authority is on the file's first node, every node's blocks are its pools.

What `fairway init`, `token` and `join` do on hosts that can only speak with each other is done here without a word on
the wire: one machine has the files of all. Keys and certificates are the same.
"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Network, collapse_addresses

from fairway.lab import directory
from fairway.lab.model import Node, Topology
from fairway.net.enrolment import Authority, Block, Membership, request
from fairway.net.model.errors import FairwayError
from fairway.net.model.facts import IPAddress, IPNetwork

PORT = 7946


def enrol(topology: Topology) -> set[str]:
    """Make every node a member of the lab's network; returns those that were none, or had other blocks.

    A network that is not as the file has it now is given up for a new one.
    """
    nodes = [node for node in topology.nodes if not node.router]
    now = datetime.now(UTC)
    first = Authority(directory.node_state(topology.name, nodes[0].name))
    try:
        if first.here and not _is_as_wanted(first, topology, nodes):
            first.close()
            for node in nodes:
                _leave(topology, node)
        if not first.here:
            first.create(nodes[0].name, [Block(pool) for pool in _pools(nodes)], now, PORT)
            first.set_endpoints([_endpoint(address) for address in addresses_of(topology, nodes[0])])
        return {node.name for node in nodes if _join(topology, node, first, now)}
    finally:
        first.close()


def addresses_of(topology: Topology, node: Node) -> list[IPAddress]:
    """The node's addresses on the lab's links, in the file's order."""
    members = [member for link in topology.links for member in link.members if member.node == node.name]
    return [interface.ip for member in members for interface in member.addresses]


def _is_as_wanted(authority: Authority, topology: Topology, nodes: list[Node]) -> bool:
    blocks = {node.name: set(node.pools) for node in nodes}
    network = authority.network()
    where = tuple(_endpoint(address) for address in addresses_of(topology, nodes[0]))
    if network.authority != nodes[0].name or network.pools != tuple(_pools(nodes)) or network.endpoints != where:
        return False
    return all(set(known.blocks) == blocks.get(known.name) for known in authority.nodes())


def _join(topology: Topology, node: Node, authority: Authority, now: datetime) -> bool:
    """Whether the node was no member yet."""
    member = Membership(directory.node_state(topology.name, node.name))
    try:
        same = member.joined and member.network().identity == authority.network().identity
        if same and set(member.credentials().permit.blocks) == set(node.pools):
            return False
    except FairwayError:
        pass  # what cannot be read is made anew
    if node.name != authority.network().authority:
        _leave(topology, node)
    key = member.pending_key()
    member.accept(authority.enrol(node.name, request(key, node.name), now, node.pools), key, node.name, now)
    return True


def _leave(topology: Topology, node: Node) -> None:
    shutil.rmtree(directory.node_state(topology.name, node.name) / "network", ignore_errors=True)


def _pools(nodes: list[Node]) -> list[IPNetwork]:
    """All nodes' blocks as few networks: a pod may move from any of them to any other."""
    pools = [pool for node in nodes for pool in node.pools]
    four = collapse_addresses(pool for pool in pools if isinstance(pool, IPv4Network))
    return [*four, *collapse_addresses(pool for pool in pools if isinstance(pool, IPv6Network))]


def _endpoint(address: IPAddress) -> str:
    return f"[{address}]:{PORT}" if address.version == 6 else f"{address}:{PORT}"
