"""The agent with 1,000 pods: its memory, the processor that it takes when nothing happens, and for a look at all."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path

from bench.agent_process import agent
from bench.isolation import isolated
from bench.result import Result
from fairway.net.agent.client import Client

PODS = 1000
IDLE_S = 20.0


def run() -> Result:
    """Memory in MiB; the processor in percent of one core."""
    return isolated(_measure)


def _measure() -> Result:
    result = Result("agent_memory")
    with (
        tempfile.TemporaryDirectory(dir="/var/tmp") as directory,
        agent(Path(directory), "[repair]\nevery_s = 86400") as (process, socket),
        Client(socket) as client,
    ):
        result.add("fairway", "resident, no pods", [_resident_mib(process.pid)], "MiB")
        for number in range(PODS):
            subprocess.run(["ip", "netns", "add", f"bench{number}"], check=True)
            client.call("attach", _request(number))
        result.add("fairway", "resident, 1,000 pods", [_resident_mib(process.pid)], "MiB")
        time.sleep(3)  # until what the kernel tells of the last pods has been looked at
        result.add("fairway", "idle, 1,000 pods", [_busy_percent(process.pid)], "%")
        before, started = _processor_s(process.pid), time.perf_counter()
        client.call("check")
        result.add("fairway", "look at everything, processor", [_processor_s(process.pid) - before], "s")
        result.add("fairway", "look at everything", [time.perf_counter() - started], "s")
        result.add("fairway", "peak resident", [_peak_mib(process.pid)], "MiB")
        for number in range(PODS):
            client.call("detach", {"container": f"{number:064x}"})
        result.add("fairway", "resident, all removed", [_resident_mib(process.pid)], "MiB")
    result.notes.append("pods are attachments, each with labels and 1 kB of a runtime's configuration")
    result.notes.append("idle: settings are looked at every 2 s")
    return result


def _request(number: int) -> dict[str, object]:
    return {
        "container": f"{number:064x}",
        "namespace": f"/run/netns/bench{number}",
        "network": "bench",
        "config": "x" * 1000,
        "kubernetes": {"namespace": "bench", "pod": f"pod-{number}", "labels": {"app": "bench", "tier": "web"}},
    }


def _busy_percent(pid: int) -> float:
    before = _processor_s(pid)
    time.sleep(IDLE_S)
    return (_processor_s(pid) - before) / IDLE_S * 100


def _processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def _peak_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024
