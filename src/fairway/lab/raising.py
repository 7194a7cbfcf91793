"""A lab brought up, or brought from what it is to what its file now says."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from fairway.lab import directory, ground, impairment, moving
from fairway.lab.agents import keeping
from fairway.lab.agents.network import addresses_of
from fairway.lab.ending import end_namespaces
from fairway.lab.forward import set_forward_policy
from fairway.lab.labs import find
from fairway.lab.model import LabPod, Node, Topology
from fairway.lab.nodes import node_host
from fairway.lab.topology import facts, load, node_namespace, static_routes
from fairway.net.host import Host
from fairway.net.kernel import Kernel
from fairway.net.model.errors import FairwayError, NotOursError
from fairway.net.model.facts import Fact, Namespace, Route
from fairway.net.model.operations import Change, Failure
from fairway.net.model.pod import VXLAN_PORT, LearnedRoute, Pod
from fairway.net.reconcile import plan

Progress = Callable[[str, int, int], None]
"""Called with what is being made, how much of it is done, and how much there is."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What `up` brought about. `operations` 0: everything was as the file says."""

    name: str
    nodes: int
    links: int
    pods: int
    operations: int
    seconds: float
    engine: str  # "netem", "relay", or "none": no link has faults
    agents: int  # that run
    waiting: str  # what one of them has not learned in time; empty: all know the ways to all pods


def up(
    path: Path, *, progress: Progress | None = None, leave_foreign_chains: bool = False, agents: bool = True
) -> Summary:
    """Bring the lab of the file at `path` to what the file says. A lab that was not there is undone if this fails.

    Without `agents` none runs, whatever the file says: nodes are given their routes.
    """
    started = time.monotonic()
    topology = load(path)
    topology = replace(topology, agents=topology.agents and agents)
    with directory.lock(topology.name):
        kernel = Kernel()
        try:
            fresh = not ground.namespaces(kernel, topology.name)
            try:
                work = _Raising(kernel, topology, progress or _silent, leave_foreign_chains)
                directory.write_topology(topology.name, path.read_text(), path.resolve())
                operations = work.bring()
                waiting = keeping.wait(kernel, topology) if topology.agents and topology.routes == "auto" else ""
            except BaseException:
                if fresh:
                    end_namespaces(kernel, topology.name)
                    directory.forget(topology.name)
                raise
        finally:
            kernel.close()
    return Summary(
        topology.name,
        len(topology.nodes),
        len(topology.links),
        len(topology.pods),
        operations,
        time.monotonic() - started,
        impairment.engine_of(topology),
        sum(not node.router for node in topology.nodes) if topology.agents else 0,
        waiting,
    )


class _Raising:
    """One `up`: the ground first, then, node by node, what goes, and last what comes."""

    def __init__(self, kernel: Kernel, topology: Topology, progress: Progress, leave_foreign_chains: bool) -> None:
        self._kernel = kernel
        self._topology = topology
        self._progress = progress
        self._leave_foreign_chains = leave_foreign_chains
        self._routes = static_routes(topology)
        self._elsewhere: set[str] = set()
        """Pods that are on some node: what is kept for others that were away is free."""

    def bring(self) -> int:
        """Do it all; returns how many operations it took."""
        nodes = [node for node in self._topology.nodes if not node.router]
        operations = keeping.release(self._topology)
        operations += self._ground()
        if self._topology.agents:
            operations += moving.bring_back(self._topology)
            self._elsewhere = {pod.name for pod in find(self._topology.name).pods()}
        for done, node in enumerate(nodes, 1):
            operations += self._clear(node)
            self._progress("nodes", done, len(nodes))
        made = 0
        for node in nodes:
            operations += self._settle(node, made)
            made += len(self._pods_of(node))
        if self._topology.agents:
            operations += keeping.keep(self._kernel, self._topology, leave_foreign_chains=self._leave_foreign_chains)
        return operations

    def _ground(self) -> int:
        """Nodes, routers and links; in batches, so that the progress can be seen."""
        topology = self._topology
        stopped = impairment.release(topology)
        relayed = impairment.engine_of(topology) == "relay"
        desired = self._kernel.possible(facts(topology, relayed))
        self._kernel.sweep_placeholders(f"{topology.name}.")
        marks = ground.namespaces(self._kernel, topology.name)
        self._check_names(marks, {fact.name for fact in desired if isinstance(fact, Namespace)})
        operations = plan(desired, ground.observe(self._kernel, marks, desired))
        self._end_pods_of_lost_nodes(marks)
        for start in range(0, len(operations), _BATCH):
            _raise_first(self._kernel.execute(operations[start : start + _BATCH]))
            self._progress("links", min(start + _BATCH, len(operations)), len(operations))
        if any(isinstance(operation, Change) for operation in operations):
            # A link that is given another address or MTU loses neighbours and routes by that.
            now = ground.namespaces(self._kernel, topology.name)
            again = plan(desired, ground.observe(self._kernel, now, desired))
            _raise_first(self._kernel.execute(again))
        policies = sum(
            set_forward_policy(self._kernel, node_namespace(topology, node.name), node.forward_policy)
            for node in topology.nodes
        )
        return len(operations) + stopped + policies + impairment.impair(self._kernel, topology)

    def _check_names(self, marks: dict[str, str], wanted: set[str]) -> None:
        for name in sorted(wanted - set(marks)):
            if self._kernel.has_namespace(name):
                raise NotOursError(
                    f"the namespace {name} exists and is not of this lab",
                    mend=f"rename the lab, or remove it: ip netns delete {name}",
                )

    def _end_pods_of_lost_nodes(self, marks: dict[str, str]) -> None:
        """The pods of nodes that are not in the file any more go with them."""
        names = {node.name for node in self._topology.nodes if not node.router}
        for name, mark in marks.items():
            if ground.is_pod(mark) and mark.split()[4] not in names:
                _raise_first(self._kernel.execute(plan((), {Namespace(name, mark)})))
                directory.forget_node(self._topology.name, mark.split()[4])

    def _host(self, node: Node) -> Host:
        return node_host(self._topology.name, node.name, touch_foreign_chains=not self._leave_foreign_chains)

    def _pods_of(self, node: Node) -> list[LabPod]:
        return [pod for pod in self._topology.pods if pod.node == node.name]

    def _clear(self, node: Node) -> int:
        """Undo what was cut off, repair what has drifted, remove pods that are not wanted as they are."""
        if not directory.node_state(self._topology.name, node.name).exists():
            return 0
        with self._host(node) as host:
            changed = host.routes.set(self._routes[node.name])
            host.learned.change((), [route.destination for route in host.learned.all() if not self._is_told(route)])
            if not self._tunnels(node):
                host.learned.end_tunnel()
            drift, failures = host.repair()
            # What nodes told last may be another thing by now: their agents see to it.
            _raise_first([each for each in failures if not _is_learned(each.operation.fact)])
            wanted = {pod.name: pod for pod in self._pods_of(node)}
            gone = [pod for pod in host.pods() if not _as_wanted(pod, wanted.get(pod.name))]
            for pod in gone:
                host.remove_pod(pod.name)
            for pod in host.moving.away():
                if pod.name not in self._elsewhere:
                    host.moving.forget_away(pod.name)
            for pool in host.store.addresses.pools():
                if pool.block not in node.pools and not host.pools.in_use(pool.block):
                    host.pools.remove(pool.block)
        return changed + len(drift) + len(gone)

    def _tunnels(self, node: Node) -> set[int]:
        """The IP versions of what the node sends within VXLAN, if it does."""
        if not self._topology.agents or self._topology.cross_subnet != "vxlan":
            return set()
        return {address.version for address in addresses_of(self._topology, node)}

    def _is_told(self, route: LearnedRoute) -> bool:
        """Whether the node that the route was learned from is there to tell it."""
        return self._topology.agents and any(node.name == route.node for node in self._topology.nodes)

    def _settle(self, node: Node, made: int) -> int:
        """Give the node its pools, routes and pods; `made` pods of other nodes are there already."""
        pods = self._pods_of(node)
        operations = 0
        with self._host(node) as host:
            for pool in node.pools:
                host.pools.add(pool)
            operations += host.routes.set(self._routes[node.name])
            if versions := self._tunnels(node):
                # The node's agent does so too, but the pods are there before: their MTU follows from it.
                _raise_first(host.learned.set_tunnel(node.name, VXLAN_PORT, versions))
            present = {pod.name for pod in host.pods()}
            for number, pod in enumerate(pods, made + 1):
                if pod.name not in present:
                    host.add_pod(pod.name, pod.addresses, pod.mtu)
                    operations += 1
                self._progress("pods", number, len(self._topology.pods))
        return operations


_BATCH = 500


def _as_wanted(pod: Pod, wanted: LabPod | None) -> bool:
    if wanted is None:
        return False
    return (not wanted.addresses or pod.addresses == wanted.addresses) and (not wanted.mtu or pod.mtu == wanted.mtu)


def _is_learned(fact: Fact) -> bool:
    return isinstance(fact, Route) and fact.learned


def _raise_first(failures: list[Failure]) -> None:
    if failures:
        error = failures[0].error
        raise error if isinstance(error, FairwayError) else FairwayError(str(error))


def _silent(what: str, done: int, total: int) -> None:
    pass
