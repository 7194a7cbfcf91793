"""Facts as route-netlink requests (pyroute2 knows their formats). Indices and descriptors are passed in."""

from __future__ import annotations

import hashlib
from typing import Any

from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from fairway.net.model.facts import Address, Bridge, Neighbour, Route, Up, Veth

ROUTE_PROTOCOL = 70
"""Every route, address and neighbour of ours bears this number (rtm_protocol; 0 to 15 are the kernel's and fixed)."""

_GROUP_MARK, _GROUP_MASK = 0x46000000, 0xFF000000


def pair_group(namespace: str, name: str, *, second: bool = False) -> int:
    """The link group that both ends of a pair are born with: a mark of ours, 23 bits of the first end's name, the end.

    So an end is recognised as ours, and finds its other end, in a kernel where indices repeat in every namespace.
    """
    digest = hashlib.sha256(f"{namespace}\0{name}".encode()).digest()
    return _GROUP_MARK | (int.from_bytes(digest[:3], "big") & 0xFFFFFE) | second


def is_ours(group: int) -> bool:
    """Whether an interface of that group is Fairway's."""
    return group & _GROUP_MASK == _GROUP_MARK


# linux/rtnetlink.h and linux/netlink.h
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30
_ASK = 0x1 | 0x4  # NLM_F_REQUEST, NLM_F_ACK
_NEW = _ASK | 0x400 | 0x200  # NLM_F_CREATE, NLM_F_EXCL
_REPLACE = _ASK | 0x400 | 0x100  # NLM_F_CREATE, NLM_F_REPLACE
_DUMP = 0x1 | 0x300
_IFF_UP = 1
_IFA_F_NODAD, _IFA_F_PERMANENT = 0x02, 0x80
_NUD_PERMANENT = 0x80
_RTNH_F_ONLINK = 4
RT_TABLE_MAIN = 254
_RT_SCOPE_UNIVERSE, _RT_SCOPE_LINK = 0, 253
_RTN_UNICAST = 1
AF_UNSPEC, AF_INET, AF_INET6 = 0, 2, 10


def new_veth(fact: Veth, peer_descriptor: int) -> bytes:
    """Make the pair, its far end born in the namespace that `peer_descriptor` is open on."""
    peer: list[tuple[str, Any]] = [
        ("IFLA_IFNAME", fact.peer),
        ("IFLA_MTU", fact.mtu),
        ("IFLA_GROUP", pair_group(fact.namespace, fact.name, second=True)),
        ("IFLA_NET_NS_FD", peer_descriptor),
    ]
    if fact.peer_mac:
        peer.append(("IFLA_ADDRESS", fact.peer_mac))
    data = {"attrs": [("VETH_INFO_PEER", {"attrs": peer})]}
    attributes: list[tuple[str, Any]] = [
        ("IFLA_IFNAME", fact.name),
        ("IFLA_MTU", fact.mtu),
        ("IFLA_GROUP", pair_group(fact.namespace, fact.name)),
        ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "veth"), ("IFLA_INFO_DATA", data)]}),
    ]
    if fact.mac:
        attributes.append(("IFLA_ADDRESS", fact.mac))
    return _encode(ifinfmsg(), RTM_NEWLINK, _NEW, {}, attributes)


def new_bridge(fact: Bridge) -> bytes:
    """Make the bridge, without spanning tree."""
    data = {"attrs": [("IFLA_BR_STP_STATE", 0)]}
    attributes: list[tuple[str, Any]] = [
        ("IFLA_IFNAME", fact.name),
        ("IFLA_MTU", fact.mtu),
        ("IFLA_GROUP", pair_group(fact.namespace, fact.name)),
        ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "bridge"), ("IFLA_INFO_DATA", data)]}),
    ]
    return _encode(ifinfmsg(), RTM_NEWLINK, _NEW, {}, attributes)


def delete_link(name: str = "", index: int = 0) -> bytes:
    """Take an interface away, known by name or index, and the other end of its pair with it."""
    return _encode(ifinfmsg(), RTM_DELLINK, _ASK, {"index": index}, [("IFLA_IFNAME", name)] if name else [])


def set_link(index: int, *, mtu: int = 0, mac: str = "", master: int | None = None) -> bytes:
    """Change what is given of an interface; `master` 0 takes it off its bridge."""
    attributes: list[tuple[str, Any]] = []
    if mtu:
        attributes.append(("IFLA_MTU", mtu))
    if mac:
        attributes.append(("IFLA_ADDRESS", mac))
    if master is not None:
        attributes.append(("IFLA_MASTER", master))
    return _encode(ifinfmsg(), RTM_NEWLINK, _ASK, {"index": index}, attributes)


def set_up(fact: Up, index: int) -> bytes:
    """Set the interface up, with its alias."""
    attributes = [("IFLA_IFALIAS", fact.alias)] if fact.alias else []
    return _encode(ifinfmsg(), RTM_NEWLINK, _ASK, {"index": index, "flags": _IFF_UP, "change": _IFF_UP}, attributes)


def set_down(index: int) -> bytes:
    """Set the interface down."""
    return _encode(ifinfmsg(), RTM_NEWLINK, _ASK, {"index": index, "flags": 0, "change": _IFF_UP}, [])


def set_alias(index: int, alias: str) -> bytes:
    """Describe the interface."""
    return _encode(ifinfmsg(), RTM_NEWLINK, _ASK, {"index": index}, [("IFLA_IFALIAS", alias)])


def address(fact: Address, index: int, *, new: bool) -> bytes:
    """Add or delete the address. A link-local IPv4 one gets the scope of the link, so that no other traffic uses it."""
    ip = fact.interface.ip
    fields = {
        "family": _family(ip.version),
        "prefixlen": fact.interface.network.prefixlen,
        "index": index,
        "scope": _RT_SCOPE_LINK if ip.is_link_local else _RT_SCOPE_UNIVERSE,
    }
    attributes: list[tuple[str, Any]] = [("IFA_ADDRESS", str(ip))]
    if ip.version == 4:
        attributes.append(("IFA_LOCAL", str(ip)))
        if fact.interface.network.prefixlen < 31:
            attributes.append(("IFA_BROADCAST", str(fact.interface.network.broadcast_address)))
    if new:
        attributes.append(("IFA_FLAGS", _IFA_F_PERMANENT | _IFA_F_NODAD))
        attributes.append(("IFA_PROTO", ROUTE_PROTOCOL))
    return _encode(ifaddrmsg(), RTM_NEWADDR if new else RTM_DELADDR, _NEW if new else _ASK, fields, attributes)


def neighbour(fact: Neighbour, index: int, *, new: bool) -> bytes:
    """Add (or replace) or delete the neighbour's entry."""
    fields = {"family": _family(fact.address.version), "ifindex": index, "state": _NUD_PERMANENT, "flags": 0}
    attributes: list[tuple[str, Any]] = [("NDA_DST", str(fact.address))]
    if new:
        attributes.append(("NDA_LLADDR", fact.mac))
        attributes.append(("NDA_PROTOCOL", ROUTE_PROTOCOL))
    return _encode(ndmsg(), RTM_NEWNEIGH if new else RTM_DELNEIGH, _REPLACE if new else _ASK, fields, attributes)


def new_route(fact: Route, index: int, *, replace: bool = False) -> bytes:
    """Add the route, or put it in the place of ours to the same destination."""
    return _encode(rtmsg(), RTM_NEWROUTE, _REPLACE if replace else _NEW, *_route(fact, index))


def delete_route(fact: Route, index: int) -> bytes:
    """Delete the route; ours only, by its protocol number."""
    return _encode(rtmsg(), RTM_DELROUTE, _ASK, *_route(fact, index))


def dump_links() -> bytes:
    """Ask for all interfaces."""
    return _encode(ifinfmsg(), RTM_GETLINK, _DUMP, {}, [])


def get_link(name: str) -> bytes:
    """Ask for one interface."""
    return _encode(ifinfmsg(), RTM_GETLINK, 0x1, {}, [("IFLA_IFNAME", name)])


def dump_addresses(index: int = 0) -> bytes:
    """Ask for all addresses of both families; of one interface only, if an index is given."""
    return _encode(ifaddrmsg(), RTM_GETADDR, _DUMP, {"index": index}, [])


def dump_routes(family: int, *, ours: bool) -> bytes:
    """Ask for the main table's routes of a family; only those with our protocol number if `ours`."""
    fields = {"family": family, "table": RT_TABLE_MAIN, "proto": ROUTE_PROTOCOL if ours else 0}
    return _encode(rtmsg(), RTM_GETROUTE, _DUMP, fields, [])


def get_route(destination: str, version: int) -> bytes:
    """Ask which way the kernel would send a packet to `destination`."""
    length = 32 if version == 4 else 128
    fields = {"family": _family(version), "dst_len": length}
    return _encode(rtmsg(), RTM_GETROUTE, 0x1, fields, [("RTA_DST", destination)])


def dump_neighbours() -> bytes:
    """Ask for all neighbour entries of both families."""
    return _encode(ndmsg(), RTM_GETNEIGH, _DUMP, {"family": AF_UNSPEC, "ifindex": 0}, [])


def _route(fact: Route, index: int) -> tuple[dict[str, int], list[tuple[str, Any]]]:
    network = fact.destination
    fields = {
        "family": _family(network.version),
        "dst_len": network.prefixlen,
        "table": RT_TABLE_MAIN,
        "proto": ROUTE_PROTOCOL,
        "scope": _RT_SCOPE_UNIVERSE if fact.gateway is not None or network.version == 6 else _RT_SCOPE_LINK,
        "type": _RTN_UNICAST,
        "flags": _RTNH_F_ONLINK if fact.gateway is not None and index else 0,
    }
    attributes: list[tuple[str, Any]] = []
    if network.prefixlen:
        attributes.append(("RTA_DST", str(network.network_address)))
    if fact.gateway is not None:
        attributes.append(("RTA_GATEWAY", str(fact.gateway)))
    if index:
        attributes.append(("RTA_OIF", index))
    return fields, attributes


def _family(version: int) -> int:
    return AF_INET if version == 4 else AF_INET6


def _encode(message: Any, kind: int, flags: int, fields: dict[str, int], attributes: list[tuple[str, Any]]) -> bytes:
    for name, value in fields.items():
        message[name] = value
    message["attrs"] = attributes
    header = message["header"]
    header["type"], header["flags"], header["sequence_number"], header["pid"] = kind, flags, 0, 0
    message.encode()
    return bytes(message.data)
