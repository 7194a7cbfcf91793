"""The labs that run on this machine, as the commands see them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fairway.lab import directory, ground, impairment
from fairway.lab.agents import running as agents
from fairway.lab.agents.running import NodeAgent
from fairway.lab.model import Topology
from fairway.lab.nodes import node_host
from fairway.lab.topology import load, node_namespace, parse
from fairway.net.kernel import Kernel
from fairway.net.model.errors import FairwayError, UsageError
from fairway.net.model.facts import IPAddress


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node or router: its namespace under /run/netns, and its addresses on the lab's links."""

    name: str
    namespace: str
    router: bool
    addresses: tuple[IPAddress, ...]


@dataclass(frozen=True, slots=True)
class PodView:
    """A pod: its node, its namespace under /run/netns, and what its host knows of it."""

    name: str
    node: str
    namespace: str
    addresses: tuple[IPAddress, ...]
    mtu: int


@dataclass(frozen=True, slots=True)
class RunningLab:
    """A lab by name; `topology` is None, and `source` empty, if only its namespaces are left."""

    name: str
    source: str
    topology: Topology | None

    @property
    def engine(self) -> str:
        """What makes its links' faults: "netem", "relay", or "none"."""
        return impairment.engine_of(self.topology) if self.topology is not None else "none"

    def nodes(self) -> list[NodeView]:
        """Its nodes and routers, in the file's order."""
        if self.topology is None:
            return []
        members = [member for link in self.topology.links for member in link.members]
        return [
            NodeView(
                node.name,
                node_namespace(self.topology, node.name),
                node.router,
                tuple(each.ip for member in members if member.node == node.name for each in member.addresses),
            )
            for node in self.topology.nodes
        ]

    def agents(self) -> dict[str, NodeAgent]:
        """The agents that run, by node."""
        return agents.find(self.name)

    def agent_state(self, node: str) -> str:
        """Whether the agent of that node, which runs, is ready."""
        return agents.state(self.name, node)

    def pods(self) -> list[PodView]:
        """Its pods, node by node, as the nodes' hosts know them."""
        found = []
        for node in self.nodes():
            if not node.router and directory.node_state(self.name, node.name).exists():
                with node_host(self.name, node.name) as host:
                    found += [
                        PodView(pod.name, node.name, host.identity.namespace(pod.name), pod.addresses, pod.mtu)
                        for pod in host.pods()
                    ]
        return found


def running() -> list[RunningLab]:
    """Every lab that has a directory, or namespaces, here."""
    names = set(directory.names())
    kernel = Kernel()
    try:
        # The first parts of dotted names are candidates; the marks decide, one look each.
        first = {name.split(".")[0]: name for name in kernel.namespace_names() if "." in name}
        names |= {lab for lab, name in first.items() if kernel.mark(name).startswith(ground.mark(lab))}
    finally:
        kernel.close()
    return [_lab(name) for name in sorted(names)]


def find(name: str | None = None) -> RunningLab:
    """The lab `name`; without a name the only one there is."""
    labs = running()
    if name is None and len(labs) == 1:
        return labs[0]
    names = ", ".join(lab.name for lab in labs)
    if not labs:
        raise UsageError("no lab is running", mend="bring one up: fairway up FILE.toml")
    if name is None:
        raise UsageError(f"several labs are running: {names}", mend="say which: --lab NAME, or NAME/MEMBER")
    for lab in labs:
        if lab.name == name:
            return lab
    raise UsageError(f"no lab {name!r} is running; these are: {names}")


def name_of(path_or_name: str) -> str:
    """The name of a lab that is given by name or by its file."""
    path = Path(path_or_name)
    if path.suffix == ".toml" or path.is_file():
        return load(path).name
    return path_or_name


def _lab(name: str) -> RunningLab:
    text, source = directory.read_topology(name)
    try:
        return RunningLab(name, source, parse(text, source) if text else None)
    except FairwayError:
        return RunningLab(name, source, None)
