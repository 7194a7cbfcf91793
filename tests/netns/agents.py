"""An agent, run as a process of its own in the tests' namespaces, and ways to ask it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fairway.net.agent.client import Client

COMMAND = [sys.executable, "-c", "from fairway.cli import main; main(prog_name='fairway')"]


class RunningAgent:
    """Its process, its socket and what it says."""

    def __init__(self, directory: Path, text: str = "", **environment: str) -> None:
        self.socket = directory / "agent.sock"
        self.state = directory / "state"
        self.config = directory / "agent.toml"
        places = f'state = "{self.state}"\nsocket = "{self.socket}"\n'
        log = "" if "[log]" in text else '\n[log]\nformat = "json"\n'
        self.config.write_text(places + text + log)
        self._environment = os.environ | environment
        self._said = directory / "agent.log"
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        arguments = [*COMMAND, "agent", "--config", str(self.config)]
        with open(self._said, "ab") as log:
            return subprocess.Popen(arguments, stderr=log, env=self._environment)

    def again(self) -> None:
        """Start it anew."""
        self.process = self._start()
        self.wait_ready()

    def wait_ready(self, timeout_s: float = 30.0) -> None:
        """Return when it is ready; an error if it ends before."""
        until(lambda: self.process.poll() is not None or self.is_ready(), timeout_s)
        assert self.process.poll() is None, self._said.read_text()

    def is_ready(self) -> bool:
        """Whether it answers, and says so."""
        try:
            return bool(self.call("status")["agent"]["ready"])
        except OSError:
            return False

    def call(self, call: str, **arguments: Any) -> dict[str, Any]:
        """What it answers."""
        with Client(self.socket) as client:
            return client.call(call, arguments)

    def said(self, event: str = "") -> list[dict[str, Any]]:
        """What it has said, as documents; of one kind, if asked."""
        lines = (json.loads(line) for line in self._said.read_text().splitlines() if line.startswith("{"))
        return [line for line in lines if not event or line["event"] == event]

    def kill(self) -> None:
        """End it without a chance to do anything."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """End it in order; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)


@contextlib.contextmanager
def running(directory: Path, text: str = "", **environment: str) -> Iterator[RunningAgent]:
    """An agent that is ready, ended at the end of the block."""
    agent = RunningAgent(directory, text, **environment)
    try:
        agent.wait_ready()
        yield agent
    finally:
        if agent.process.poll() is None:
            agent.stop()


def until(condition: Any, timeout_s: float = 30.0) -> float:
    """Wait until the condition holds; how long that took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < timeout_s, "it did not come about in time"
        select.select([], [], [], 0.005)
    return time.monotonic() - started
