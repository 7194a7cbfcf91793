"""What systemd is told (sd_notify(3)), and the unit that it runs the agent by."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

from fairway.net.model.errors import FairwayError

UNIT_PATH = Path("/etc/systemd/system/fairway.service")

_UNIT = """\
[Unit]
Description=Fairway, the pod network's agent
Documentation=https://github.com/fairway-net/fairway
Wants=network.target
After=network.target nftables.service
Before=containerd.service crio.service kubelet.service

[Service]
Type=notify
ExecStart={command} agent{option}
ExecReload=/bin/kill -HUP $MAINPID
Restart=always
RestartSec=1
WatchdogSec=60
# The pods' traffic goes on without it; what it was doing is undone or finished by the next one.
KillMode=mixed
TimeoutStopSec=30
RuntimeDirectory=fairway
RuntimeDirectoryPreserve=yes
StateDirectory=fairway
LimitNOFILE=65536
OOMScoreAdjust=-900

[Install]
WantedBy=multi-user.target
"""


def unit(command: str, config: Path | None) -> str:
    """The text of the unit that runs `command`."""
    return _UNIT.format(command=command, option=f" --config {config}" if config is not None else "")


class Notifier:
    """Says how it goes to who started the agent, if that is to be told: NOTIFY_SOCKET."""

    def __init__(self) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET", "")
        self._every_s = _watchdog_s() / 2

    def say(self, words: str) -> None:
        """Tell it, if it listens."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifying:
            notifying.sendto(words.encode(), address)

    async def watch(self, healthy: Callable[[], bool]) -> None:
        """Say in time, for ever, that all goes well; say nothing while it does not, and be started anew."""
        while True:
            await asyncio.sleep(self._every_s or 3600)
            if self._every_s and healthy():
                self.say("WATCHDOG=1")


def _watchdog_s() -> float:
    """Within what time it wants to hear of us; 0: not at all."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    try:
        return max(0, int(os.environ.get("WATCHDOG_USEC", "0"))) / 1e6
    except ValueError:
        return 0.0


def install(text: str, path: Path) -> bool:
    """Write the unit to `path`; False if it is there already, just so."""
    try:
        if path.exists() and path.read_text() == text:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError as error:
        raise FairwayError(f"{path}: {error.strerror}", mend="run it as root") from None
    return True
