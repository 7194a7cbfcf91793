"""What a lab is: hosts, routers, links between them and pods on them, as frozen values. Nothing here does anything."""

from __future__ import annotations

from dataclasses import dataclass, field

from fairway.net.model.facts import IPAddress, IPInterface, IPNetwork
from fairway.net.model.pod import StaticRoute


@dataclass(frozen=True, slots=True)
class Faults:
    """What a link does to every packet that crosses it, each way. All zero: nothing."""

    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    loss: float = 0.0  # the share of packets lost, 0 to 1
    rate_bps: int = 0  # bits a second; 0: as fast as it goes

    def __bool__(self) -> bool:
        return self != Faults()


@dataclass(frozen=True, slots=True)
class Member:
    """One end of a link: a node or router, its interface there, and its addresses on it."""

    node: str
    interface: str
    addresses: tuple[IPInterface, ...]


@dataclass(frozen=True, slots=True)
class Link:
    """A segment that its members share: a cable between two, a switch between more."""

    name: str
    members: tuple[Member, ...]
    mtu: int = 1500
    faults: Faults = field(default_factory=Faults)


@dataclass(frozen=True, slots=True)
class Node:
    """A host with pods, or a router, which has none."""

    name: str
    router: bool = False
    pools: tuple[IPNetwork, ...] = ()  # what its pods' addresses are taken from
    routes: tuple[StaticRoute, ...] = ()  # written by hand in the file
    forward_policy: str = "accept"  # of an iptables FORWARD chain: "accept": there is none; "drop"


@dataclass(frozen=True, slots=True)
class LabPod:
    """A pod on a node; with no addresses it gets them from the node's pools."""

    name: str
    node: str
    addresses: tuple[IPAddress, ...] = ()
    mtu: int = 0  # 0: the uplink's


@dataclass(frozen=True, slots=True)
class Topology:
    """A whole lab, as its file says it. `routes` "auto": every node is given routes to every other's pools.

    With `agents` each node runs one, and they tell each other of their pools: nodes are given no routes to those.
    """

    name: str
    nodes: tuple[Node, ...]
    links: tuple[Link, ...]
    pods: tuple[LabPod, ...]
    routes: str = "auto"  # or "manual": only those in the file
    agents: bool = False
    cross_subnet: str = "router"  # or "vxlan": agents send through routers within VXLAN
