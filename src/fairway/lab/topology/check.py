"""What the parts of a topology have to be to each other; a value that is wrong by itself was refused before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from fairway.lab.model import LabPod, Link, Member, Node, Topology
from fairway.lab.topology.lines import Path
from fairway.lab.topology.problems import Problems, did_you_mean, dotted
from fairway.lab.topology.routes import unreachable
from fairway.lab.topology.values import MTU_MIN_IPV6, shown
from fairway.net.ipam.allocator import capacity, pool_of
from fairway.net.model.errors import UsageError
from fairway.net.model.facts import IPAddress, IPNetwork
from fairway.net.model.names import check_name

FAMILIES = (4, 6)
AGENT_NAMES_MAX = 71
"""Letters of a lab's and a node's name: the path of the agent's socket has at most 107 (sys/un.h)."""


def check_references(topology: Topology, problems: Problems) -> None:
    """Note names that cannot be, and names of nothing; sound even where other values could not be read."""
    _check_names(topology, problems)
    nodes = {node.name for node in topology.nodes if not node.router}
    if nodes:
        _check_members(topology, problems)
        _check_pods_nodes(topology, nodes, problems)


def check(topology: Topology, problems: Problems) -> None:
    """Note what does not fit together in `topology`, whose references are right, and raise it."""
    _check_whole(topology, problems)
    if topology.cross_subnet == "vxlan" and not topology.agents:
        problems.add(("cross_subnet",), "expected agents = true: only agents send within VXLAN")
    for link in topology.links:
        _check_link(link, problems)
    for node in topology.nodes:
        _check_node(node, topology, problems)
        if topology.agents and not node.router:
            _check_agent(node, topology, problems)
    _check_networks(topology, problems)
    _check_pods(topology, problems)
    _check_addresses(topology, problems)
    problems.raise_if_any()
    for missing in unreachable(topology):
        problems.add(
            ("nodes", missing.source),
            f"no path to {missing.target} with its pool {missing.pool}: expected links with IPv{missing.pool.version} "
            'addresses from one to the other, over routers only (or routes = "manual")',
        )
    problems.raise_if_any()


def node_path(node: Node) -> Path:
    """Where the file speaks of `node`."""
    return ("routers" if node.router else "nodes", node.name)


def _check_names(topology: Topology, problems: Problems) -> None:
    """Names are labels, and no two things share one: node and link namespaces lie side by side."""
    taken: dict[str, Path] = {}
    named: list[tuple[str, str, Path]] = [("lab", topology.name, ("name",))]
    named += [("router" if node.router else "node", node.name, node_path(node)) for node in topology.nodes]
    named += [("link", link.name, ("links", link.name)) for link in topology.links]
    named += [("pod", pod.name, ("pods", pod.name)) for pod in topology.pods]
    for what, name, path in named:
        try:
            check_name(what, name)
        except UsageError as error:
            unset = "" if what != "lab" or problems.holds(path) else " (from the file's name; or set the key name)"
            problems.add(path, f"{error.message}{unset}{error.mend and ': '}{error.mend}")
        if what == "lab":
            continue
        if name in taken:
            problems.add(path, f"expected a name of its own; {dotted(taken[name])} has it already")
        taken.setdefault(name, path)


def _check_members(topology: Topology, problems: Problems) -> None:
    """Links join nodes and routers that exist."""
    pods = {pod.name for pod in topology.pods}
    known = dict.fromkeys(node.name for node in topology.nodes)
    for link in topology.links:
        for member in link.members:
            if member.node not in known:
                hint = "it is a pod" if member.node in pods else did_you_mean(member.node, known)
                problems.add(("links", link.name, "members", member.node), f"no such node or router; {hint}")


def _check_pods_nodes(topology: Topology, nodes: set[str], problems: Problems) -> None:
    """Pods are on nodes that exist; an empty name stands for one that could not be read."""
    routers = {node.name for node in topology.nodes if node.router}
    for pod in topology.pods:
        if pod.node and pod.node not in nodes:
            hint = "it is a router, which has no pods" if pod.node in routers else did_you_mean(pod.node, sorted(nodes))
            problems.add(("pods", pod.name, "node"), f"no node {shown(pod.node)}; {hint}")


def _check_whole(topology: Topology, problems: Problems) -> None:
    """There is a node, and every node and router is on a link, unless it is alone."""
    if all(node.router for node in topology.nodes):
        problems.add(("nodes",), "expected at least one node: [nodes.NAME]")
        problems.raise_if_any()
    linked = {member.node for link in topology.links for member in link.members}
    if len(topology.nodes) > 1:
        for node in topology.nodes:
            if node.name not in linked:
                problems.add(node_path(node), "on no link: expected it among the members of one")


def _check_link(link: Link, problems: Problems) -> None:
    """Two members or more, one subnet a family, and an MTU and faults that can be."""
    path: Path = ("links", link.name)
    if len(link.members) < 2:
        problems.add((*path, "members"), f"expected at least two members, got {len(link.members)}")
        return
    for member in link.members:
        if not member.addresses:
            problems.add((*path, "members", member.node), "expected at least one address, got none")
    for version in FAMILIES:
        _check_subnet(link, version, problems)
    if any(interface.version == 6 for member in link.members for interface in member.addresses):
        _check_ipv6_mtu((*path, "mtu"), link.mtu, problems)
    if link.faults.jitter_ms > link.faults.delay_ms:
        problems.add(
            (*path, "jitter"),
            f"expected at most the delay, {link.faults.delay_ms:g}ms, got {link.faults.jitter_ms:g}ms",
        )


def _check_subnet(link: Link, version: int, problems: Problems) -> None:
    """All addresses of one family on a link are in one subnet, and at least two members have one."""
    found = [
        (member, position, interface)
        for member in link.members
        for position, interface in enumerate(member.addresses)
        if interface.version == version
    ]
    if not found:
        return
    subnet, _ = Counter(interface.network for _, _, interface in found).most_common(1)[0]
    for member, position, interface in found:
        if interface.network != subnet:
            problems.add(
                ("links", link.name, "members", member.node, position),
                f"expected an address in {subnet}, as other members have, got {interface}",
            )
    if len({member.node for member, _, _ in found}) == 1:
        member, position, interface = found[0]
        problems.add(
            ("links", link.name, "members", member.node, position),
            f"{interface} is the link's only IPv{version} address: expected another member to have one",
        )


def _check_ipv6_mtu(path: Path, mtu: int, problems: Problems) -> None:
    if mtu < MTU_MIN_IPV6:
        problems.add(path, f"expected an MTU of at least {MTU_MIN_IPV6}, which IPv6 needs, got {mtu}")


def _check_node(node: Node, topology: Topology, problems: Problems) -> None:
    """The routes written by hand: through a neighbour, of one family, once each."""
    own = [i for link in topology.links for m in link.members if m.node == node.name for i in m.addresses]
    seen: set[IPNetwork] = set()
    for position, route in enumerate(node.routes):
        path: Path = (*node_path(node), "routes", position)
        to, via = route.destination, route.gateway
        if to.version != via.version:
            problems.add((*path, "via"), f"expected an IPv{to.version} address, as {to} needs, got {via}")
        elif not any(via in interface.network for interface in own):
            problems.add((*path, "via"), f"expected an address on one of the links of {node.name}, got {via}")
        elif any(via == interface.ip for interface in own):
            problems.add((*path, "via"), f"expected another's address, got {node.name}'s own {via}")
        if to in seen:
            problems.add((*path, "to"), f"expected one route to {to}, got another")
        if any(to == interface.network for interface in own):
            problems.add((*path, "to"), f"expected a network further off, got {to}, which {node.name} has a link in")
        seen.add(to)


def _check_agent(node: Node, topology: Topology, problems: Problems) -> None:
    """A node with an agent has a block to announce, and names that leave room for the path of its socket."""
    if not node.pools:
        problems.add(node_path(node), "expected pools: with agents every node has some to announce")
    if len(topology.name) + len(node.name) > AGENT_NAMES_MAX:
        problems.add(
            node_path(node),
            f"expected a shorter name: with agents the lab's and a node's have at most {AGENT_NAMES_MAX} together",
        )


@dataclass(frozen=True, slots=True)
class _Claim:
    """A part of the file that claims all addresses of a network."""

    network: IPNetwork
    path: Path
    order: int  # in the file


def _check_networks(topology: Topology, problems: Problems) -> None:
    """No pool and no link's subnet holds an address of another."""
    for version in FAMILIES:
        claims = [claim for claim in _claims(topology) if claim.network.version == version]
        claims.sort(key=lambda claim: (int(claim.network.network_address), claim.network.prefixlen))
        widest: _Claim | None = None
        for claim in claims:
            if widest is None or int(claim.network.network_address) > int(widest.network.broadcast_address):
                widest = claim  # networks that overlap are one inside the other, and the outer one comes first
                continue
            first, second = sorted((widest, claim), key=lambda each: each.order)
            problems.add(
                second.path,
                f"expected a network of its own: {second.network} overlaps {first.network} of {dotted(first.path)}",
            )


def _claims(topology: Topology) -> Iterator[_Claim]:
    order = 0
    for node in topology.nodes:
        for position, pool in enumerate(node.pools):
            yield _Claim(pool, ("nodes", node.name, "pools", position), order := order + 1)
    for link in topology.links:
        for subnet in dict.fromkeys(i.network for member in link.members for i in member.addresses):
            yield _Claim(subnet, ("links", link.name), order := order + 1)


def _check_pods(topology: Topology, problems: Problems) -> None:
    """Every pod has addresses of its node's pools, or can be given some."""
    nodes = {node.name: node for node in topology.nodes}
    waiting: Counter[str] = Counter(pod.node for pod in topology.pods if not pod.addresses)
    for pod in topology.pods:
        pools = nodes[pod.node].pools
        if not pod.addresses and not pools:
            problems.add(("pods", pod.name), f"expected an address, or pools on {pod.node} to take one from")
        for path, address in _pod_addresses(pod, problems):
            _check_pod_address(path, address, pod.node, pools, problems)
        versions = {address.version for address in pod.addresses} or {pool.version for pool in pools}
        if pod.mtu and 6 in versions:
            _check_ipv6_mtu(("pods", pod.name, "mtu"), pod.mtu, problems)
    for name, count in waiting.items():
        fixed = [address for pod in topology.pods if pod.node == name for address in pod.addresses]
        for version in sorted({pool.version for pool in nodes[name].pools}):
            free = _free([pool for pool in nodes[name].pools if pool.version == version], fixed)
            if count > free:
                problems.add(
                    ("nodes", name, "pools"),
                    f"expected room for {count} pods without an address of their own, "
                    f"got {free} free IPv{version} addresses",
                )


def _check_pod_address(
    path: Path, address: IPAddress, node: str, pools: tuple[IPNetwork, ...], problems: Problems
) -> None:
    """`address` is one that the node's allocator would give."""
    if not any(address in pool for pool in pools):
        has = "has " + ", ".join(map(str, pools)) if pools else "has none"
        problems.add(path, f"expected an address in a pool of {node}, which {has}; got {address}")
        return
    try:
        pool_of(pools, address)
    except UsageError as error:
        problems.add(path, f"expected another address: {error.message}")


def _free(pools: list[IPNetwork], fixed: list[IPAddress]) -> int:
    """How many addresses of `pools` can be given out beside the `fixed` ones."""
    taken = {address for address in fixed if any(address in pool for pool in pools)}
    return sum(map(capacity, pools)) - len(taken)


def _pod_addresses(pod: LabPod, problems: Problems) -> Iterator[tuple[Path, IPAddress]]:
    """The addresses of `pod`, each with where the file gives it."""
    paths: list[Path] = []
    for key in ("address", "addresses"):
        path: Path = ("pods", pod.name, key)
        if not problems.holds(path):
            continue
        several = [(*path, position) for position in range(len(pod.addresses)) if problems.holds((*path, position))]
        paths += several or [path]
    yield from zip(paths, pod.addresses, strict=False)


def _check_addresses(topology: Topology, problems: Problems) -> None:
    """No address is given twice."""
    taken: dict[IPAddress, Path] = {}
    given: list[tuple[Path, IPAddress]] = []
    for link in topology.links:
        for member in link.members:
            given += [(_member_path(link, member, n), each.ip) for n, each in enumerate(member.addresses)]
    for pod in topology.pods:
        given += _pod_addresses(pod, problems)
    for path, address in given:
        if address in taken:
            problems.add(path, f"expected an address of its own: {dotted(taken[address])} has {address} already")
        taken.setdefault(address, path)


def _member_path(link: Link, member: Member, position: int) -> Path:
    if len(member.addresses) > 1:
        return ("links", link.name, "members", member.node, position)
    return ("links", link.name, "members", member.node)
