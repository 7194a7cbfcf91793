"""A pod that asks for its host in the names of thousands: the kernel's one table of neighbours is not its to fill."""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from collections.abc import Iterator

import pytest
from test_firewall import HOST_LINK_LOCAL, allow_all, driver_in, on_the_wire
from two_pods import Member, TwoPods, run, talk, two_pods

from fairway.net.kernel import namespaces
from fairway.net.kernel.netfilter.firewall import FirewallDriver

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it makes network namespaces"),
]

ARP = 0x0806
NAMES = 200
ALLOWED_AT_ONCE, ALLOWED_PER_S = 40, 20


@pytest.fixture
def guarded() -> Iterator[tuple[TwoPods, FirewallDriver]]:
    with two_pods() as network:
        driver = driver_in(network.host)
        driver.install()
        allow_all(network, driver)
        yield network, driver
        driver.close()


def neighbours(host: Member, version: int) -> list[str]:
    """Whom the host remembers at pod a's link."""
    return [entry["dst"] for entry in json.loads(run(host, f"ip -j -{version} neighbour show dev fwy-a"))]


def mac_of(pod: Member) -> bytes:
    return bytes.fromhex(run(pod, "cat /sys/class/net/eth0/address").strip().replace(":", ""))


def arp_request(mac: bytes, sender: str) -> bytes:
    """Who has the pods' gateway (RFC 826)?"""
    head = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1)
    return head + mac + socket.inet_aton(sender) + bytes(6) + socket.inet_aton("169.254.1.1")


def solicitation(mac: bytes, sender: str) -> bytes:
    """Who has the host's link-local address (RFC 4861 section 4.3), in IPv6?"""
    ends = socket.inet_pton(socket.AF_INET6, sender) + socket.inet_pton(socket.AF_INET6, HOST_LINK_LOCAL)
    message = bytes([135, 0, 0, 0, 0, 0, 0, 0]) + ends[16:] + bytes([1, 1]) + mac
    words = struct.unpack(f"!{(len(ends) + 8 + len(message)) // 2}H", ends + struct.pack("!II", 32, 58) + message)
    total = sum(words)
    total = (total & 0xFFFF) + (total >> 16)
    checksum = struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF)
    return struct.pack("!IHBB", 6 << 28, 32, 58, 255) + ends + message[:2] + checksum + message[4:]


def test_arp_in_the_names_of_others_is_not_remembered(guarded: tuple[TwoPods, FirewallDriver]) -> None:
    network, driver = guarded
    mac = mac_of(network.a)

    def ask() -> None:
        for number in range(NAMES):
            on_the_wire(network.a, ARP, arp_request(mac, f"10.77.{number >> 8}.{number & 255}"))

    ask()
    assert talk(network.a, network.host, 4)
    assert neighbours(network.host, 4) == [network.a.v4]
    driver.remove()
    ask()
    assert len(neighbours(network.host, 4)) > NAMES // 2, "without our table nothing else would have stopped it"


@pytest.mark.parametrize("sender", ["0.0.0.0", "own"])
def test_a_pod_may_ask_for_itself_and_probe(guarded: tuple[TwoPods, FirewallDriver], sender: str) -> None:
    network, _ = guarded
    with socket_at(network.a) as answers:
        own = network.a.v4 if sender == "own" else sender
        on_the_wire(network.a, ARP, arp_request(mac_of(network.a), own))
        answer = answers.recv(100)
        while answer[6:8] != b"\0\2":  # our own question is heard too
            answer = answers.recv(100)
    assert answer[14:18] == socket.inet_aton("169.254.1.1")


def test_neighbour_solicitations_in_the_names_of_others_are_let_in_seldom(
    guarded: tuple[TwoPods, FirewallDriver],
) -> None:
    network, driver = guarded
    mac = mac_of(network.a)

    def ask() -> None:
        for number in range(NAMES):
            on_the_wire(network.a, 0x86DD, solicitation(mac, f"fe80::77:{number:x}"))

    begun = time.monotonic()
    ask()
    allowed = ALLOWED_AT_ONCE + ALLOWED_PER_S * (time.monotonic() - begun) + 1
    asked = [name for name in neighbours(network.host, 6) if name.startswith("fe80::77:")]
    assert 0 < len(asked) <= allowed
    assert talk(network.a, network.host, 6)
    driver.remove()
    ask()
    assert len(neighbours(network.host, 6)) > NAMES // 2, "without our table nothing else would have stopped it"


def socket_at(pod: Member) -> socket.socket:
    """Hears the ARP at the pod's interface."""

    def opened() -> socket.socket:
        handle = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ARP))
        handle.bind(("eth0", ARP))
        handle.settimeout(10)
        return handle

    return namespaces.inside(pod.namespace, opened)
