"""Hosts in different subnets that send pods' packets to each other within VXLAN: the router knows no pod."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from fairway import lab
from fairway.lab import directory
from fairway.net.agent.client import Client
from fairway.net.kernel import Kernel, namespaces
from fairway.net.model.names import TUNNEL_INTERFACE

FAIRWAY = str(Path(sys.executable).with_name("fairway"))
EXAMPLE = Path(__file__).parents[2] / "examples" / "cross-subnet.toml"
WEB, DB = "10.1.0.10", "10.2.0.10"
NODE01, NODE02, ROUTER = "192.168.1.10", "192.168.2.10", "192.168.2.1"
PORT = 4789
VNI = 70
TUNNELLED_MTU = 1450
DISCARD = 9


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "xs.toml"
    path.write_text('agents = true\ncross_subnet = "vxlan"\n' + EXAMPLE.read_text())
    yield path
    for running in lab.running():
        lab.down(running.name)
    assert namespaces.names() == []


@pytest.fixture
def up(file: Path) -> Path:
    fairway("up", str(file))
    return file


def fairway(*words: str, code: int = 0) -> Any:
    done = subprocess.run([FAIRWAY, *words, "--json"], capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def is_as_it_should_be() -> bool:
    return subprocess.run([FAIRWAY, "check"], capture_output=True).returncode == 0


def ip(*words: str) -> Any:
    shown = subprocess.run(["ip", "-d", "-j", *words], check=True, capture_output=True, text=True).stdout
    return json.loads(shown or "[]")


def within(namespace: str, *words: str) -> bool:
    return subprocess.run(["ip", "netns", "exec", namespace, *words], capture_output=True).returncode == 0


def soon(what: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 30
    while not what():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def inside(namespace: str, work: Callable[[], Any]) -> Any:
    kernel = Kernel()
    try:
        return kernel.inside(namespace, work)
    finally:
        kernel.close()


def udp(namespace: str, address: str, port: int) -> socket.socket:
    """A UDP socket in a namespace, bound."""

    def make() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((address, port))
        return sock

    made = inside(namespace, make)
    assert isinstance(made, socket.socket)
    return made


def vxlan(source: str, text: bytes, mac: str) -> bytes:
    """What a VXLAN datagram carries: Ethernet, IPv4 and UDP with `text` from `source` to the pod db."""
    datagram = struct.pack("!HHHH", 1234, DISCARD, 8 + len(text), 0) + text
    fields = (0x45, 0, 20 + len(datagram), 0, 0, 64, socket.IPPROTO_UDP, 0)
    addresses = IPv4Address(source).packed + IPv4Address(DB).packed
    header = struct.pack("!BBHHHBBH", *fields) + addresses
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    header = header[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + header[12:]
    ethernet = bytes.fromhex(mac.replace(":", "")) + bytes.fromhex("0a0000000001") + b"\x08\x00"
    return struct.pack("!II", 0x08000000, VNI << 8) + ethernet + header + datagram


def heard(sock: socket.socket) -> set[bytes]:
    """What has come, up to the word "last"."""
    sock.settimeout(10)
    found: set[bytes] = set()
    while b"last" not in found:
        found.add(sock.recv(64))
    return found


def test_pods_reach_each_other_and_routers_are_told_nothing(up: Path) -> None:
    assert within("xs.node01.web", "ping", "-c1", "-W5", DB)
    assert within("xs.node02.db", "ping", "-c1", "-W5", WEB)
    assert within("xs.node01", "ping", "-c1", "-W5", DB), "a host itself is no pod's address"
    known = {route["dst"] for route in ip("-n", "xs.r1", "route", "show")}
    assert known == {"192.168.1.0/24", "192.168.2.0/24"}
    (route,) = ip("-n", "xs.node01", "route", "show", "exact", "10.2.0.0/24")
    assert (route["encap"], route["dst"], route["dev"]) == ("ip", NODE02, TUNNEL_INTERFACE)
    assert is_as_it_should_be()


def test_full_packets_fit(up: Path) -> None:
    assert [link["mtu"] for link in ip("-n", "xs.node01.web", "link", "show", "eth0")] == [TUNNELLED_MTU]
    largest = TUNNELLED_MTU - 28  # IPv4 and ICMP
    assert within("xs.node01.web", "ping", "-c1", "-W5", "-M", "do", "-s", str(largest), DB)
    assert not within("xs.node01.web", "ping", "-c1", "-W1", "-M", "do", "-s", str(largest + 1), DB)
    listening = inside("xs.node02.db", lambda: socket.create_server((DB, 0)))
    port = listening.getsockname()[1]
    data = bytes(range(256)) * 2000
    sending = inside("xs.node01.web", lambda: socket.create_connection((DB, port), timeout=20))
    accepted, _ = listening.accept()
    accepted.settimeout(20)
    with listening, sending, accepted:
        received = bytearray()
        sending.setblocking(False)
        at = 0
        while len(received) < len(data):
            with contextlib.suppress(BlockingIOError):
                at += sending.send(data[at : at + 65536]) if at < len(data) else 0
            received += accepted.recv(1 << 20)
        assert bytes(received) == data


def test_only_a_peer_may_send_and_only_from_where_routes_lead_back(up: Path) -> None:
    (device,) = ip("-n", "xs.node02", "link", "show", TUNNEL_INTERFACE)
    mac = device["address"]
    listening = udp("xs.node02.db", DB, DISCARD)
    peer, stranger = udp("xs.node01", NODE01, 0), udp("xs.r1", ROUTER, 0)
    with listening, peer, stranger:
        stranger.sendto(vxlan(WEB, b"from no peer", mac), (NODE02, PORT))
        peer.sendto(vxlan("10.2.0.99", b"as a pod of its own side", mac), (NODE02, PORT))
        peer.sendto(vxlan("203.0.113.9", b"from outside", mac), (NODE02, PORT))
        peer.sendto(vxlan(WEB, b"from its pod", mac), (NODE02, PORT))
        peer.sendto(vxlan(WEB, b"last", mac), (NODE02, PORT))
        assert heard(listening) == {b"from its pod", b"last"}


def test_a_pod_cannot_speak_to_a_tunnel(up: Path) -> None:
    (device,) = ip("-n", "xs.node02", "link", "show", TUNNEL_INTERFACE)
    masquerading = "add table ip hide; add chain ip hide out { type nat hook postrouting priority 100; }"
    words = ["ip", "netns", "exec", "xs.node01", "nft", f"{masquerading}; add rule ip hide out oifname eth0 masquerade"]
    subprocess.run(words, check=True)
    listening = udp("xs.node02.db", DB, DISCARD)
    pod, peer = udp("xs.node01.web", WEB, 0), udp("xs.node01", NODE01, 0)
    with listening, pod, peer:
        pod.sendto(vxlan("10.1.0.77", b"from a pod, as another", device["address"]), (NODE02, PORT))
        peer.sendto(vxlan(WEB, b"last", device["address"]), (NODE02, PORT))
        assert heard(listening) == {b"last"}


def test_explain_follows_the_packet_through_the_tunnel(up: Path) -> None:
    told = fairway("explain", "web", "db")
    assert told["verdict"] == "accepted"
    assert f"within VXLAN to {NODE02}" in json.dumps(told)
    rules = "add table ip filter; add chain ip filter f { type filter hook forward priority 0; }"
    refusing = f"{rules}; add rule ip filter f udp dport {PORT} drop"
    subprocess.run(["ip", "netns", "exec", "xs.r1", "nft", refusing], check=True)
    assert not within("xs.node01.web", "ping", "-c1", "-W1", DB)
    assert fairway("explain", "web", "db", code=1)["verdict"] == "dropped"


def test_what_somebody_takes_away_comes_back(up: Path) -> None:
    subprocess.run(["ip", "-n", "xs.node01", "link", "delete", TUNNEL_INTERFACE], check=True)
    assert soon(lambda: within("xs.node01.web", "ping", "-c1", "-W1", DB))
    subprocess.run(["ip", "netns", "exec", "xs.node02", "nft", "delete table inet fairway-tunnel"], check=True)
    assert soon(is_as_it_should_be)
    assert within("xs.node02.db", "ping", "-c1", "-W5", WEB)


def test_it_is_told_by_routes_and_ends_with_its_line_in_the_file(up: Path) -> None:
    with Client(directory.agent_socket("xs", "node01")) as client:
        told = {route["prefix"]: route for route in client.call("routes.ls", {})["routes"]}
    assert [told[prefix]["tunnelled"] for prefix in ("10.1.0.0/24", "10.2.0.0/24")] == [False, True]
    assert told["10.2.0.0/24"]["in_kernel"]
    up.write_text("agents = true\n" + EXAMPLE.read_text())
    fairway("up", str(up))
    assert TUNNEL_INTERFACE not in [link["ifname"] for link in ip("-n", "xs.node01", "link", "show")]
    tables = subprocess.run(
        ["ip", "netns", "exec", "xs.node01", "nft", "list", "tables"], check=True, capture_output=True, text=True
    ).stdout
    assert "fairway-tunnel" not in tables
    (route,) = ip("-n", "xs.node01", "route", "show", "exact", "10.2.0.0/24")
    assert route["gateway"] == "192.168.1.1"
    assert within("xs.node01.web", "ping", "-c1", "-W5", DB)


DUAL = """
agents = true
cross_subnet = "vxlan"
name = "xs"
[nodes.node01]
pools = ["10.1.0.0/24", "fd00:1::/64"]
[nodes.node02]
pools = ["10.2.0.0/24", "fd00:2::/64"]
[routers.r1]
[links.left]
members = { node01 = ["192.168.1.10/24", "fd00:a::10/64"], r1 = ["192.168.1.1/24", "fd00:a::1/64"] }
[links.right]
members = { node02 = ["192.168.2.10/24", "fd00:b::10/64"], r1 = ["192.168.2.1/24", "fd00:b::1/64"] }
[pods]
web = { node = "node01", addresses = ["10.1.0.10", "fd00:1::10"] }
db = { node = "node02", addresses = ["10.2.0.10", "fd00:2::10"] }
"""


def test_ipv6_goes_within_ipv6_and_its_larger_header_is_allowed_for(file: Path) -> None:
    file.write_text(DUAL)
    fairway("up", str(file))
    (device,) = ip("-n", "xs.node02", "link", "show", TUNNEL_INTERFACE)
    assert device["mtu"] == 1430
    largest = 1430 - 48  # IPv6 and ICMPv6
    assert within("xs.node01.web", "ping", "-c1", "-W5", "-M", "do", "-s", str(largest), "fd00:2::10")
    assert within("xs.node01.web", "ping", "-c1", "-W5", "-M", "do", "-s", str(1430 - 28), DB)
    (route,) = ip("-6", "-n", "xs.node01", "route", "show", "exact", "fd00:2::/64")
    assert (route["encap"], route["dst"], route["dev"]) == ("ip6", "fd00:b::10", TUNNEL_INTERFACE)
    assert is_as_it_should_be()
