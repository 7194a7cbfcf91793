"""Bulk transfer over loopback: one connection, two processes, both directions, the receiver verifies every byte."""

from __future__ import annotations

import os

from bench.quic_peers import PEERS, Case, measure
from bench.result import Result

MIB = 1 << 20
LENGTHS = {"fairway": 1024 * MIB, "qh3": 256 * MIB, "aioquic": 32 * MIB, "tls over tcp": 1024 * MIB}
ROUNDS = 3
SCALE = float(os.environ.get("FAIRWAY_BENCH_SCALE", "1"))
"""Less than 1 for a quick look."""


def run() -> Result:
    """Gbit/s, the median of rounds that take the peers in turn."""
    result = Result("quic_bulk")
    cases = {
        "bulk, server to client": [Case(who, True, LENGTHS[who]) for who in PEERS],
        "bulk, client to server": [Case(who, False, LENGTHS[who]) for who in PEERS],
        "bulk, 8,900-byte datagrams": [Case(who, True, LENGTHS[who], payload=8900) for who in ("fairway", "qh3")],
        "bulk, 100 streams": [Case(who, True, LENGTHS[who], streams=100) for who in ("fairway", "qh3", "aioquic")],
    }
    for what, group in cases.items():
        samples: dict[str, list[float]] = {case.who: [] for case in group}
        for _ in range(ROUNDS):
            for case in group:
                scaled = Case(case.who, case.download, int(case.length * SCALE), case.streams, case.payload)
                try:
                    samples[case.who].append(measure(scaled))
                except (TimeoutError, EOFError) as error:
                    result.notes.append(f"{case.who}, {what}: {error}")
        for who, values in samples.items():
            if values:
                result.add(who, what, values, "Gbit/s")
        for peer in PEERS[1:]:
            result.compare(what, "fairway", peer)
    result.notes.append("UDP payload of 1,452 bytes unless it says otherwise; loopback; medians of 3 rounds")
    result.notes.append("lengths: " + ", ".join(f"{who} {length // MIB} MiB" for who, length in LENGTHS.items()))
    return result


if __name__ == "__main__":
    print(run().as_table())
