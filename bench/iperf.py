"""iperf3 between two network namespaces."""

from __future__ import annotations

import json
import subprocess

TRIES = 3


def stream(client: str, server: str, address: str, *, seconds: float = 0, size: str = "") -> float:
    """Gbit/s that arrive of one TCP stream (cubic) between two namespaces, each end on a processor of its own.

    It lasts so many seconds, or until so much was sent, such as "256M".
    """
    length = ["-n", size] if size else ["-t", str(seconds)]
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
            said = subprocess.run([*client_of, *length, "-C", "cubic", "-J"], capture_output=True, text=True).stdout
        finally:
            listener.kill()
            listener.wait()
        end = json.loads(said).get("end", {})
        if "sum_received" in end:
            return float(end["sum_received"]["bits_per_second"]) / 1e9
    raise SystemExit(f"iperf3 to {address} failed: {said}")
