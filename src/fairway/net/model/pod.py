"""Pods, and what a node knows of itself: the desired state that a person or a runtime asks for."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from fairway.net.model.errors import UsageError
from fairway.net.model.facts import IPAddress, IPNetwork
from fairway.net.model.names import host_interface

GATEWAYS: tuple[IPv4Address, IPv6Address] = (
    IPv4Address("169.254.1.1"),
    IPv6Address("fe80::ecee:eeff:feee:eeee"),
)
"""What every pod's default route goes through. The second is what the kernel derives from `GATEWAY_MAC`."""

GATEWAY_MAC = "ee:ee:ee:ee:ee:ee"
"""The link-layer address of every host end: a pod that moves to another host keeps its neighbour entry."""


@dataclass(frozen=True, slots=True)
class Pod:
    """A network namespace with addresses of its own."""

    name: str
    addresses: tuple[IPAddress, ...]
    mtu: int

    @property
    def link(self) -> str:
        """The host end of its veth pair."""
        return host_interface(self.name)


@dataclass(frozen=True, slots=True)
class StaticRoute:
    """`destination` is reached through `gateway`: a route written by hand to another host's pods."""

    destination: IPNetwork
    gateway: IPAddress


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
