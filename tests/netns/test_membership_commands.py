"""fairway init, token, join and revoke, as a person uses them: two hosts, each with its own state and namespace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from peer_net import ip, until

COMMAND = [sys.executable, "-c", "from fairway.cli import main; main(prog_name='fairway')"]


SWITCH = "membership-switch"
"""What the hosts hang on has a namespace of its own: no other test's rules are in its packets' way."""


class CommandHost:
    """A host that is only spoken to by commands."""

    def __init__(self, directory: Path, name: str, address: str) -> None:
        self.name, self.address = name, address
        self.state = directory / name
        self.socket = directory / name / "agent.sock"  # the socket for runtimes is beside it
        self.agent: subprocess.Popen[bytes] | None = None
        ip("netns", "add", name)
        ip("-n", SWITCH, "link", "add", f"x-{name}", "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("-n", SWITCH, "link", "set", f"x-{name}", "master", "switch", "up")
        for words in (
            ("link", "set", "lo", "up"),
            ("link", "set", "eth0", "up"),
            ("addr", "add", address, "dev", "eth0"),
        ):
            ip("-n", name, *words)

    def run(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            ["nsenter", f"--net=/run/netns/{self.name}", *COMMAND, *words],
            env=os.environ | {"FAIRWAY_STATE": str(self.state), "FAIRWAY_SOCKET": str(self.socket)},
            capture_output=True,
            text=True,
        )
        assert result.returncode == code, result
        assert "Traceback" not in result.stderr
        return result

    def document(self, *words: str) -> Any:
        return json.loads(self.run(*words, "--json").stdout)

    def start(self) -> None:
        config = self.state.with_suffix(".toml")
        config.write_text(f'state = "{self.state}"\nsocket = "{self.socket}"\n')
        words = ["nsenter", f"--net=/run/netns/{self.name}", *COMMAND, "agent", "--config", str(config)]
        self.agent = subprocess.Popen(words)
        until(self.socket.exists, 30.0)

    def listens(self) -> bool:
        """Whether other hosts can call its agent: a little after commands can."""
        words = ["nsenter", f"--net=/run/netns/{self.name}", "ss", "-Hlun", "sport = :7946"]
        return bool(subprocess.run(words, capture_output=True, check=True).stdout)

    def peers(self) -> dict[str, str]:
        try:
            return {peer["node"]: peer["state"] for peer in self.document("peers")["peers"]}
        except AssertionError:  # it has not yet looked whether the host belongs to a network
            return {}

    def close(self) -> None:
        if self.agent is not None:
            self.agent.terminate()
            self.agent.wait()
        ip("netns", "delete", self.name)


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[tuple[CommandHost, CommandHost]]:
    ip("netns", "add", SWITCH)
    ip("-n", SWITCH, "link", "add", "switch", "type", "bridge")
    ip("-n", SWITCH, "link", "set", "switch", "up")
    pair = CommandHost(tmp_path, "host1", "192.0.2.1/24"), CommandHost(tmp_path, "host2", "192.0.2.2/24")
    yield pair
    for host in pair:
        host.close()
    ip("netns", "delete", SWITCH)


def test_a_network_is_begun_joined_and_left_by_revocation(hosts: tuple[CommandHost, CommandHost]) -> None:
    first, second = hosts
    begun = first.document("init", "--name", "node01", "--pool", "10.8.0.0/16")
    assert begun["blocks"] == ["10.8.0.0/24"]
    assert [pool["network"] for pool in first.document("pool", "ls")["pools"]] == ["10.8.0.0/24"]
    first.start()
    made = first.document("token")
    assert made["endpoints"] == ["192.0.2.1:7946"]
    until(first.listens)
    joined = second.document("join", "192.0.2.1", made["token"], "--name", "node02")
    assert joined["blocks"] == ["10.8.1.0/24"]
    assert "belongs to a network already" in second.run("join", "192.0.2.1", made["token"], code=2).stderr
    second.start()
    until(lambda: first.peers() == {"node02": "up"} and second.peers() == {"node01": "up"})
    assert first.document("revoke", "node02") == {"revoked": "node02", "list": 1}
    until(lambda: first.peers().get("node02") != "up")
    assert second.peers()["node01"] == "refused"


def test_what_cannot_be_done_here_says_where(hosts: tuple[CommandHost, CommandHost]) -> None:
    first, second = hosts
    assert "do it on the host that began it" in second.run("token", code=2).stderr
    assert "do it on the host that began it" in second.run("revoke", "node01", code=2).stderr
    assert "make one on the first host" in second.run("join", "192.0.2.1", "fairway1-nonsense", code=2).stderr
    first.run("init", "--name", "node01")
    token = first.document("token")["token"]
    assert "is not an address" in second.run("join", "a:b:c", token, code=2).stderr
    assert "is the agent running there" in second.run("join", "192.0.2.1", token, code=1).stderr
    assert "no node 'node09' has joined" in first.run("revoke", "node09", code=2).stderr


def test_init_again_is_refused_and_changes_nothing(hosts: tuple[CommandHost, CommandHost]) -> None:
    first, _ = hosts
    begun = first.document("init", "--name", "node01")
    assert "belongs to a network already" in first.run("init", code=2).stderr
    assert first.document("token")["token"]
    assert begun["node"] == "node01"
