"""Adding and deleting a pod: the library, alone and among 1,000 pods, beside the CNI plugins ptp and host-local."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path

from bench.isolation import isolated
from bench.result import Result
from fairway.net.host import Host

ROUNDS = 100
CROWD = 1000
TURNS = 3
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
        host.pools.add(ip_network("10.0.0.0/16"))
        host.add_pod("first")
        added, deleted, ended = [], [], []
        peer_added, peer_deleted = [], []
        # In turn, so that what else the machine does meets both alike; deletions later, as the kernel ends a
        # namespace in its own time, and would do so beside the next addition.
        peer = _Peer(Path(directory))
        for number in range(ROUNDS):
            added.append(_timed(host.add_pod, f"pod{number}"))
            peer_added.append(_timed(peer.add, f"peer{number}"))
        for number in range(ROUNDS):
            deleted.append(_timed(host.remove_pod, f"pod{number}"))
            ended.append(deleted[-1] + _timed(host.wait_removed, f"pod{number}"))
            peer_deleted.append(_timed(peer.delete, f"peer{number}"))
        peer.close()
        for who, adding, deleting in (("fairway", added, deleted), (PEER, peer_added, peer_deleted)):
            result.add(who, "add", adding, "ms")
            result.add_percentile(who, "add", adding, "ms")
            result.add(who, "delete", deleting, "ms")
            result.add_percentile(who, "delete", deleting, "ms")
        result.add("fairway", "delete, kernel done", ended, "ms")
        result.compare("add", "fairway", PEER)
        result.compare("delete", "fairway", PEER)
        _crowd(result, host)
    result.notes.append(
        "fairway: a call of the library that makes the namespace too, durable when it returns; the peer: two processes"
    )
    result.notes.append("delete returns when the pod's traffic has ended; 'kernel done' when its link is gone as well")
    return result


def _crowd(result: Result, host: Host) -> None:
    """A pod after the other, without the peer's processes in between: with few others and among a thousand, in turn."""
    added: dict[str, list[float]] = {"one after the other": [], "among 1,000": []}
    deleted: dict[str, list[float]] = {what: [] for what in added}
    for _ in range(TURNS):
        for what in added:
            crowd = [f"crowd{number}" for number in range(CROWD if what == "among 1,000" else 0)]
            for name in crowd:
                host.add_pod(name)
            names = [f"pod{number}" for number in range(ROUNDS)]
            added[what] += [_timed(host.add_pod, name) for name in names]
            for name in names:
                deleted[what].append(_timed(host.remove_pod, name))
                host.wait_removed(name)
            for name in crowd:
                host.remove_pod(name)
            for name in crowd:
                host.wait_removed(name)
    for what in added:
        result.add("fairway", f"add, {what}", added[what], "ms")
        result.add_percentile("fairway", f"add, {what}", added[what], "ms")
        result.add("fairway", f"delete, {what}", deleted[what], "ms")
    ratio = statistics.median(added["among 1,000"]) / statistics.median(added["one after the other"])
    result.ratios["add among 1,000/one after the other"] = ratio


class _Peer:
    """Debian's ptp plugin with host-local addresses, called as a runtime calls it; namespaces are made beforehand."""

    def __init__(self, directory: Path) -> None:
        ranges = [[{"subnet": "10.200.0.0/16"}]]
        ipam = {
            "type": "host-local",
            "ranges": ranges,
            "dataDir": str(directory / "cni"),
            "routes": [{"dst": "0.0.0.0/0"}],
        }
        self._network = json.dumps({"cniVersion": "1.0.0", "name": "bench", "type": "ptp", "ipam": ipam}).encode()
        for number in range(ROUNDS):
            subprocess.run(["ip", "netns", "add", f"peer{number}"], check=True)

    def add(self, namespace: str) -> None:
        """ADD, a process for the plugin and one for its IPAM."""
        self._call("ADD", namespace)

    def delete(self, namespace: str) -> None:
        """DEL, likewise."""
        self._call("DEL", namespace)

    def close(self) -> None:
        """Remove the namespaces."""
        for number in range(ROUNDS):
            subprocess.run(["ip", "netns", "delete", f"peer{number}"], check=True)

    def _call(self, command: str, namespace: str) -> None:
        environment = os.environ | {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": namespace,
            "CNI_NETNS": f"/run/netns/{namespace}",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(PLUGINS),
        }
        plugin = [str(PLUGINS / "ptp")]
        subprocess.run(plugin, input=self._network, env=environment, check=True, stdout=subprocess.DEVNULL)


def _timed(work: Callable[[str], object], name: str) -> float:
    started = time.perf_counter()
    work(name)
    return (time.perf_counter() - started) * 1e3
