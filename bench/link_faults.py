"""A lab's links with faults: what is asked of them, and what ping and TCP then see."""

from __future__ import annotations

import tempfile
from ipaddress import ip_address
from pathlib import Path

from bench.iperf import stream
from bench.isolation import isolated
from bench.result import Result
from fairway import lab
from fairway.lab.faults import find_relays
from fairway.net.host.ping import Probe, ping

STREAM_S = 3
ECHOES = 1000
CASES = {
    "none": "",
    "10 ms": 'delay = "10ms"',
    "10 ms, jitter 1 ms": 'delay = "10ms"\njitter = "1ms"',
    "100 Mbit/s": 'rate = "100mbit"',
    "10 ms, 100 Mbit/s": 'delay = "10ms"\nrate = "100mbit"',
    "5 ms, 1 % lost": 'delay = "5ms"\nloss = "1%"',
}
TOPOLOGY = """
[nodes.a]
[nodes.b]
[links.wire]
members = {{ a = "192.0.2.1/24", b = "192.0.2.2/24" }}
{faults}
"""


def run() -> Result:
    """Round trips in ms, the share of echoes lost in percent, TCP throughput in Mbit/s."""
    return isolated(_measure)


def _measure() -> Result:
    result = Result("link_faults")
    with tempfile.TemporaryDirectory() as directory:
        for name, faults in CASES.items():
            file = Path(directory) / "faults.toml"
            file.write_text(TOPOLOGY.format(faults=faults))
            engine = lab.up(file).engine
            who = f"{name} ({engine})" if faults else "bare veth"
            there = ip_address("192.0.2.2")
            ping([Probe("faults.a", there)])  # finds the neighbour
            answers = ping([Probe("faults.a", there)] * ECHOES, tries=1)
            trips = [answer.rtt_ms for answer in answers if answer.rtt_ms is not None]
            result.add(who, "round trip", trips, "ms")
            result.add(who, "echoes lost, there or back", [100 * (1 - len(trips) / ECHOES)], "%")
            result.add(
                who, "TCP throughput", [stream("faults.a", "faults.b", str(there), seconds=STREAM_S) * 1000], "Mbit/s"
            )
            lab.down("faults")
            assert not find_relays("faults."), "the relay outlived its lab"
    result.notes.append(f"faults are each way; {ECHOES} echoes at once; one TCP stream with cubic for {STREAM_S} s")
    return result
