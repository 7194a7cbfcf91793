"""An agent as a process of its own, for benchmarks."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from fairway.net.agent.client import Client

UPLINK = "ip link add eth0 type veth peer name wire; ip link set eth0 up; ip link set wire up"
ADDRESS = "ip addr add 192.0.2.2/24 dev eth0; ip route add default via 192.0.2.1"


@contextlib.contextmanager
def agent(directory: Path, text: str = "") -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """The agent's process and socket, once it is ready; the state is in `directory`."""
    subprocess.run(f"{UPLINK}; {ADDRESS}", shell=True, check=True)
    socket, config = directory / "agent.sock", directory / "agent.toml"
    config.write_text(f'state = "{directory}/state"\nsocket = "{socket}"\n{text}\n[log]\nlevel = "warning"\n')
    command = [sys.executable, "-c", "from fairway.cli import main; main()", "agent", "--config", str(config)]
    process = subprocess.Popen(command)
    try:
        until(socket.exists)
        with Client(socket) as client:
            client.call("status")
        yield process, socket
    finally:
        process.terminate()
        process.wait()


def until(condition: Callable[[], object], timeout_s: float = 30.0) -> float:
    """Wait until the condition holds; how long that took, in seconds."""
    started = time.perf_counter()
    while not condition():
        if time.perf_counter() - started > timeout_s:
            raise SystemExit("it did not come about in time")
        time.sleep(0.001)
    return time.perf_counter() - started
