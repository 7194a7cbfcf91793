"""Adding and deleting a pod: the library, alone and among 1,000 pods, beside the CNI plugins ptp and host-local."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path

from bench.isolation import isolated
from bench.result import Result
from fairway.net.agent import Host

ROUNDS = 100
CROWD = 1000
PEER = "ptp + host-local"
PLUGINS = Path("/usr/lib/cni")
# The state is on a disk, not in memory: what a user pays for durability is part of the figure.
STATE = Path("/var/tmp")


def run() -> Result:
    """Times of whole operations, in milliseconds."""
    return isolated(_measure)


def _measure() -> Result:
    result = Result("pod_add")
    uplink = "ip link add eth0 type veth peer name wire; ip link set eth0 up; ip link set wire up"
    subprocess.run(f"{uplink}; ip addr add 192.0.2.2/24 dev eth0; ip route add default via 192.0.2.1", shell=True)
    with tempfile.TemporaryDirectory(dir=STATE) as directory, Host(Path(directory)) as host:
        host.add_pool(ip_network("10.0.0.0/16"))
        host.add_pod("first")
        added, deleted, ended = [], [], []
        peer_added, peer_deleted = [], []
        # In turn, so that what else the machine does meets both alike.
        for number in range(ROUNDS):
            added.append(_timed(host.add_pod, f"pod{number}"))
            deleted.append(_timed(host.remove_pod, f"pod{number}"))
            ended.append(deleted[-1] + _timed(host.wait_removed, f"pod{number}"))
            if (PLUGINS / "ptp").exists():
                peer = _peer(number, Path(directory))
                peer_added.append(peer[0])
                peer_deleted.append(peer[1])
        for who, adding, deleting in (("fairway", added, deleted), (PEER, peer_added, peer_deleted)):
            if adding:
                result.add(who, "add", adding, "ms")
                result.add_percentile(who, "add", adding, "ms")
                result.add(who, "delete", deleting, "ms")
                result.add_percentile(who, "delete", deleting, "ms")
        result.add("fairway", "delete, kernel done", ended, "ms")
        if peer_added:
            result.compare("add", "fairway", PEER)
            result.compare("delete", "fairway", PEER)
        _crowd(result, host)
    result.notes.append(
        "fairway: a call of the library, durable when it returns; the peer: two processes, as runtimes do"
    )
    result.notes.append("delete returns when the pod's traffic has ended; 'kernel done' when its link is gone as well")
    return result


def _crowd(result: Result, host: Host) -> None:
    for number in range(CROWD):
        host.add_pod(f"crowd{number}")
    added, deleted = [], []
    for number in range(ROUNDS):
        added.append(_timed(host.add_pod, f"pod{number}"))
        deleted.append(_timed(host.remove_pod, f"pod{number}"))
        host.wait_removed(f"pod{number}")
    alone = {row.what: row.value for row in result.rows if row.who == "fairway"}
    crowd = result.add("fairway", "add, among 1,000", added, "ms")
    result.add_percentile("fairway", "add, among 1,000", added, "ms")
    result.add("fairway", "delete, among 1,000", deleted, "ms")
    result.ratios["add among 1,000/alone"] = crowd / alone["add"]
    for pod in host.pods():
        host.remove_pod(pod.name)


def _peer(number: int, directory: Path) -> tuple[float, float]:
    namespace = f"peer{number}"
    subprocess.run(["ip", "netns", "add", namespace], check=True)
    subnet = [[{"subnet": "10.200.0.0/16"}]]
    ipam = {"type": "host-local", "ranges": subnet, "dataDir": str(directory / "cni"), "routes": [{"dst": "0.0.0.0/0"}]}
    network = json.dumps({"cniVersion": "1.0.0", "name": "bench", "type": "ptp", "ipam": ipam})
    environment = os.environ | {
        "CNI_CONTAINERID": namespace,
        "CNI_NETNS": f"/run/netns/{namespace}",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": str(PLUGINS),
    }

    def call(command: str) -> None:
        subprocess.run(
            [PLUGINS / "ptp"],
            input=network.encode(),
            env=environment | {"CNI_COMMAND": command},
            check=True,
            stdout=subprocess.DEVNULL,
        )

    times = _timed(call, "ADD"), _timed(call, "DEL")
    subprocess.run(["ip", "netns", "delete", namespace], check=True)
    return times


def _timed(work: Callable[[str], object], name: str) -> float:
    started = time.perf_counter()
    work(name)
    return (time.perf_counter() - started) * 1e3
