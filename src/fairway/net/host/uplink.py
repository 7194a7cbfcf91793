"""The host's way out: its MTU, and what a pool must not overlap."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from fairway.net.kernel import Kernel
from fairway.net.model.errors import UsageError
from fairway.net.model.facts import IPAddress, IPNetwork

_SOMEWHERE = (IPv4Address("192.0.2.1"), IPv6Address("2001:db8::1"))  # documentation addresses: no packet is sent
_ETHERNET_MTU = 1500
_RTPROT_KERNEL = 2


def mtu(kernel: Kernel) -> int:
    """The MTU of the interface of the default route; without one, the smallest of those that have a global address."""
    for destination in _SOMEWHERE:
        way = kernel.routing.way_to(destination)
        link = kernel.link(kernel.home, way[0]) if way is not None else None
        if link is not None and link.name != "lo":
            return link.mtu
    view = kernel.view(kernel.home)
    outward = {address.fact.link for address in view.addresses if not address.fact.interface.ip.is_link_local}
    sizes = [link.mtu for link in view.links if link.name in outward and link.name != "lo" and link.up]
    return min(sizes, default=_ETHERNET_MTU)


def check_overlap(kernel: Kernel, pool: IPNetwork) -> None:
    """An error if the host itself is on a network that `pool` overlaps: its neighbours would be cut off."""
    for route in kernel.view(kernel.home, every_route=True).routes:
        network = route.fact.destination
        if route.protocol != _RTPROT_KERNEL or network.version != pool.version or network.is_link_local:
            continue
        if network.overlaps(pool):
            raise UsageError(
                f"the pool {pool} overlaps {network}, which this host is on by {route.fact.link}",
                mend="choose a pool of its own for the pods: fairway pool add CIDR",
            )


def addresses(kernel: Kernel) -> list[IPAddress]:
    """The host's own global addresses, those of the interface of its default route first; none of its pods' links."""
    view = kernel.view(kernel.home)
    foreign = {link.name: link for link in view.links if not link.ours and link.name != "lo" and link.up}
    ways = [way for destination in _SOMEWHERE if (way := kernel.routing.way_to(destination)) is not None]
    preferred = [link for link, _ in ways]
    found = [
        (address.fact.link not in preferred, foreign[address.fact.link].index, address.fact.interface.ip)
        for address in view.addresses
        if address.fact.link in foreign and not address.fact.interface.ip.is_link_local
    ]
    return [address for *_, address in sorted(found, key=lambda each: each[:2])]
