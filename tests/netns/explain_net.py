"""Two hosts with pods, behind a switch with a router, wired by hand: what the explainer predicts, and what happens.

a, b -- one ==(bridge sw)== two -- c          gw: the others' default gateway, on the same bridge
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import socket
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from fairway.net.explain import Explanation, Place, Question, explain
from fairway.net.host.snapshot import Namespaces
from fairway.net.kernel import namespaces
from fairway.net.kernel.netfilter.firewall import FirewallDriver
from fairway.net.model.facts import AllowedSources

PREFIX = "fwt-ex-"
PORT = 4711
GATEWAY_MAC = "ee:ee:ee:ee:ee:ee"
_numbers = itertools.count()
MEMBERS = ("a", "b", "c", "one", "two", "gw", "sw")
_ON_SWITCH = {"one": 1, "two": 2, "gw": 254}
ADDRESSES = {
    4: {"a": "10.9.1.2", "b": "10.9.2.2", "c": "10.9.3.2", **{h: f"192.168.77.{n}" for h, n in _ON_SWITCH.items()}},
    6: {"a": "fd09:1::2", "b": "fd09:2::2", "c": "fd09:3::2", **{h: f"fd77::{n:x}" for h, n in _ON_SWITCH.items()}},
}
_LINK_LOCAL = "fe80::ecee:eeff:feee:eeee"
_WAIT_S = 1.0


@dataclass(frozen=True)
class Net:
    """The names of the namespaces."""

    stem: str

    def name(self, member: str) -> str:
        return self.stem + member

    def run(self, member: str, *command: str, check: bool = True) -> str:
        """Run a command in a member's namespace."""
        full = ["nsenter", f"--net=/run/netns/{self.name(member)}", *command]
        done = subprocess.run(full, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def ip(self, member: str, command: str) -> None:
        self.run(member, "ip", *command.split())

    def nft(self, member: str, ruleset: str) -> None:
        full = ["nsenter", f"--net=/run/netns/{self.name(member)}", "nft", "-f", "-"]
        done = subprocess.run(full, input=ruleset, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{ruleset}: {done.stderr}"

    def sysctl(self, member: str, path: str, value: object) -> None:
        self.run(member, "sh", "-c", f"echo {value} > /proc/sys/{path}")

    def place(self, member: str, version: int = 4) -> Place:
        return Place(member, self.name(member), (ip_address(ADDRESSES[version][member]),))

    def explain(
        self, source: str, destination: str, protocol: str = "icmp", version: int = 4, port: int = PORT
    ) -> Explanation:
        labels = {self.name(member): member for member in MEMBERS}
        places = self.place(source, version), self.place(destination, version)
        question = Question(*places, protocol, None if protocol == "icmp" else port, version)
        return explain(Namespaces(labels), question)

    def ping(self, source: str, destination: str, version: int = 4) -> bool:
        """Whether one echo is answered; a second is sent in case a neighbour had to be found."""
        address = ADDRESSES[version][destination]
        command = ("ping", "-n", "-q", "-c1", f"-W{_WAIT_S}", address)
        return " 1 received" in self.run(source, *command, check=False)

    def tcp(self, source: str, destination: str, version: int = 4, port: int = PORT) -> bool:
        """Whether a connection comes about."""
        with contextlib.closing(self.listen(destination, version, port)):
            client = self.socket(source, version, socket.SOCK_STREAM)
            client.settimeout(_WAIT_S)
            with contextlib.closing(client):
                try:
                    client.connect((ADDRESSES[version][destination], port))
                except OSError:
                    return False
                return True

    def udp(self, source: str, destination: str, version: int = 4, port: int = PORT, wait_s: float = 0.3) -> str:
        """What became of a datagram and its answer: "lost", "unanswered" or "answered"."""
        server = self.socket(destination, version, socket.SOCK_DGRAM)
        client = self.socket(source, version, socket.SOCK_DGRAM)
        with contextlib.closing(server), contextlib.closing(client):
            server.bind((ADDRESSES[version][destination], port))
            try:
                client.sendto(b"?", (ADDRESSES[version][destination], port))
            except OSError:
                return "lost"
            if not select.select([server], [], [], wait_s)[0]:
                return "lost"
            _, sender = server.recvfrom(16)
            try:
                server.sendto(b"!", sender)
            except OSError:
                return "unanswered"
            return "answered" if select.select([client], [], [], wait_s)[0] else "unanswered"

    def listen(self, member: str, version: int, port: int) -> socket.socket:
        server = self.socket(member, version, socket.SOCK_STREAM)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((ADDRESSES[version][member], port))
        server.listen()
        return server

    def socket(self, member: str, version: int, kind: socket.SocketKind) -> socket.socket:
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        return namespaces.inside(self.name(member), lambda: socket.socket(family, kind))

    def antispoof(self) -> None:
        """Fairway's own table on `one`, as for its pods."""
        name = self.name("one")
        driver = namespaces.inside(name, lambda: FirewallDriver(name))
        driver.install()
        for link in ("a", "b"):
            own = frozenset(ip_address(ADDRESSES[version][link]) for version in (4, 6))
            driver.allow(AllowedSources(name, f"fwy-{link}", own))
        driver.close()


@contextlib.contextmanager
def network() -> Iterator[Net]:
    """The network until the block ends; what a killed test left is swept first."""
    sweep()
    net = Net(f"{PREFIX}{os.getpid()}-{next(_numbers)}-")
    try:
        _build(net)
        yield net
    finally:
        _remove([net.name(member) for member in MEMBERS])


def sweep() -> None:
    """Remove the namespaces of tests whose process is no more."""
    stale = []
    for name in namespaces.names(PREFIX):
        process = name.removeprefix(PREFIX).split("-")[0]
        if not process.isdigit() or not os.path.exists(f"/proc/{process}"):  # noqa: PTH110
            stale.append(name)
    _remove(stale)


def _remove(names: Sequence[str]) -> None:
    for name in names:
        subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def _build(net: Net) -> None:
    for member in MEMBERS:
        subprocess.run(["ip", "netns", "add", net.name(member)], check=True)
        net.ip(member, "link set lo up")
        for conf in ("all", "default"):
            net.sysctl(member, f"net/ipv6/conf/{conf}/accept_dad", 0)
            net.sysctl(member, f"net/ipv4/conf/{conf}/rp_filter", 0)
    net.ip("sw", "link add br0 type bridge")
    net.ip("sw", "link set br0 up")
    net.sysctl("sw", "net/bridge/bridge-nf-call-iptables", 0)
    for host in ("one", "two", "gw"):
        net.ip(host, f"link add eth0 type veth peer name {host} netns {net.name('sw')}")
        net.ip("sw", f"link set {host} master br0 up")
        net.ip(host, f"addr add {ADDRESSES[4][host]}/24 dev eth0")
        net.ip(host, "link set eth0 up")
        net.ip(host, f"addr add {ADDRESSES[6][host]}/64 dev eth0 nodad")
        net.sysctl(host, "net/ipv4/ip_forward", 1)
        net.sysctl(host, "net/ipv6/conf/all/forwarding", 1)
    for host, pods in (("one", "ab"), ("two", "c")):
        net.ip(host, "addr add 169.254.1.1/32 dev lo scope link")
        for pod in pods:
            _add_pod(net, host, pod)
        net.ip(host, f"route add default via {ADDRESSES[4]['gw']}")
        net.ip(host, f"route add default via {ADDRESSES[6]['gw']}")
    for pod, host, via in (("c", "one", "two"), ("a", "two", "one"), ("b", "two", "one")):
        for version in (4, 6):
            net.ip(host, f"route add {ADDRESSES[version][pod]} via {ADDRESSES[version][via]}")


def _add_pod(net: Net, host: str, pod: str) -> None:
    link = f"fwy-{pod}"
    net.ip(host, f"link add {link} address {GATEWAY_MAC} type veth peer name eth0 netns {net.name(pod)}")
    net.ip(host, f"link set {link} up")
    net.ip(pod, f"addr add {ADDRESSES[4][pod]}/32 dev eth0")
    net.ip(pod, "link set eth0 up")
    net.ip(pod, f"addr add {ADDRESSES[6][pod]}/128 dev eth0 nodad")
    net.ip(pod, "route add default via 169.254.1.1 dev eth0 onlink")
    net.ip(pod, f"route add default via {_LINK_LOCAL} dev eth0 onlink")
    net.ip(pod, f"neigh replace {_LINK_LOCAL} lladdr {GATEWAY_MAC} dev eth0 nud permanent")
    net.ip(pod, f"neigh replace 169.254.1.1 lladdr {GATEWAY_MAC} dev eth0 nud permanent")
    for version in (4, 6):
        net.ip(host, f"route add {ADDRESSES[version][pod]} dev {link}")
