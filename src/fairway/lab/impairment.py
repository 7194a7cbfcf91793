"""The faults of a lab's links, brought to what the topology says: netem where the kernel has it, else relays."""

from __future__ import annotations

import errno

from fairway.lab.faults import Relay, engine, find_relays, netem, relay_is_here, relay_matches, start_relay, stop_relay
from fairway.lab.model import Link, Topology
from fairway.lab.topology import link_namespace, link_ports, node_namespace
from fairway.net.kernel import Kernel


def engine_of(topology: Topology) -> str:
    """What makes the faults of this lab's links: "netem", "relay", or "none" if no link has any."""
    return engine() if any(link.faults for link in topology.links) else "none"


def release(topology: Topology) -> int:
    """Stop the relays that the topology does not speak of, or speaks otherwise of; returns how many."""
    wanted = {link_namespace(topology, link.name): link for link in topology.links if link.faults}
    stopped = 0
    for relay in _relays(topology.name):
        link = wanted.pop(relay.namespace, None)
        if link is None or not relay_matches(relay, link_ports(topology, link.name), link.faults):
            stop_relay(relay)
            stopped += 1
    return stopped


def impair(kernel: Kernel, topology: Topology) -> int:
    """Give every link its faults; returns how many relays were started. Links and ports are there and up."""
    if engine_of(topology) == "netem":
        for link in topology.links:
            _by_netem(kernel, topology, link)
        return 0
    running = {relay.namespace for relay in _relays(topology.name)}
    missing = [link for link in topology.links if link.faults and link_namespace(topology, link.name) not in running]
    for link in missing:
        namespace = link_namespace(topology, link.name)
        start_relay(namespace, link_ports(topology, link.name), link.faults, title=f"{topology.name}/{link.name}")
    return len(missing)


def end_relays(lab: str) -> None:
    """Stop every relay of a lab."""
    for relay in _relays(lab):
        stop_relay(relay)


def _relays(lab: str) -> list[Relay]:
    """The relays of this lab, not of one that has the same name in another mount namespace."""
    return [relay for relay in find_relays(f"{lab}.") if relay_is_here(relay)]


def _by_netem(kernel: Kernel, topology: Topology, link: Link) -> None:
    for member in link.members:
        namespace = node_namespace(topology, member.node)
        record = kernel.link(namespace, member.interface)
        if record is None:
            continue
        if not link.faults:
            kernel.request(namespace, [netem.clear_faults(record.index)], tolerated=(errno.ENOENT, errno.EINVAL))
            continue
        requests = [netem.set_faults(record.index, link.faults)]
        if link.faults.loss:
            requests.append(netem.single_segments(record.index))
        kernel.request(namespace, requests)
