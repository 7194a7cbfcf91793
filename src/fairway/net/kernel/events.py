"""What others, and the kernel itself, change in a namespace: multicast messages of route-netlink and nftables, told.

Only as much of a message is read as it takes to know what to look at again: on a busy host most are nobody's concern.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

from fairway.net.kernel import messages
from fairway.net.kernel.ports import is_own
from fairway.net.model.facts import IPNetwork

_NETLINK_ROUTE, _NETLINK_NETFILTER = 0, 12  # linux/netlink.h
_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP = 270, 1
_SO_ATTACH_FILTER, _SO_RCVBUFFORCE = 26, 33
_ROUTE_GROUPS = (1, 3, 5, 9, 7, 11)  # RTNLGRP_LINK, _NEIGH, _IPV4_IFADDR, _IPV6_IFADDR, _IPV4_ROUTE, _IPV6_ROUTE
_SETTINGS_GROUPS = (24, 25)  # RTNLGRP_IPV4_NETCONF, _IPV6_NETCONF
_NFTABLES_GROUP = 7  # NFNLGRP_NFTABLES
_NEW_GENERATION = 0x0A0F  # NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWGEN: one at the end of each transaction
_GENERATION_PID, _GENERATION_NAME = 2, 3
_IFA_ADDRESS, _IFLA_IFNAME, _NDA_DST, _RTA_DST, _RTA_TABLE = 1, 3, 1, 1, 15
_REPLACED = 0x100  # NLM_F_REPLACE
_IFF_UP, _IFF_LOWER_UP = 1, 0x10000
_NETCONFA_IFINDEX, _NETCONFA_FORWARDING = 1, 2  # linux/netconf.h
_EVERY_INTERFACE = -1  # NETCONFA_IFINDEX_ALL
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_TYPE_MASK = 0x3FFF

_INSTRUCTION, _PROGRAM = struct.Struct("=HBBI"), struct.Struct("@HP")  # linux/filter.h: sock_filter, sock_fprog
_LOAD_WORD, _IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # linux/bpf_common.h
_PORT_AT, _WHOLE = 12, 0xFFFFFFFF  # of struct nlmsghdr; of a message

_BUFFER = 1 << 17
_READS = 256  # datagrams a call, so that a storm holds nobody up
_QUEUE = 4 << 20


class OverrunError(Exception):
    """The kernel had more to tell than the queue holds: some of it is lost."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something was changed. `port` is the netlink port of who asked: a process's number, mostly; 0: the kernel."""

    kind: str  # "link", "address", "route", "neighbour", "rules", "forwarding"
    gone: bool = False  # of forwarding: it was switched off
    replaced: bool = False
    index: int = 0  # of the interface
    name: str = ""  # of the interface, if the message says it
    network: IPNetwork | None = None  # an address is a network of one
    protocol: int = 0  # a route's
    working: bool = True  # a link that is up, with its other end
    port: int = 0
    program: str = ""  # its name, if the message says it
    own: bool = False


class Events:
    """Sockets in the network namespace of the thread that makes it."""

    def __init__(self, queue: int = _QUEUE) -> None:
        self._sockets = [
            _listening(_NETLINK_ROUTE, _ROUTE_GROUPS + _SETTINGS_GROUPS, queue),
            _listening(_NETLINK_NETFILTER, (_NFTABLES_GROUP,), queue),
        ]

    def ignore(self, port: int) -> None:
        """Have the kernel tell no more of what is changed in route-netlink through this process's socket of that port.

        What is `own` is no surprise anyhow, and not worth waking up for. There is one such port at most.
        """
        wanted = socket.htonl(port)  # the program reads in the network's order, and the kernel writes in its own
        steps = (
            (_LOAD_WORD, 0, 0, _PORT_AT),
            (_IF_EQUAL, 0, 1, wanted),
            (_RETURN, 0, 0, 0),
            (_RETURN, 0, 0, _WHOLE),
        )
        program = ctypes.create_string_buffer(b"".join(_INSTRUCTION.pack(*step) for step in steps))
        described = _PROGRAM.pack(len(steps), ctypes.addressof(program))
        self._sockets[0].setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, described)

    def close(self) -> None:
        """End the sockets."""
        for each in self._sockets:
            each.close()

    def filenos(self) -> list[int]:
        """What to wait on."""
        return [each.fileno() for each in self._sockets]

    def read(self) -> list[Event]:
        """What has happened, without waiting; OverrunError if some of it was lost."""
        events: list[Event] = []
        for which, each in enumerate(self._sockets):
            for _ in range(_READS):
                try:
                    data = each.recv(_BUFFER)
                except BlockingIOError:
                    break
                except OSError as error:
                    if error.errno == errno.ENOBUFS:
                        raise OverrunError from None
                    raise
                events += _generations(data) if which else _changes(data)
        return events


def _listening(protocol: int, groups: tuple[int, ...], queue: int) -> socket.socket:
    found = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, protocol)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, queue)
    with contextlib.suppress(OSError):  # beyond the system's limit where that is allowed
        found.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, queue)
    found.bind((0, 0))
    for group in groups:
        found.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)
    return found


def _messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Type, flags, port and body of each message of one datagram."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, flags, _, port = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size:
            return
        yield kind, flags, port, data[offset + _HEADER.size : offset + length]
        offset += (length + 3) & ~3


def _changes(data: bytes) -> Iterator[Event]:
    for kind, flags, port, body in _messages(data):
        own, replaced = is_own(port), bool(flags & _REPLACED)
        if kind in (messages.RTM_NEWLINK, messages.RTM_DELLINK) and len(body) >= 16:
            index, state = struct.unpack_from("=iI", body, 4)
            name = _attribute(body, 16, _IFLA_IFNAME).rstrip(b"\0").decode(errors="replace")
            working = state & (_IFF_UP | _IFF_LOWER_UP) == _IFF_UP | _IFF_LOWER_UP
            gone = kind == messages.RTM_DELLINK
            yield Event("link", gone, index=index, name=name, working=working, port=port, own=own)
        elif kind in (messages.RTM_NEWADDR, messages.RTM_DELADDR) and len(body) >= 8:
            (index,) = struct.unpack_from("=i", body, 4)
            network = _network(_attribute(body, 8, _IFA_ADDRESS))
            gone = kind == messages.RTM_DELADDR
            yield Event("address", gone, index=index, network=network, port=port, own=own)
        elif kind in (messages.RTM_NEWROUTE, messages.RTM_DELROUTE) and len(body) >= 12:
            if body[4] == messages.RT_TABLE_MAIN and _attribute(body, 12, _RTA_TABLE)[:1] in (b"", b"\xfe"):
                network = _network(_attribute(body, 12, _RTA_DST), body[1])
                gone, protocol = kind == messages.RTM_DELROUTE, body[5]
                yield Event("route", gone, replaced, network=network, protocol=protocol, port=port, own=own)
        elif kind in (messages.RTM_NEWNEIGH, messages.RTM_DELNEIGH) and len(body) >= 12:
            (index,) = struct.unpack_from("=i", body, 4)
            network = _network(_attribute(body, 12, _NDA_DST))
            gone = kind == messages.RTM_DELNEIGH
            yield Event("neighbour", gone, replaced, index=index, network=network, port=port, own=own)
        elif kind == messages.RTM_NEWNETCONF:
            forwarding = _number(_attribute(body, 4, _NETCONFA_FORWARDING))
            if forwarding is not None and _number(_attribute(body, 4, _NETCONFA_IFINDEX)) == _EVERY_INTERFACE:
                yield Event("forwarding", gone=not forwarding, port=port, own=own)


def _generations(data: bytes) -> Iterator[Event]:
    for kind, _, port, body in _messages(data):
        if kind == _NEW_GENERATION:
            thread = int.from_bytes(_attribute(body, 4, _GENERATION_PID), "big")
            program = _attribute(body, 4, _GENERATION_NAME).rstrip(b"\0").decode(errors="replace")
            # libnftables' socket is not ours to know, but whose thread used it is.
            own = is_own(port) or (thread != 0 and Path(f"/proc/self/task/{thread}").exists())
            yield Event("rules", port=thread, program=program, own=own)


def _attribute(body: bytes, offset: int, wanted: int) -> bytes:
    """The value of the first attribute of that type behind `offset`; empty if there is none."""
    while offset + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, offset)
        if length < _ATTRIBUTE.size:
            break
        if kind & _TYPE_MASK == wanted:
            return body[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
    return b""


def _number(value: bytes) -> int | None:
    """A signed number of the kernel's; None if there is none."""
    return int.from_bytes(value, sys.byteorder, signed=True) if len(value) == 4 else None


def _network(packed: bytes, length: int | None = None) -> IPNetwork | None:
    """The network of that prefix length, or the one address; None if it is the default route's, or no IP at all."""
    if len(packed) not in (4, 16):
        return None
    return ip_network((packed, len(packed) * 8 if length is None else length), strict=False)
