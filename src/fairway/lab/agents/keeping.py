"""The agents of a lab brought to what its topology says: members of one network, running, and found by each other."""

from __future__ import annotations

import json
import time

from fairway.lab import directory
from fairway.lab.agents import network, running
from fairway.lab.model import Node, Topology
from fairway.lab.nodes import node_host
from fairway.lab.topology import node_namespace
from fairway.net.kernel import Kernel
from fairway.net.model.facts import IPNetwork

_FIND_S = 20.0  # how long they may take to find each other, on a machine that is busy and over lossy links
_LOOK_S = 0.01


def release(topology: Topology) -> int:
    """End the agents that the topology does not speak of, or that are in no namespace of its; returns how many."""
    wanted = {node.name for node in topology.nodes if not node.router} if topology.agents else set()
    ended = [
        agent
        for agent in running.find(topology.name).values()
        if agent.node not in wanted or not running.is_in_place(topology.name, agent)
    ]
    running.end(ended)
    return len(ended)


def keep(kernel: Kernel, topology: Topology, *, leave_foreign_chains: bool) -> int:
    """Start the agents that do not run, and again those that are told something else now; returns how many.

    The nodes are there, with their pods.
    """
    nodes = [node for node in topology.nodes if not node.router]
    joined = network.enrol(topology)
    told = {node.name for node in nodes if _tell(topology, node, leave_foreign_chains=leave_foreign_chains)}
    alive = running.find(topology.name)
    running.end([agent for node, agent in alive.items() if node in joined | told])
    missing = [node.name for node in nodes if node.name not in alive or node.name in joined | told]
    running.start(topology.name, missing)
    return len(missing)


def wait(kernel: Kernel, topology: Topology) -> str:
    """Return when every node knows the way to every other's pods; else, after a while, who does not know which."""
    nodes = [node for node in topology.nodes if not node.router]
    deadline = time.monotonic() + _FIND_S
    while missing := _unknown(kernel, topology, nodes):
        if time.monotonic() > deadline:
            node, pool = missing
            return (
                f"the agent of {node} has not learned the way to {pool} yet: {directory.agent_log(topology.name, node)}"
            )
        time.sleep(_LOOK_S)
    return ""


def _tell(topology: Topology, node: Node, *, leave_foreign_chains: bool) -> bool:
    """Write the configuration of the node's agent; whether it is another one than before."""
    addresses = [str(address) for address in network.addresses_of(topology, node)]
    values = {
        "state": str(directory.node_state(topology.name, node.name)),
        "socket": str(directory.agent_socket(topology.name, node.name)),
        "leave_foreign_chains": leave_foreign_chains,
        "peers.addresses": addresses,
        "peers.cross_subnet": topology.cross_subnet,
    }
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
    path = directory.agent_config(topology.name, node.name)
    try:
        if path.read_text() == text:
            return False
    except OSError:
        pass  # the first time
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)
    return True


def _unknown(kernel: Kernel, topology: Topology, nodes: list[Node]) -> tuple[str, IPNetwork] | None:
    """A node, and another's pool that it knows no way to though it speaks its IP version."""
    for node in nodes:
        speaks = {address.version for address in network.addresses_of(topology, node)}
        known = {
            route.destination for route in kernel.routing.ours(node_namespace(topology, node.name)) if route.learned
        }
        # They are in the kernel a little before they are kept, and until then whoever looks takes them for left over.
        with node_host(topology.name, node.name) as host:
            known &= {route.destination for route in host.learned.all()}
        for other in nodes:
            for pool in other.pools if other is not node else ():
                if pool.version in speaks and pool not in known:
                    return node.name, pool
    return None
