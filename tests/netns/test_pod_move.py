"""Pods moved between nodes whose agents tell each other: connections go on, or end, as their addresses do."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from certificates import make_certificate
from fairway import lab
from fairway.lab.agents.running import find
from fairway.lab.moving import move
from fairway.net.kernel import namespaces
from fairway.net.model.errors import UsageError

FAIRWAY = str(Path(sys.executable).with_name("fairway"))
TCP = Path(__file__).with_name("tcp_echo.py")
QUIC = Path(__file__).with_name("quic_download.py")
SIZE = 60_000_000
TOPOLOGY = """
agents = true
[nodes.n1]
pools = ["10.0.1.0/24"]
[nodes.n2]
pools = ["10.0.2.0/24"]
[links.lan]
members = { n1 = "192.0.2.1/24", n2 = "192.0.2.2/24" }
delay = "2ms"
rate = "100mbit"
[pods]
a = { node = "n1", address = "10.0.1.2" }
b = { node = "n2", address = "10.0.2.2" }
c = { node = "n1", address = "10.0.1.3" }
"""


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "small.toml"
    path.write_text(TOPOLOGY)
    lab.up(path)
    yield path
    lab.down("small")
    assert find("small") == {}
    assert namespaces.names() == []


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    made = make_certificate(tmp_path)
    return str(made.chain), str(made.key)


def where(pod: str) -> tuple[str, str]:
    (found,) = [each for each in lab.find("small").pods() if each.name == pod]
    return found.node, str(found.addresses[0])


def reaches(source: str, address: str) -> bool:
    namespace = next(each.namespace for each in lab.find("small").pods() if each.name == source)
    words = ["ip", "netns", "exec", namespace, "ping", "-c2", "-i0.2", "-W2", address]
    return subprocess.run(words, capture_output=True).returncode == 0


@contextlib.contextmanager
def program(pod: str, file: Path, *words: str, keys: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """A program in the pod; its secrets go to `keys`."""
    namespace = next(each.namespace for each in lab.find("small").pods() if each.name == pod)
    process = subprocess.Popen(
        ["nsenter", f"--net=/run/netns/{namespace}", sys.executable, str(file), *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | ({"SSLKEYLOGFILE": str(keys)} if keys is not None else {}),
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def downloaded(getting: subprocess.Popen[str], serving: subprocess.Popen[str], keys: Path) -> dict[str, Any]:
    """What the client reports, with how many handshakes made new secrets and whether the client's address changed."""
    out, err = getting.communicate(timeout=90)
    assert out, err
    report: dict[str, Any] = json.loads(out)
    report["moved"] = json.loads(line(serving))
    secrets = keys.read_text().splitlines()
    report["handshakes"] = sum(secret.startswith("CLIENT_HANDSHAKE_TRAFFIC_SECRET") for secret in secrets)
    return report


class TestWithItsAddress:
    def test_a_pod_moves_and_everybody_reaches_it(self, file: Path):
        moved = move("a", "n2")
        assert (moved.source, moved.target, moved.former) == ("n1", "n2", moved.addresses)
        assert where("a") == ("n2", "10.0.1.2")
        assert moved.lost < moved.sent / 2  # how long the flow stops is what `bench pod_move` measures
        for other in ("b", "c"):
            assert reaches(other, "10.0.1.2")
        routes = json.loads(
            subprocess.run([FAIRWAY, "exec", "n1", "--", "fairway", "routes", "--json"], capture_output=True).stdout
        )["routes"]
        assert {each["node"] for each in routes if each["prefix"] == "10.0.1.2/32"} == {"n2"}
        back = move("a", "n1")
        assert back.lost < back.sent / 2
        assert where("a") == ("n1", "10.0.1.2")
        for other in ("b", "c"):
            assert reaches(other, "10.0.1.2")

    def test_a_tcp_connection_lives_through_it(self, file: Path):
        with program("a", TCP, "serve", "10.0.1.2") as serving:
            assert line(serving) == "ready"
            with program("b", TCP, "ask", "10.0.1.2") as asking:
                assert line(asking) == "1"
                moved = move("a", "n2")
                assert (moved.tcp, moved.tcp_lost) == (1, 0)
                move("a", "n1")
                assert asking.stdin is not None
                asking.stdin.close()
                asking.stdin = None
                out, err = asking.communicate(timeout=30)
                assert asking.returncode == 0, err
                numbers = list(map(int, out.split()))
                assert numbers == list(range(2, len(numbers) + 2))
                assert len(numbers) > 10

    def test_a_download_over_quic_lives_through_it(self, file: Path, certificate: tuple[str, str], tmp_path: Path):
        keys = tmp_path / "keys"
        with program("a", QUIC, "serve", "10.0.1.2", *certificate) as serving:
            assert line(serving) == "ready"
            with program("b", QUIC, "get", "10.0.1.2", certificate[0], str(SIZE), keys=keys) as getting:
                assert line(getting) == "begun"
                move("a", "n2")
                report = downloaded(getting, serving, keys)
        assert report["moved"] is False
        assert (report["same"], report["bytes"]) == (True, SIZE)

    def test_up_brings_it_back_to_where_the_file_says_with_its_processes(self, file: Path):
        inode = namespaces.identify("/run/netns/small.n1.a").inode
        move("a", "n2")
        assert lab.up(file).operations > 0
        assert where("a") == ("n1", "10.0.1.2")
        assert namespaces.identify("/run/netns/small.n1.a").inode == inode
        assert lab.up(file).operations == 0


class TestRenumbered:
    def test_quic_of_the_pods_own_migrates_and_tcp_dies(self, file: Path, certificate: tuple[str, str], tmp_path: Path):
        keys = tmp_path / "keys"
        with contextlib.ExitStack() as stack:
            serving = stack.enter_context(program("b", QUIC, "serve", "10.0.2.2", *certificate))
            echoing = stack.enter_context(program("b", TCP, "serve", "10.0.2.2"))
            assert (line(serving), line(echoing)) == ("ready", "ready")
            asking = stack.enter_context(program("a", TCP, "ask", "10.0.2.2"))
            getting = stack.enter_context(program("a", QUIC, "get", "10.0.2.2", certificate[0], str(SIZE), keys=keys))
            assert (line(asking), line(getting)) == ("1", "begun")
            moved = move("a", "n2", renumber=True)
            assert str(moved.addresses[0]).startswith("10.0.2.")
            assert (moved.tcp, moved.tcp_lost) == (1, 1)
            assert (moved.udp, moved.udp_lost) == (1, 0)
            report = downloaded(getting, serving, keys)
            assert report["moved"] is True
            assert (report["same"], report["bytes"]) == (True, SIZE)
            out, err = asking.communicate(timeout=30)
            assert asking.returncode != 0, out
            assert "timed out" in err
        assert where("a") == ("n2", str(moved.addresses[0]))
        assert reaches("c", str(moved.addresses[0]))

    def test_its_former_address_comes_back_with_the_file(self, file: Path):
        move("a", "n2", renumber=True)
        lab.up(file)
        assert where("a") == ("n1", "10.0.1.2")
        assert reaches("b", "10.0.1.2")


class TestRefused:
    @pytest.mark.parametrize(
        ("pod", "node", "expected"),
        [("a", "n1", "on n1 already"), ("a", "n9", "no node 'n9'"), ("z", "n2", "no pod 'z'")],
    )
    def test_what_cannot_be(self, file: Path, pod: str, node: str, expected: str):
        with pytest.raises(UsageError, match=expected):
            move(pod, node)
        assert where("a") == ("n1", "10.0.1.2")

    def test_where_an_agent_does_not_run(self, file: Path):
        os.kill(find("small")["n2"].pid, signal.SIGKILL)
        with pytest.raises(UsageError, match="no agent runs on n2"):
            move("a", "n2")
        assert where("a") == ("n1", "10.0.1.2")


class TestKilled:
    @pytest.mark.parametrize("victim", ["command", "n1", "n2"])
    @pytest.mark.parametrize("after_s", [0.0, 0.01, 0.03, 0.06])
    def test_cut_off_half_way_up_leaves_the_pod_where_the_file_says(self, file: Path, victim: str, after_s: float):
        agents = find("small")
        moving = subprocess.Popen(
            [sys.executable, "-c", "from fairway.lab.moving import move; print(flush=True); move('a', 'n2')"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        line(moving)
        time.sleep(0.12 + after_s)  # it watches for a tenth of a second before it begins
        os.kill(moving.pid if victim == "command" else agents[victim].pid, signal.SIGKILL)
        moving.communicate(timeout=30)
        lab.up(file)
        assert where("a") == ("n1", "10.0.1.2")
        assert reaches("b", "10.0.1.2")
        assert reaches("c", "10.0.1.2")
        assert len([name for name in namespaces.names() if name.endswith(".a")]) == 1
