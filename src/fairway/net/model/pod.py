"""Pods, and what a node knows of itself: the desired state that a person or a runtime asks for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from fairway.net.model.attachment import Attachment
from fairway.net.model.errors import UsageError
from fairway.net.model.facts import IPAddress, IPNetwork
from fairway.net.model.names import POD_INTERFACE, host_interface

GATEWAYS: tuple[IPv4Address, IPv6Address] = (
    IPv4Address("169.254.1.1"),
    IPv6Address("fe80::ecee:eeff:feee:eeee"),
)
"""What every pod's default route goes through. The second is what the kernel derives from `GATEWAY_MAC`."""

GATEWAY_MAC = "ee:ee:ee:ee:ee:ee"
"""The link-layer address of every host end: a pod that moves to another host keeps its neighbour entry."""


@dataclass(frozen=True, slots=True)
class Pod:
    """A network namespace with addresses of its own: one that Fairway makes, or one that a runtime made."""

    name: str
    addresses: tuple[IPAddress, ...]
    mtu: int
    interface: str = POD_INTERFACE  # its own end, inside
    mac: str = ""  # of its own end; empty: one that follows from its namespace's name
    outside: str = ""  # the host end, where it is not called as its name has it
    default_route: bool = True
    attachment: Attachment | None = None  # what the runtime said; None: Fairway's own

    @property
    def link(self) -> str:
        """The host end of its veth pair."""
        return self.outside or host_interface(self.name)


@dataclass(frozen=True, slots=True)
class Site:
    """The namespace that a pod is in, and the alias of what is in it; `own`: Fairway makes it and takes it away."""

    namespace: str
    mark: str
    own: bool = True


@dataclass(frozen=True, slots=True)
class StaticRoute:
    """`destination` is reached through `gateway`: a route written by hand to another host's pods."""

    destination: IPNetwork
    gateway: IPAddress


@dataclass(frozen=True, slots=True)
class LearnedRoute:
    """`destination` is reached by way of `node`, at `gateway`: the other node says so itself."""

    destination: IPNetwork
    gateway: IPAddress
    node: str
    tunnelled: bool = False
    """Within VXLAN: the routers on the way to `gateway` know nothing of pods."""


VXLAN_PORT = 4789
"""UDP's: RFC 7348 section 5."""


@dataclass(frozen=True, slots=True)
class Tunnel:
    """How a host sends pods' packets through routers: as `node`, with packets of up to `mtu` bytes, to UDP `port`."""

    node: str
    mtu: int
    port: int


def parse_address(text: str, where: str = "address") -> IPAddress:
    """The address in `text`, without a prefix length; `where` names the place in errors."""
    try:
        return ip_address(text)
    except ValueError:
        raise UsageError(f"{where}: {text!r} is not an IPv4 or IPv6 address", mend="write it like 10.0.1.2") from None


def parse_network(text: str, where: str = "network") -> IPNetwork:
    """The network in `text`; host bits must be zero; `where` names the place in errors."""
    try:
        return ip_network(text)
    except ValueError as error:
        raise UsageError(f"{where}: {error}", mend="write it like 10.0.1.0/24 or fd00:1::/64") from None


def check_mac(text: str, where: str = "mac") -> str:
    """The link-layer address in `text`, in lower case, if one interface can have it; `where` names the place."""
    mac = text.lower()
    if not re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", mac):
        raise UsageError(f"{where}: {text!r} is not a link-layer address", mend="write it like 0a:58:0a:00:01:02")
    if int(mac[:2], 16) & 1 or mac in (GATEWAY_MAC, "00:00:00:00:00:00"):
        raise UsageError(f"{where}: {text} cannot be one interface's own", mend="choose one whose first octet is even")
    return mac
