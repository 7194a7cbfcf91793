"""What the kernel's answers say: links as records, and the facts that can be read from a dump. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from fairway.net.kernel.messages import (
    AF_INET,
    AF_INET6,
    ENCAP_TYPES,
    LEARNED_METRIC,
    ROUTE_PROTOCOL,
    RT_TABLE_MAIN,
    RTN_UNREACHABLE,
    is_ours,
)
from fairway.net.model.facts import (
    Address,
    Bridge,
    BridgePort,
    Fact,
    IPAddress,
    Neighbour,
    Refusal,
    Route,
    Up,
    Veth,
    Vxlan,
)
from fairway.net.model.pod import GATEWAYS

_IFF_UP = 1
_IFLA_QDISC = 6  # linux/if_link.h
_GATEWAYS_BEGIN = [struct.pack("=HH", 4 + length, 5) for length in (4, 16)]  # RTA_GATEWAY: linux/rtnetlink.h
_NO_QUEUE_YET = struct.pack("=HH", 4 + len(b"noop\0"), _IFLA_QDISC) + b"noop\0"  # net/sched/sch_generic.c, noop_qdisc
_NUD_PERMANENT = 0x80
_NLMSG_HEADER, _RTMSG, _RTA = 16, 12, struct.Struct("=HH")  # linux/netlink.h, linux/rtnetlink.h
_RTA_DST, _RTA_ENCAP_TYPE, _RTA_ENCAP, _ENCAP_DST = 1, 21, 22, 2  # linux/rtnetlink.h, linux/lwtunnel.h
_TYPE_MASK = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER
_ANY = {AF_INET: "0.0.0.0/0", AF_INET6: "::/0"}


@dataclass(frozen=True, slots=True)
class LinkRecord:
    """An interface as the kernel describes it. `peer_index` is its link's index, in whatever namespace that is."""

    namespace: str
    index: int
    name: str
    kind: str
    group: int
    mtu: int
    mac: str
    up: bool
    alias: str
    peer_index: int
    master: int
    udp_port: int = 0
    """Of a VXLAN device."""

    @property
    def ours(self) -> bool:
        """Whether Fairway made it."""
        return is_ours(self.group)


@dataclass(frozen=True, slots=True)
class AddressRecord:
    """An address as the kernel describes it; `ours` by its protocol number (Linux 5.18), or as the pods' gateway."""

    fact: Address
    ours: bool


@dataclass(frozen=True, slots=True)
class RouteRecord:
    """A route of the main table; `protocol` says who made it."""

    fact: Route
    protocol: int
    metric: int


def transmits(message: bytes) -> bool:
    """Whether the interface that an RTM_NEWLINK describes hands packets on: one that is up drops them for a moment yet.

    Its queue is put in place by the kernel's link watch (net/core/link_watch.c), after the request has been answered.
    """
    return _NO_QUEUE_YET not in message


def link(namespace: str, message: bytes) -> LinkRecord:
    """The interface that an RTM_NEWLINK describes."""
    decoded = ifinfmsg(message)
    decoded.decode()
    information = decoded.get_attr("IFLA_LINKINFO")
    kind = information.get_attr("IFLA_INFO_KIND") if information is not None else None
    return LinkRecord(
        namespace=namespace,
        index=decoded["index"],
        name=decoded.get_attr("IFLA_IFNAME"),
        kind=kind or "",
        group=decoded.get_attr("IFLA_GROUP") or 0,
        mtu=decoded.get_attr("IFLA_MTU") or 0,
        mac=decoded.get_attr("IFLA_ADDRESS") or "",
        up=bool(decoded["flags"] & _IFF_UP),
        alias=decoded.get_attr("IFLA_IFALIAS") or "",
        peer_index=decoded.get_attr("IFLA_LINK") or 0,
        master=decoded.get_attr("IFLA_MASTER") or 0,
        udp_port=vxlan_port(information),
    )


def vxlan_port(information: Any) -> int:
    """UDP's, of a VXLAN device whose decoded IFLA_LINKINFO this is; 0 for any other."""
    if information is None or information.get_attr("IFLA_INFO_KIND") != "vxlan":
        return 0
    data = information.get_attr("IFLA_INFO_DATA")
    return int(data.get_attr("IFLA_VXLAN_PORT") or 0) if data is not None else 0


def address(namespace: str, links: Mapping[int, str], message: bytes) -> AddressRecord:
    """The address that an RTM_NEWADDR describes."""
    decoded = ifaddrmsg(message)
    decoded.decode()
    text = decoded.get_attr("IFA_LOCAL") or decoded.get_attr("IFA_ADDRESS")
    fact = Address(namespace, links.get(decoded["index"], ""), ip_interface(f"{text}/{decoded['prefixlen']}"))
    return AddressRecord(fact, decoded.get_attr("IFA_PROTO") == ROUTE_PROTOCOL or fact.interface.ip == GATEWAYS[0])


def route(namespace: str, links: Mapping[int, str], message: bytes) -> RouteRecord | None:
    """The route that an RTM_NEWROUTE describes, if it is a plain one of the main table."""
    decoded = rtmsg(message)
    decoded.decode()
    if (decoded.get_attr("RTA_TABLE") or decoded["table"]) != RT_TABLE_MAIN or decoded["type"] != 1:
        return None
    text = decoded.get_attr("RTA_DST")
    destination = ip_network(f"{text}/{decoded['dst_len']}" if text else _ANY[decoded["family"]])
    gateway = decoded.get_attr("RTA_GATEWAY")
    metric = decoded.get_attr("RTA_PRIORITY") or 0
    fact = Route(
        namespace=namespace,
        destination=destination,
        link=links.get(decoded.get_attr("RTA_OIF") or 0, ""),
        gateway=ip_address(gateway) if gateway else None,
        learned=decoded["proto"] == ROUTE_PROTOCOL and metric == LEARNED_METRIC,
        tunnel=tunnel_target(message),
    )
    return RouteRecord(fact, decoded["proto"], metric)


def refuses(message: bytes) -> bool:
    """Whether an RTM_NEWROUTE describes a route of ours that refuses."""
    _, protocol, _, kind = message[_NLMSG_HEADER + 4 : _NLMSG_HEADER + 8]
    return (protocol, kind) == (ROUTE_PROTOCOL, RTN_UNREACHABLE)


def refusal(namespace: str, message: bytes) -> Refusal:
    """The route that refuses which an RTM_NEWROUTE describes, one that was asked for by `messages.dump_refusals`."""
    length, packed = destination(message)
    return Refusal(namespace, ip_network((packed, length)))


def may_have_gateway(message: bytes) -> bool:
    """Whether an RTM_NEWROUTE may lead through a router: a thousand pods' routes do not, and need not be decoded."""
    return any(beginning in message for beginning in _GATEWAYS_BEGIN)


def destination(message: bytes) -> tuple[int, bytes]:
    """The length of the prefix that an RTM_NEWROUTE leads to, and its address; that is empty for a default route."""
    return message[_NLMSG_HEADER + 1], _attribute(message, _NLMSG_HEADER + _RTMSG, _RTA_DST)


def tunnel_target(message: bytes) -> IPAddress | None:
    """Where the route of an RTM_NEWROUTE sends its packets within others; None: it does not, or in a way not known."""
    attributes = _NLMSG_HEADER + _RTMSG
    kind = int.from_bytes(_attribute(message, attributes, _RTA_ENCAP_TYPE), "little")
    if kind not in ENCAP_TYPES.values():
        return None
    packed = _attribute(_attribute(message, attributes, _RTA_ENCAP), 0, _ENCAP_DST)
    return ip_address(packed) if len(packed) in (4, 16) else None


def _attribute(data: bytes, at: int, wanted: int) -> bytes:
    """The value of the first attribute of that type from `at` on; empty if there is none."""
    while at + _RTA.size <= len(data):
        length, kind = _RTA.unpack_from(data, at)
        if kind & _TYPE_MASK == wanted:
            return data[at + _RTA.size : at + length]
        at += max((length + 3) & ~3, _RTA.size)
    return b""


def way(message: bytes) -> tuple[int, IPAddress | None]:
    """The interface's index and the gateway that an RTM_NEWROUTE leads by."""
    decoded = rtmsg(message)
    decoded.decode()
    gateway = decoded.get_attr("RTA_GATEWAY")
    return decoded.get_attr("RTA_OIF") or 0, ip_address(gateway) if gateway else None


def neighbour(namespace: str, links: Mapping[int, str], message: bytes) -> Neighbour | None:
    """The permanent entry of ours that an RTM_NEWNEIGH describes, if it is one."""
    decoded = ndmsg(message)
    decoded.decode()
    if not decoded["state"] & _NUD_PERMANENT or decoded.get_attr("NDA_PROTOCOL") != ROUTE_PROTOCOL:
        return None
    mac = decoded.get_attr("NDA_LLADDR") or ""
    return Neighbour(namespace, links.get(decoded["ifindex"], ""), ip_address(decoded.get_attr("NDA_DST")), mac)


def link_facts(links: Iterable[LinkRecord]) -> set[Fact]:
    """The facts that links of any number of namespaces amount to: pairs put together, bridges, ports, what is up.

    An end whose other end is nowhere in `links` gives a pair with an empty peer.
    """
    records = list(links)
    facts: set[Fact] = set()
    ends = {(r.group, r.index, r.peer_index): r for r in records if r.kind == "veth" and r.ours}
    names = {(record.namespace, record.index): record.name for record in records}
    for record in records:
        if record.name == "lo" or record.ours:
            facts |= _state(record)
        if record.master and record.ours:
            bridge = names.get((record.namespace, record.master), "")
            facts.add(BridgePort(record.namespace, record.name, bridge))
        if not record.ours or record.group & 1:
            continue
        if record.kind == "bridge":
            facts.add(Bridge(record.namespace, record.name, record.mtu))
        elif record.kind == "vxlan":
            facts.add(Vxlan(record.namespace, record.name, record.mtu, record.mac, record.udp_port))
        elif record.kind == "veth":
            facts.add(_pair(record, ends.get((record.group | 1, record.peer_index, record.index))))
    return facts


def _state(record: LinkRecord) -> set[Fact]:
    return {Up(record.namespace, record.name, record.alias)} if record.up else set()


def _pair(first: LinkRecord, second: LinkRecord | None) -> Veth:
    if second is None:
        return Veth(first.namespace, first.name, "", "", first.mtu, first.mac, "")
    peer_mtu = second.mtu if second.mtu != first.mtu else 0
    return Veth(first.namespace, first.name, second.namespace, second.name, first.mtu, first.mac, second.mac, peer_mtu)
