"""CNI as a runtime sees it: whole processes of ADD and DEL, alone, among 1,000 pods, 100 at once; beside ptp."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.agent_process import agent
from bench.isolation import isolated
from bench.result import Result
from fairway.net.cni import PENDING, SOCKET
from fairway.net.cni.install import Place, install_plugin
from fairway.net.cni.shim import best

ROUNDS = 100
CROWD = 1000
AT_ONCE = 100
OURS, PEER = "fairway", "ptp + host-local"
PLUGINS = Path("/usr/lib/cni")
# The state is on a disk, not in memory: what a user pays for durability is part of the figure.
STATE = Path("/var/tmp")
_POOL = '[[pool]]\nnetwork = "10.96.0.0/16"\n'


@dataclass(frozen=True, slots=True)
class _Plugin:
    """An executable and the configuration that it is called with."""

    who: str
    program: Path
    config: dict[str, Any]

    def call(self, command: str, namespace: str) -> float:
        """One call, as a runtime makes it; returns what it took, in milliseconds."""
        environment = {
            "PATH": os.environ["PATH"],
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": f"{self.who.split()[0]}-{namespace}",
            "CNI_NETNS": f"/run/netns/{namespace}",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(PLUGINS),
        }
        data = json.dumps({"cniVersion": "1.0.0", "name": "bench", "type": self.program.name} | self.config).encode()
        started = time.perf_counter()
        # Without closing descriptors the process is spawned, not forked: the caller's size is no part of the figure.
        done = subprocess.run([self.program], input=data, env=environment, stdout=subprocess.PIPE, close_fds=False)
        took = (time.perf_counter() - started) * 1e3
        if done.returncode:
            raise SystemExit(f"{self.who}: {command} failed: {done.stdout.decode()}")
        return took


def run() -> Result:
    """Times of whole processes, in milliseconds."""
    return isolated(_measure)


def _measure() -> Result:
    result = Result("cni_add")
    with tempfile.TemporaryDirectory(dir=STATE) as directory, agent(Path(directory), _POOL):
        ours, peer = _plugin(Path(directory)), _peer(Path(directory))
        _measure_alone(result, ours, peer)
        for plugin in (ours, peer):
            _measure_crowd(result, plugin)
    for what in ("ADD", "DEL", f"ADD, {AT_ONCE} at once"):
        result.compare(what, OURS, PEER)
    rows = {(row.who, row.what): row.value for row in result.rows}
    for who in (OURS, PEER):
        ratio = rows[who, f"ADD, among {CROWD}"] / rows[who, "ADD, one after the other"]
        result.ratios[f"ADD among {CROWD:,}/one after the other, {who}"] = ratio
    result.notes += [
        f"a call: the plugin's process from its start to its end; {ROUNDS} in turn, namespaces made beforehand",
        f"fairway: the shim in {best().capitalize()}, and the agent behind it, durable when it answers",
        f"one after the other, among {CROWD}, at once: a plugin has the machine and {CROWD} pods of its own to itself",
        f"{AT_ONCE} at once: one call each for {AT_ONCE} containers, all started together, among {CROWD}",
    ]
    return result


def _measure_alone(result: Result, ours: _Plugin, peer: _Plugin) -> None:
    names = _namespaces("alone", ROUNDS)
    for plugin in (ours, peer):  # what is made with the first pod only
        plugin.call("ADD", _own(plugin, names[0]))
        plugin.call("DEL", _own(plugin, names[0]))
    _note(result, "ADD", _in_turn("ADD", names, ours, peer))
    _note(result, "DEL", _in_turn("DEL", names, ours, peer))


def _measure_crowd(result: Result, plugin: _Plugin) -> None:
    """One plugin, without the other's links and processes; at the end a busy node, whose containers all start again."""
    stem = plugin.who.split()[0]
    crowd, names = _namespaces(f"{stem}-crowd", CROWD), _namespaces(f"{stem}-few", ROUNDS)
    with ThreadPoolExecutor(4) as pool:
        for place in ("one after the other", f"among {CROWD}"):
            if place != "one after the other":
                list(pool.map(lambda name: plugin.call("ADD", _own(plugin, name)), crowd))
            for command in ("ADD", "DEL"):
                _note(result, f"{command}, {place}", _in_turn(command, names, plugin))
        for command in ("ADD", "DEL"):
            _note(result, f"{command}, {AT_ONCE} at once", {plugin.who: _at_once(command, names, plugin)})
        list(pool.map(lambda name: plugin.call("DEL", _own(plugin, name)), crowd))


def _in_turn(command: str, names: Iterable[str], *plugins: _Plugin) -> dict[str, list[float]]:
    """The times of each plugin, called by turns so that what else the machine does meets all alike."""
    times: dict[str, list[float]] = {plugin.who: [] for plugin in plugins}
    for name in names:
        for plugin in plugins:
            times[plugin.who].append(plugin.call(command, _own(plugin, name)))
    return times


def _at_once(command: str, names: Sequence[str], plugin: _Plugin) -> list[float]:
    with ThreadPoolExecutor(len(names)) as pool:
        return list(pool.map(lambda name: plugin.call(command, _own(plugin, name)), names))


def _own(plugin: _Plugin, name: str) -> str:
    """The namespace of that name which is the plugin's: a container has one `eth0`."""
    return name if plugin.who == OURS else f"{name}-peer"


def _note(result: Result, what: str, times: dict[str, list[float]]) -> None:
    for who, samples in times.items():
        result.add(who, what, samples, "ms")
        result.add_percentile(who, what, samples, "ms")


def _namespaces(prefix: str, count: int) -> list[str]:
    names = [f"{prefix}{number}" for number in range(count)]
    lines = "".join(f"netns add {name}\nnetns add {name}-peer\n" for name in names)
    subprocess.run(["ip", "-batch", "-"], input=lines.encode(), check=True)
    return names


def _plugin(directory: Path) -> _Plugin:
    """Ours, for the agent that keeps its state in that folder."""
    place = Place(directory / "bin", socket=directory / SOCKET.name, pending=directory / "state" / PENDING.name)
    install_plugin(place, best())
    return _Plugin(OURS, place.plugin, {})


def _peer(directory: Path) -> _Plugin:
    """Debian's ptp plugin with host-local addresses."""
    ranges = [[{"subnet": "10.200.0.0/16"}]]
    routes = [{"dst": "0.0.0.0/0"}]
    ipam = {"type": "host-local", "ranges": ranges, "routes": routes, "dataDir": str(directory / "host-local")}
    return _Plugin(PEER, PLUGINS / "ptp", {"ipam": ipam})
