"""Connections that a namespace has, by their own address: what a change of it ends, and what goes along."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from fairway.net.kernel.namespaces import inside
from fairway.net.model.facts import IPAddress

_ESTABLISHED = "01"  # net/tcp_states.h; of UDP: a socket that is connected, as clients of QUIC have them


def connections(namespace: str, addresses: Collection[IPAddress]) -> Counter[str]:
    """How many TCP connections, and UDP sockets that are connected, are from one of `addresses`: "tcp", "udp"."""

    def read() -> Counter[str]:
        found: Counter[str] = Counter(tcp=0, udp=0)
        for kind in found:
            for name in (kind, f"{kind}6"):
                path = Path("/proc/thread-self/net") / name
                lines = path.read_text().splitlines()[1:] if path.exists() else []
                found[kind] += sum(_is_from(line, addresses) for line in lines)
        return found

    return inside(namespace, read)


def _is_from(line: str, addresses: Collection[IPAddress]) -> bool:
    _, local, _, state, *_ = line.split()
    return state == _ESTABLISHED and _address(local.partition(":")[0]) in addresses


def _address(text: str) -> IPAddress:
    """The address that the kernel shows as words of four octets, each in its processor's order."""
    octets = bytes.fromhex(text)
    words = [octets[start : start + 4] for start in range(0, len(octets), 4)]
    packed = b"".join(word[::-1] if sys.byteorder == "little" else word for word in words)
    found: IPv4Address | IPv6Address = ip_address(packed)
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found
