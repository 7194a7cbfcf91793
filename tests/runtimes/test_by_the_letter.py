"""What docs/cni.md tells a reader to type is typed, but for packages, systemd and registries, which tests have not."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from netns.agents import COMMAND, until
from runtimes import images
from runtimes.containerd import Containerd
from runtimes.host import sh

ROOT = Path(__file__).parents[2]
PROGRAMS = ("containerd", "ctr", "runc", "podman", "conmon", "busybox")
PUBLIC = "docker.io/library/busybox"
NOT_HERE = ("apt-get ", "systemctl ", "fairway agent install", "ctr image pull")

pytestmark = [
    pytest.mark.skipif(not all(map(shutil.which, PROGRAMS)), reason=f"needs {', '.join(PROGRAMS)}"),
    pytest.mark.timeout(200),
]


def commands(heading: str) -> list[str]:
    """What the section says to type, block after block."""
    section = (ROOT / "docs/cni.md").read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    return ["".join(line for line in block.splitlines(True) if not line.startswith(NOT_HERE)) for block in blocks]


@pytest.fixture
def machine() -> Iterator[dict[str, str]]:
    """A machine as it is before: its own /etc/cni, /etc/containers, plugins' folder and state; and the agent.

    They are mounted over the real ones in the tests' own mount namespace. Returns the environment to type in.
    """
    plugins = Path("/usr/lib/cni")
    standard = {path.name: path.read_bytes() for path in plugins.iterdir() if path.name in ("portmap", "bandwidth")}
    folders = [plugins, Path("/etc/cni/net.d"), Path("/etc/containers"), Path("/var/lib")]
    for folder in folders:
        sh(f"mount -t tmpfs none {folder}")
    for name, program in standard.items():
        (plugins / name).write_bytes(program)
        (plugins / name).chmod(0o755)
    sh("ip link add uplink type veth peer name line; ip link set uplink up; ip link set line up")
    sh("ip addr add 192.0.2.1/24 dev uplink; ip route add default via 192.0.2.2")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {key: value for key, value in os.environ.items() if key != "FAIRWAY_STATE"} | {"PATH": path}
    agent = subprocess.Popen([*COMMAND, "agent"], stderr=subprocess.DEVNULL, env=environment)
    try:
        until(Path("/run/fairway/cni.sock").exists, 20)
        yield environment
    finally:
        agent.kill()
        agent.wait()
        sh("ip link del uplink")
        shutil.rmtree("/run/fairway", ignore_errors=True)
        for folder in reversed(folders):
            sh(f"umount -l {folder}")


def type_in(text: str, environment: dict[str, str]) -> str:
    done = subprocess.run(["bash", "-e", "-c", text], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_use_it_with_containerd(machine: dict[str, str]) -> None:
    installing, running = commands("Use it with containerd")
    printed = type_in(installing, machine)
    assert "agent          ready" in printed
    containerd = Containerd(Path("/run/letter"), Path("/usr/lib/cni"), Path("/etc/cni/net.d"))
    try:
        containerd.start()
        containerd.import_image(f"{PUBLIC}:latest")
        at_its_socket = machine | {"CONTAINERD_ADDRESS": str(containerd.socket), "CONTAINERD_NAMESPACE": "k8s.io"}
        assert "inet 10.0.1." in type_in(running, at_its_socket)
    finally:
        containerd.end()
        shutil.rmtree("/run/letter", ignore_errors=True)


def test_use_it_with_podman(machine: dict[str, str]) -> None:
    (block,) = commands("Use it with Podman")
    installing, _, running = block.rpartition("podman run")
    type_in(installing, machine)
    # What this machine needs besides: no systemd for cgroups and events, and the limits that it permits.
    more = '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
    limits = '[containers]\ndefault_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]\napparmor_profile = ""\n'
    with open("/etc/containers/containers.conf", "a") as config:
        config.write(more + limits)
    Path("/etc/containers/policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    images.archive(Path("/run/letter.tar"), f"{PUBLIC}:latest")
    type_in("podman load -i /run/letter.tar", machine)
    assert "inet 10.0.1." in type_in(f"podman run{running}", machine)
