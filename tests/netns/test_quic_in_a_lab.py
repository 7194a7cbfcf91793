"""QUIC between pods of different hosts, over a link that delays and loses: ours, aioquic and qh3, in both roles."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from certificates import make_certificate
from fairway import lab
from peer_faults import QH3_LOSES_A_STREAM, despite

PROGRAM = Path(__file__).with_name("quic_echo.py")
FAIRWAY = [sys.executable, "-c", "from fairway.cli import main; main(prog_name='fairway')"]
SERVER, CLIENT = "quic.here.server", "quic.there.client"
TOPOLOGY = """
name = "quic"
[nodes.here]
pools = ["10.0.1.0/24"]
[nodes.there]
pools = ["10.0.2.0/24"]
[links.wire]
members = { here = "192.0.2.1/24", there = "192.0.2.2/24" }
delay = "5ms"
loss = "2%"
[pods]
server = { node = "here", address = "10.0.1.2" }
client = { node = "there", address = "10.0.2.2" }
"""


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("quic")
    file = directory / "quic.toml"
    file.write_text(TOPOLOGY)
    lab.up(file)
    make_certificate(directory, ("localhost", "10.0.1.2"))
    yield directory
    lab.down("quic")


def inside(namespace: str, *command: str) -> list[str]:
    return ["nsenter", f"--net=/run/netns/{namespace}", *command]


PAIRS = [
    ("fairway", "fairway"),
    ("aioquic", "fairway"),
    ("fairway", "aioquic"),
    ("qh3", "fairway"),
    ("fairway", "qh3"),
]


@pytest.mark.parametrize(("server", "client"), PAIRS)
@despite(QH3_LOSES_A_STREAM)
def test_streams_of_many_sizes_come_back_whole(network: Path, server: str, client: str) -> None:
    program = [sys.executable, str(PROGRAM)]
    files = [str(network / "chain.pem"), str(network / "key.pem")]
    log = network / "server.log"
    with log.open("w") as errors:
        serve = inside(SERVER, *program, "serve", server, "10.0.1.2", *files)
        serving = subprocess.Popen(serve, stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        assert serving.stdout is not None
        assert serving.stdout.readline() == "ready\n"
        asked = subprocess.run(
            inside(CLIENT, *program, "ask", client, "10.0.1.2", files[0]), capture_output=True, text=True, timeout=90
        )
        assert asked.stdout == "all came back\n", f"{asked.stderr}\nthe server: {log.read_text()}"
    finally:
        serving.kill()
        serving.wait()


def test_perf_measures_between_two_pods(network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # where `serve --self-signed` leaves its certificate for `get`
    serve = ["exec", "quic/server", "--", *FAIRWAY, "perf", "serve", "--self-signed", "--host", "10.0.1.2"]
    serving = subprocess.Popen([*FAIRWAY, *serve], stderr=subprocess.PIPE, text=True)
    try:
        assert serving.stderr is not None
        while "listening" not in serving.stderr.readline():
            assert serving.poll() is None
        get = ["exec", "quic/client", "--", *FAIRWAY, "perf", "get", "10.0.1.2", "--size", "1MB", "--json"]
        said = subprocess.run([*FAIRWAY, *get], capture_output=True, text=True, timeout=90)
        assert '"bytes": 1000000' in said.stdout, said.stderr
    finally:
        serving.kill()
        serving.wait()
