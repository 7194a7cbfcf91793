"""Nodes for measuring how routes spread: namespaces on one link, what their kernels say, agents and BIRD in them."""

from __future__ import annotations

import json
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network, ip_network
from pathlib import Path

from fairway.net.enrolment import Authority, Block, JoinRequest, Membership, request
from fairway.net.kernel import Kernel
from fairway.net.kernel.namespaces import inside
from fairway.net.model.errors import KernelError

POOL = ip_network("10.0.0.0/16")
GUESTS = IPv4Network("10.0.200.0/24")
"""Addresses in no node's block: what a pod that moved has."""

PORT = 7946
_RTM_NEWROUTE, _RTM_DELROUTE = 24, 25
_GROUP_IPV4_ROUTE = 0x40  # linux/rtnetlink.h
_HEADER = struct.Struct("=IHHII")
_ROUTE = struct.Struct("=BBBBBBBBI")
_ATTRIBUTE = struct.Struct("=HH")
_RTA_DST = 1
_ROUNDS_S = 30.0

AGENT = """
import asyncio, sys
from pathlib import Path
from fairway.net.agent.agent import Agent
from fairway.net.agent.config import load
from fairway.net.agent.log import set_up
from fairway.net.host import Identity

async def main(path, name):
    await Agent(load(Path(path)), Identity("", f"{name}-", f"fairway {name}")).run()

set_up("text", "error")
asyncio.run(main(*sys.argv[1:]))
"""


def ip(*words: str) -> None:
    """Run `ip`."""
    subprocess.run(["ip", *words], check=True)


class Node:
    """A namespace with an address on the common link, and a link of its own for what stands for pods."""

    def __init__(self, number: int) -> None:
        self.name = f"bench{number:02}"
        self.number = number
        self.address = f"100.100.0.{number + 1}"
        self.mac = f"02:00:00:00:00:{number:02x}"
        self.block = IPv4Network((0x0A000000 + (number << 8), 24))
        self.process: subprocess.Popen[bytes] | None = None
        ip("netns", "add", self.name)
        ip("link", "add", f"r{number}", "type", "veth", "peer", "name", "eth0", "netns", self.name)
        ip("link", "set", f"r{number}", "master", "fabric", "up")
        ip("-n", self.name, "link", "add", "pods", "type", "veth", "peer", "name", "far")
        ip("-n", self.name, "link", "set", "eth0", "address", self.mac)
        for link in ("lo", "eth0", "pods", "far"):
            ip("-n", self.name, "link", "set", link, "up")
        ip("-n", self.name, "addr", "add", f"{self.address}/24", "dev", "eth0")
        self.events = inside(self.name, _route_events)
        self.kernel = Kernel(self.name)

    def meet(self, nodes: Iterable[Node]) -> None:
        """Write down the others as neighbours.

        All namespaces share one table, where so many hosts on one machine would be too many if they had to be found.
        """
        known = [
            f"neigh add {each.address} lladdr {each.mac} dev eth0 nud permanent" for each in nodes if each is not self
        ]
        subprocess.run(["ip", "-n", self.name, "-batch", "-"], input="\n".join(known), text=True, check=True)

    def run(self, *words: str) -> None:
        """Start the node's routing program."""
        self.process = subprocess.Popen(["nsenter", f"--net=/run/netns/{self.name}", *words], stdin=subprocess.PIPE)

    def end(self) -> None:
        """End it, without a word to others."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def way_to(self, address: IPv4Address) -> str:
        """Where its kernel sends packets for `address` to; empty if nowhere, or to a link of its own."""
        try:
            way = self.kernel.routing.way_to(address)
        except KernelError:  # a route that says so
            return ""
        return "" if way is None or way[1] is None else str(way[1])

    @property
    def memory_bytes(self) -> int:
        """Of its program: memory that is its own, and its share of what is shared."""
        assert self.process is not None
        for line in Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
        return 0

    @property
    def cpu_s(self) -> float:
        """CPU time that its program has used."""
        assert self.process is not None
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100  # clock ticks

    def plug(self, *, connected: bool) -> None:
        """Plug the node's cable in, or pull it."""
        ip("link", "set", f"r{self.number}", "up" if connected else "down")


class Fabric:
    """So many nodes on one bridge."""

    def __init__(self, count: int) -> None:
        ip("link", "add", "fabric", "type", "bridge")
        ip("link", "set", "fabric", "up")
        self.nodes = [Node(number) for number in range(count)]
        for node in self.nodes:
            node.meet(self.nodes)

    def close(self) -> None:
        """End the programs; namespaces go with the benchmark's own /run."""
        for node in self.nodes:
            node.end()

    def wait(self, condition: Callable[[], bool], within_s: float = 900.0) -> None:
        """Until it holds."""
        deadline = time.monotonic() + within_s
        while not condition():
            if time.monotonic() > deadline:
                raise SystemExit("the nodes did not come together in time")
            time.sleep(0.1)

    def told(self, destination: str) -> bool:
        """Whether every node has a route to `destination` by which packets go, or the thing itself."""
        return all(destination in _destinations(node.name) or destination == str(node.block) for node in self.nodes)

    def spread(
        self, source: Node, destination: IPv4Network, change: Callable[[], None], *, gone: bool, own: bool
    ) -> Spread:
        """What the kernels tell while `change` brings the route, or takes it away.

        The source's `own` is waited for as well, unless it says nothing: of a link's routes that go with the link.
        """
        for node in self.nodes:
            _drain(node.events)
        kind = _RTM_DELROUTE if gone else _RTM_NEWROUTE
        waiting = {node.events.fileno(): node for node in self.nodes if own or node is not source}
        poll = select.poll()
        for descriptor in waiting:
            poll.register(descriptor, select.POLLIN)
        times: dict[str, float] = {}
        begun = time.perf_counter()
        changing = threading.Thread(target=change)
        changing.start()
        while waiting:
            ready = poll.poll(_ROUNDS_S * 1000)
            at = (time.perf_counter() - begun) * 1000
            if not ready:
                raise SystemExit(f"{destination}: {len(waiting)} kernels never heard of it")
            for descriptor, _ in ready:
                if (kind, destination) in _read(waiting[descriptor].events):
                    times[waiting.pop(descriptor).name] = at
                    poll.unregister(descriptor)
        changing.join()
        return Spread(times.pop(source.name, 0.0), max(times.values()))

    def reach(self, source: Node, destination: IPv4Network, change: Callable[[], None]) -> float:
        """Milliseconds from when the source's kernel has the route until every other one sends packets there.

        `change` brings the route. At that moment each of the others is asked for its way, and again until it is right.
        """
        _drain(source.events)
        changing = threading.Thread(target=change)
        changing.start()
        while (_RTM_NEWROUTE, destination) not in _read(source.events):
            if not select.select([source.events], [], [], _ROUNDS_S)[0]:
                raise SystemExit(f"{destination}: its own host's kernel never heard of it")
        begun, late = time.perf_counter(), 0.0
        for node in self.nodes:
            while node is not source and node.way_to(destination[0]) != source.address:
                late = (time.perf_counter() - begun) * 1000
                if late > _ROUNDS_S * 1000:
                    raise SystemExit(f"{destination}: {node.name} sends packets elsewhere")
        changing.join()
        return late


@dataclass(frozen=True, slots=True)
class Spread:
    """Milliseconds since a change was asked for."""

    own: float
    """Until the source's own kernel had it; 0 where that was not waited for."""
    last: float
    """Until the last of the others had."""


def start_agents(fabric: Fabric, directory: Path, detection_s: float) -> None:
    """A network of Fairway's agents, whose first node is its authority."""
    now = datetime.now(UTC)
    authority: Authority | None = None
    for node in fabric.nodes:
        state = directory / node.name
        membership = Membership(state)
        key = membership.pending_key()
        if authority is None:
            authority = Authority(state)
            authority.create(node.name, [Block(POOL)], now, PORT)
            authority.set_endpoints([f"{node.address}:{PORT}"])
            granted = authority.enrol(node.name, request(key, node.name), now, [node.block])
        else:
            token, asked = authority.token(now, blocks=[node.block]), request(key, node.name)
            granted = authority.admit(JoinRequest(node.name, token.number, token.proof(node.name, asked), asked), now)
        membership.accept(granted, key, node.name, now)
    assert authority is not None
    authority.close()
    for node in fabric.nodes:
        configuration = directory / f"{node.name}.toml"
        configuration.write_text(
            f'state = "{directory / node.name}"\nsocket = "{agent_socket(directory, node)}"\n'
            f'[peers]\naddresses = ["{node.address}"]\ndetection_s = {detection_s}\n'
            f'[[pool]]\nnetwork = "{node.block}"\n[[pool]]\nnetwork = "{GUESTS}"\n'
        )
        node.run(sys.executable, "-c", AGENT, str(configuration), node.name)


def agent_socket(directory: Path, node: Node) -> Path:
    """Where the node's agent is called; its socket for container runtimes is beside it."""
    return directory / node.name / "agent.sock"


def start_bird(fabric: Fabric, directory: Path, *, bfd_ms: int) -> None:
    """BIRD on every node: BGP with every other, the shortest timers that it takes, BFD if `bfd_ms`."""
    for node in fabric.nodes:
        ip("-n", node.name, "route", "add", str(node.block), "dev", "pods", "proto", "static")
        configuration = directory / f"{node.name}.conf"
        configuration.write_text(_bird(node, fabric.nodes, bfd_ms))
        node.run("bird", "-f", "-c", str(configuration), "-s", str(directory / f"{node.name}.ctl"))


def _bird(node: Node, nodes: Sequence[Node], bfd_ms: int) -> str:
    bfd = f'protocol bfd {{ interface "*" {{ interval {bfd_ms} ms; multiplier 3; }}; }}' if bfd_ms else ""
    neighbours = "".join(
        f"protocol bgp p{other.number} from mesh {{ neighbor {other.address} as 65000; }}\n"
        for other in nodes
        if other is not node
    )
    return f"""
router id {node.address};
protocol device {{ scan time 1; }}
protocol kernel {{ learn; scan time 1; ipv4 {{ import all; export where source = RTS_BGP; }}; }}
{bfd}
template bgp mesh {{
    local {node.address} as 65000;
    direct;
    connect delay time 1; connect retry time 1; error wait time 1, 1;
    hold time 3; keepalive time 1;
    {"bfd on;" if bfd_ms else ""}
    ipv4 {{ import all; export where source = RTS_INHERIT; next hop self; }};
}}
{neighbours}"""


def _destinations(namespace: str) -> set[str]:
    words = ["ip", "-n", namespace, "-j", "route", "show"]
    shown = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    return {route["dst"] for route in json.loads(shown or "[]") if route.get("type", "unicast") == "unicast"}


def _route_events() -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
    sock.bind((0, _GROUP_IPV4_ROUTE))
    return sock


def _drain(sock: socket.socket) -> None:
    while True:
        try:
            sock.recv(65536)
        except BlockingIOError:
            return


def _read(sock: socket.socket) -> set[tuple[int, IPv4Network]]:
    """What the kernel told of routes: which kind of message, and the destination."""
    found: set[tuple[int, IPv4Network]] = set()
    try:
        data = sock.recv(65536)
    except BlockingIOError:
        return found
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, at)
        if kind in (_RTM_NEWROUTE, _RTM_DELROUTE):
            prefix_length = _ROUTE.unpack_from(data, at + _HEADER.size)[1]
            place, end = at + _HEADER.size + _ROUTE.size, at + length
            while place + _ATTRIBUTE.size <= end:
                size, attribute = _ATTRIBUTE.unpack_from(data, place)
                if attribute == _RTA_DST:
                    address = int.from_bytes(data[place + 4 : place + 8], "big")
                    found.add((kind, IPv4Network((address, prefix_length))))
                place += (size + 3) & ~3
        at += (length + 3) & ~3
    return found
