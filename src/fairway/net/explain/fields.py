"""What an nftables expression reads from a packet: a value, `UNKNOWN`, or `ABSENT` where the packet has none."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

from fairway.net.explain.packet import PROTOCOLS, Passage
from fairway.net.explain.snapshot import Json


class Missing(Enum):
    """Why there is no value."""

    UNKNOWN = "unknown"
    ABSENT = "absent"  # the header is not there: a rule that reads it does not match, whatever it compares


UNKNOWN, ABSENT = Missing.UNKNOWN, Missing.ABSENT
Value = Any  # an int, a str, an IPAddress, a list of Values (a concatenation), or Missing

_TCP_FLAGS = {"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32, "ecn": 64, "cwr": 128}
PLAIN_TCP_FLAGS = 0x3F  # ECN negotiation sets the others
ALL_TCP_FLAGS = 0xFF
_FLAGS_OF_PORTS = ("tcp", "udp")


def read(expression: Any, passage: Passage) -> Value:
    """The value of the left side of a match, or of a map's key."""
    if not isinstance(expression, dict) or len(expression) != 1:
        return UNKNOWN
    ((kind, body),) = expression.items()
    if kind == "concat":
        parts = [read(part, passage) for part in body]
        return ABSENT if ABSENT in parts else parts
    if kind == "meta":
        reader = _META.get(body.get("key"))
        return reader(passage) if reader else UNKNOWN
    if kind == "ct" and body == {"key": "state"}:
        return UNKNOWN if passage.connection is None else passage.connection
    if kind == "payload":
        return _payload(body, passage)
    return UNKNOWN


def kind_of(expression: Any) -> str:
    """What sort of value an expression reads: "interface" and "flags" compare in a way of their own."""
    match expression:
        case {"meta": {"key": "iifname" | "oifname" | "iif" | "oif"}}:
            return "interface"
        case {"meta": {"key": "l4proto"}} | {"payload": {"field": "protocol" | "nexthdr"}}:
            return "protocol"
        case {"ct": {"key": "state"}}:
            return "state"
    return ""


def tcp_flags(expression: Any, passage: Passage) -> tuple[Value, int]:
    """The packet's TCP flags under the mask that `expression` lays on them, and the mask; ABSENT if it is not TCP."""
    match expression:
        case {"&": [{"payload": {"protocol": "tcp", "field": "flags"}}, mask]}:
            bits = flag_bits(mask)
        case _:
            bits = ALL_TCP_FLAGS
    if passage.packet.protocol != "tcp":
        return ABSENT, 0
    if bits is None or passage.packet.reply or bits not in (ALL_TCP_FLAGS, bits & PLAIN_TCP_FLAGS):
        return UNKNOWN, 0
    return _TCP_FLAGS["syn"] & bits, bits


def reads_tcp_flags(expression: Any) -> bool:
    """Whether `expression` is the TCP header's flags, under a mask or not."""
    match expression:
        case {"payload": {"protocol": "tcp", "field": "flags"}}:
            return True
        case {"&": [{"payload": {"protocol": "tcp", "field": "flags"}}, _]}:
            return True
    return False


def flag_bits(names: Any) -> int | None:
    """The bits of TCP flags written as names or a number."""
    if isinstance(names, int):
        return names
    if isinstance(names, str):
        names = [names]
    if not isinstance(names, list) or not all(name in _TCP_FLAGS for name in names):
        return None
    return sum(_TCP_FLAGS[name] for name in names)


def _payload(body: Json, passage: Passage) -> Value:
    packet = passage.packet
    protocol, field = body.get("protocol"), body.get("field")
    if protocol == "arp":  # what is explained is IP
        return ABSENT
    if protocol in ("ip", "ip6"):
        if packet.version != (4 if protocol == "ip" else 6):
            return ABSENT
        if field == packet.hidden:
            return UNKNOWN
        return {
            "saddr": packet.source,
            "daddr": packet.destination,
            "protocol": packet.number,
            "nexthdr": packet.number,
        }.get(str(field), UNKNOWN)
    if protocol in ("icmp", "icmpv6"):
        if packet.number != PROTOCOLS[protocol]:
            return ABSENT
        return packet.message if field == "type" else UNKNOWN
    if protocol in _FLAGS_OF_PORTS or protocol == "th":
        if protocol == "th" and packet.protocol not in _FLAGS_OF_PORTS:
            return UNKNOWN
        if protocol != "th" and packet.protocol != protocol:
            return ABSENT
        port = {"sport": packet.source_port, "dport": packet.destination_port}.get(str(field))
        return UNKNOWN if port is None else port
    return UNKNOWN


def _mark(passage: Passage) -> Value:
    return UNKNOWN if passage.mark is None else passage.mark


_META: dict[object, Callable[[Passage], Value]] = {
    "iifname": lambda passage: passage.entering,
    "oifname": lambda passage: passage.leaving,
    "iif": lambda passage: passage.entering,
    "oif": lambda passage: passage.leaving,
    "nfproto": lambda passage: "ipv4" if passage.packet.version == 4 else "ipv6",
    "protocol": lambda passage: "ip" if passage.packet.version == 4 else "ip6",
    "l4proto": lambda passage: passage.packet.number,
    "mark": _mark,
}
