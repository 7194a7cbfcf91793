"""Links with faults: what ping and iperf3 see through the relay, beside the bare veth pair. Root.

python -m bench.link_faults [--seconds 3]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

from fairway.lab.faults import Relay, find_relays, start_relay, stop_relay
from fairway.lab.model import Faults

PREFIX = f"fwb-relay-{os.getpid()}-"
LINK, LEFT, RIGHT = f"{PREFIX}link", f"{PREFIX}a", f"{PREFIX}b"
PORTS = ("p0", "p1")
ADDRESS = "10.9.0.2"
CASES = (
    Faults(delay_ms=10),
    Faults(delay_ms=10, jitter_ms=1),
    Faults(delay_ms=2, loss=0.001),
    Faults(rate_bps=100_000_000),
    Faults(delay_ms=10, rate_bps=100_000_000),
    Faults(delay_ms=5, rate_bps=10_000_000),
    Faults(delay_ms=10, jitter_ms=1, loss=0.001, rate_bps=200_000_000),
)


def main() -> None:
    """Print a line a case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=3)
    seconds = parser.parse_args().seconds
    print(
        f"{'faults':34} {'RTT min/avg/max ms':>22} {'cubic':>7} {'bbr':>7} {'UDP Mbit/s (lost)':>18} {'relay CPU, RSS'}"
    )
    try:
        _make(direct=True)
        print(_row("none, bare veth", None, seconds, 1000))
        _clean()
        _make(direct=False)
        for faults in CASES:
            began = time.perf_counter()
            relay = start_relay(LINK, PORTS, faults, title="bench")
            took_ms = (time.perf_counter() - began) * 1000
            udp = 0.9 * faults.rate_bps / 1e6 if faults.rate_bps else 700
            print(_row(_name(faults), relay, seconds, udp), f"started in {took_ms:.0f} ms", flush=True)
            stop_relay(relay)
    finally:
        _clean()


def _name(faults: Faults) -> str:
    parts = [f"{faults.delay_ms:g} ms"]
    if faults.jitter_ms:
        parts.append(f"+- {faults.jitter_ms:g} ms")
    if faults.loss:
        parts.append(f"{faults.loss:.1%} lost")
    if faults.rate_bps:
        parts.append(f"{faults.rate_bps / 1e6:g} Mbit/s")
    return ", ".join(parts)


def _row(name: str, relay: Relay | None, seconds: int, udp_mbit: float) -> str:
    _in(LEFT, f"ping -q -n -c 2 -i 0.02 {ADDRESS}")
    found = re.search(r"= ([\d.]+)/([\d.]+)/([\d.]+)/", _in(LEFT, f"ping -q -n -c 50 -i 0.02 {ADDRESS}"))
    trip = "/".join(found.groups()) if found else "-"
    before = _cpu_s(relay)
    cubic, bbr = (_mbit(_iperf(f"-t {seconds} -C {name}")["sum_received"]) for name in ("cubic", "bbr"))
    udp = _iperf(f"-t {seconds} -u -l 1400 -w 2M -b {udp_mbit:.0f}M")["sum"]
    load = (_cpu_s(relay) - before) / (3 * seconds)
    delivered = _mbit(udp) * (1 - udp["lost_percent"] / 100)
    lost = f"{delivered:.0f} ({udp['lost_percent']:.2f}%)"
    return f"{name:34} {trip:>22} {cubic:7.1f} {bbr:7.1f} {lost:>18} {load:4.0%} {_resident_mb(relay):4.0f} MB"


def _mbit(figures: dict[str, Any]) -> float:
    return float(figures["bits_per_second"]) / 1e6


def _iperf(words: str) -> dict[str, Any]:
    command = ["ip", "netns", "exec", RIGHT, "iperf3", "-s", "-1"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            time.sleep(0.3)
            report = json.loads(_in(LEFT, f"iperf3 -J -c {ADDRESS} {words}"))
        finally:
            server.terminate()
    if "error" in report:
        raise SystemExit(f"iperf3 {words}: {report['error']}")
    return dict(report["end"])


def _cpu_s(relay: Relay | None) -> float:
    if relay is None:
        return 0.0
    fields = Path(f"/proc/{relay.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mb(relay: Relay | None) -> float:
    if relay is None:
        return 0.0
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{relay.pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def _in(namespace: str, words: str) -> str:
    command = ["ip", "netns", "exec", namespace, *words.split()]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _make(*, direct: bool) -> None:
    for name in (LEFT, RIGHT, LINK):
        _ip(f"netns add {name}")
    if direct:
        _ip(f"link add e0 netns {LEFT} type veth peer name e0 netns {RIGHT}")
    for number, name in enumerate((LEFT, RIGHT)):
        if not direct:
            _ip(f"link add e0 netns {name} type veth peer name {PORTS[number]} netns {LINK}")
            _ip(f"-n {LINK} link set {PORTS[number]} up")
        _ip(f"-n {name} address add 10.9.0.{number + 1}/24 dev e0")
        _ip(f"-n {name} link set e0 up")


def _clean() -> None:
    for relay in find_relays(PREFIX):
        stop_relay(relay)
    for name in (LEFT, RIGHT, LINK):
        subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def _ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True)


if __name__ == "__main__":
    main()
