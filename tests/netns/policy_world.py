"""Pods in two namespaces of one host, and somebody outside: sockets of all of them, and who reaches whom."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import select
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from pathlib import Path

from fairway.net.host import Host
from fairway.net.kernel import namespaces
from fairway.net.model.policy import ContainerPort, Endpoint

POLICY_TESTS = Path(__file__).parents[1] / "policy"
sys.path.insert(0, str(POLICY_TESTS))  # the reference belongs to them
policy_reference = importlib.import_module("policy_reference")
Party = policy_reference.Party

OUTSIDE = "fwt-outside"
NAMESPACES = {"default": {"team": "a"}, "prod": {"team": "b", "env": "prod"}}
PODS: dict[tuple[str, str], tuple[dict[str, str], dict[tuple[str, str], int]]] = {
    ("default", "web"): ({"app": "web", "role": "server"}, {("TCP", "http"): 8080}),
    ("default", "client"): ({"app": "client", "role": "frontend"}, {}),
    ("default", "plain"): ({}, {("TCP", "http"): 80}),
    ("prod", "web"): ({"app": "web"}, {("TCP", "http"): 80}),
    ("prod", "db"): ({"app": "db"}, {("UDP", "http"): 53}),
}
STRANGERS = {4: ("192.0.2.10", "192.0.2.200"), 6: ("2001:db8::10", "2001:db8:1::10")}
TRIED = (("TCP", 80), ("TCP", 8080), ("UDP", 53))
_PORTS = itertools.count(10_000)  # none twice: what is still remembered of one attempt would let another pass
STAYS_AWAY_S = 0.25  # what is let through is there in microseconds


@dataclass(frozen=True)
class Attempt:
    """A new connection, or a datagram, from one address to a port of another."""

    source: Party
    destination: Party
    protocol: str
    port: int


@dataclass
class World:
    """The host, its pods as policies see them, and everybody's addresses of both versions of IP."""

    host: Host
    endpoints: list[Endpoint]
    parties: list[Party]
    places: dict[str, str]  # an address: the namespace that it is in
    listening: dict[tuple[str, str, int], socket.socket] = field(default_factory=dict)

    def attempts(self) -> list[Attempt]:
        """Everybody to every pod, within a version of IP; and every pod to the strangers."""
        return [
            Attempt(source, destination, protocol, port)
            for source, destination in itertools.permutations(self.parties, 2)
            if ip_address(source.address).version == ip_address(destination.address).version
            and (source.name, source.namespace) != (destination.name, destination.namespace)
            for protocol, port in TRIED
        ]

    def arrived(self, attempts: Iterable[Attempt]) -> set[Attempt]:
        """Try all of them at once; those that came to where they should."""
        with contextlib.ExitStack() as stack:
            tried = {}
            for attempt in attempts:
                tried[stack.enter_context(self._begin(attempt))] = attempt
            answered = _answers(tried, self._answer)
        self._empty()
        return {tried[one] for one in answered}

    def connect(self, source: str, destination: str, port: int) -> socket.socket:
        """A TCP connection that stays, between two addresses."""
        return self.inside(source, lambda: socket.create_connection((destination, port), 2, (source, 0)))

    def inside(self, address: str, work: Callable[[], socket.socket]) -> socket.socket:
        """What `work` gives in the namespace of an address."""
        return namespaces.inside(self.places[address], work)

    def listen(self) -> None:
        """Take connections and datagrams at every port that is tried, everywhere."""
        for party in self.parties:
            for protocol, port in TRIED:
                key = (party.address, protocol, port)
                self.listening[key] = self.inside(party.address, lambda key=key: _listener(*key))  # type: ignore[misc]

    def _begin(self, attempt: Attempt) -> socket.socket:
        kind = socket.SOCK_STREAM if attempt.protocol == "TCP" else socket.SOCK_DGRAM

        def begin() -> socket.socket:
            one = socket.socket(_family(attempt.source.address), kind)
            one.setblocking(False)
            one.bind((attempt.source.address, next(_PORTS)))
            with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
                one.connect((attempt.destination.address, attempt.port))
                if attempt.protocol == "UDP":
                    one.send(b"?")
            return one

        return self.inside(attempt.source.address, begin)

    def _answer(self) -> None:
        for (_, protocol, _), listener in self.listening.items():
            if protocol == "UDP":
                with contextlib.suppress(BlockingIOError):
                    while True:
                        _, source = listener.recvfrom(10)
                        listener.sendto(b"!", source)

    def _empty(self) -> None:
        for (_, protocol, _), listener in self.listening.items():
            if protocol == "TCP":
                with contextlib.suppress(BlockingIOError):
                    while True:
                        listener.accept()[0].close()


def _answers(tried: dict[socket.socket, Attempt], answer: Callable[[], None]) -> set[socket.socket]:
    """The sockets that are connected, or got a datagram back, by the time that nothing more comes."""
    answer()
    waiting = select.poll()
    numbers = {}
    for one, attempt in tried.items():
        numbers[one.fileno()] = one
        waiting.register(one, select.POLLOUT if attempt.protocol == "TCP" else select.POLLIN)
    found: set[socket.socket] = set()
    while events := waiting.poll(STAYS_AWAY_S * 1e3):
        for number, event in events:
            waiting.unregister(number)
            one = numbers[number]
            if not event & (select.POLLERR | select.POLLHUP):
                found.add(one)
        answer()
    return found


def _listener(address: str, protocol: str, port: int) -> socket.socket:
    kind = socket.SOCK_STREAM if protocol == "TCP" else socket.SOCK_DGRAM
    listener = socket.socket(_family(address), kind)
    listener.setblocking(False)
    listener.bind((address, port))
    if protocol == "TCP":
        listener.listen(200)
    return listener


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET if ip_address(address).version == 4 else socket.AF_INET6


@contextlib.contextmanager
def policy_world(state: Path) -> Iterator[World]:
    """All of it, for a block."""
    with Host(state) as host:
        _sh(f"ip netns add {OUTSIDE}; ip link add outside type veth peer name eth0 netns {OUTSIDE}")
        # Link-local addresses by hand: those that the kernel makes are probed for a second before they can be used.
        _sh("ip link set outside addrgenmode none up; ip addr add fe80::1/64 dev outside nodad")
        _sh(f"ip -n {OUTSIDE} link set eth0 addrgenmode none; ip -n {OUTSIDE} addr add fe80::2/64 dev eth0 nodad")
        _sh("ip addr add 192.0.2.1/24 dev outside; ip addr add 2001:db8::1/64 dev outside nodad")
        _sh(f"ip -n {OUTSIDE} link set lo up; ip -n {OUTSIDE} link set eth0 up")
        for version, addresses in STRANGERS.items():
            for address in addresses:
                length = 24 if version == 4 else 64
                _sh(f"ip -n {OUTSIDE} addr add {address}/{length} dev eth0{' nodad' if version == 6 else ''}")
        _sh(f"ip -n {OUTSIDE} route add default via 192.0.2.1; ip -n {OUTSIDE} -6 route add default via 2001:db8::1")
        _sh("ip -6 route add 2001:db8:1::/64 dev outside")
        host.pools.add(ip_network("10.0.0.0/16"))
        host.pools.add(ip_network("fd00:1::/64"))
        endpoints, parties, places = [], [], {}
        for (namespace, name), (labels, ports) in PODS.items():
            pod = host.add_pod(f"{namespace}-{name}")
            named = tuple(ContainerPort(word, protocol.lower(), port) for (protocol, word), port in ports.items())
            endpoints.append(Endpoint(namespace, name, pod.addresses, labels, named, local=True))
            for address in map(str, pod.addresses):
                parties.append(Party(name, address, namespace, labels, ports))
                places[address] = host.identity.namespace(pod.name)
        for addresses in STRANGERS.values():
            for number, address in enumerate(addresses):
                parties.append(Party(f"stranger{number}", address))
                places[address] = OUTSIDE
        world = World(host, endpoints, parties, places)
        world.listen()
        try:
            yield world
        finally:
            for listener in world.listening.values():
                listener.close()
            for pod in host.pods():
                host.remove_pod(pod.name)
            _sh(f"ip link del outside; ip netns del {OUTSIDE}")


def _sh(commands: str) -> None:
    subprocess.run(["sh", "-e", "-c", commands], check=True)
