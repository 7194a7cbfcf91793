"""Podman, with its CNI backend, on Fairway's network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairway.net.cni.install import PARTNERS, Place
from runtimes import images
from runtimes.host import ADDRESS, answers, fetched, host, install, served, sh

PROGRAMS = ("podman", "conmon", "runc", "busybox")
IMAGE = "localhost/busybox:1"
POOL = "10.91.0.0/16"
_CONFIG = """
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]
apparmor_profile = ""
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_backend = "cni"
cni_plugin_dirs = ["{bin_directory}"]
network_config_dir = "{conf_directory}"
"""

pytestmark = [
    pytest.mark.skipif(not all(map(shutil.which, PROGRAMS)), reason=f"needs {', '.join(PROGRAMS)}"),
    pytest.mark.timeout(200),
]


class Podman:
    def __init__(self, directory: Path, place: Place) -> None:
        config = directory / "containers.conf"
        paths = {"bin_directory": place.bin_directory, "conf_directory": place.conf_directory}
        config.write_text(_CONFIG.format(**paths))
        self._environment = os.environ | {"CONTAINERS_CONF": str(config), "TMPDIR": str(directory)}
        self._options = ["--root", directory / "storage", "--runroot", directory / "run", "--tmpdir", directory / "tmp"]

    def __call__(self, *arguments: str, check: bool = True) -> str:
        command = ["podman", *self._options, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=self._environment)
        assert not check or done.returncode == 0, f"{' '.join(arguments)}: {done.stderr}"
        return done.stdout.strip() if check else done.stdout + done.stderr

    def start(self, name: str, *command: str) -> str:
        """A container on Fairway's network; returns its address."""
        self("run", "-d", "--name", name, "--network", "pods", IMAGE, *command)
        (found,) = json.loads(self("inspect", name))
        return str(found["NetworkSettings"]["Networks"]["pods"]["IPAddress"])


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    with host(POOL) as (directory, agent):
        place = install(directory, agent, *PARTNERS, "tuning", "firewall")
        found = Podman(directory, place)
        images.archive(directory / "image.tar", IMAGE)
        found("load", "-i", str(directory / "image.tar"))
        yield found
        found("rm", "-f", "-t", "0", "-a")


@pytest.fixture(autouse=True)
def no_containers(podman: Podman) -> Iterator[None]:
    yield
    podman("rm", "-f", "-t", "0", "-a")
    assert "fwy-" not in sh("ip link")


def test_the_network_is_listed(podman: Podman) -> None:
    assert "pods" in podman("network", "ls")


def test_a_container_has_an_address_of_the_pool_and_answers(podman: Podman) -> None:
    address = podman.start("one", *images.FOREVER)
    assert address.startswith("10.91.")
    assert answers(address)


def test_containers_serve_http_to_each_other(podman: Podman) -> None:
    address = podman.start("server", "/bin/httpd", "-f", "-p", "80", "-h", "/www")
    podman.start("client", *images.FOREVER)
    fetch = ("exec", "client", "/bin/wget", "-q", "-O", "-", f"http://{address}/index.html")
    assert served(lambda: podman(*fetch, check=False))


def test_a_host_port_leads_to_the_container(podman: Podman) -> None:
    server = ("/bin/httpd", "-f", "-p", "80", "-h", "/www")
    podman("run", "-d", "--name", "server", "--network", "pods", "-p", "8080:80", IMAGE, *server)
    assert served(lambda: fetched(f"http://{ADDRESS}:8080/index.html"))


def test_a_container_gets_the_address_and_mac_that_it_asks_for(podman: Podman) -> None:
    wanted = ("--ip", "10.91.7.7", "--mac-address", "02:42:0a:5b:07:07")
    podman("run", "-d", "--name", "one", "--network", "pods", *wanted, IMAGE, *images.FOREVER)
    assert answers("10.91.7.7")
    assert "02:42:0a:5b:07:07" in podman("exec", "one", "/bin/ip", "link", "show", "eth0")


def test_a_stopped_container_starts_again(podman: Podman) -> None:
    podman.start("one", *images.FOREVER)
    podman("stop", "-t", "0", "one")
    assert "fwy-" not in sh("ip link")
    podman("start", "one")
    (found,) = json.loads(podman("inspect", "one"))
    assert answers(found["NetworkSettings"]["Networks"]["pods"]["IPAddress"])
