"""Hosts on one link, each a namespace with an agent in it, that are members of one network."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from fairway.net.agent.client import Client
from fairway.net.enrolment import Authority, Block, JoinRequest, Membership, request
from fairway.net.host import Host, Identity
from fairway.net.model.errors import FairwayError

POOL = ip_network("10.0.0.0/16")
GUESTS = ip_network("10.0.77.0/24")
"""Addresses in no host's block."""
PORT = 7946
PROGRAM = Path(__file__).with_name("peer_agent.py")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


class Node:
    """One host: a namespace of the test's own with one address on the common link."""

    def __init__(self, directory: Path, number: int, first: Node | None, bridge: str, subnet: str = "100.100") -> None:
        self.name = f"node{number:02}"
        self.namespace = self.name
        self.address = f"{subnet}.{number // 250}.{number % 250 + 1}"
        self.state = directory / self.name
        self.log = directory / f"{self.name}.log"
        self.config = directory / f"{self.name}.toml"
        self.socket = directory / self.name / "agent.sock"  # the socket for runtimes is beside it
        self.process: subprocess.Popen[bytes] | None = None
        ip("netns", "add", self.namespace)
        self.port = f"p{number}"
        ip("link", "add", self.port, "type", "veth", "peer", "name", "eth0", "netns", self.namespace)
        ip("link", "set", self.port, "master", bridge, "up")
        ip("-n", self.namespace, "link", "set", "lo", "up")
        ip("-n", self.namespace, "addr", "add", f"{self.address}/16", "dev", "eth0")
        ip("-n", self.namespace, "link", "set", "eth0", "up")
        self.membership = Membership(self.state)
        self.authority = Authority(self.state)
        self._join(first)
        self.block = self.membership.credentials().permit.blocks[0]
        with self.host() as host:
            host.pools.add(self.block)
            host.pools.add(GUESTS)

    def _join(self, first: Node | None) -> None:
        now = datetime.now(UTC)
        key = self.membership.pending_key()
        if first is None:
            self.authority.create(self.name, [Block(POOL)], now, PORT)
            self.authority.set_endpoints([f"{self.address}:{PORT}"])
            granted = self.authority.enrol(self.name, request(key, self.name), now)
        else:
            token, asked = first.authority.token(now), request(key, self.name)
            granted = first.authority.admit(
                JoinRequest(self.name, token.number, token.proof(self.name, asked), asked), now
            )
        self.membership.accept(granted, key, self.name, now)

    def host(self) -> Host:
        return Host(self.state, Identity(self.namespace, f"{self.name}-", f"fairway {self.name}"))

    # The agent

    def start(self, **options: Any) -> None:
        options.setdefault("addresses", [self.address])
        keys = "".join(f"{name} = {json.dumps(value)}\n" for name, value in options.items())
        places = f'state = "{self.state}"\nsocket = "{self.socket}"\n'
        self.config.write_text(f"{places}[peers]\n{keys}")
        self.process = subprocess.Popen(
            [
                *("nsenter", f"--net=/run/netns/{self.namespace}", sys.executable, str(PROGRAM)),
                *(str(self.config), self.name),
            ],
            stderr=self.log.open("a"),
        )

    def ready(self) -> None:
        until(self.is_ready, 120.0)

    def is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        try:
            self.call("peers.ls")
        except (OSError, FairwayError):
            return False
        return True

    def call(self, call: str, **arguments: Any) -> Any:
        with Client(self.socket) as client:
            return client.call(call, arguments)

    def peers(self) -> dict[str, dict[str, Any]]:
        return {peer["node"]: peer for peer in self.call("peers.ls")["peers"]}

    def kill(self) -> None:
        """kill -9: no word to anybody."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """In order."""
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(20)
        self.process = None

    # Pods

    def add_pod(self, name: str, address: str = "") -> str:
        return str(self.call("pod.add", name=name, addresses=[address] if address else [])["pod"]["addresses"][0])

    def remove_pod(self, name: str) -> None:
        self.call("pod.rm", names=[name])

    # The kernel

    def learned(self) -> dict[str, str]:
        """The routes in the kernel that were learned: destination and gateway."""
        shown = subprocess.run(
            ["ip", "-n", self.namespace, "-j", "route", "show", "proto", "70", "metric", str(0x4600)],
            check=True,
            capture_output=True,
            text=True,
        )
        return {each["dst"]: each["gateway"] for each in json.loads(shown.stdout or "[]")}

    def has_route(self, destination: str) -> bool:
        """Whether the kernel has a route to just that, whoever made it."""
        words = ["ip", "-n", self.namespace, "-j", "route", "show", "exact", destination]
        return bool(json.loads(subprocess.run(words, check=True, capture_output=True).stdout or "[]"))

    def way_to(self, address: object) -> str:
        """The gateway that the kernel would send a packet to `address` by."""
        words = ["ip", "-n", self.namespace, "-j", "route", "get", str(address)]
        return str(json.loads(subprocess.run(words, check=True, capture_output=True).stdout)[0]["gateway"])

    def pings(self, pod: str, target: str, *, count: int = 1, timeout_s: float = 1) -> bool:
        words = [
            "ip",
            "netns",
            "exec",
            f"{self.name}-{pod}",
            "ping",
            "-q",
            "-c",
            str(count),
            "-W",
            str(timeout_s),
            target,
        ]
        return subprocess.run(words, check=False, capture_output=True).returncode == 0

    def cut_off(self) -> None:
        """The host is dead to the others: its cable is pulled."""
        ip("link", "set", self.port, "down")

    def plug_in(self) -> None:
        ip("link", "set", self.port, "up")


class PeerNet:
    """So many hosts, in a directory of the test's own; `close` takes everything away."""

    def __init__(self, directory: Path, count: int) -> None:
        self.bridge = "fabric"
        ip("link", "add", self.bridge, "type", "bridge")
        ip("link", "set", self.bridge, "up")
        self.nodes: list[Node] = []
        for number in range(1, count + 1):
            self.nodes.append(Node(directory, number, self.nodes[0] if self.nodes else None, self.bridge))

    def start(self, **options: Any) -> None:
        for node in self.nodes:
            node.start(**options)
        for node in self.nodes:
            node.ready()

    def close(self) -> None:
        for node in self.nodes:
            if node.process is not None:
                node.kill()
            with node.host() as host:
                for pod in host.pods():
                    host.remove_pod(pod.name)
        for node in self.nodes:
            ip("link", "delete", node.port)
            ip("netns", "delete", node.namespace)
        ip("link", "delete", self.bridge)

    def blocks_known(self) -> bool:
        """Every kernel has a route to every other host's block."""
        return all(
            node.learned().items()
            >= {str(other.block): other.address for other in self.nodes if other is not node}.items()
            for node in self.nodes
        )


def until(condition: Callable[[], bool], within_s: float = 30.0, every_s: float = 0.02) -> float:
    """Wait until it holds; gives how long that took."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < within_s, "it did not come about in time"
        time.sleep(every_s)
    return time.monotonic() - begun
