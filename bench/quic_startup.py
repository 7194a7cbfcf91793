"""Time to the first byte on a new connection over 50 ms: QUIC in two round trips, or one; TCP and TLS in three."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.certificates import make_certificate
from bench.isolation import isolated
from bench.result import Result
from bench.startup_peers import EARLY, FULL, RESUMED, TCP
from fairway import lab

PEERS = ("fairway", "aioquic", "qh3", TCP)
ROUNDS = 20
ROUND_TRIP_MS = 50
TIMEOUT_S = 60
SERVER = "192.0.2.2"
TOPOLOGY = f"""
name = "startup"
[nodes.client]
[nodes.server]
[links.wire]
members = {{ client = "192.0.2.1/24", server = "{SERVER}/24" }}
delay = "{ROUND_TRIP_MS // 2}ms"
"""
ROOT = Path(__file__).parent.parent


def run() -> Result:
    """Milliseconds from before the connection is begun until the first byte of the answer, and in round trips."""
    return isolated(_measure)


def _inside(node: str, *words: str) -> list[str]:
    return ["nsenter", f"--net=/run/netns/startup.{node}", sys.executable, "-m", "bench.startup_peers", *words]


def _measure() -> Result:
    result = Result("quic_startup")
    with tempfile.TemporaryDirectory() as directory:
        make_certificate(Path(directory))
        file = Path(directory) / "startup.toml"
        file.write_text(TOPOLOGY)
        lab.up(file)
        try:
            for who in PEERS:
                for kind, samples in _ask(who, directory).items():
                    median = result.add(who, f"first byte, {kind}", [1e3 * sample for sample in samples], "ms")
                    result.add(who, f"the same in round trips, {kind}", [median / ROUND_TRIP_MS], "")
        finally:
            lab.down("startup")
    for kind in (FULL, EARLY):
        result.compare(f"first byte, {kind}", "fairway", "aioquic")
        result.compare(f"first byte, {kind}", "fairway", "qh3")
    result.notes += [
        f"a path of {ROUND_TRIP_MS} ms by the relay; medians of {ROUNDS}; certificates verified,"
        " 64 bytes asked, 1,000 answered",
        f"{EARLY}: a session is resumed and the request goes with the first packet;"
        f" {RESUMED}: TLS 1.3 in TCP, whose early data Python's ssl does not have",
    ]
    return result


def _ask(who: str, directory: str) -> dict[str, list[float]]:
    server = subprocess.Popen(
        _inside("server", "serve", who, SERVER, directory), stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        assert server.stdout is not None
        if server.stdout.readline() != "ready\n":
            raise RuntimeError(f"the server of {who} did not start")
        said = subprocess.run(
            _inside("client", "ask", who, SERVER, directory, str(ROUNDS)),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            cwd=ROOT,
        )
        if said.returncode:
            raise RuntimeError(f"{who}: {said.stderr.strip().splitlines()[-1]}")
        found: dict[str, list[float]] = json.loads(said.stdout)
        return found
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    print(run().as_table())
