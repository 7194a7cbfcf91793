"""The host that the runtimes run on: its way out, its agent, and what is looked at from it."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from fairway.net.cni import PENDING, SOCKET
from fairway.net.cni.install import Place, install_configuration, install_plugin
from fairway.net.cni.shim import best
from netns.agents import RunningAgent, running, until

ADDRESS = "192.0.2.1"
STANDARD = Path("/usr/lib/cni")


def sh(command: str) -> str:
    return subprocess.run(command, shell=True, capture_output=True, text=True, check=True).stdout


def answers(address: str) -> bool:
    return subprocess.run(["ping", "-c1", "-W2", address], capture_output=True).returncode == 0


def served(fetch: Callable[[], str]) -> bool:
    """Whether `fetch` gets the page, sooner or later: a server that was just started may not listen yet."""
    until(lambda: "served by a pod" in fetch())
    return True


def fetched(url: str) -> str:
    """The page, or nothing."""
    return subprocess.run(["busybox", "wget", "-q", "-O", "-", url], capture_output=True, text=True).stdout


@contextlib.contextmanager
def host(pool: str) -> Iterator[tuple[Path, RunningAgent]]:
    """A folder in the tests' own /run, as overlays do not stand on overlays, and an agent that has its state there."""
    directory = Path("/run/runtimes-test")
    directory.mkdir()
    sh("ip link add uplink type veth peer name line; ip link set uplink up; ip link set line up")
    sh(f"ip addr add {ADDRESS}/24 dev uplink; ip route add default via 192.0.2.2")
    try:
        with running(directory, f'[[pool]]\nnetwork = "{pool}"\n') as agent:
            yield directory, agent
    finally:
        sh("ip link del uplink")
        shutil.rmtree(directory, ignore_errors=True)


def install(directory: Path, agent: RunningAgent, *standard: str) -> Place:
    """The plugin and the network `pods`, with links to standard plugins beside it."""
    pending = agent.state / PENDING.name
    place = Place(directory / "bin", directory / "net.d", agent.socket.with_name(SOCKET.name), pending)
    install_plugin(place, best())
    for name in standard:
        if (found := STANDARD / name).exists():
            (place.bin_directory / name).symlink_to(found)
    install_configuration(place, "pods")
    return place
