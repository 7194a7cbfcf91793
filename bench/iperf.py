"""iperf3 between two network namespaces."""

from __future__ import annotations

import json
import subprocess

TRIES = 3


def stream(client: str, server: str, address: str, seconds: float) -> float:
    """Gbit/s that arrive of one TCP stream (cubic) between two namespaces, each end on a processor of its own."""
    for _ in range(TRIES):
        listener = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{server}", "iperf3", "-s", "-1", "--forceflush", "-B", address],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert listener.stdout is not None
            while "listening" not in listener.stdout.readline():
                pass
            client_of = ["nsenter", f"--net=/run/netns/{client}", "iperf3", "-c", address, "-A", "0,1"]
            said = subprocess.run(
                [*client_of, "-t", str(seconds), "-C", "cubic", "-J"], capture_output=True, text=True
            ).stdout
        finally:
            listener.kill()
            listener.wait()
        end = json.loads(said).get("end", {})
        if "sum_received" in end:
            return float(end["sum_received"]["bits_per_second"]) / 1e9
    raise SystemExit(f"iperf3 to {address} failed: {said}")
