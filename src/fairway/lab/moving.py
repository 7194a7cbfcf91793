"""Pods of a lab moved from one node to another while they run: same namespace, same processes, another host."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

from fairway.lab import directory
from fairway.lab.labs import NodeView, PodView, RunningLab, find, running
from fairway.lab.model import Topology
from fairway.lab.sockets import connections
from fairway.net.agent.client import Client
from fairway.net.host.flow import Flow
from fairway.net.kernel import Kernel
from fairway.net.model.errors import UsageError
from fairway.net.model.facts import IPAddress

_LEARN_S = 5.0  # how long the old host waits to learn where the pod is, before it ends the old link in any case
_LOOK_S = 0.001
_MIGRATE_S = (
    15.0  # how long clients may take to go on from another address: they notice within a second, if they get one
)
_MIGRATE_LOOK_S = 0.05
_BEFORE_S, _AFTER_S = 0.1, 0.3  # for how long the echoes go before and after


@dataclass(frozen=True, slots=True)
class Moved:
    """A move, and what a thousand echoes a second to the pod saw of it. Times are milliseconds."""

    pod: str
    source: str
    target: str
    former: tuple[IPAddress, ...]
    addresses: tuple[IPAddress, ...]
    taken_ms: float  # until the pod sent by its new host
    learned_ms: float  # until its old host knew the way there
    whole_ms: float  # until nothing was left of it on the old one
    gap_ms: float  # the longest time without an answer; 0: none was missing
    sent: int
    lost: int
    tcp: int  # connections that the pod had
    tcp_lost: int  # of them, those whose address is gone
    udp: int  # connected sockets, as clients of QUIC have them
    udp_lost: int  # of them, those that are still from an address that the pod has no more


def move(name: str, to: str, *, lab: str | None = None, renumber: bool = False) -> Moved:
    """Move the pod called `name` to the node `to`; with `renumber` it gets an address of that node's.

    A UsageError leaves it where it is; cut off at any moment, the next `up` leaves it on one of the two.
    """
    running_lab, pod = _find(name, lab)
    with directory.lock(running_lab.name):
        return _move(running_lab, pod, to, () if renumber else pod.addresses)


def bring_back(topology: Topology) -> int:
    """Move the pods that are on other nodes than the topology says, if both nodes' agents run; returns how many."""
    lab = find(topology.name)
    wanted = {pod.name: pod for pod in topology.pods}
    alive = lab.agents().keys()
    pods = lab.pods()
    twice = {name for name, count in Counter(pod.name for pod in pods).items() if count > 1}
    moved = 0
    for pod in pods:
        place = wanted.get(pod.name)
        if place is None or place.node == pod.node or pod.name in twice or not {pod.node, place.node} <= alive:
            continue
        _move(lab, pod, place.node, place.addresses or pod.addresses)
        moved += 1
    return moved


def _find(name: str, lab: str | None) -> tuple[RunningLab, PodView]:
    labs = [find(lab)] if lab else running()
    found = [(each, pod) for each in labs for pod in each.pods() if pod.name == name]
    if not found:
        raise UsageError(f"there is no pod {name!r} in a lab", mend="see: fairway ls LAB")
    if len({each.name for each, _ in found}) > 1:
        raise UsageError(f"{name} is in several labs", mend=f"say which: --lab {found[0][0].name}")
    if len(found) > 1:
        raise UsageError(f"a move of {name} was cut off", mend=f"mend it: fairway up {found[0][0].source}")
    return found[0]


def _check(lab: RunningLab, pod: PodView, to: str) -> None:
    nodes = [node.name for node in lab.nodes() if not node.router]
    if to not in nodes:
        raise UsageError(f"there is no node {to!r} in {lab.name}", mend=f"there are: {', '.join(nodes)}")
    if to == pod.node:
        raise UsageError(f"{pod.name} is on {to} already")
    missing = {pod.node, to} - lab.agents().keys()
    if missing:
        raise UsageError(
            f"no agent runs on {', '.join(sorted(missing))}, and nobody else tells the others where a pod is",
            mend=f"set agents = true in its file, and: fairway up {lab.source or 'FILE'}",
        )


def _move(lab: RunningLab, pod: PodView, to: str, wanted: tuple[IPAddress, ...]) -> Moved:
    """Move it, and give it the addresses `wanted`, or one of the node's."""
    _check(lab, pod, to)
    keeps = wanted == pod.addresses
    with ExitStack() as stack:
        kernel = Kernel()
        stack.callback(kernel.close)
        here, there = (stack.enter_context(Client(directory.agent_socket(lab.name, node))) for node in (pod.node, to))
        inside = here.call("pod.show", {"name": pod.name})["pod"]["inside"]
        arrival: dict[str, Any] = {
            "name": pod.name,
            "namespace": pod.namespace,
            "interface": inside,
            "mtu": pod.mtu,
            "addresses": [str(address) for address in wanted],
        }
        before = connections(pod.namespace, pod.addresses)
        flow = Flow(_onlooker(lab, pod), pod.addresses[0])
        with flow:
            time.sleep(_BEFORE_S)
            started = time.monotonic()
            taken_in = there.call("pod.take_in", arrival)["pod"]
            addresses = tuple(map(ip_address, taken_in["addresses"]))
            flow.target = next((each for each in addresses if each.version == flow.target.version), addresses[0])
            taken = time.monotonic()
            if keeps:
                _until_learned(kernel, lab, pod, to, started)
            learned = time.monotonic()
            here.call("pod.let_go", {"name": pod.name, "keeps": keeps})
            done = time.monotonic()
            time.sleep(_AFTER_S)
        after, behind = _connections_after(f"{lab.name}.{to}.{pod.name}", pod.addresses, addresses, before)
    return Moved(
        pod=pod.name,
        source=pod.node,
        target=to,
        former=pod.addresses,
        addresses=addresses,
        taken_ms=(taken - started) * 1000,
        learned_ms=(learned - started) * 1000,
        whole_ms=(done - started) * 1000,
        gap_ms=flow.gap_ms(),
        sent=flow.sent,
        lost=flow.lost,
        tcp=before["tcp"],
        tcp_lost=max(0, before["tcp"] - after["tcp"]),
        udp=before["udp"],
        udp_lost=max(0, min(before["udp"] - after["udp"], behind["udp"])),
    )


def _connections_after(
    namespace: str, former: tuple[IPAddress, ...], addresses: tuple[IPAddress, ...], before: Counter[str]
) -> tuple[Counter[str], Counter[str]]:
    """Those from the pod's addresses, and from ones that it has no more, once its clients have left these.

    A connected UDP socket may be of a client that never does: so there is a limit.
    """
    gone = set(former) - set(addresses)
    deadline = time.monotonic() + _MIGRATE_S
    while True:
        after, behind = connections(namespace, addresses), connections(namespace, gone)
        if after["udp"] >= before["udp"] or not behind["udp"] or time.monotonic() >= deadline:
            return after, behind
        time.sleep(_MIGRATE_LOOK_S)


def _until_learned(kernel: Kernel, lab: RunningLab, pod: PodView, to: str, started: float) -> None:
    """Wait until the old host knows where the pod is: from then on it passes on what others still send it.

    It knows already where the pod comes home to the block that its address is of.
    """
    assert lab.topology is not None
    (blocks,) = (node.pools for node in lab.topology.nodes if node.name == to)
    wanted = {ip_network(a) for a in pod.addresses if not any(a in block for block in blocks)}
    home = next(node.namespace for node in lab.nodes() if node.name == pod.node)
    while time.monotonic() - started < _LEARN_S:
        if wanted <= {route.destination for route in kernel.routing.ours(home) if route.learned}:
            return
        time.sleep(_LOOK_S)


def _onlooker(lab: RunningLab, pod: PodView) -> str:
    """The namespace of somebody whose way to the pod changes: another pod on its host, else anybody else's."""
    return next(_onlookers(lab, pod))


def _onlookers(lab: RunningLab, pod: PodView) -> Iterator[str]:
    version = pod.addresses[0].version
    others = [each for each in lab.pods() if each.name != pod.name]
    for other in sorted(others, key=lambda each: each.node != pod.node):
        if any(address.version == version for address in other.addresses):
            yield other.namespace
    nodes: list[NodeView] = lab.nodes()
    yield next(node.namespace for node in nodes if node.name == pod.node)
