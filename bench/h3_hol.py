"""Many objects at once over a path that loses packets: HTTP/3 beside HTTP/2, where one loss holds up every object.

The same client (curl) fetches the same objects over one connection from the same server, by either protocol; both ends
are in namespaces of a lab whose link has the delay, the loss and the rate.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.h3_objects import content
from bench.h3_servers import CADDY, FAIRWAY, NotHereError, Server, Site
from bench.isolation import isolated
from bench.plot import Curve, shares, write
from bench.result import Result
from fairway import lab

COUNT, SIZE = 100, 20_000
ROUNDS = 5
TIMEOUT_S = 90
PLOT = Path(__file__).parent.parent / "docs" / "img" / "h3_hol.svg"
CLIENT, SERVER = "192.0.2.1", "192.0.2.2"
TOPOLOGY = f"""
name = "hol"
[nodes.client]
[nodes.server]
[links.wire]
members = {{ client = "{CLIENT}/24", server = "{SERVER}/24" }}
delay = "25ms"
loss = "2%"
rate = "50mbit"
"""


@dataclass(frozen=True)
class Case:
    """A server, a version of HTTP and, for TCP, its congestion control."""

    server: str
    version: str
    tcp: str = "cubic"

    @property
    def name(self) -> str:
        """For the table."""
        return f"{self.server} HTTP/3" if self.version == "3" else f"{self.server} HTTP/2, TCP {self.tcp}"


CASES = (
    Case(FAIRWAY, "3"),
    Case(FAIRWAY, "2"),
    Case(CADDY, "3"),
    Case(CADDY, "2"),
    Case(CADDY, "2", "bbr"),
)


def run() -> Result:
    """Milliseconds from the start until an object was complete, over all objects of all rounds; and a plot of it."""
    return isolated(_measure)


def _inside(node: str, *command: str) -> list[str]:
    return ["nsenter", f"--net=/run/netns/hol.{node}", *command]


def _measure() -> Result:
    result = Result("h3_hol")
    samples: dict[Case, list[dict[str, Any]]] = {}
    missing: dict[str, None] = {}
    with tempfile.TemporaryDirectory() as directory:
        site = Site(Path(directory))
        for number in range(COUNT):
            (site.files / f"{number}.bin").write_bytes(content(number, SIZE))
        file = Path(directory) / "hol.toml"
        file.write_text(TOPOLOGY)
        lab.up(file)
        try:
            for _ in range(ROUNDS):
                for case in CASES:
                    try:
                        samples.setdefault(case, []).append(_fetch(case, site))
                    except (NotHereError, ValueError, subprocess.TimeoutExpired) as error:
                        missing[f"{case.name}: {error}"] = None
        finally:
            lab.down("hol")
    measured = {case: rounds for case, rounds in samples.items() if rounds}
    for case, rounds in measured.items():
        _report(result, case, rounds)
    for what in ("object complete p50", "object complete p99"):
        for server in (FAIRWAY, CADDY):
            result.compare(what, f"{server} HTTP/3", f"{server} HTTP/2, TCP cubic")
    result.notes += missing
    result.notes += [
        f"{COUNT} objects of {SIZE:,} bytes, all asked for at once on one connection by curl, each byte compared;"
        f" all objects of {ROUNDS} rounds together, counted from before the connection was made",
        "25 ms, 2 % lost and 50 Mbit/s each way; the congestion control of all QUIC is cubic",
        f"plot: {PLOT.relative_to(PLOT.parent.parent.parent)}",
    ]
    _plot(measured)
    return result


def _fetch(case: Case, site: Site) -> dict[str, Any]:
    # By the route: the kernel lets no namespace choose a controller for all that root has not allowed to everybody.
    route = ["ip", "route", "replace", f"{CLIENT}/32", "dev", "eth0", "congctl", case.tcp]
    subprocess.run(_inside("server", *route), check=True)
    with Server(case.server, site, host=SERVER, prefix=_inside("server")) as server:
        arguments = [SERVER, str(server.port), case.version, str(site.certificate.authority), str(COUNT), str(SIZE)]
        said = subprocess.run(
            _inside("client", sys.executable, "-m", "bench.h3_objects", *arguments),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            cwd=Path(__file__).parent.parent,
        )
    if said.returncode:
        raise ValueError(said.stderr.strip().splitlines()[-1])
    found: dict[str, Any] = json.loads(said.stdout)
    return found


def _report(result: Result, case: Case, rounds: list[dict[str, Any]]) -> None:
    result.add(case.name, "connection up", [1e3 * one["connected"] for one in rounds], "ms")
    result.add(case.name, "first object complete", [1e3 * one["completed"][0] for one in rounds], "ms")
    together = _together(rounds)
    for percent in (10, 50, 90, 99):
        result.add_percentile(case.name, "object complete", [1e3 * time for time in together], "ms", percent)
    result.add(case.name, "object complete, the last", [1e3 * max(together)], "ms")


def _together(rounds: list[dict[str, Any]]) -> list[float]:
    return [time for one in rounds for time in one["completed"]]


def _plot(measured: dict[Case, list[dict[str, Any]]]) -> None:
    """The server's two protocols: Fairway's, or Caddy's where Fairway has none."""
    for server in (FAIRWAY, CADDY):
        curves = [
            Curve(f"HTTP/{version} ({'QUIC' if version == '3' else 'TLS over TCP'})", _together(rounds))
            for version in ("3", "2")
            for case, rounds in measured.items()
            if (case.server, case.version, case.tcp) == (server, version, "cubic")
        ]
        if len(curves) == 2:
            title = f"{COUNT} objects at once: how many are complete, and when"
            path = "50 ms round trip, 2 % of packets lost each way, 50 Mbit/s"
            subtitle = f"{SIZE // 1000} kB each; {path}; one connection, from {server.title()} to curl"
            write(PLOT, shares(title, subtitle, "seconds since the start", curves))
            return


if __name__ == "__main__":
    print(run().as_table())
