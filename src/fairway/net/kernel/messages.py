"""Facts as route-netlink requests (RFC 3549; linux/rtnetlink.h). Indices and descriptors are passed in.

A header and attributes of type, length and value: no more is needed to ask. pyroute2, which reads the answers, takes
0.1 ms to write one such message, and a pod is nine of them.
"""

from __future__ import annotations

import hashlib
import struct

from fairway.net.model.facts import Address, Bridge, IPAddress, Neighbour, Refusal, Route, Up, Veth, Vxlan

ROUTE_PROTOCOL = 70
"""Every route, address and neighbour of ours bears this number (rtm_protocol; 0 to 15 are the kernel's and fixed)."""

LEARNED_METRIC = 0x4600
"""Routes that other nodes told bear this metric (rtm_priority): those that a person wrote come before them."""
REFUSAL_METRIC = 0x46000000
"""What refuses counts less than any other route to the same network."""

TUNNEL_NETWORK = 70
"""The VNI of all that Fairway sends within VXLAN."""

_GROUP_MARK, _GROUP_MASK = 0x46000000, 0xFF000000
_DOOMED = _GROUP_MARK | 0xFFFFFE  # the group of interfaces that are about to end together


def pair_group(namespace: str, name: str, *, second: bool = False) -> int:
    """The link group that both ends of a pair are born with: a mark of ours, 23 bits of the first end's name, the end.

    So an end is recognised as ours, and finds its other end, in a kernel where indices repeat in every namespace.
    """
    digest = hashlib.sha256(f"{namespace}\0{name}".encode()).digest()
    number = int.from_bytes(digest[:3], "big") & 0xFFFFFE
    return _GROUP_MARK | (0 if _GROUP_MARK | number == _DOOMED else number) | second


def is_ours(group: int) -> bool:
    """Whether an interface of that group is Fairway's."""
    return group & _GROUP_MASK == _GROUP_MARK


# linux/rtnetlink.h and linux/netlink.h
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30
RTM_NEWNETCONF = 80
_ASK = 0x1 | 0x4  # NLM_F_REQUEST, NLM_F_ACK
_NEW = _ASK | 0x400 | 0x200  # NLM_F_CREATE, NLM_F_EXCL
_REPLACE = _ASK | 0x400 | 0x100  # NLM_F_CREATE, NLM_F_REPLACE
_GET = 0x1
_DUMP = 0x1 | 0x300
_NESTED = 0x8000  # NLA_F_NESTED
_IFF_UP = 1
_IFA_F_NODAD, _IFA_F_PERMANENT = 0x02, 0x80
_NUD_PERMANENT = 0x80
_RTNH_F_ONLINK = 4
RT_TABLE_MAIN = 254
_RT_SCOPE_UNIVERSE, _RT_SCOPE_LINK = 0, 253
_RTN_UNICAST, RTN_UNREACHABLE = 1, 7
AF_UNSPEC, AF_INET, AF_INET6 = 0, 2, 10


_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO = 1, 3, 4, 10, 18  # linux/if_link.h
_IFLA_IFALIAS, _IFLA_GROUP, _IFLA_NET_NS_FD, _IFLA_NUM_TX_QUEUES, _IFLA_NUM_RX_QUEUES = 20, 27, 28, 31, 32
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _VETH_INFO_PEER, _IFLA_BR_STP_STATE = 1, 2, 1, 5
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_FLAGS, _IFA_PROTO = 1, 2, 4, 8, 11  # linux/if_addr.h
_NDA_DST, _NDA_LLADDR, _NDA_IFINDEX, _NDA_PROTOCOL = 1, 2, 8, 12  # linux/neighbour.h
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_ENCAP_TYPE, _RTA_ENCAP = 1, 4, 5, 6, 21, 22
_IFLA_VXLAN_LEARNING, _IFLA_VXLAN_PORT, _IFLA_VXLAN_COLLECT_METADATA = 7, 15, 25  # linux/if_link.h
ENCAP_TYPES = {4: 2, 6: 4}  # LWTUNNEL_ENCAP_IP and _IP6: linux/lwtunnel.h
_ENCAP_ID, _ENCAP_DST, _ENCAP6_FLAGS = 1, 2, 6  # LWTUNNEL_IP_*, LWTUNNEL_IP6_FLAGS
_TUNNEL_CSUM = 1  # linux/if_tunnel.h

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg: family, type, index, flags, change
_ADDRESS = struct.Struct("=BBBBi")  # struct ifaddrmsg: family, prefix length, flags, scope, index
_NEIGHBOUR = struct.Struct("=B3xiHBB")  # struct ndmsg: family, index, state, flags, type
_ROUTE = struct.Struct("=BBBBBBBBI")  # struct rtmsg: family, lengths, tos, table, protocol, scope, type, flags
_ATTRIBUTE = struct.Struct("=HH")  # struct rtattr: length, type
_NUMBER = struct.Struct("=HHI")

# A veth pair never queues; by default it has as many queues as the machine has processors, and each takes time to make.
_ONE_QUEUE = b"".join(_NUMBER.pack(_NUMBER.size, kind, 1) for kind in (_IFLA_NUM_TX_QUEUES, _IFLA_NUM_RX_QUEUES))


def new_veth(fact: Veth, peer_descriptor: int) -> bytes:
    """Make the pair, its far end born in the namespace that `peer_descriptor` is open on."""
    peer = _LINK.pack(0, 0, 0, 0, 0) + _described(fact.peer, fact.mtu, fact.peer_mac)
    peer += _ONE_QUEUE + _number(_IFLA_GROUP, pair_group(fact.namespace, fact.name, second=True))
    peer += _number(_IFLA_NET_NS_FD, peer_descriptor)
    ends = _attribute(_VETH_INFO_PEER, peer)
    group = _number(_IFLA_GROUP, pair_group(fact.namespace, fact.name))
    return _link(_NEW, _described(fact.name, fact.mtu, fact.mac) + _ONE_QUEUE + group + _kind("veth", ends))


def new_bridge(fact: Bridge) -> bytes:
    """Make the bridge, without spanning tree."""
    group = _number(_IFLA_GROUP, pair_group(fact.namespace, fact.name))
    return _link(_NEW, _described(fact.name, fact.mtu) + group + _kind("bridge", _number(_IFLA_BR_STP_STATE, 0)))


def new_vxlan(fact: Vxlan) -> bytes:
    """Make the device: without an address to send to, a VNI or a table of its own, as routes say all of that."""
    data = _attribute(_IFLA_VXLAN_COLLECT_METADATA, b"\1") + _attribute(_IFLA_VXLAN_LEARNING, b"\0")
    data += _attribute(_IFLA_VXLAN_PORT, fact.port.to_bytes(2, "big"))
    group = _number(_IFLA_GROUP, pair_group(fact.namespace, fact.name))
    return _link(_NEW, _described(fact.name, fact.mtu, fact.mac) + group + _kind("vxlan", data))


def delete_link(name: str = "", index: int = 0) -> bytes:
    """Take an interface away, known by name or index, and the other end of its pair with it."""
    return _link(_ASK, _text(_IFLA_IFNAME, name) if name else b"", index=index, kind=RTM_DELLINK)


def doom(index: int) -> bytes:
    """Put an interface into the group of those that `delete_doomed` takes away."""
    return _link(_ASK, _number(_IFLA_GROUP, _DOOMED), index=index)


def delete_doomed() -> bytes:
    """Take away all that are doomed, as one: the kernel waits for its readers once, and not for each."""
    return _link(_ASK, _number(_IFLA_GROUP, _DOOMED), kind=RTM_DELLINK)


def set_link(index: int, *, mtu: int = 0, mac: str = "", master: int | None = None) -> bytes:
    """Change what is given of an interface; `master` 0 takes it off its bridge."""
    attributes = _number(_IFLA_MTU, mtu) if mtu else b""
    if mac:
        attributes += _attribute(_IFLA_ADDRESS, _octets(mac))
    if master is not None:
        attributes += _number(_IFLA_MASTER, master)
    return _link(_ASK, attributes, index=index)


def set_up(fact: Up, index: int) -> bytes:
    """Set the interface up, with its alias."""
    alias = _attribute(_IFLA_IFALIAS, fact.alias.encode()) if fact.alias else b""
    return _link(_ASK, alias, index=index, flags=_IFF_UP, change=_IFF_UP)


def set_down(index: int) -> bytes:
    """Set the interface down."""
    return _link(_ASK, b"", index=index, change=_IFF_UP)


def address(fact: Address, index: int, *, new: bool) -> bytes:
    """Add or delete the address. A link-local IPv4 one gets the scope of the link, so that no other traffic uses it."""
    ip, network = fact.interface.ip, fact.interface.network
    scope = _RT_SCOPE_LINK if ip.is_link_local else _RT_SCOPE_UNIVERSE
    body = _ADDRESS.pack(_family(ip.version), network.prefixlen, 0, scope, index)
    body += _attribute(_IFA_ADDRESS, ip.packed)
    if ip.version == 4:
        body += _attribute(_IFA_LOCAL, ip.packed)
        if network.prefixlen < 31:
            body += _attribute(_IFA_BROADCAST, network.broadcast_address.packed)
    if new:
        body += _number(_IFA_FLAGS, _IFA_F_PERMANENT | _IFA_F_NODAD)
        body += _attribute(_IFA_PROTO, bytes([ROUTE_PROTOCOL]))
    return _request(RTM_NEWADDR if new else RTM_DELADDR, _NEW if new else _ASK, body)


def neighbour(fact: Neighbour, index: int, *, new: bool) -> bytes:
    """Add (or replace) or delete the neighbour's entry."""
    body = _NEIGHBOUR.pack(_family(fact.address.version), index, _NUD_PERMANENT, 0, 0)
    body += _attribute(_NDA_DST, fact.address.packed)
    if new:
        body += _attribute(_NDA_LLADDR, _octets(fact.mac)) + _attribute(_NDA_PROTOCOL, bytes([ROUTE_PROTOCOL]))
    return _request(RTM_NEWNEIGH if new else RTM_DELNEIGH, _REPLACE if new else _ASK, body)


def new_route(fact: Route, index: int, *, replace: bool = False) -> bytes:
    """Add the route, or put it in the place of ours to the same destination."""
    return _request(RTM_NEWROUTE, _REPLACE if replace else _NEW, _route(fact, index))


def delete_route(fact: Route, index: int) -> bytes:
    """Delete the route; ours only, by its protocol number."""
    return _request(RTM_DELROUTE, _ASK, _route(fact, index))


def new_refusal(fact: Refusal) -> bytes:
    """Add the route that refuses."""
    return _request(RTM_NEWROUTE, _NEW, _refusal(fact))


def delete_refusal(fact: Refusal) -> bytes:
    """Delete it; ours only, by its protocol number."""
    return _request(RTM_DELROUTE, _ASK, _refusal(fact))


def dump_links() -> bytes:
    """Ask for all interfaces."""
    return _link(_DUMP, b"", kind=RTM_GETLINK)


def get_link(name: str) -> bytes:
    """Ask for one interface."""
    return _link(_GET, _text(_IFLA_IFNAME, name), kind=RTM_GETLINK)


def dump_addresses(index: int = 0) -> bytes:
    """Ask for all addresses of both families; of one interface only, if an index is given."""
    return _request(RTM_GETADDR, _DUMP, _ADDRESS.pack(AF_UNSPEC, 0, 0, 0, index))


def dump_routes(family: int, *, ours: bool, index: int = 0) -> bytes:
    """Ask for the main table's routes of a family; only those with our protocol number if `ours`, by one interface."""
    body = _ROUTE.pack(family, 0, 0, 0, RT_TABLE_MAIN, ROUTE_PROTOCOL if ours else 0, 0, 0, 0)
    return _request(RTM_GETROUTE, _DUMP, body + (_number(_RTA_OIF, index) if index else b""))


def dump_refusals(family: int) -> bytes:
    """Ask for those of our routes in the main table that refuse."""
    body = _ROUTE.pack(family, 0, 0, 0, RT_TABLE_MAIN, ROUTE_PROTOCOL, 0, RTN_UNREACHABLE, 0)
    return _request(RTM_GETROUTE, _DUMP, body)


def get_route(destination: IPAddress) -> bytes:
    """Ask which way the kernel would send a packet to `destination`."""
    body = _ROUTE.pack(_family(destination.version), destination.max_prefixlen, 0, 0, 0, 0, 0, 0, 0)
    return _request(RTM_GETROUTE, _GET, body + _attribute(_RTA_DST, destination.packed))


def dump_neighbours(index: int = 0) -> bytes:
    """Ask for all neighbour entries of both families; on one interface only, if an index is given."""
    body = _NEIGHBOUR.pack(AF_UNSPEC, 0, 0, 0, 0)
    return _request(RTM_GETNEIGH, _DUMP, body + (_number(_NDA_IFINDEX, index) if index else b""))


def _route(fact: Route, index: int) -> bytes:
    network, gateway = fact.destination, fact.gateway
    scope = _RT_SCOPE_UNIVERSE if gateway is not None or network.version == 6 else _RT_SCOPE_LINK
    flags = _RTNH_F_ONLINK if gateway is not None and index else 0
    family = _family(network.version)
    body = _ROUTE.pack(family, network.prefixlen, 0, 0, RT_TABLE_MAIN, ROUTE_PROTOCOL, scope, _RTN_UNICAST, flags)
    if network.prefixlen:
        body += _attribute(_RTA_DST, network.network_address.packed)
    if gateway is not None:
        body += _attribute(_RTA_GATEWAY, gateway.packed)
    if fact.learned:
        body += _number(_RTA_PRIORITY, LEARNED_METRIC)
    if fact.tunnel is not None:
        body += _encapsulation(fact.tunnel)
    return body + (_number(_RTA_OIF, index) if index else b"")


def _refusal(fact: Refusal) -> bytes:
    network = fact.destination
    kind = (RT_TABLE_MAIN, ROUTE_PROTOCOL, _RT_SCOPE_UNIVERSE, RTN_UNREACHABLE, 0)
    body = _ROUTE.pack(_family(network.version), network.prefixlen, 0, 0, *kind)
    return body + _attribute(_RTA_DST, network.network_address.packed) + _number(_RTA_PRIORITY, REFUSAL_METRIC)


def _encapsulation(target: IPAddress) -> bytes:
    """Within VXLAN to `target`. Over IPv6 with a checksum, which RFC 6935 asks for where nothing else protects it."""
    where = _attribute(_ENCAP_ID, TUNNEL_NETWORK.to_bytes(8, "big")) + _attribute(_ENCAP_DST, target.packed)
    if target.version == 6:
        where += _attribute(_ENCAP6_FLAGS, _TUNNEL_CSUM.to_bytes(2, "big"))
    kind = _attribute(_RTA_ENCAP_TYPE, struct.pack("=H", ENCAP_TYPES[target.version]))
    return _attribute(_RTA_ENCAP | _NESTED, where) + kind


def _described(name: str, mtu: int, mac: str = "") -> bytes:
    given = _text(_IFLA_IFNAME, name) + _number(_IFLA_MTU, mtu)
    return given + (_attribute(_IFLA_ADDRESS, _octets(mac)) if mac else b"")


def _kind(kind: str, data: bytes) -> bytes:
    return _attribute(_IFLA_LINKINFO, _text(_IFLA_INFO_KIND, kind) + _attribute(_IFLA_INFO_DATA, data))


def _link(
    how: int, attributes: bytes, *, index: int = 0, flags: int = 0, change: int = 0, kind: int = RTM_NEWLINK
) -> bytes:
    return _request(kind, how, _LINK.pack(AF_UNSPEC, 0, index, flags, change) + attributes)


def _request(kind: int, how: int, body: bytes) -> bytes:
    """A whole message; its sequence number is for whoever sends it."""
    return _HEADER.pack(_HEADER.size + len(body), kind, how, 0, 0) + body


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + b"\0" * (-len(value) % 4)


def _number(kind: int, value: int) -> bytes:
    return _NUMBER.pack(_NUMBER.size, kind, value)


def _text(kind: int, value: str) -> bytes:
    return _attribute(kind, value.encode() + b"\0")


def _octets(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def _family(version: int) -> int:
    return AF_INET if version == 4 else AF_INET6
