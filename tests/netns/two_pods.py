"""A host with two pods wired by hand, for tests of what stands in the packets' way: nothing here is made by Fairway."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fairway.net.kernel import namespaces

PREFIX = "fwt-fw-"
HOST_LINK_LOCAL = "fe80::ecee:eeff:feee:eeee"
PORT = 4711
_numbers = itertools.count()
ARRIVES_S = 2.0
"""A packet that is let through is waited for so long, its receiver's neighbour being found on the way."""
STAYS_AWAY_S = 0.15
"""A packet that is not to arrive is waited for so long, its neighbours being known."""


@dataclass(frozen=True)
class Member:
    """A namespace, and the addresses that it may send from."""

    namespace: str
    v4: str
    v6: str

    def address(self, version: int) -> str:
        return self.v4 if version == 4 else self.v6


@dataclass(frozen=True)
class TwoPods:
    """Pod a hangs on the host's fwy-a, pod b on fwy-b."""

    host: Member
    a: Member
    b: Member


@contextlib.contextmanager
def two_pods() -> Iterator[TwoPods]:
    """The network, until the block ends; what a killed test left behind is swept first."""
    sweep()
    stem = f"{PREFIX}{os.getpid()}-{next(_numbers)}-"
    pods = TwoPods(
        Member(stem + "host", "10.0.0.1", "fd00::1"),
        Member(stem + "a", "10.0.1.2", "fd00:1::2"),
        Member(stem + "b", "10.0.2.2", "fd00:2::2"),
    )
    try:
        _build(pods)
        yield pods
    finally:
        for member in (pods.a, pods.b, pods.host):
            subprocess.run(["ip", "netns", "delete", member.namespace], check=False, capture_output=True)


def sweep() -> None:
    """Remove the namespaces of test processes that are no more."""
    for name in namespaces.names(PREFIX):
        if not Path(f"/proc/{name.removeprefix(PREFIX).split('-')[0]}").exists():
            subprocess.run(["ip", "netns", "delete", name], check=False)


def run(member: Member, command: str) -> str:
    """What `command` prints inside the member's namespace; it must succeed."""

    def inside() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, shell=True, capture_output=True, text=True, check=False)

    done = namespaces.inside(member.namespace, inside)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def arrives(
    sender: Member, source: str, receiver: Member, destination: str, *, timeout: float = ARRIVES_S, scope: str = ""
) -> bool:
    """Whether a datagram that `sender` sends from `source` gets to `destination` at `receiver`, from that source."""
    family = socket.AF_INET6 if ":" in destination else socket.AF_INET

    def opened(address: str, port: int, link: str) -> socket.socket:
        handle = socket.socket(family, socket.SOCK_DGRAM)
        index = socket.if_nametoindex(link) if link else 0
        handle.bind((address, port, 0, index) if family == socket.AF_INET6 else (address, port))
        return handle

    with (
        namespaces.inside(receiver.namespace, lambda: opened(destination, PORT, "fwy-a" if scope else "")) as listener,
        namespaces.inside(sender.namespace, lambda: opened(source, 0, scope)) as talker,
    ):
        listener.settimeout(timeout)
        port = talker.getsockname()[1]
        index = talker.getsockname()[3] if scope else 0
        talker.sendto(b"hello", (destination, PORT, 0, index) if family == socket.AF_INET6 else (destination, PORT))
        try:
            _, seen = listener.recvfrom(100)
        except TimeoutError:
            return False
        return seen[0].split("%")[0] == source and seen[1] == port


def talk(one: Member, other: Member, version: int) -> bool:
    """Whether a datagram gets there, and one gets back."""
    here, there = one.address(version), other.address(version)
    return arrives(one, here, other, there) and arrives(other, there, one, here)


def _build(pods: TwoPods) -> None:
    for member in (pods.host, pods.a, pods.b):
        subprocess.run(["ip", "netns", "add", member.namespace], check=True)
    host = ["link set lo up", "address add 10.0.0.1/32 dev lo", "address add 169.254.1.1/32 dev lo"]
    host += ["address add fd00::1/128 dev lo"]
    for link, pod in (("fwy-a", pods.a), ("fwy-b", pods.b)):
        host += [
            f"link add {link} address ee:ee:ee:ee:ee:ee type veth peer name eth0 netns {pod.namespace}",
            f"link set {link} addrgenmode none",
            f"link set {link} up",
            f"address add {HOST_LINK_LOCAL}/64 dev {link} nodad",
            f"route add {pod.v4}/32 dev {link}",
            f"-6 route add {pod.v6}/128 dev {link}",
        ]
    for path in ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"):
        run(pods.host, f"echo 1 > /proc/sys/{path}")
    _ip(pods.host, host)
    for pod in (pods.a, pods.b):
        run(pod, "echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad")
        inner = ["link set lo up", "link set eth0 up", f"address add {pod.v4}/32 dev eth0"]
        inner += [f"address add {pod.v6}/128 dev eth0 nodad", "route add 169.254.1.1 dev eth0"]
        inner += ["route add default via 169.254.1.1", f"-6 route add default via {HOST_LINK_LOCAL} dev eth0"]
        _ip(pod, inner)


def _ip(member: Member, lines: list[str]) -> None:
    for line in lines:
        subprocess.run(["ip", "-n", member.namespace, *line.split()], check=True)
