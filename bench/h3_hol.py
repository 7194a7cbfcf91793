"""Many objects over a path that loses packets: HTTP/3 beside HTTP/2, where one loss holds up every object.

The same client (curl) fetches the same objects over one connection from the same server, by either protocol; both
ends are in namespaces of a lab whose link has the delay, the loss and the rate. Twice: small objects asked for one by
one, so few bytes at a time that the window is seldom full and only head-of-line blocking makes the difference; and
large ones all at once, where the congestion controller and the order in which the server sends decide more than the
blocking.
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

TIMEOUT_S = 90
ROOT = Path(__file__).parent.parent
PLOT = ROOT / "docs" / "img" / "h3_hol.svg"
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
PATH = "50 ms round trip, 2 % of packets lost each way, 50 Mbit/s"


@dataclass(frozen=True)
class Case:
    """A server, a version of HTTP, for TCP its congestion control, and a client."""

    server: str
    version: str
    tcp: str = "cubic"
    client: str = "curl"

    @property
    def name(self) -> str:
        """For the table."""
        if self.version == "2":
            return f"{self.server} HTTP/2, TCP {self.tcp}"
        return f"{self.server} HTTP/3" if self.client == "curl" else f"{self.server} HTTP/3, {self.client}'s client"


CASES = (
    Case(FAIRWAY, "3"),
    Case(FAIRWAY, "3", client=FAIRWAY),
    Case(FAIRWAY, "2"),
    Case(CADDY, "3"),
    Case(CADDY, "2"),
    Case(CADDY, "2", "bbr"),
)


@dataclass(frozen=True)
class Scenario:
    """What is asked for: `interval_s` between one object and the next, 0 for all at once."""

    what: str
    count: int
    size: int
    interval_s: float
    rounds: int
    cases: tuple[Case, ...]


ONE_BY_ONE = Scenario("one each 20 ms", 101, 1_000, 0.020, 5, CASES)
AT_ONCE = Scenario("all at once", 100, 10_000, 0.0, 3, tuple(case for case in CASES if case.client == "curl"))

Rounds = list[dict[str, Any]]


def run() -> Result:
    """Milliseconds from the request for an object until it was complete, over all objects of all rounds; and a plot."""
    return isolated(_measure)


def _inside(node: str, *command: str) -> list[str]:
    return ["nsenter", f"--net=/run/netns/hol.{node}", *command]


def _measure() -> Result:
    result = Result("h3_hol")
    missing: dict[str, None] = {}
    with tempfile.TemporaryDirectory() as directory:
        site = Site(Path(directory))
        file = Path(directory) / "hol.toml"
        file.write_text(TOPOLOGY)
        lab.up(file)
        try:
            for scenario in (ONE_BY_ONE, AT_ONCE):
                measured = _rounds(scenario, site, missing)
                _report(result, scenario, measured)
                if scenario is ONE_BY_ONE:
                    _plot(scenario, measured)
        finally:
            lab.down("hol")
    result.notes += missing
    one, all_of = ONE_BY_ONE, AT_ONCE
    result.notes += [
        f"{PATH}; one connection, by curl unless it says otherwise, each byte compared;"
        " the congestion control of all QUIC is cubic",
        f"{one.what}: {one.count - 1} objects of {one.size:,} bytes on a connection that is up, {one.rounds} rounds",
        f"{all_of.what}: {all_of.count} objects of {all_of.size:,} bytes, counted from before the connection is made,"
        f" {all_of.rounds} rounds; here the order of sending tells most: Caddy sends HTTP/3's objects in turn,"
        " HTTP/2's nearly one after the other",
        f"plot: {PLOT.relative_to(ROOT)}",
    ]
    return result


def _rounds(scenario: Scenario, site: Site, missing: dict[str, None]) -> dict[Case, Rounds]:
    """The cases in turn."""
    place = site.files / str(scenario.size)
    place.mkdir()
    for number in range(scenario.count):
        (place / f"{number}.bin").write_bytes(content(number, scenario.size))
    samples: dict[Case, Rounds] = {case: [] for case in scenario.cases}
    for _ in range(scenario.rounds):
        for case in scenario.cases:
            try:
                samples[case].append(_fetch(scenario, case, site))
            except (NotHereError, ValueError, subprocess.TimeoutExpired) as error:
                missing[f"{case.name}: {error}"] = None
    return {case: rounds for case, rounds in samples.items() if rounds}


def _fetch(scenario: Scenario, case: Case, site: Site) -> dict[str, Any]:
    # By the route: the kernel lets no namespace choose a controller for all that root has not allowed to everybody.
    route = ["ip", "route", "replace", f"{CLIENT}/32", "dev", "eth0", "congctl", case.tcp]
    subprocess.run(_inside("server", *route), check=True)
    with Server(case.server, site, host=SERVER, prefix=_inside("server")) as server:
        where = [SERVER, str(server.port), case.version, str(site.certificate.authority)]
        what = [str(scenario.count), str(scenario.size), str(scenario.interval_s)]
        program = "bench.h3_objects" if case.client == "curl" else "bench.h3_objects_fairway"
        said = subprocess.run(
            _inside("client", sys.executable, "-m", program, *where, *what),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            cwd=ROOT,
        )
    if said.returncode:
        raise ValueError(said.stderr.strip().splitlines()[-1])
    found: dict[str, Any] = json.loads(said.stdout)
    return found


def _report(result: Result, scenario: Scenario, measured: dict[Case, Rounds]) -> None:
    what = f"{scenario.what}: complete"
    for case, rounds in measured.items():
        result.add(case.name, f"{scenario.what}: connection up", [1e3 * one["connected"] for one in rounds], "ms")
        result.add(case.name, f"{what}, the first", [1e3 * one["completed"][0] for one in rounds], "ms")
        times = [1e3 * time for time in _together(rounds)]
        for percent in (10, 50, 90, 99):
            result.add_percentile(case.name, what, times, "ms", percent)
        result.add(case.name, f"{what}, the last", [max(times)], "ms")
    for percent in (50, 90, 99):
        for server in (FAIRWAY, CADDY):
            result.compare(f"{what} p{percent}", f"{server} HTTP/3", f"{server} HTTP/2, TCP cubic")


def _together(rounds: Rounds) -> list[float]:
    return [time for one in rounds for time in one["completed"]]


def _plot(scenario: Scenario, measured: dict[Case, Rounds]) -> None:
    """One server's two protocols: Fairway's, or Caddy's where Fairway was not measured."""
    for server in (FAIRWAY, CADDY):
        wanted = [Case(server, version) for version in ("3", "2")]
        by = {case.version: measured[case] for case in wanted if case in measured}
        if len(by) == 2:
            curves = [
                Curve("HTTP/3 (QUIC)", [1e3 * time for time in _together(by["3"])]),
                Curve("HTTP/2 (TLS over TCP)", [1e3 * time for time in _together(by["2"])]),
            ]
            title = (
                f"{scenario.size // 1000} kB asked for every {scenario.interval_s * 1e3:g} ms: how soon they are there"
            )
            subtitle = f"{PATH}; one connection, {server.title()} to curl"
            write(PLOT, shares(title, subtitle, "milliseconds from request to last byte", curves))
            return


if __name__ == "__main__":
    print(run().as_table())
