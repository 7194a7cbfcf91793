"""Packets between two hosts: the host's own network, pods routed, and the same pods through VXLAN.

All three run over the same link between the same two nodes, in turn, so that what else the machine does meets them
alike; sender and receiver each have a processor of their own. The link is once a veth pair alone: then the processors
are the limit, and every hop costs; and once a LAN of 1 Gbit/s and 0.1 ms: then the wire is the limit, as between hosts.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.iperf import stream
from bench.isolation import isolated
from bench.result import Result
from fairway import lab
from fairway.net.kernel import namespaces

EXAMPLE = Path(__file__).parents[1] / "examples" / "two-hosts.toml"
ROUNDS = 11
STREAM_S = 1
ROUND_TRIPS = 3_000
PORT = 7007
NODE, OTHER = "two-hosts.node03", "two-hosts.node02"

WIRES = {"LAN": 'rate = "1gbit"\ndelay = "0.1ms"', "veth alone": ""}

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
ip netns exec {NODE} nft add element inet fairway sources4 '{{ "fwy-demo01" . 10.9.0.1 }}'
ip netns exec {OTHER} nft add element inet fairway sources4 '{{ "fwy-demo03" . 10.9.0.3 }}'
"""


def run() -> Result:
    """TCP throughput in Gbit/s, and round trips of one byte a second over one TCP connection."""
    return isolated(_measure)


def _measure() -> Result:
    result = Result("datapath")
    for wire, faults in WIRES.items():
        _measure_over(result, wire, faults)
    result.notes.append(f"{ROUNDS} rounds in turn; iperf3, TCP with cubic, one stream, {STREAM_S} s a run")
    result.notes.append(
        "VXLAN on the LAN: its super-frames are cut in user space by the lab's link, which is its limit here"
    )
    result.notes.append("round trips: one byte each way over one TCP connection")
    return result


def _measure_over(result: Result, wire: str, faults: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "two-hosts.toml"
        file.write_text(EXAMPLE.read_text().replace("[links.lan]", f"[links.lan]\n{faults}"))
        lab.up(file)
    subprocess.run(["sh", "-e", "-c", OVERLAY], check=True)
    streams: dict[str, list[float]] = {who: [] for who in WAYS}
    trips: dict[str, list[float]] = {who: [] for who in WAYS}
    for number in range(ROUNDS):
        for who, (client, server, address) in WAYS.items():
            streams[who].append(stream(client, server, address, STREAM_S))
            trips[who].append(_round_trips(client, server, address, PORT + number))
    measured = ((f"TCP throughput, {wire}", streams, "Gbit/s"), (f"round trips, {wire}", trips, "1/s"))
    for what, samples, unit in measured:
        for who in WAYS:
            result.add(who, what, samples[who], unit)
        for who, peer in (("routed", "host"), ("routed", "vxlan"), ("vxlan", "host")):
            result.compare(what, who, peer)
    lab.down("two-hosts")


def _round_trips(client: str, server: str, address: str, port: int) -> float:
    with _child(server, 1, lambda: _echo(address, port)):
        reader, writer = os.pipe()
        with _child(client, 0, lambda: os.write(writer, str(_ask(address, port)).encode())):
            os.close(writer)
            return float(os.read(reader, 100))


@contextmanager
def _child(namespace: str, processor: int, work: Callable[[], object]) -> Iterator[None]:
    """`work` in a process of its own, on its own processor, inside a namespace; ended with the block."""
    child = os.fork()
    if child == 0:
        os.sched_setaffinity(0, {processor % (os.cpu_count() or 1)})
        namespaces.enter(namespace)
        work()
        os._exit(0)
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _echo(address: str, port: int) -> None:
    with socket.create_server((address, port)) as listener:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := connection.recv(1):
            connection.send(data)


def _ask(address: str, port: int) -> float:
    for _ in range(200):  # until the other side listens
        try:
            connection = socket.create_connection((address, port), timeout=5)
            break
        except ConnectionRefusedError:
            time.sleep(0.01)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.settimeout(None)
    started = time.perf_counter()
    for _ in range(ROUND_TRIPS):
        connection.send(b"x")
        connection.recv(1)
    return ROUND_TRIPS / (time.perf_counter() - started)
