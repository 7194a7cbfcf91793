"""Labs whose nodes run agents: found by each other, started again, changed and ended, whatever is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from crash import run_and_kill

from fairway import lab
from fairway.lab import directory
from fairway.lab.agents.running import find
from fairway.net.kernel import Kernel, namespaces

FAIRWAY = str(Path(sys.executable).with_name("fairway"))
TOPOLOGY = """
agents = true
[nodes.n1]
pools = ["10.0.1.0/24"]
[nodes.n2]
pools = ["10.0.2.0/24", "fd00:2::/64"]
[links.lan]
members = { n1 = ["192.0.2.1/24", "fd00::1/64"], n2 = ["192.0.2.2/24", "fd00::2/64"] }
[pods]
a = { node = "n1", address = "10.0.1.2" }
b = { node = "n2", address = "10.0.2.2" }
"""
THIRD = """
[nodes.n3]
pools = ["10.0.3.0/24"]
[links.other]
members = { n1 = "198.51.100.1/24", n3 = "198.51.100.3/24" }
"""


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "small.toml"
    path.write_text(TOPOLOGY)
    yield path
    for running in lab.running():
        lab.down(running.name)
    assert find("small") == {}
    assert namespaces.names() == []
    assert directory.names() == []


def fairway(*words: str) -> Any:
    done = subprocess.run([FAIRWAY, *words, "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def learned(node: str) -> set[str]:
    kernel = Kernel()
    try:
        return {str(route.destination) for route in kernel.routing.ours(f"small.{node}") if route.learned}
    finally:
        kernel.close()


def reaches(source: str, address: str) -> bool:
    words = ["ip", "netns", "exec", f"small.{source}", "ping", "-c1", "-W2", address]
    return subprocess.run(words, capture_output=True).returncode == 0


def soon(what: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 30
    while not what():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


class TestUp:
    def test_the_agents_tell_each_other_the_ways_and_nobody_writes_a_route(self, file: Path):
        summary = lab.up(file)
        assert summary.agents == 2
        assert learned("n1") == {"10.0.2.0/24", "fd00:2::/64"}
        assert learned("n2") == {"10.0.1.0/24"}
        assert reaches("n1.a", "10.0.2.2")
        for node in ("n1", "n2"):
            assert fairway("exec", node, "--", "fairway", "route", "ls") == {"routes": []}

    def test_up_again_changes_nothing_and_starts_nothing(self, file: Path):
        lab.up(file)
        before = find("small")
        assert lab.up(file).operations == 0
        assert find("small") == before

    def test_an_agent_that_died_is_started_again(self, file: Path):
        lab.up(file)
        before = find("small")
        os.kill(before["n2"].pid, signal.SIGKILL)
        assert soon(lambda: "n2" not in find("small"))
        assert reaches("n1.a", "10.0.2.2")
        assert lab.up(file).operations > 0
        after = find("small")
        assert after["n1"] == before["n1"]
        assert after["n2"] != before["n2"]

    def test_without_agents_the_nodes_are_given_routes_and_with_them_again_none(self, file: Path):
        lab.up(file)
        assert lab.up(file, agents=False).agents == 0
        assert find("small") == {}
        assert learned("n1") == set()
        assert reaches("n1.a", "10.0.2.2")
        lab.up(file)
        assert learned("n1") == {"10.0.2.0/24", "fd00:2::/64"}
        assert reaches("n1.a", "10.0.2.2")

    def test_a_node_that_comes_and_goes_with_the_file(self, file: Path):
        lab.up(file)
        file.write_text(TOPOLOGY + THIRD)
        with pytest.raises(Exception, match="no path"):  # n2 has no way to n3: nodes carry nothing for others
            lab.up(file)
        file.write_text(TOPOLOGY + THIRD.replace("n1 =", "n2 = '198.51.100.2/24', n1 ="))
        lab.up(file)
        assert set(find("small")) == {"n1", "n2", "n3"}
        assert "10.0.3.0/24" in learned("n1")
        file.write_text(TOPOLOGY)
        lab.up(file)
        assert set(find("small")) == {"n1", "n2"}
        assert soon(lambda: "10.0.3.0/24" not in learned("n1"))

    def test_what_is_run_in_a_node_is_about_that_node(self, file: Path):
        lab.up(file)
        (peer,) = fairway("exec", "n2", "--", "fairway", "peers")["peers"]
        assert (peer["node"], peer["state"], peer["address"]) == ("n1", "up", "192.0.2.1")
        assert fairway("exec", "n1", "--", "fairway", "status")["agent"]["pid"] == find("small")["n1"].pid
        os.kill(find("small")["n2"].pid, signal.SIGKILL)
        assert soon(lambda: "n2" not in find("small"))
        assert [pod["name"] for pod in fairway("exec", "n2", "--", "fairway", "pod", "ls")["pods"]] == ["b"]
        assert fairway("exec", "n2", "--", "fairway", "check")["drift"] == []

    def test_ls_says_which_agents_run(self, file: Path):
        lab.up(file)
        (running,) = fairway("ls")["labs"]
        agents = find("small")
        assert {node["name"]: node["agent"] for node in running["nodes"]} == {
            name: {"pid": agent.pid, "state": "ready"} for name, agent in agents.items()
        }


class TestKilled:
    @pytest.mark.parametrize("chance", [2, 12, 25, 40, 55])
    def test_up_cut_off_is_ended_by_down_whole(self, file: Path, chance: int):
        assert run_and_kill(lambda: lab.up(file), chance)
        lab.down("small")
        assert find("small") == {}

    def test_up_killed_while_agents_start_is_finished_by_the_next(self, file: Path):
        first = subprocess.Popen([FAIRWAY, "up", str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert soon(lambda: bool(find("small")))
        first.kill()
        first.wait()
        lab.up(file)
        assert set(find("small")) == {"n1", "n2"}
        assert reaches("n1.a", "10.0.2.2")

    def test_down_ends_agents_that_do_not_listen(self, file: Path):
        lab.up(file)
        pids = [agent.pid for agent in find("small").values()]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        assert lab.down("small").processes == ()
        assert find("small") == {}
