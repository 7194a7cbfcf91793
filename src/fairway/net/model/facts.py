"""Facts: what is, or should be, in the kernel. Each is one thing that can be made, compared and taken away.

A host's desired state and its observed state are both sets of facts. Two facts with the same `key` speak of the
same thing; the rest of their fields says what it is like. `namespace` is a name under /run/netns, or the absolute
path of a namespace that somebody else made; the empty name is the namespace that Fairway itself runs in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from fairway.net.model.policy_table import PolicyTable

IPAddress = IPv4Address | IPv6Address
IPInterface = IPv4Interface | IPv6Interface
IPNetwork = IPv4Network | IPv6Network
Key = tuple[object, ...]

HERE = ""
"""The namespace that Fairway runs in: a real host's own."""


@dataclass(frozen=True, slots=True)
class Namespace:
    """A network namespace, bound at /run/netns/`name`; `mark` is the alias of its `lo`, and says whose it is."""

    rank: ClassVar[int] = 0
    name: str
    mark: str

    @property
    def key(self) -> Key:
        """A namespace is known by its name."""
        return ("namespace", self.name)


@dataclass(frozen=True, slots=True)
class Veth:
    """A veth pair, `name` in `namespace` to `peer` in `peer_namespace`. Both ends belong to Fairway's link group."""

    rank: ClassVar[int] = 1
    namespace: str
    name: str
    peer_namespace: str
    peer: str
    mtu: int
    mac: str = ""  # empty: the kernel chooses
    peer_mac: str = ""
    peer_mtu: int = 0  # where it is another than `mtu`
    shared_peer: bool = False  # others may give the far end another MTU and MAC: a runtime's further plugins

    @property
    def key(self) -> Key:
        """A pair is known by its first end."""
        return ("veth", self.namespace, self.name)


@dataclass(frozen=True, slots=True)
class Bridge:
    """A bridge: in the lab, the switch of a segment that has more than two members."""

    rank: ClassVar[int] = 1
    namespace: str
    name: str
    mtu: int

    @property
    def key(self) -> Key:
        """A bridge is known by its name."""
        return ("bridge", self.namespace, self.name)


@dataclass(frozen=True, slots=True)
class Vxlan:
    """A VXLAN device (RFC 7348) that learns from each route where its packets go; `port` is UDP's."""

    rank: ClassVar[int] = 1
    namespace: str
    name: str
    mtu: int
    mac: str
    port: int

    @property
    def key(self) -> Key:
        """A device is known by its name."""
        return ("vxlan", self.namespace, self.name)


@dataclass(frozen=True, slots=True)
class BridgePort:
    """`link` is a port of `bridge`."""

    rank: ClassVar[int] = 2
    namespace: str
    link: str
    bridge: str

    @property
    def key(self) -> Key:
        """A link is a port of one bridge at most."""
        return ("port", self.namespace, self.link)


@dataclass(frozen=True, slots=True)
class Sysctl:
    """The value of /proc/sys/`path`, such as net/ipv4/ip_forward, in `namespace`."""

    rank: ClassVar[int] = 3
    namespace: str
    path: str
    value: str

    @property
    def key(self) -> Key:
        """A setting is known by its path."""
        return ("sysctl", self.namespace, self.path)


@dataclass(frozen=True, slots=True)
class Firewall:
    """Fairway's own nftables table, with all in it that is no single pod's."""

    rank: ClassVar[int] = 3
    namespace: str

    @property
    def key(self) -> Key:
        """There is one table in a namespace."""
        return ("firewall", self.namespace)


@dataclass(frozen=True, slots=True)
class AllowedSources:
    """A packet that enters by `link` must bear one of `addresses` as its source: a chain of our table, at the link.

    Where there is no interface any more that may send from them, `link` is the index that it had.
    """

    rank: ClassVar[int] = 4
    namespace: str
    link: str
    addresses: frozenset[IPAddress]

    @property
    def key(self) -> Key:
        """A link has one such chain."""
        return ("sources", self.namespace, self.link)


@dataclass(frozen=True, slots=True)
class PolicyRules:
    """Network policies in force: `table` is all that our nftables table holds of them."""

    rank: ClassVar[int] = 4
    namespace: str
    table: PolicyTable

    @property
    def key(self) -> Key:
        """There is one of them in a namespace."""
        return ("policies", self.namespace)


@dataclass(frozen=True, slots=True)
class Masquerade:
    """What goes from `sources` to anywhere but `spared` leaves under the host's own address; `mark` stands for both."""

    rank: ClassVar[int] = 4
    namespace: str
    mark: str
    sources: frozenset[IPNetwork] = field(default=frozenset(), compare=False)
    spared: frozenset[IPNetwork] = field(default=frozenset(), compare=False)

    @property
    def key(self) -> Key:
        """There is one of them in a namespace."""
        return ("masquerade", self.namespace)


@dataclass(frozen=True, slots=True)
class TunnelGuard:
    """Only `peers` may send VXLAN to `port`, and only what routes lead back to by `link`; `mark` stands for all."""

    rank: ClassVar[int] = 4
    namespace: str
    mark: str
    link: str = field(default="", compare=False)
    port: int = field(default=0, compare=False)
    peers: frozenset[IPAddress] = field(default=frozenset(), compare=False)

    @property
    def key(self) -> Key:
        """There is one of them in a namespace."""
        return ("tunnel guard", self.namespace)


@dataclass(frozen=True, slots=True)
class ForeignChain:
    """Another program's base chain on the forward hook that drops what it does not know."""

    engine: str  # "nft", "iptables-legacy", "ip6tables-legacy"
    family: str  # nft's: "ip", "ip6", "inet"
    table: str
    chain: str
    reason: str  # why it drops: "policy drop", or its last rule in words


@dataclass(frozen=True, slots=True)
class ForwardAccept:
    """A rule of ours, tagged, at the head of a foreign chain: accept what enters (or leaves) by `link`."""

    rank: ClassVar[int] = 5
    namespace: str
    chain: ForeignChain
    link: str
    entering: bool

    @property
    def key(self) -> Key:
        """One rule a chain, link and direction; why the chain drops is not part of it."""
        chain = self.chain
        return (
            "accept",
            self.namespace,
            chain.engine,
            chain.family,
            chain.table,
            chain.chain,
            self.link,
            self.entering,
        )


@dataclass(frozen=True, slots=True)
class Up:
    """`link` is up, and bears `alias` as its description."""

    rank: ClassVar[int] = 6
    namespace: str
    link: str
    alias: str = ""

    @property
    def key(self) -> Key:
        """A link is known by its name."""
        return ("up", self.namespace, self.link)


@dataclass(frozen=True, slots=True)
class Address:
    """`interface` (address and prefix length) is one of `link`'s own addresses."""

    rank: ClassVar[int] = 7
    namespace: str
    link: str
    interface: IPInterface

    @property
    def key(self) -> Key:
        """An address may be on several links."""
        return ("address", self.namespace, self.link, self.interface)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """`address` on `link` has the link-layer address `mac`, for good."""

    rank: ClassVar[int] = 8
    namespace: str
    link: str
    address: IPAddress
    mac: str

    @property
    def key(self) -> Key:
        """A neighbour is known by its link and address."""
        return ("neighbour", self.namespace, self.link, self.address)


@dataclass(frozen=True, slots=True)
class Route:
    """Packets to `destination` leave by `link`, through `gateway` if there is one.

    A gateway is taken to be on the link, whether or not an address of ours says so. Without `link` the kernel
    works it out from `gateway`, and any link will do. A `learned` one was told by another node: it counts less than
    any route that a person wrote, and is recognisable as what it is. With a
    `tunnel` packets go to that host, wherever it is, within VXLAN.
    """

    rank: ClassVar[int] = 9
    namespace: str
    destination: IPNetwork
    link: str = ""
    gateway: IPAddress | None = None
    learned: bool = False
    tunnel: IPAddress | None = None

    @property
    def key(self) -> Key:
        """One route of ours a destination, and one that was learned."""
        return ("route", self.namespace, self.destination, self.learned)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Packets to an address of `destination` to which no other route leads are sent back as unreachable."""

    rank: ClassVar[int] = 9
    namespace: str
    destination: IPNetwork

    @property
    def key(self) -> Key:
        """One a network, whatever routes of ours there are to it."""
        return ("refusal", self.namespace, self.destination)


Fact = (
    Namespace
    | Veth
    | Bridge
    | Vxlan
    | BridgePort
    | Sysctl
    | Firewall
    | AllowedSources
    | PolicyRules
    | Masquerade
    | TunnelGuard
    | ForwardAccept
    | Up
    | Address
    | Neighbour
    | Route
    | Refusal
)
"""In the order of their ranks: what stands on a thing is made after it and taken away before it."""
