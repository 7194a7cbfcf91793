"""Frames that a pod makes byte by byte: none gets an address of others to the host, or misleads it about others."""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Iterator

import pytest
from test_firewall import (
    HOST_LINK_LOCAL,
    PORT,
    STRANGER,
    allow_all,
    counters,
    datagram,
    driver_in,
    internet_checksum,
    link_local_of,
    on_the_wire,
)
from two_pods import Member, TwoPods, run, talk, two_pods

from fairway.net.kernel import namespaces

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it makes network namespaces"),
]

IPV4, IPV6, ARP = 0x0800, 0x86DD, 0x0806
HOPS, ROUTING, FRAGMENT, ICMPV6 = 0, 43, 44, 58
UDP = 17


@pytest.fixture(scope="module")
def network() -> Iterator[TwoPods]:
    """Both pods are guarded, and the host has routes to the strangers' addresses: only our table objects."""
    with two_pods() as pods:
        driver = driver_in(pods.host)
        driver.install()
        allow_all(pods, driver)
        for version, address in STRANGER.items():
            run(pods.host, f"ip -{version} route add {address} dev fwy-a")
        for setting in ("net/ipv4/conf/all/rp_filter", "net/ipv4/conf/fwy-a/rp_filter"):
            run(pods.host, f"echo 0 > /proc/sys/{setting}")
        for setting in ("all/accept_source_route", "fwy-a/accept_source_route", "all/accept_redirects"):
            run(pods.host, f"echo 1 > /proc/sys/net/ipv4/conf/{setting}")
        yield pods
        driver.close()


def ipv4(source: str, destination: str, options: bytes = b"", *, fragment: int = 0, payload: bytes = b"") -> bytes:
    """UDP to `PORT` in IPv4 with options (RFC 791 section 3.1)."""
    body = payload or struct.pack("!HHHH", 1, PORT, 8, 0)
    words = 5 + len(options) // 4
    ends = socket.inet_aton(source) + socket.inet_aton(destination)
    head = struct.pack("!BBHHHBBH", 0x40 | words, 0, words * 4 + len(body), 7, fragment, 64, UDP, 0)
    checksum = struct.pack("!H", internet_checksum(head + ends + options))
    return head[:10] + checksum + ends + options + body


def ipv6(source: str, destination: str, following: int, body: bytes, hops: int = 255) -> bytes:
    """An IPv6 packet (RFC 8200 section 3)."""
    ends = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, destination)
    return struct.pack("!IHBB", 6 << 28, len(body), following, hops) + ends + body


def icmpv6(source: str, destination: str, message: bytes) -> bytes:
    """An ICMPv6 message with its checksum (RFC 4443 section 2.3)."""
    ends = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, destination)
    checksum = internet_checksum(ends + struct.pack("!II", len(message), ICMPV6) + message)
    return message[:2] + struct.pack("!H", checksum) + message[4:]


def extended(kind: int, following: int, body: bytes) -> bytes:
    """`body` behind an extension header of eight bytes (RFC 8200 section 4), full of padding."""
    middle = {ROUTING: b"\x00\x04\x00\x00\x00\x00\x00", FRAGMENT: b"\x00\x00\x00\x00\x00\x00\x07"}
    return bytes([following]) + middle.get(kind, b"\x00\x01\x04\x00\x00\x00\x00") + body


def arrived(host: Member, version: int, pod: Member, frames: list[tuple[int, bytes]]) -> list[str]:
    """From whom the host's socket heard anything, after these frames and then an honest datagram of the pod's."""

    def opened() -> socket.socket:
        handle = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
        handle.bind(("" if version == 4 else "::", PORT))
        handle.settimeout(10)
        return handle

    senders: list[str] = []
    with namespaces.inside(host.namespace, opened) as listener:
        for protocol, packet in frames:
            on_the_wire(pod, protocol, packet)
        honest = datagram(pod.address(version), host.address(version))
        on_the_wire(pod, IPV4 if version == 4 else IPV6, honest)
        while not senders or senders[-1] != pod.address(version):
            senders.append(listener.recvfrom(100)[1][0])
    return senders


LOOSE, STRICT, RECORD = 131, 137, 7


@pytest.mark.parametrize("kind", [LOOSE, STRICT, RECORD], ids=["loose route", "strict route", "recorded route"])
@pytest.mark.parametrize("source", [STRANGER[4], "10.0.2.2", "10.0.0.1", "224.0.0.1", "127.0.0.1", "0.0.0.0"])
def test_ipv4_options_do_not_hide_a_foreign_source(network: TwoPods, source: str, kind: int) -> None:
    option = bytes([kind, 7, 4]) + socket.inet_aton(network.host.v4) + b"\x00"
    packet = ipv4(source, network.host.v4, option)
    assert arrived(network.host, 4, network.a, [(IPV4, packet)]) == [network.a.v4]


@pytest.mark.parametrize("source", [STRANGER[4], "10.0.2.2", "255.255.255.255"])
def test_fragments_from_a_foreign_source_are_not_put_together(network: TwoPods, source: str) -> None:
    whole = struct.pack("!HHHH", 1, PORT, 24, 0) + bytes(16)
    parts = [ipv4(source, network.host.v4, fragment=0x2000, payload=whole[:16])]
    parts.append(ipv4(source, network.host.v4, fragment=2, payload=whole[16:]))
    assert arrived(network.host, 4, network.a, [(IPV4, part) for part in parts]) == [network.a.v4]


@pytest.mark.parametrize("header", [HOPS, ROUTING, FRAGMENT, 60], ids=["hops", "routing", "fragment", "destination"])
@pytest.mark.parametrize("source", [STRANGER[6], "fd00:2::2", "fd00::1", "::1", "ff02::1", "::", "::ffff:10.9.9.9"])
def test_ipv6_extension_headers_do_not_hide_a_foreign_source(network: TwoPods, source: str, header: int) -> None:
    udp = datagram(source, network.host.v6)[40:]
    packet = ipv6(source, network.host.v6, header, extended(header, UDP, udp))
    assert arrived(network.host, 6, network.a, [(IPV6, packet)]) == [network.a.v6]


TAGS = {
    "one": [0x8100],
    "one, 802.1ad": [0x88A8],
    "two": [0x8100, 0x8100],
    "802.1Q in 802.1ad": [0x88A8, 0x8100],
    "802.1ad in 802.1Q": [0x8100, 0x88A8],
    "two, 802.1ad": [0x88A8, 0x88A8],
    "three": [0x8100, 0x8100, 0x8100],
    "three, mixed": [0x88A8, 0x8100, 0x88A8],
    "four": [0x8100] * 4,
    "old kinds": [0x9100, 0x8100],
}


@pytest.mark.parametrize("tags", TAGS.values(), ids=TAGS)
@pytest.mark.parametrize("control", [0, 0xE000, 0x1000, 1, 0xFFF])
@pytest.mark.parametrize("version", [4, 6])
def test_no_tags_hide_a_foreign_source(network: TwoPods, version: int, control: int, tags: list[int]) -> None:
    inner = struct.pack("!H", IPV4 if version == 4 else IPV6) + datagram(
        STRANGER[version], network.host.v4 if version == 4 else network.host.v6
    )
    for tag in reversed(tags):
        inner = struct.pack("!HH", tag, control) + inner
    frame = (int.from_bytes(inner[:2], "big"), inner[2:])
    assert arrived(network.host, version, network.a, [frame]) == [network.a.address(version)]


@pytest.mark.parametrize("kind", [0x8847, 0x8864, 0x0806, 0x88E5, 0x8035, 0x0004, 0x6558, 0x894F])
def test_no_other_kind_of_frame_carries_a_foreign_source(network: TwoPods, kind: int) -> None:
    label = struct.pack("!I", 16 << 12 | 1 << 8 | 64)
    packet = datagram(STRANGER[4], network.host.v4)
    frames = [(kind, packet), (kind, label + packet), (kind, b"\x11\x00\x00\x01\x00\x1e\x00\x21" + packet)]
    assert arrived(network.host, 4, network.a, frames) == [network.a.v4]


@pytest.mark.parametrize("carrier", [4, 41, 47], ids=["IP in IP", "IPv6 in IP", "GRE"])
def test_a_tunnel_is_not_opened_for_a_pod(network: TwoPods, carrier: int) -> None:
    inside = datagram(STRANGER[4], network.host.v4)
    packet = bytearray(ipv4(network.a.v4, network.host.v4, payload=inside if carrier != 47 else b"\0\0\x08\0" + inside))
    packet[9] = carrier
    packet[10:12] = b"\0\0"
    packet[10:12] = struct.pack("!H", internet_checksum(bytes(packet[:20])))
    assert arrived(network.host, 4, network.a, [(IPV4, bytes(packet))]) == [network.a.v4]


def neighbours_of(host: Member, version: int) -> dict[tuple[str, str], str]:
    found = json.loads(run(host, f"ip -j -{version} neighbour show"))
    return {(each["dst"], each["dev"]): each.get("lladdr", "") for each in found}


@pytest.mark.parametrize("operation", [1, 2], ids=["request", "reply"])
@pytest.mark.parametrize("tagged", [False, True], ids=["plain", "tagged"])
@pytest.mark.parametrize("sender", ["10.0.2.2", "10.9.9.9", "10.0.0.1", "169.254.1.1", "255.255.255.255"])
def test_arp_in_the_name_of_others_is_not_heard(network: TwoPods, sender: str, operation: int, *, tagged: bool) -> None:
    liar = b"\x02\0\0\0\0\x66"
    packet = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + liar + socket.inet_aton(sender)
    packet += b"\xee" * 6 + socket.inet_aton(network.host.v4)
    frame = (0x8100, b"\0\0" + struct.pack("!H", ARP) + packet) if tagged else (ARP, packet)
    assert arrived(network.host, 4, network.a, [frame]) == [network.a.v4]
    assert liar.hex(":") not in neighbours_of(network.host, 4).values()


SOLICIT, ADVERTISE, REDIRECT, ROUTER = 135, 136, 137, 134
OVERRIDE = b"\x60\0\0\0"


@pytest.mark.parametrize(
    "what", [ADVERTISE, SOLICIT, REDIRECT, ROUTER], ids=["advert", "solicit", "redirect", "router"]
)
@pytest.mark.parametrize("source", ["own", "link-local", "fd00:2::2", HOST_LINK_LOCAL])
def test_neighbour_discovery_that_lies_misleads_about_no_one_else(network: TwoPods, source: str, what: int) -> None:
    """A pod may say that any address is at its own link; that is not where the host looks for others' addresses."""
    liar = b"\x02\0\0\0\0\x67"
    own = {"own": network.a.v6, "link-local": link_local_of(network.a)}
    sender = own.get(source, source)
    target = socket.inet_pton(socket.AF_INET6, network.b.v6)
    fields = {ROUTER: b"\x40\0\x07\x08" + bytes(8), REDIRECT: bytes(4) + target * 2, SOLICIT: bytes(4) + target}
    option = bytes([1 if what in (SOLICIT, ROUTER) else 2, 1]) + liar
    message = bytes([what, 0, 0, 0]) + fields.get(what, OVERRIDE + target) + option
    packet = ipv6(sender, "ff02::1", ICMPV6, icmpv6(sender, "ff02::1", message))
    routes = run(network.host, "ip -6 route show; ip -6 route get " + network.b.v6)
    before = neighbours_of(network.host, 6)
    assert arrived(network.host, 6, network.a, [(IPV6, packet)]) == [network.a.v6]
    assert run(network.host, "ip -6 route show; ip -6 route get " + network.b.v6) == routes
    after = neighbours_of(network.host, 6)
    assert all(after.get(key, mac) == mac for key, mac in before.items() if key[1] == "fwy-b")
    assert talk(network.a, network.b, 6)


@pytest.mark.parametrize("gateway", ["10.0.1.2", "10.9.9.9"])
@pytest.mark.parametrize("source", ["10.0.0.1", "169.254.1.1", "10.0.2.2", "10.0.1.2"])
def test_icmp_redirects_change_no_route(network: TwoPods, source: str, gateway: str) -> None:
    quoted = ipv4(network.host.v4, network.b.v4)
    message = bytes([5, 1, 0, 0]) + socket.inet_aton(gateway) + quoted
    message = message[:2] + struct.pack("!H", internet_checksum(message)) + message[4:]
    packet = bytearray(ipv4(source, network.host.v4, payload=message))
    packet[9] = socket.IPPROTO_ICMP
    packet[10:12] = b"\0\0"
    packet[10:12] = struct.pack("!H", internet_checksum(bytes(packet[:20])))
    way = run(network.host, f"ip route get {network.b.v4}")
    assert arrived(network.host, 4, network.a, [(IPV4, bytes(packet))]) == [network.a.v4]
    assert run(network.host, f"ip route get {network.b.v4}") == way
    assert talk(network.b, network.host, 4)


@pytest.mark.parametrize("length", [0, 1, 12, 15, 19, 27])
@pytest.mark.parametrize("kind", [IPV4, IPV6, ARP, 0x8100], ids=["IPv4", "IPv6", "ARP", "802.1Q"])
def test_a_frame_that_ends_too_soon_does_no_harm(network: TwoPods, kind: int, length: int) -> None:
    whole = datagram(STRANGER[4], network.host.v4)[:length]
    assert arrived(network.host, 4, network.a, [(kind, whole)]) == [network.a.v4]


def test_what_is_dropped_is_counted(network: TwoPods) -> None:
    reason = "fairway: from a pod, ARP of others or neither IP nor ARP"
    before = counters(network)[reason]
    for kind in (0x8847, 0x0842):
        on_the_wire(network.a, kind, bytes(46))
    assert counters(network)[reason] == before + 2
