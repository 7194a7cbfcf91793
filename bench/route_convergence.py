"""How soon every kernel has a new pod's route, and has lost a dead node's: Fairway's agents beside BIRD's full mesh."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from bench.isolation import isolated
from bench.result import Result
from bench.route_nodes import GUESTS, Fabric, Node, Spread, agent_socket, start_agents, start_bird
from fairway.net.agent.client import Client
from fairway.net.model.facts import Route
from fairway.net.model.operations import Create, Delete

NODES = int(os.environ.get("FAIRWAY_BENCH_NODES", "10"))
MANY = 20
"""Of more nodes than that, only what is set as it is by default is measured: they take minutes to start."""
ROUNDS = 40
DEATHS = 4
FIRST_POD = 100
"""Where in a host's block."""
IDLE_S = 2.0
BETWEEN_S = 0.2
"""So that no daemon's change waits for the acknowledgement of its last one."""
STATE = Path("/var/tmp")
Rows = list[tuple[str, list[float], str]]
Change = Callable[[Node, IPv4Network], None]


def run() -> Result:
    """Milliseconds by the kernels' own notices of routes; memory by the kernel's count."""
    result = Result("route_convergence")
    with tempfile.TemporaryDirectory(dir=STATE) as directory:
        runs: list[tuple[str, Callable[[Path], Rows]]] = [
            ("fairway", lambda place: _fairway(place, 1.0)),
            ("fairway, detection 0.3 s", lambda place: _fairway(place, 0.3)),
            ("bird, hold 3 s", lambda place: _bird(place, 0)),
            ("bird, BFD 100 ms", lambda place: _bird(place, 100)),
        ]
        if NODES > MANY:
            runs = [runs[0], runs[-1]]
        for who, measure in runs:
            place = Path(tempfile.mkdtemp(dir=directory))
            for what, samples, unit in isolated(partial(measure, place)):
                if what in (REACHED, ADDED, ASKED, REMOVED):
                    result.add(who, f"{what} p50", samples, unit)
                    result.add_percentile(who, what, samples, unit)
                else:
                    result.add(who, what, samples, unit)
    for what in (f"{ADDED} p50", f"{ADDED} p99", f"{ASKED} p50", f"{REMOVED} p50"):
        result.compare(what, "fairway", "bird, BFD 100 ms")
    result.compare(DEAD, "fairway, detection 0.3 s", "bird, BFD 100 ms")
    result.notes.append(f"{NODES} nodes in namespaces on one bridge, full mesh, {ROUNDS} rounds")
    result.notes.append(
        "a pod of its host's block: from when its own host's kernel has it until all others send packets there"
    )
    result.notes.append(
        "a pod elsewhere: from when its own host's kernel has it until the last other one has; 0: had it before"
    )
    result.notes.append("asked for, gone: from the call on; Fairway's makes or ends a pod, BIRD's is a route alone")
    result.notes.append("a dead node: from when its cable is pulled until the last kernel has lost its block")
    return result


REACHED = "pod of its host's block reached from every other kernel"
ADDED = "pod elsewhere: its route in every other kernel"
ASKED = "pod elsewhere, asked for: its route in every other kernel"
REMOVED = "pod elsewhere: its route gone from every other kernel"
DEAD = "dead node's block gone everywhere"


def _fairway(directory: Path, detection_s: float) -> Rows:
    fabric = Fabric(NODES)
    start_agents(fabric, directory, detection_s)

    def call(node: Node, what: str, **arguments: Any) -> None:
        with Client(agent_socket(directory, node)) as client:
            client.call(what, arguments)

    def add(node: Node, prefix: IPv4Network) -> None:
        call(node, "pod.add", name=f"pod{int(prefix[0]) & 0xFF}", addresses=[str(prefix[0])])

    def remove(node: Node, prefix: IPv4Network) -> None:
        call(node, "pod.rm", names=[f"pod{int(prefix[0]) & 0xFF}"])

    return _measure(fabric, add, remove)


def _bird(directory: Path, bfd_ms: int) -> Rows:
    fabric = Fabric(NODES)
    start_bird(fabric, directory, bfd_ms=bfd_ms)

    def add(node: Node, prefix: IPv4Network) -> None:
        assert not node.kernel.execute([Create(Route(node.name, prefix, link="pods"))])

    def remove(node: Node, prefix: IPv4Network) -> None:
        assert not node.kernel.execute([Delete(Route(node.name, prefix, link="pods"))])

    return _measure(fabric, add, remove)


def _measure(fabric: Fabric, add: Change, remove: Change) -> Rows:
    """What each of many pods, and the death of some nodes, took; then what the daemons cost."""
    try:
        fabric.wait(lambda: all(fabric.told(str(node.block)) for node in fabric.nodes))
        time.sleep(IDLE_S)
        added: list[Spread] = []
        removed: list[Spread] = []
        reached: list[float] = []
        for number in range(ROUNDS):
            node, prefix = fabric.nodes[number % NODES], IPv4Network((int(GUESTS[0]) + number + 1, 32))
            for change, samples, gone in ((add, added, False), (remove, removed, True)):
                time.sleep(BETWEEN_S)
                samples.append(fabric.spread(node, prefix, partial(change, node, prefix), gone=gone, own=not gone))
            time.sleep(BETWEEN_S)
            prefix = IPv4Network((int(node.block[FIRST_POD]) + number // NODES, 32))
            reached.append(fabric.reach(node, prefix, partial(add, node, prefix)))
            remove(node, prefix)
        used = sum(node.cpu_s for node in fabric.nodes)
        time.sleep(IDLE_S)
        idle = (sum(node.cpu_s for node in fabric.nodes) - used) / IDLE_S / NODES * 100
        memory = [node.memory_bytes / 1e6 for node in fabric.nodes]
        return [
            (REACHED, reached, "ms"),
            (ADDED, [max(spread.last - spread.own, 0.0) for spread in added], "ms"),
            (ASKED, [spread.last for spread in added], "ms"),
            (REMOVED, [spread.last for spread in removed], "ms"),
            (DEAD, [_death(fabric, node) for node in fabric.nodes[-DEATHS:]], "ms"),
            ("memory of a node's daemon", memory, "MB"),
            ("CPU of an idle node's daemon", [idle], "% of a core"),
        ]
    finally:
        fabric.close()


def _death(fabric: Fabric, node: Node) -> float:
    """Milliseconds until every other kernel has lost the node's block; then it comes back."""
    spread = fabric.spread(node, node.block, lambda: node.plug(connected=False), gone=True, own=False)
    node.plug(connected=True)
    fabric.wait(lambda: fabric.told(str(node.block)))
    time.sleep(IDLE_S / 2)
    return spread.last
