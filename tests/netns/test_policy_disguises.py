"""Denied packets in disguise, by the wire: options, extension headers, fragments. What is allowed arrives in each."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest

from fairway.net.host import Host
from fairway.net.kernel import namespaces

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it makes namespaces")]
OPEN, SHUT = 80, 81
ONLY_OPEN = f"""
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: web}}
spec:
  podSelector: {{matchLabels: {{app: web}}}}
  ingress: [{{ports: [{{protocol: UDP, port: {OPEN}}}]}}]
---
{{kind: Pod, metadata: {{name: web, labels: {{app: web}}}}}}
"""
V4, V6 = 0x0800, 0x86DD
UDP, FRAGMENT, OPTIONS, HOP_BY_HOP = 17, 44, 60, 0
ARRIVES_S, STAYS_AWAY_S = 2.0, 0.3
Ends = tuple[bytes, bytes]


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Ends, Ends]]:
    """The addresses of the pods `other` and `web`, of IPv4 and of IPv6."""
    subprocess.run(["ip", "address", "replace", "192.0.2.1/32", "dev", "lo"], check=True)
    with Host(tmp_path_factory.mktemp("state")) as host:
        for pool in ("10.0.0.0/16", "fd00:7::/64"):
            host.pools.add(ip_network(pool))
        host.policies.apply(ONLY_OPEN, "web.yaml")
        pods = [host.add_pod(name) for name in ("other", "web")]
        found = [
            tuple(next(a.packed for a in pod.addresses if isinstance(a, kind)) for pod in pods)
            for kind in (IPv4Address, IPv6Address)
        ]
        yield found[0], found[1]  # type: ignore[misc]
        for pod in pods:
            host.remove_pod(pod.name, force=True)


def checksum(data: bytes) -> int:
    total = sum(word for (word,) in struct.iter_unpack("!H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def udp(ends: Ends, port: int, data: bytes = b"x" * 16) -> bytes:
    head = struct.pack("!HHH", 999, port, 8 + len(data))
    pseudo = ends[0] + ends[1] + struct.pack("!IBBH", 8 + len(data), 0, 0, UDP)
    return head + struct.pack("!H", checksum(pseudo + head + b"\0\0" + data)) + data


def ipv4(
    ends: Ends, payload: bytes, *, options: bytes = b"", number: int = 0, offset: int = 0, more: bool = False
) -> bytes:
    words, place = 5 + len(options) // 4, offset // 8 | more << 13
    head = struct.pack("!BBHHHBBH", 0x40 | words, 0, words * 4 + len(payload), number, place, 64, UDP, 0)
    whole = head + ends[0] + ends[1] + options
    return whole[:10] + struct.pack("!H", checksum(whole)) + whole[12:] + payload


def ipv6(ends: Ends, kind: int, payload: bytes) -> bytes:
    return struct.pack("!IHBB", 6 << 28, len(payload), kind, 64) + ends[0] + ends[1] + payload


def fragment(ends: Ends, payload: bytes, number: int, offset: int, more: bool) -> bytes:
    return ipv6(ends, FRAGMENT, struct.pack("!BBHI", UDP, 0, offset | more, number) + payload)


def disguised(ends: Ends, how: str, port: int) -> list[bytes]:
    whole = udp(ends, port)
    padding = b"\x01\x04\0\0\0\0"  # PadN
    return {
        "plain 4": [ipv4(ends, whole)],
        "options": [ipv4(ends, whole, options=b"\x01" * 40)],
        "fragments": [ipv4(ends, whole[:8], number=port, more=True), ipv4(ends, whole[8:], number=port, offset=8)],
        "fragments, the last first": [
            ipv4(ends, whole[8:], number=port + 9, offset=8),
            ipv4(ends, whole[:8], number=port + 9, more=True),
        ],
        "plain 6": [ipv6(ends, UDP, whole)],
        "hop by hop": [ipv6(ends, HOP_BY_HOP, bytes([UDP, 0]) + padding + whole)],
        "options of the destination, many": [
            ipv6(ends, OPTIONS, (bytes([OPTIONS, 0]) + padding) * 6 + bytes([UDP, 0]) + padding + whole)
        ],
        "an atomic fragment": [fragment(ends, whole, port, 0, False)],
        "fragments of IPv6": [fragment(ends, whole[:8], port, 0, True), fragment(ends, whole[8:], port, 8, False)],
    }[how]


def arrives(ends: Ends, frames: list[bytes], port: int, timeout: float) -> bool:
    version4 = len(ends[0]) == 4

    def listening() -> socket.socket:
        handle = socket.socket(socket.AF_INET if version4 else socket.AF_INET6, socket.SOCK_DGRAM)
        handle.bind(("", port))
        return handle

    with (
        namespaces.inside("web", listening) as listener,
        namespaces.inside("other", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)) as wire,
    ):
        listener.settimeout(timeout)
        for frame in frames:
            wire.sendto(frame, ("eth0", V4 if version4 else V6, 0, 0, b"\xee" * 6))
        try:
            return bool(listener.recv(100))
        except TimeoutError:
            return False


HOW = [
    *((0, how) for how in ("plain 4", "options", "fragments", "fragments, the last first")),
    *((1, how) for how in ("plain 6", "hop by hop", "options of the destination, many")),
    *((1, how) for how in ("an atomic fragment", "fragments of IPv6")),
]


@pytest.mark.parametrize(("which", "how"), HOW)
def test_a_denied_port_is_not_reached_and_the_allowed_one_is(ends: tuple[Ends, Ends], which: int, how: str) -> None:
    assert arrives(ends[which], disguised(ends[which], how, OPEN), OPEN, ARRIVES_S), "it can arrive in this form"
    assert not arrives(ends[which], disguised(ends[which], how, SHUT), SHUT, STAYS_AWAY_S)


def test_fragments_that_overlap_do_not_change_the_port_behind_the_rules_back(ends: tuple[Ends, Ends]) -> None:
    four = ends[0]
    good, bad = udp(four, OPEN), udp(four, SHUT)
    for order in ((good, bad), (bad, good)):
        frames = [ipv4(four, each[:8], number=7, more=True) for each in order] + [
            ipv4(four, bad[8:], number=7, offset=8)
        ]
        assert not arrives(four, frames, SHUT, STAYS_AWAY_S)
