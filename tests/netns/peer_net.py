"""Hosts on one link, each a namespace with an agent in it, that are members of one network."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from fairway.net.enrolment import Authority, Block, JoinRequest, Membership, request
from fairway.net.host import Host, Identity
from fairway.net.model.pod import Pod

POOL = ip_network("10.0.0.0/16")
PORT = 7946
PROGRAM = Path(__file__).with_name("peer_agent.py")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


class Node:
    """One host: a namespace of the test's own with one address on the common link."""

    def __init__(self, directory: Path, number: int, first: Node | None, bridge: str) -> None:
        self.name = f"node{number:02}"
        self.namespace = self.name
        self.address = f"100.100.{number // 250}.{number % 250 + 1}"
        self.state = directory / self.name
        self.log = directory / f"{self.name}.log"
        self.process: subprocess.Popen[str] | None = None
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

    def _join(self, first: Node | None) -> None:
        now = datetime.now(UTC)
        key = self.membership.pending_key()
        if first is None:
            self.authority.create(self.name, [Block(POOL)], now, PORT)
            self.authority.set_endpoints([f"{self.address}:{PORT}"])
            granted = self.authority.enrol(self.name, request(key, self.name), now)
        else:
            token = first.authority.token(now)
            granted = first.authority.admit(
                JoinRequest(self.name, token.number, token.secret, request(key, self.name)), now
            )
        self.membership.accept(granted, key)

    def host(self) -> Host:
        return Host(self.state, Identity(self.namespace, f"{self.name}-", f"fairway {self.name}"))

    # The agent

    def start(self, **options: float) -> None:
        self.process = subprocess.Popen(
            [
                *("nsenter", f"--net=/run/netns/{self.namespace}", sys.executable, str(PROGRAM)),
                *(str(self.state), self.address),
                *(f"{name}={value}" for name, value in options.items()),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log.open("a"),
            text=True,
        )

    def ready(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        assert json.loads(self.process.stdout.readline()) == "ready", self.log.read_text()

    def ask(self, command: str) -> Any:
        assert self.process is not None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def kill(self) -> None:
        """kill -9: no word to anybody."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process = None

    def stop(self, command: str = "quit") -> None:
        if self.process is not None:
            assert self.process.stdin is not None
            self.process.stdin.write(command + "\n")
            self.process.stdin.close()
            self.process.wait(10)
            self.process = None

    # Pods

    def add_pod(self, name: str, address: str = "") -> Pod:
        with self.host() as host:
            if address:
                host.pools.add(ip_network(address))
            pod = host.add_pod(name, [ip_address(address)] if address else [])
        if self.process is not None:
            self.ask("pods")
        return pod

    def remove_pod(self, name: str) -> None:
        with self.host() as host:
            host.remove_pod(name)
            host.wait_removed(name)
        if self.process is not None:
            self.ask("pods")

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

    def start(self, **options: float) -> None:
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


def until(condition: Callable[[], bool], within_s: float = 10.0, every_s: float = 0.02) -> float:
    """Wait until it holds; gives how long that took."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < within_s, "it did not come about in time"
        time.sleep(every_s)
    return time.monotonic() - begun
