"""The network of one run: a client, a server, and between them the link of the public runner with the case's fault."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from interop.wire import CLIENT_END, CLIENT_MAC, LINK_MAC, SERVER_END, SERVER_MAC

ROOT = Path(__file__).parent.parent
CLIENT4, SERVER4, PREFERRED4 = "193.167.0.100", "193.167.100.100", "193.167.100.101"
CLIENT6, SERVER6 = "fd00:cafe:cafe:0::100", "fd00:cafe:cafe:100::100"
NAMES = {"server4": SERVER4, "server6": SERVER6}
"""What the URLs call the server, by the address that is to be used."""


@dataclass(frozen=True, slots=True)
class Link:
    """What the packets pass, and what befalls them: a kind of `interop.faults` and its arguments."""

    delay_ms: float = 15
    rate_mbit: float = 10
    queue: int = 25
    fault: str = "nothing"
    arguments: dict[str, Any] = field(default_factory=dict)


class NetworkError(Exception):
    """The network could not be made."""


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise NetworkError(f"{' '.join(command)}: {done.stderr.strip()}")


class Network:
    """Three namespaces; `client` and `server` are what a command is prefixed with to run in them."""

    def __init__(self, name: str) -> None:
        self._names = {role: f"{name}-{role}" for role in ("client", "link", "server")}

    @property
    def client(self) -> list[str]:
        """Run in the client's namespace."""
        return self._inside("client")

    @property
    def server(self) -> list[str]:
        """Run in the server's namespace."""
        return self._inside("server")

    def _inside(self, role: str) -> list[str]:
        return ["nsenter", f"--net=/run/netns/{self._names[role]}"]

    def up(self) -> None:
        """Make it."""
        for name in self._names.values():
            _run("ip", "netns", "add", name)
            _run("ip", "-n", name, "link", "set", "lo", "up")
        self._end("client", CLIENT_END, CLIENT_MAC, [CLIENT4], CLIENT6)
        self._end("server", SERVER_END, SERVER_MAC, [SERVER4, PREFERRED4], SERVER6)

    def _end(self, role: str, end: str, mac: str, ipv4: list[str], ipv6: str) -> None:
        """One end: everything goes to the link, whose neighbour entry is written down."""
        name, link = self._names[role], self._names["link"]
        _run("ip", "-n", name, "link", "add", "eth0", "address", mac, "type", "veth", "peer", end, "netns", link)
        _run("ip", "-n", link, "link", "set", end, "up")
        _run("ip", "-n", name, "link", "set", "eth0", "up")
        for address in ipv4:
            _run("ip", "-n", name, "addr", "add", f"{address}/32", "dev", "eth0")
        _run("ip", "-n", name, "addr", "add", f"{ipv6}/128", "dev", "eth0", "nodad")
        for version, gateway, source in (("-4", "169.254.1.1", ipv4[0]), ("-6", "fe80::1", ipv6)):
            entry = ["lladdr", LINK_MAC, "nud", "permanent", "dev", "eth0"]
            _run("ip", version, "-n", name, "neigh", "add", gateway, *entry)
            _run(
                "ip",
                version,
                "-n",
                name,
                "route",
                "add",
                "default",
                "via",
                gateway,
                "dev",
                "eth0",
                "onlink",
                "src",
                source,
            )

    def down(self) -> None:
        """Take it away."""
        for name in self._names.values():
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)

    @contextmanager
    def carrying(self, link: Link, directory: Path) -> Iterator[None]:
        """The link at work; its captures are whole when the block is left."""
        described = {
            "rate_mbit": link.rate_mbit,
            "queue": link.queue,
            "delay_s": link.delay_ms / 1000,
            "fault": link.fault,
            "arguments": link.arguments,
            "directory": str(directory),
        }
        command = [*self._inside("link"), sys.executable, "-m", "interop.wire", json.dumps(described)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise NetworkError("the link did not start")
            yield
        finally:
            process.terminate()
            process.communicate()


def write_hosts() -> None:
    """Let programs know the servers' names: in a mount namespace of our own, so nobody else sees it."""
    file = Path("/run/interop.hosts")
    file.write_text("127.0.0.1 localhost\n" + "".join(f"{address} {name}\n" for name, address in NAMES.items()))
    _run("mount", "--bind", str(file), "/etc/hosts")
