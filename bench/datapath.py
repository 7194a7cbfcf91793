"""Packets between two hosts: the host's own network, pods routed, and the same pods through VXLAN.

All three run over the same link between the same two nodes, in turn and in short pieces, so that what else the machine
does meets them alike; a ratio is the median of the ratios of pieces that were measured side by side. Client and server
each have a processor of their own. The link is once a LAN of 1 Gbit/s and 0.1 ms: the wire is the limit, as between
hosts; and once a veth pair alone, which costs nothing and takes no time: what is left is the processor's work, every
hop of which counts. No wire between hosts is as fast as that: it is the worst case.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from bench.iperf import stream
from bench.isolation import isolated
from bench.result import Result
from fairway import lab
from fairway.net.kernel import namespaces
from fairway.net.kernel.netfilter.firewall import FirewallDriver
from fairway.net.model.facts import AllowedSources

EXAMPLE = Path(__file__).parents[1] / "examples" / "two-hosts.toml"
ROUND_TRIPS = 100  # in a burst
WARM_UP = 1_000  # round trips before any that counts
PORT = 7007
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
NODE, OTHER = "two-hosts.node03", "two-hosts.node02"


@dataclass(frozen=True, slots=True)
class Wire:
    """The link between the nodes, and how much is measured over it: what takes 0.1 s is measured more often."""

    name: str
    faults: str
    rounds: int
    size: str  # of a stream
    bursts: int  # of round trips, of each way in a round


WIRES = (
    Wire("LAN", 'rate = "1gbit"\ndelay = "0.1ms"', rounds=11, size="128M", bursts=40),
    Wire("veth alone", "", rounds=41, size="512M", bursts=20),
)

# who: where the client runs, where the server runs, and the server's address there
WAYS = {
    "host": (NODE, OTHER, "100.100.198.253"),
    "routed": (f"{NODE}.demo01", f"{OTHER}.demo03", "10.0.3.2"),
    "vxlan": (f"{NODE}.demo01", f"{OTHER}.demo03", "10.9.0.3"),
}

# A second address in each pod, reached through a tunnel between the nodes. The MTU of its route leaves the 50 bytes.
OVERLAY = f"""
ip -n {NODE} link add vx0 type vxlan id 42 dstport 4789 local 100.100.198.250 remote 100.100.198.253 dev eth0
ip -n {OTHER} link add vx0 type vxlan id 42 dstport 4789 local 100.100.198.253 remote 100.100.198.250 dev eth0
ip -n {NODE} addr add 10.254.0.1/24 dev vx0 && ip -n {NODE} link set vx0 up
ip -n {OTHER} addr add 10.254.0.2/24 dev vx0 && ip -n {OTHER} link set vx0 up
ip -n {NODE}.demo01 addr add 10.9.0.1/32 dev eth0 && ip -n {OTHER}.demo03 addr add 10.9.0.3/32 dev eth0
ip -n {NODE} route add 10.9.0.1 dev fwy-demo01 && ip -n {OTHER} route add 10.9.0.3 dev fwy-demo03
ip -n {NODE} route add 10.9.0.3 via 10.254.0.2 && ip -n {OTHER} route add 10.9.0.1 via 10.254.0.1
ip -n {NODE}.demo01 route add 10.9.0.3 via 169.254.1.1 dev eth0 onlink src 10.9.0.1 mtu 1450
ip -n {OTHER}.demo03 route add 10.9.0.1 via 169.254.1.1 dev eth0 onlink src 10.9.0.3 mtu 1450
"""


SOURCES = (
    (NODE, "fwy-demo01", ("10.0.1.2", "10.9.0.1")),
    (OTHER, "fwy-demo03", ("10.0.3.2", "10.9.0.3")),
)


def run() -> Result:
    """TCP throughput in Gbit/s, and round trips of one byte a second over one TCP connection."""
    return isolated(_measure)


def _measure() -> Result:
    result = Result("datapath")
    os.setpriority(os.PRIO_PROCESS, 0, -20)  # the relay, iperf3 and both ends inherit it
    for wire in WIRES:
        _measure_over(result, wire)
        result.notes.append(
            f"{wire.name}: {wire.rounds} rounds, in each of every way an iperf3 run (TCP with cubic, one stream, "
            f"{wire.size}) and {wire.bursts} bursts of {ROUND_TRIPS} round trips"
        )
    result.notes.append("a round trip: one byte each way over one TCP connection that stays")
    result.notes.append("a ratio is the median of the ratios of runs, or bursts, side by side")
    result.notes.append("LAN: 1 Gbit/s and 0.1 ms by the lab's relay; veth alone: a wire that costs nothing")
    result.notes.append(
        "VXLAN on the LAN: its super-frames are cut in user space by the lab's link, which is its limit here"
    )
    return result


def _measure_over(result: Result, wire: Wire) -> None:
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "two-hosts.toml"
        file.write_text(EXAMPLE.read_text().replace("[links.lan]", f"[links.lan]\n{wire.faults}"))
        lab.up(file, agents=False)
    subprocess.run(["sh", "-e", "-c", OVERLAY], check=True)
    for node, link, addresses in SOURCES:
        _allow(AllowedSources(node, link, frozenset(map(ip_address, addresses))))
    streams: dict[str, list[float]] = {who: [] for who in WAYS}
    trips: dict[str, list[float]] = {who: [] for who in WAYS}
    with ExitStack() as stack:
        bursts = {who: stack.enter_context(_conversation(*way)) for who, way in WAYS.items()}
        for number in range(wire.rounds):
            for who in _in_turn(number):
                streams[who].append(stream(*WAYS[who], size=wire.size))
            for burst in range(wire.bursts):
                for who in _in_turn(burst):
                    trips[who].append(bursts[who]())
    measured = ((f"TCP throughput, {wire.name}", streams, "Gbit/s"), (f"round trips, {wire.name}", trips, "1/s"))
    for what, samples, unit in measured:
        for who in WAYS:
            result.add(who, what, samples[who], unit)
        for who, peer in (("routed", "host"), ("routed", "vxlan"), ("vxlan", "host")):
            pairs = zip(samples[who], samples[peer], strict=True)
            result.ratios[f"{what} {who}/{peer}"] = statistics.median(one / other for one, other in pairs)
    lab.down("two-hosts")


def _in_turn(number: int) -> list[str]:
    """The ways, each time another one first."""
    ways = list(WAYS)
    return ways[number % len(ways) :] + ways[: number % len(ways)]


def _allow(sources: AllowedSources) -> None:
    def work() -> None:
        driver = FirewallDriver(sources.namespace)
        driver.allow(sources)
        driver.close()

    namespaces.inside(sources.namespace, work)


@contextmanager
def _conversation(client: str, server: str, address: str) -> Iterator[Callable[[], float]]:
    """A connection that stays, and what measures a burst over it: round trips a second."""
    asked, answered = os.pipe(), os.pipe()

    def burst() -> float:
        os.write(asked[1], b"?")
        return float(os.read(answered[0], 100))

    # The ways have an address each: one port does.
    with _child(server, 1, lambda: _echo(address)), _child(client, 0, lambda: _ask(address, asked[0], answered[1])):
        yield burst


@contextmanager
def _child(namespace: str, processor: int, work: Callable[[], object]) -> Iterator[None]:
    """`work` in a process of its own, on its own processor, inside a namespace; ended with the block."""
    child = os.fork()
    if child == 0:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        os.sched_setaffinity(0, {processor % (os.cpu_count() or 1)})
        namespaces.enter(namespace)
        work()
        os._exit(0)
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _echo(address: str) -> None:
    with socket.create_server((address, PORT)) as listener:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := connection.recv(1):
            connection.send(data)


def _ask(address: str, asked: int, answered: int) -> None:
    for _ in range(200):  # until the other side listens
        try:
            connection = socket.create_connection((address, PORT), timeout=5)
            break
        except ConnectionRefusedError:
            time.sleep(0.01)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.settimeout(None)
    _exchange(connection, WARM_UP)
    while os.read(asked, 1):
        os.write(answered, str(_exchange(connection, ROUND_TRIPS)).encode())


def _exchange(connection: socket.socket, times: int) -> float:
    """Round trips a second."""
    started = time.perf_counter()
    for _ in range(times):
        connection.send(b"x")
        connection.recv(1)
    return times / (time.perf_counter() - started)
