"""Reading the namespaces of this machine for the explainer, each when it is first asked for."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.nsidmsg import nsidmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg
from pyroute2.netlink.rtnl.tcmsg import tcmsg

from fairway.net.explain.snapshot import (
    Address,
    Host,
    LegacyRule,
    LegacyTable,
    Link,
    Neighbour,
    Peer,
    PolicyRule,
    Route,
)
from fairway.net.kernel import messages, namespaces, records, sysctl
from fairway.net.kernel.netfilter import xtables
from fairway.net.kernel.netfilter.nftables import Json, Nft
from fairway.net.kernel.netfilter.table_socket import TableSocket
from fairway.net.kernel.netlink import Netlink
from fairway.net.model.errors import FairwayError
from fairway.net.model.facts import HERE, IPAddress

# linux/rtnetlink.h, linux/fib_rules.h, linux/if.h, linux/if_addr.h, linux/neighbour.h, linux/xfrm.h
_RTM_GETRULE, _RTM_GETQDISC, _RTM_GETNSID = 34, 38, 90
_NLM_F_REQUEST, _NLM_F_DUMP = 0x1, 0x300
_NETNSA_FD = 3
_FR_ACT_TO_TBL, _FIB_RULE_INVERT = 1, 2
_NOT_SUPPRESSED = 0xFFFFFFFF
_IFF_UP, _IFF_LOWER_UP = 1, 0x10000
_IFA_F_UNSETTLED = 0x08 | 0x40  # DADFAILED, TENTATIVE
_RTNH_F_DEAD, _RTNH_F_LINKDOWN = 1, 16
_NUD_VALID, _NUD_PERMANENT = 0x80 | 0x40 | 0x02 | 0x04 | 0x08 | 0x10, 0x80
_BR_STATE_FORWARDING = 3
_NETLINK_XFRM, _XFRM_MSG_GETPOLICY, _NLMSG_DONE = 6, 0x15, 3
_ROUTE_KINDS = (
    "unspec", "unicast", "local", "broadcast", "anycast", "multicast", "blackhole", "unreachable", "prohibit", "throw",
)  # fmt: skip
_RULE_PLAIN = {
    "FRA_DST", "FRA_SRC", "FRA_IIFNAME", "FRA_PRIORITY", "FRA_TABLE", "FRA_PROTOCOL", "FRA_SUPPRESS_PREFIXLEN",
    "FRA_SUPPRESS_IFGROUP",
}  # fmt: skip
_SETTINGS = (
    "net/ipv4/ip_forward", "net/ipv4/icmp_echo_ignore_all", "net/ipv6/icmp/echo_ignore_all",
    "net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables",
)  # fmt: skip
_LINK_SETTINGS = {
    4: ("forwarding", "rp_filter", "accept_local", "arp_ignore", "arp_filter", "proxy_arp",
        "ignore_routes_with_linkdown"),
    6: ("forwarding", "force_forwarding", "disable_ipv6", "proxy_ndp", "ignore_routes_with_linkdown"),
}  # fmt: skip


class Namespaces(Mapping[str, Host]):
    """The namespaces bound under /run/netns, and the one that Fairway runs in under the empty name.

    `labels` are what people call them, where that is not their names.
    """

    def __init__(self, labels: Mapping[str, str] | None = None) -> None:
        self._labels = dict(labels or {})
        self._read: dict[str, Host] = {}
        self._names: list[str] | None = None

    def __getitem__(self, name: str) -> Host:
        if name not in self._read:
            if name not in self._bound():
                raise KeyError(name)
            label = self._labels.get(name) or name or socket.gethostname()
            # Once the thread is inside another namespace, /proc names its own by no path.
            home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                self._read[name] = namespaces.inside(name, lambda: _host(name, label, self._bound(), home))
            finally:
                os.close(home)
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._bound())

    def __len__(self) -> int:
        return len(self._bound())

    def owner(self, address: IPAddress) -> str | None:
        """The first namespace that has `address`; None if none has. Asks each for its addresses only."""
        for name in self._bound():
            with contextlib.suppress(FairwayError, OSError):
                found = namespaces.inside(name, lambda: _addresses(None, {}))
                if any(own.interface.ip == address and own.scope == 0 for own in found):
                    return name
        return None

    def _bound(self) -> list[str]:
        if self._names is None:
            home = os.stat("/proc/self/ns/net").st_ino
            others = [name for name in namespaces.names("") if _inode(name) not in (home, 0)]
            self._names = [HERE, *others]
        return self._names


def _inode(name: str) -> int:
    try:
        return namespaces.path_of(name).stat().st_ino
    except OSError:
        return 0


def _host(name: str, label: str, bound: list[str], home: int) -> Host:
    """The namespace that the calling thread is in; `home` is a descriptor of the one that Fairway runs in."""
    netlink = Netlink()
    try:
        peers = _Peers(name, netlink, bound, home)
        programs = _programs(netlink)
        links = tuple(_link(message, peers, programs, _taps()) for message in netlink.dump(messages.dump_links()))
        names = {link.index: link.name for link in links}
        return Host(
            name=name,
            label=label,
            links=links,
            addresses=tuple(_addresses(netlink, names)),
            routes=tuple(_routes(netlink, names)),
            rules=tuple(_rules(netlink)),
            neighbours=tuple(_neighbours(netlink, names)),
            settings=_settings([link.name for link in links]),
            ruleset=_ruleset(),
            legacy=tuple(_legacy()),
            transforms=_transforms(),
        )
    finally:
        netlink.close()


class _Peers:
    """Which namespace is behind an id that the kernel uses for it inside this one."""

    def __init__(self, name: str, netlink: Netlink, bound: list[str], home: int) -> None:
        self._name = name
        self._netlink = netlink
        self._bound = bound
        self._home = home
        self._by_id: dict[int, str] | None = None

    def find(self, index: int, identifier: int | None) -> Peer | None:
        """The other end of a veth pair; without an id it is in the same namespace."""
        if not index:
            return None
        if identifier is None:
            return Peer(self._name, index)
        if self._by_id is None:
            self._by_id = {}
            for name in self._bound:
                with contextlib.suppress(OSError, FairwayError):
                    self._by_id.setdefault(self._identifier(name), name)
        other = self._by_id.get(identifier)
        return None if other is None or identifier < 0 else Peer(other, index)

    def _identifier(self, name: str) -> int:
        descriptor = os.open(namespaces.path_of(name), os.O_RDONLY | os.O_CLOEXEC) if name else os.dup(self._home)
        try:
            body = struct.pack("=B3xHHI", 0, 8, _NETNSA_FD, descriptor)
            answer = self._netlink.get(_request(_RTM_GETNSID, body))
        finally:
            os.close(descriptor)
        if answer is None:
            return -1
        found = _decoded(nsidmsg, answer).get_attr("NETNSA_NSID")
        return -1 if found is None or found >= 1 << 31 else int(found)


def _link(message: bytes, peers: _Peers, programs: set[int], taps: set[int]) -> Link:
    decoded = _decoded(ifinfmsg, message)
    information = decoded.get_attr("IFLA_LINKINFO")
    kind = (information.get_attr("IFLA_INFO_KIND") if information is not None else None) or ""
    index = decoded["index"]
    peer = None
    if kind == "veth":
        peer = peers.find(decoded.get_attr("IFLA_LINK") or 0, decoded.get_attr("IFLA_LINK_NETNSID"))
    express = decoded.get_attr("IFLA_XDP")
    return Link(
        index=index,
        name=decoded.get_attr("IFLA_IFNAME"),
        kind=kind,
        up=bool(decoded["flags"] & _IFF_UP),
        carrier=bool(decoded["flags"] & _IFF_LOWER_UP),
        mac=decoded.get_attr("IFLA_ADDRESS") or "",
        master=decoded.get_attr("IFLA_MASTER") or 0,
        peer=peer,
        filtered=index in programs
        or bool(express is not None and express.get_attr("IFLA_XDP_ATTACHED"))
        or _bridge_filters(information),
        tapped=bool({0, index} & taps),
        udp_port=records.vxlan_port(information),
    )


def _bridge_filters(information: Any) -> bool:
    """Whether a bridge, or a bridge's port, does more than pass every frame on."""
    if information is None:
        return False
    bridge = information.get_attr("IFLA_INFO_DATA") if information.get_attr("IFLA_INFO_KIND") == "bridge" else None
    if bridge is not None and bridge.get_attr("IFLA_BR_VLAN_FILTERING"):
        return True
    port = information.get_attr("IFLA_INFO_SLAVE_DATA")
    if port is None or information.get_attr("IFLA_INFO_SLAVE_KIND") != "bridge":
        return False
    state = port.get_attr("IFLA_BRPORT_STATE")
    return state not in (None, _BR_STATE_FORWARDING) or bool(port.get_attr("IFLA_BRPORT_ISOLATED"))


def _addresses(netlink: Netlink | None, names: Mapping[int, str]) -> list[Address]:
    own = netlink or Netlink()
    try:
        return [_address(message, names) for message in own.dump(messages.dump_addresses())]
    finally:
        if netlink is None:
            own.close()


def _address(message: bytes, names: Mapping[int, str]) -> Address:
    decoded = _decoded(ifaddrmsg, message)
    text = decoded.get_attr("IFA_LOCAL") or decoded.get_attr("IFA_ADDRESS")
    flags = decoded.get_attr("IFA_FLAGS") or decoded["flags"]
    interface = ip_interface(f"{text}/{decoded['prefixlen']}")
    return Address(names.get(decoded["index"], ""), interface, decoded["scope"], not flags & _IFA_F_UNSETTLED)


def _routes(netlink: Netlink, names: Mapping[int, str]) -> Iterator[Route]:
    for family in (messages.AF_INET, messages.AF_INET6):
        for message in netlink.dump(_dump(messages.RTM_GETROUTE, struct.pack("=8BI", family, *[0] * 7, 0))):
            decoded = _decoded(rtmsg, message)
            if not decoded["tos"]:  # a packet without a type of service passes over the others
                yield _route(decoded, names, records.tunnel_target(message))


def _route(decoded: Any, names: Mapping[int, str], tunnel: IPAddress | None) -> Route:
    text = decoded.get_attr("RTA_DST")
    anywhere = "0.0.0.0/0" if decoded["family"] == messages.AF_INET else "::/0"
    via, prefered = decoded.get_attr("RTA_VIA"), decoded.get_attr("RTA_PREFSRC")
    gateway = decoded.get_attr("RTA_GATEWAY") or (via["addr"] if via else None)
    odd = ""
    if decoded.get_attr("RTA_MULTIPATH"):
        odd = "has several ways"
    elif (decoded.get_attr("RTA_ENCAP_TYPE") and tunnel is None) or decoded["src_len"]:
        odd = "goes through a tunnel, or depends on the source"
    kind = decoded["type"]
    return Route(
        destination=ip_network(f"{text}/{decoded['dst_len']}" if text else anywhere),
        kind=_ROUTE_KINDS[kind] if kind < len(_ROUTE_KINDS) else "other",
        link=names.get(decoded.get_attr("RTA_OIF") or 0, ""),
        gateway=ip_address(gateway) if gateway else None,
        metric=decoded.get_attr("RTA_PRIORITY") or 0,
        table=decoded.get_attr("RTA_TABLE") or decoded["table"],
        source=ip_address(prefered) if prefered else None,
        dead=bool(decoded["flags"] & _RTNH_F_DEAD),
        link_down=bool(decoded["flags"] & _RTNH_F_LINKDOWN),
        odd=odd,
        tunnel=tunnel,
    )


def _rules(netlink: Netlink) -> Iterator[PolicyRule]:
    for family, version in ((messages.AF_INET, 4), (messages.AF_INET6, 6)):
        for message in netlink.dump(_dump(_RTM_GETRULE, struct.pack("=8BI", family, *[0] * 7, 0))):
            decoded = _decoded(fibmsg, message)
            attributes = dict(decoded["attrs"])
            suppressed = attributes.get("FRA_SUPPRESS_PREFIXLEN", _NOT_SUPPRESSED) not in (_NOT_SUPPRESSED, -1)
            odd = suppressed or bool(set(attributes) - _RULE_PLAIN) or "FRA_SUPPRESS_IFGROUP" in attributes
            odd |= decoded["action"] != _FR_ACT_TO_TBL or bool(decoded["flags"] & _FIB_RULE_INVERT or decoded["tos"])
            source, destination = attributes.get("FRA_SRC"), attributes.get("FRA_DST")
            yield PolicyRule(
                version=version,
                priority=attributes.get("FRA_PRIORITY", 0),
                table=attributes.get("FRA_TABLE", decoded["table"]),
                source=ip_network(f"{source}/{decoded['src_len']}") if source else None,
                destination=ip_network(f"{destination}/{decoded['dst_len']}") if destination else None,
                entering=attributes.get("FRA_IIFNAME", ""),
                odd=odd,
            )


def _neighbours(netlink: Netlink, names: Mapping[int, str]) -> Iterator[Neighbour]:
    for message in netlink.dump(messages.dump_neighbours()):
        decoded = _decoded(ndmsg, message)
        text = decoded.get_attr("NDA_DST")
        if (
            decoded["family"] not in (messages.AF_INET, messages.AF_INET6)
            or not decoded["state"] & _NUD_VALID
            or not text
        ):
            continue
        mac = decoded.get_attr("NDA_LLADDR") or ""
        permanent = bool(decoded["state"] & _NUD_PERMANENT)
        yield Neighbour(names.get(decoded["ifindex"], ""), ip_address(text), mac, permanent)


def _programs(netlink: Netlink) -> set[int]:
    """The interfaces that tc programs or filters may sit at."""
    found = set()
    for message in netlink.dump(_dump(_RTM_GETQDISC, struct.pack("=B3xiIII", 0, 0, 0, 0, 0))):
        decoded = _decoded(tcmsg, message)
        if decoded.get_attr("TCA_KIND") in ("clsact", "ingress"):
            found.add(decoded["index"])
    return found


def _taps() -> set[int]:
    """The interfaces that packet sockets of this namespace take frames from; 0 stands for all."""
    try:
        with open("/proc/thread-self/net/packet") as file:
            return {int(line.split()[4]) for line in file.readlines()[1:]}
    except (OSError, ValueError, IndexError):
        return {0}


def _settings(links: list[str]) -> dict[str, str]:
    paths = [*_SETTINGS]
    for version, settings in _LINK_SETTINGS.items():
        paths += [f"net/ipv{version}/conf/{link}/{setting}" for link in ("all", *links) for setting in settings]
    values = {path: sysctl.read(path) for path in paths}
    return {path: value for path, value in values.items() if value is not None}


def _ruleset() -> tuple[Json, ...] | None:
    try:
        nft = Nft()
        try:
            return tuple(_with_devices(nft.run([{"list": {"ruleset": None}}])))
        finally:
            nft.close()
    except (FairwayError, ValueError):  # ValueError: a dormant table makes old libraries write broken JSON
        return None


def _with_devices(listed: list[Json]) -> Iterator[Json]:
    """What is listed, with the devices of chains at devices: libnftables 1.0.6 does not tell the inet family's."""
    reader: TableSocket | None = None
    devices: dict[tuple[str, str, str], tuple[str, ...] | None] = {}
    for item in listed:
        chain = item.get("chain", {})
        if chain.get("hook") in ("ingress", "egress") and "dev" not in chain:
            if reader is None:
                reader = TableSocket()
                devices = {(each.family, each.table, each.name): each.devices for each in reader.chains()}
                reader.close()
            known = devices.get((chain["family"], chain["table"], chain["name"]))
            yield {"chain": {**chain, **({"dev": list(known)} if known else {})}}
        else:
            yield item


def _legacy() -> Iterator[LegacyTable]:
    for engine, version in ((xtables.IPV4, 4), (xtables.IPV6, 6)):
        try:
            with open(f"/proc/thread-self/net/{engine.names_file}") as file:
                names = file.read().split()
        except OSError:
            continue
        chains = {chain.table: chain for chain in xtables.forward_chains(engine)} if names else {}
        for name in names:
            chain = chains.get(name)
            rules = tuple(
                LegacyRule(rule.target, rule.unconditional, rule.in_interface, rule.out_interface)
                for rule in (chain.rules if chain else ())
            )
            yield LegacyTable(version, name, chain.policy if chain else "", rules)


def _transforms() -> bool:
    """Whether there are IPsec policies; so too where that cannot be read."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_XFRM) as handle:
            handle.settimeout(1)
            body = bytes(64)  # struct xfrm_userpolicy_id
            handle.send(_request(_XFRM_MSG_GETPOLICY, body, _NLM_F_DUMP))
            kind = struct.unpack_from("=IH", handle.recv(1 << 16))[1]
            return bool(kind != _NLMSG_DONE)
    except (ConnectionRefusedError, OSError) as error:
        unsupported = isinstance(error, OSError) and error.errno in (93, 111)  # EPROTONOSUPPORT, ECONNREFUSED
        return not unsupported


def _dump(kind: int, body: bytes) -> bytes:
    return _request(kind, body, _NLM_F_DUMP)


def _request(kind: int, body: bytes, flags: int = 0) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, _NLM_F_REQUEST | flags, 0, 0) + body


def _decoded(kind: Any, message: bytes) -> Any:
    decoded = kind(message)
    decoded.decode()
    return decoded
