"""What the explainer is told of the world: namespaces as frozen values. Nothing here reads anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fairway.net.model.facts import IPAddress, IPInterface, IPNetwork

Json = dict[str, Any]
"""An object of a ruleset, as libnftables-json(5) lists it."""

LOOPBACK = "lo"


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of a veth pair: an interface's index in a namespace."""

    namespace: str
    index: int


@dataclass(frozen=True, slots=True)
class Link:
    """An interface. `peer` is known for a veth whose other end is in a namespace that has a name."""

    index: int
    name: str
    kind: str = ""
    up: bool = True
    carrier: bool = True
    mac: str = ""
    master: int = 0
    peer: Peer | None = None
    filtered: bool = False  # programs (tc, XDP) that the explainer does not read see its packets
    udp_port: int = 0  # of a VXLAN device
    tapped: bool = False  # a program has a packet socket on it and may carry frames on


@dataclass(frozen=True, slots=True)
class Address:
    """One of a link's addresses. `settled` is false while, or after, duplicate detection keeps it from use."""

    link: str
    interface: IPInterface
    scope: int = 0  # rtnetlink's: 0 everywhere, 253 the link, 254 the host
    settled: bool = True


@dataclass(frozen=True, slots=True)
class Route:
    """A route of any table. `odd` names what the explainer does not follow: several ways, encapsulation."""

    destination: IPNetwork
    kind: str = "unicast"  # rtnetlink's types: local, blackhole, unreachable, prohibit, throw, broadcast ...
    link: str = ""
    gateway: IPAddress | None = None
    metric: int = 0
    table: int = 254
    source: IPAddress | None = None
    dead: bool = False
    link_down: bool = False
    odd: str = ""
    tunnel: IPAddress | None = None  # the host to which packets go within VXLAN


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """A rule that says which table is looked up. `odd`: it has a condition or action that is not followed."""

    version: int
    priority: int
    table: int
    source: IPNetwork | None = None
    destination: IPNetwork | None = None
    entering: str = ""
    odd: bool = False


LOCAL_TABLE, MAIN_TABLE, DEFAULT_TABLE = 255, 254, 253
DEFAULT_RULES = (
    PolicyRule(4, 0, LOCAL_TABLE),
    PolicyRule(4, 32766, MAIN_TABLE),
    PolicyRule(4, 32767, DEFAULT_TABLE),
    PolicyRule(6, 0, LOCAL_TABLE),
    PolicyRule(6, 32766, MAIN_TABLE),
)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A link-layer address that the kernel would use without asking; `permanent` ones it never asks about."""

    link: str
    address: IPAddress
    mac: str
    permanent: bool


@dataclass(frozen=True, slots=True)
class LegacyRule:
    """A rule of an iptables-legacy chain, as far as it is read. Not `unconditional` and no interface: unreadable."""

    target: str  # ACCEPT, DROP, REJECT, another target's name, or empty
    unconditional: bool
    in_interface: str = ""
    out_interface: str = ""


@dataclass(frozen=True, slots=True)
class LegacyTable:
    """A table of iptables-legacy. Only its FORWARD chain is read; `policy` is empty where the table has none."""

    version: int
    name: str
    policy: str = ""
    rules: tuple[LegacyRule, ...] = ()


@dataclass(frozen=True, slots=True)
class Host:
    """A network namespace: a pod, a node, a router, or the one that Fairway runs in (the empty name).

    `ruleset` is None where it could not be read: then nothing is known of what its chains do.
    """

    name: str
    label: str
    links: tuple[Link, ...] = ()
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    rules: tuple[PolicyRule, ...] = DEFAULT_RULES
    neighbours: tuple[Neighbour, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    ruleset: tuple[Json, ...] | None = ()
    legacy: tuple[LegacyTable, ...] = ()
    transforms: bool = False  # it has IPsec (xfrm) policies

    def link(self, name: str) -> Link | None:
        """The interface of that name."""
        return next((link for link in self.links if link.name == name), None)

    def link_at(self, index: int) -> Link | None:
        """The interface with that index."""
        return next((link for link in self.links if link.index == index), None)

    def has(self, address: IPAddress) -> bool:
        """Whether `address` is one of its own."""
        return any(own.interface.ip == address for own in self.addresses)

    def number(self, path: str, default: int = 0) -> int:
        """The setting at `path`, such as net/ipv4/ip_forward, as a number."""
        try:
            return int(self.settings.get(path, default))
        except ValueError:
            return default

    def strongest(self, version: int, link: str, setting: str) -> int:
        """The larger of what all interfaces and `link` have of a setting: how the kernel combines most of them."""
        base = f"net/ipv{version}/conf"
        return max(self.number(f"{base}/all/{setting}"), self.number(f"{base}/{link}/{setting}"))


World = Mapping[str, Host]
"""The namespaces that have a name, by name. It may read each when it is first asked for."""

Wires = Mapping[tuple[str, str], tuple[str, ...]]
"""An interface (its namespace, its name) whose frames a program carries to other interfaces of the same namespace."""
