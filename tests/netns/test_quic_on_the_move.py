"""Downloads over QUIC whose network is changed meanwhile: one handshake, every byte, in real namespaces.

The client reaches the server through a router that masquerades, or two of them; the routers' links are 80 Mbit/s, or
faster where 200 MB pass. Handshakes are counted in the client's key log, where each leaves its secrets.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from certificates import make_certificate

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

PROGRAM = Path(__file__).with_name("quic_download.py")
PREFIX = f"fwt-move-{os.getpid()}-"
SIZE = 40_000_000
LARGE = 200_000_000
LOSSY = 2_000_000
"""Of a download through 30 % loss, where the window never grows."""

SERVER = "203.0.113.1"


def run(*command: str) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{' '.join(command)}: {result.stderr}"
    return result.stdout


class Network:
    """client -- wifi, mobile (routers with masquerade) -- server."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for name in ("client", "wifi", "mobile", "server"):
            run("ip", "netns", "add", PREFIX + name)
            self.ip(name, "link set lo up")
        self.ip("server", f"addr add {SERVER}/32 dev lo")
        for number, router in enumerate(("wifi", "mobile"), 1):
            self._link("client", router, f"10.0.{number}.2/24", f"10.0.{number}.1/24")
            self._link("server", router, f"192.0.2.{16 * number + 1}/28", f"192.0.2.{16 * number + 2}/28")
            self.inside(router, "sysctl", "-qw", "net.ipv4.ip_forward=1")
            self.ip(router, f"route add {SERVER}/32 via 192.0.2.{16 * number + 1}")
            self.nft(router, "table ip nat { chain out { type nat hook postrouting priority 100; "
                             "oifname server masquerade random; }; "
                             "chain forward { type filter hook forward priority 0; }; }")  # fmt: skip
            self.shape(router, 80)
            self.route(router)

    def shape(self, router: str, rate_mbit: int) -> None:
        """What passes to the client in a second."""
        words = f"root tbf rate {rate_mbit}mbit burst 128kb latency 40ms"
        self.inside(router, "tc", "qdisc", "replace", "dev", "client", *words.split())

    def _link(self, one: str, other: str, address: str, other_address: str) -> None:
        there = f"type veth peer name {one} netns {PREFIX}{other}"
        self.ip(one, f"link add {other} {there}")
        for name, device, given in ((one, other, address), (other, one, other_address)):
            self.ip(name, f"addr add {given} dev {device}")
            self.ip(name, f"link set {device} up")

    def inside(self, name: str, *command: str) -> str:
        return run("nsenter", f"--net=/run/netns/{PREFIX}{name}", *command)

    def ip(self, name: str, words: str) -> str:
        return run("ip", "-n", PREFIX + name, *words.split())

    def nft(self, name: str, rules: str) -> str:
        return self.inside(name, "nft", rules)

    def route(self, router: str) -> None:
        """Let the client reach the world through this router, the first choice being wifi."""
        number = {"wifi": 1, "mobile": 2}[router]
        self.ip("client", f"route replace default via 10.0.{number}.1 metric {number}")

    def download(
        self, change: Callable[[Network], None], size: int = SIZE, seconds: float = 60, server: str = "serve"
    ) -> dict[str, object]:
        """Download while `change` happens; what the client reports, and how many handshakes there were."""
        chain, key = str(self.directory / "chain.pem"), str(self.directory / "key.pem")
        with contextlib.ExitStack() as stack:
            serving = stack.enter_context(self._program("server", server, SERVER, chain, key))
            assert serving.stdout is not None
            assert serving.stdout.readline() == "ready\n"
            getting = stack.enter_context(self._program("client", "get", SERVER, chain, str(size)))
            assert getting.stdout is not None
            assert getting.stdout.readline() == "begun\n"
            change(self)
            out, err = getting.communicate(timeout=seconds)
            assert out, err
            report: dict[str, object] = json.loads(out)
            report["moved"] = json.loads(serving.stdout.readline())
            secrets = (self.directory / "client.keys").read_text().splitlines()
            report["handshakes"] = sum(line.startswith("CLIENT_HANDSHAKE_TRAFFIC_SECRET") for line in secrets)
            return report

    @contextlib.contextmanager
    def _program(self, name: str, *words: str) -> Iterator[subprocess.Popen[str]]:
        command = ["nsenter", f"--net=/run/netns/{PREFIX}{name}", sys.executable, str(PROGRAM), *words]
        keys = os.environ | {"SSLKEYLOGFILE": str(self.directory / f"{name}.keys")}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=keys)
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def close(self) -> None:
        for name in ("client", "wifi", "mobile", "server"):
            subprocess.run(["ip", "netns", "delete", PREFIX + name], check=False)


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    make_certificate(tmp_path)
    made = Network(tmp_path)
    yield made
    made.close()


def whole(report: dict[str, object], size: int = SIZE) -> None:
    assert report["bytes"] == size
    assert report["same"] is True
    assert report["handshakes"] == 1


def test_a_nat_forgets_its_mapping(network: Network) -> None:
    def forget(network: Network) -> None:
        for _ in range(3):  # the kernel forgets what it masqueraded when the address goes away
            network.ip("wifi", "addr del 192.0.2.18/28 dev server")
            network.ip("wifi", "addr add 192.0.2.18/28 dev server")
            network.ip("wifi", f"route replace {SERVER}/32 via 192.0.2.17")
            time.sleep(0.5)

    report = network.download(forget)
    whole(report)
    assert report["moved"]


def test_of_several_workers_the_one_that_has_the_connection_goes_on(network: Network) -> None:
    """A NAT that forgets four times, another port each time, then the other link: by luck one time in a thousand."""

    def change(network: Network) -> None:
        for _ in range(4):
            network.ip("wifi", "addr del 192.0.2.18/28 dev server")
            network.ip("wifi", "addr add 192.0.2.18/28 dev server")
            network.ip("wifi", f"route replace {SERVER}/32 via 192.0.2.17")
            time.sleep(0.4)
        network.ip("client", "link set wifi down")

    report = network.download(change, server="workers")
    whole(report)
    assert report["from"] == "10.0.2.2"


def test_a_nat_gets_another_address(network: Network) -> None:
    def move(network: Network) -> None:
        network.ip("wifi", "addr del 192.0.2.18/28 dev server")
        network.ip("wifi", "addr add 192.0.2.19/28 dev server")
        network.ip("wifi", f"route replace {SERVER}/32 via 192.0.2.17")

    report = network.download(move)
    whole(report)
    assert report["moved"]


def test_one_of_two_links_goes_away(network: Network) -> None:
    report = network.download(lambda network: network.ip("client", "link delete wifi"))
    whole(report)
    assert report["from"] == "10.0.2.2"


def test_one_of_two_links_goes_away_and_comes_back_under_200_mb(network: Network) -> None:
    for router in ("wifi", "mobile"):
        network.shape(router, 250)

    def roam(network: Network) -> None:
        network.ip("client", "link set wifi down")  # its routes go with it
        time.sleep(1)
        network.ip("client", "link set wifi up")
        network.route("wifi")
        time.sleep(1)
        network.ip("client", "link set mobile down")  # so what came back is needed
        time.sleep(0.5)
        network.ip("client", "link set mobile up")
        network.route("mobile")

    report = network.download(roam, LARGE)
    whole(report, LARGE)
    assert report["from"] == "10.0.1.2"


def test_the_address_is_changed_under_it(network: Network) -> None:
    def change(network: Network) -> None:
        network.ip("client", "link set mobile down")
        network.ip("client", "addr del 10.0.1.2/24 dev wifi")
        network.ip("client", "addr add 10.0.1.7/24 dev wifi")
        network.route("wifi")

    report = network.download(change)
    whole(report)
    assert report["from"] == "10.0.1.7"


def test_the_only_link_goes_away_and_comes_back(network: Network) -> None:
    network.ip("client", "link set mobile down")

    def cut(network: Network) -> None:
        network.ip("client", "link set wifi down")
        time.sleep(2)
        network.ip("client", "link set wifi up")
        network.route("wifi")

    whole(network.download(cut))


def test_the_path_carries_less_from_now_on(network: Network) -> None:
    def shrink(network: Network) -> None:
        network.ip("wifi", "link set client mtu 1300")

    whole(network.download(shrink))


def test_the_path_is_a_black_hole_for_five_seconds(network: Network) -> None:
    def swallow(network: Network) -> None:
        network.nft("wifi", "add rule ip nat forward drop")
        time.sleep(5)
        network.nft("wifi", "flush chain ip nat forward")

    whole(network.download(swallow))


@pytest.mark.parametrize(
    ("drops", "size"),
    [("numgen random mod 100 < 2", SIZE), ("numgen inc mod 10 < 3", LOSSY)],
    ids=["2 % at random", "30 % in bursts of three"],
)
def test_the_path_loses_packets(network: Network, drops: str, size: int) -> None:
    def lose(network: Network) -> None:
        for device in ("client", "server"):
            network.nft("wifi", f"add rule ip nat forward oifname {device} meta l4proto udp {drops} drop")

    whole(network.download(lose, size), size)
