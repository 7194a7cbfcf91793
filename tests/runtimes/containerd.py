"""A containerd of the test's own, with everything that it keeps in the test's /run."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from runtimes import images
from runtimes.cri import Runtime

IMAGE = "localhost/busybox:1"
_CONFIG = """
version = 2
root = "{root}"
state = "{state}"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs",
                    "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{image}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  disable_tcp_service = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{bin_directory}"
    conf_dir = "{conf_directory}"
"""
_READY_S = 30


class Containerd:
    """Started by `start`, ended by `kill`; what it started itself lives on, as on a real host, until `end`."""

    def __init__(self, directory: Path, bin_directory: Path, conf_directory: Path) -> None:
        self.directory = directory
        self.socket = directory / "containerd.sock"
        self.config = directory / "config.toml"
        directory.mkdir()
        text = _CONFIG.format(
            root=directory / "root",
            state=directory / "state",
            socket=self.socket,
            image=IMAGE,
            snapshotter="overlayfs",
            bin_directory=bin_directory,
            conf_directory=conf_directory,
        )
        self.config.write_text(text)
        self._process: subprocess.Popen[bytes] | None = None
        self._log = (directory / "log").open("ab")
        self.runtime = Runtime(self.socket)

    def start(self) -> None:
        """Start it, and wait until it has a network for pods."""
        command = ["containerd", "--config", str(self.config)]
        self._process = subprocess.Popen(command, stdout=self._log, stderr=self._log)
        end = time.monotonic() + _READY_S
        while not self.runtime.is_network_ready():
            if time.monotonic() > end or self._process.poll() is not None:
                raise AssertionError(f"containerd did not become ready:\n{self.log()}")
            time.sleep(0.05)

    def import_image(self, *more: str) -> None:
        """Under its own name, and `more`."""
        archive = self.directory / "image.tar"
        images.archive(archive, IMAGE, *more)
        self.ctr("-n", "k8s.io", "images", "import", str(archive))

    def ctr(self, *arguments: str) -> str:
        done = subprocess.run(["ctr", "--address", self.socket, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr + self.log()
        return done.stdout

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        """Remove every pod, then end."""
        if self._process is None:
            return
        if self._process.poll() is not None:
            self.start()
        try:
            for sandbox in self.runtime.sandboxes():
                self.runtime.remove_sandbox(sandbox)
        finally:
            self.runtime.close()
            self.kill()

    def log(self) -> str:
        lines = (self.directory / "log").read_text().splitlines()
        return "\n".join(line for line in lines if "level=info" not in line)[-4000:]
