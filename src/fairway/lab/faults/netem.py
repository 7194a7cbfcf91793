"""The same faults by the kernel's netem, where it has it: a qdisc on each member's own interface, for what it sends.

netem counts a super-frame as one packet. So that loss falls on packets, an interface that has it is told to send TCP in
single segments (`gso_max_segs` 1); a program's own UDP super-frames (UDP_SEGMENT) are still lost whole.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import threading
from typing import Any

from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.tcmsg import tcmsg

from fairway.lab.model import Faults

QUEUE_PACKETS = 1000
"""netem's `limit`, at least: packets held for delay and rate together."""

_CLONE_NEWNET = 0x40000000  # linux/sched.h
_RTM_NEWLINK, _RTM_NEWQDISC, _RTM_DELQDISC = 16, 36, 37  # linux/rtnetlink.h
_REQUEST_ACK = 0x1 | 0x4  # linux/netlink.h
_CREATE_REPLACE = 0x400 | 0x100
_TC_H_ROOT = 0xFFFFFFFF  # linux/pkt_sched.h
_HANDLE = 0xFA1D0000
_OPTIONS = struct.Struct("=IIIIII")  # struct tc_netem_qopt: latency, limit, loss, gap, duplicate, jitter
_RATE = struct.Struct("=IiIi")  # struct tc_netem_rate: rate, packet_overhead, cell_size, cell_overhead
_TCA_OPTIONS = 2
_TCA_NETEM_RATE, _TCA_NETEM_RATE64, _TCA_NETEM_LATENCY64, _TCA_NETEM_JITTER64 = 6, 8, 10, 11
_LOOPBACK = 1  # the index of `lo` in every new namespace
_FULL_PACKET_BITS = 1514 * 8


def supported() -> bool:
    """Whether this kernel has netem, and we may use it: tried on `lo` of a namespace that ends with its thread."""
    answers: list[bool] = []

    def attempt() -> None:
        if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) == 0:
            answers.append(_accepted(set_faults(_LOOPBACK, Faults(delay_ms=1))))

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    return answers == [True]


def set_faults(index: int, faults: Faults) -> bytes:
    """The request that gives the interface `index` these faults, in the place of any it had."""
    kind = [("TCA_KIND", "netem")]
    request = _request(tcmsg(), _RTM_NEWQDISC, _REQUEST_ACK | _CREATE_REPLACE, _qdisc(index), kind)
    request += _attribute(_TCA_OPTIONS, options(faults))  # pyroute2's own has no place for the attributes in ns
    return struct.pack("=I", len(request)) + request[4:]


def clear_faults(index: int) -> bytes:
    """The request that takes the faults of the interface `index` away; ENOENT answers it if there are none of ours."""
    return _request(tcmsg(), _RTM_DELQDISC, _REQUEST_ACK, _qdisc(index), [("TCA_KIND", "netem")])


def single_segments(index: int) -> bytes:
    """The request that makes the interface `index` send TCP in single segments. To go with loss."""
    message = ifinfmsg()
    return _request(message, _RTM_NEWLINK, _REQUEST_ACK, {"index": index}, [("IFLA_GSO_MAX_SEGS", 1)])


def options(faults: Faults) -> bytes:
    """What netem is told: `struct tc_netem_qopt` and the attributes after it (times in nanoseconds, kernel 4.15)."""
    seconds = 0.1 + 2 * faults.delay_ms / 1000
    limit = max(QUEUE_PACKETS, int(faults.rate_bps * seconds / _FULL_PACKET_BITS))
    if not faults.rate_bps and faults.delay_ms:
        limit = max(limit, int(10e9 * seconds / _FULL_PACKET_BITS))  # as fast as it goes: more than it goes
    loss = min(0xFFFFFFFF, round(faults.loss * 0xFFFFFFFF))
    parts = [_OPTIONS.pack(0, limit, loss, 0, 0, 0)]
    for kind, milliseconds in ((_TCA_NETEM_LATENCY64, faults.delay_ms), (_TCA_NETEM_JITTER64, faults.jitter_ms)):
        if milliseconds:
            parts.append(_attribute(kind, struct.pack("=q", round(milliseconds * 1e6))))
    rate = -(-faults.rate_bps // 8)  # 0 too is told: netem keeps a rate that it is told nothing about
    parts.append(_attribute(_TCA_NETEM_RATE, _RATE.pack(min(rate, 0xFFFFFFFF), 0, 0, 0)))
    if rate >= 1 << 32:
        parts.append(_attribute(_TCA_NETEM_RATE64, struct.pack("=Q", rate)))
    return b"".join(parts)


def _accepted(request: bytes) -> bool:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as route:
        route.settimeout(5)
        route.send(request)
        answer = route.recv(65536)
    kind, number = struct.unpack_from("=4xH10xi", answer)
    return bool(kind == 2 and number == 0)  # NLMSG_ERROR with no error


def _qdisc(index: int) -> dict[str, int]:
    return {"index": index, "handle": _HANDLE, "parent": _TC_H_ROOT}


def _attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + b"\0" * (-len(data) % 4)


def _request(message: Any, kind: int, flags: int, fields: dict[str, int], attributes: list[tuple[str, Any]]) -> bytes:
    for name, value in fields.items():
        message[name] = value
    message["attrs"] = attributes
    header = message["header"]
    header["type"], header["flags"], header["sequence_number"], header["pid"] = kind, flags, 0, 0
    message.encode()
    return bytes(message.data)
