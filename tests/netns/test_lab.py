"""Labs brought up, changed, cut off and taken down, on the kernel, with packets."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import pytest
from crash import run_and_kill

from fairway import lab
from fairway.lab import directory
from fairway.lab.faults import find_relays, relay_is_here
from fairway.net.kernel import namespaces
from fairway.net.model.errors import NotOursError, UsageError

EXAMPLES = Path(__file__).parents[2] / "examples"

SMALL = """
[nodes.n1]
pools = ["10.0.1.0/24"]
[nodes.n2]
pools = ["10.0.2.0/24"]
[links.lan]
members = { n1 = "192.0.2.1/24", n2 = "192.0.2.2/24" }
[pods]
a = { node = "n1" }
b = { node = "n2", address = "10.0.2.9" }
"""


def sh(command: str) -> str:
    return subprocess.run(command, shell=True, check=True, capture_output=True, text=True).stdout


def pings(namespace: str, address: object) -> bool:
    command = f"ip netns exec {namespace} ping -c1 -W1 {address}"
    return subprocess.run(command, shell=True, capture_output=True).returncode == 0


def everyone_reaches_everyone(name: str) -> bool:
    pods = lab.find(name).pods()
    return len(pods) > 1 and all(
        pings(one.namespace, address) for one, other in permutations(pods, 2) for address in other.addresses
    )


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "small.toml"
    for running in lab.running():
        lab.down(running.name)
    assert namespaces.names() == []
    assert [relay for relay in find_relays("small.") if relay_is_here(relay)] == []
    assert directory.names() == []
    assert [line for line in sh("ip -o link").splitlines() if " lo:" not in line] == []


def bring(file: Path, text: str = SMALL) -> lab.Summary:
    file.write_text(text)
    return lab.up(file)


class TestTheExamples:
    @pytest.mark.parametrize("name", ["two-hosts", "cross-subnet", "ipv6", "dual-stack", "forward-drop", "lossy"])
    def test_every_pod_reaches_every_pod(self, file: Path, name: str) -> None:
        shutil.copy(EXAMPLES / f"{name}.toml", file)
        file.write_text(f'name = "{name}"\n' + file.read_text())
        if name == "lossy":
            file.write_text(file.read_text().replace('loss = "0.5%"', ""))
        lab.up(file)
        assert everyone_reaches_everyone(name)

    def test_the_receiver_sees_the_senders_own_address(self, file: Path) -> None:
        file.write_text((EXAMPLES / "two-hosts.toml").read_text())
        lab.up(file)
        capture = subprocess.Popen(
            "ip netns exec small.node02 tcpdump --immediate-mode -U -l -n -c 1 -i eth0 icmp and dst 10.0.3.2",
            shell=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert capture.stderr is not None
        while "listening" not in capture.stderr.readline():
            pass
        assert pings("small.node03.demo01", "10.0.3.2")
        said, _ = capture.communicate(timeout=10)
        assert "IP 10.0.1.2 > 10.0.3.2: ICMP echo request" in said

    def test_the_drop_counters_of_a_dropping_chain_stay(self, file: Path) -> None:
        file.write_text((EXAMPLES / "forward-drop.toml").read_text())
        lab.up(file)
        count = "ip netns exec small.node03 iptables-nft -L FORWARD -v -n -x"
        before = sh(count).splitlines()[0]
        assert "policy DROP 0 packets" in before
        assert pings("small.node03.demo01", "10.0.2.2")
        assert sh(count).splitlines()[0] == before


class TestUp:
    def test_twice_changes_nothing(self, file: Path) -> None:
        assert bring(file).operations > 20
        before = sh("ip -n small.n1 -o link; ip -n small.n1 route")
        assert lab.up(file).operations == 0
        assert sh("ip -n small.n1 -o link; ip -n small.n1 route") == before

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("b = {", 'c = { node = "n1", address = "10.0.1.77" }\nb = {'),
            ('a = { node = "n1" }\n', 'c = { node = "n1" }\n'),
            ('address = "10.0.2.9"', 'address = "10.0.2.10"'),
            ('b = { node = "n2", address = "10.0.2.9" }', 'b = { node = "n1" }'),
            ("192.0.2.2/24", "192.0.2.3/24"),
            ("192.0.2", "198.51.100"),
            ("10.0.2.", "10.5.2."),
            ("[links.lan]", "[links.lan]\nmtu = 1400"),
            ("[links.lan]", '[links.lan]\ndelay = "5ms"'),
            ("[pods]", '[nodes.n3]\npools = ["10.0.3.0/24"]\n[pods]\nd = { node = "n3" }'),
            ("[nodes.n1]\n", '[nodes.n1]\nforward_policy = "drop"\n'),
        ],
        ids=[
            "another pod",
            "a pod gone and one come",
            "another address",
            "a pod on another node",
            "a node's other address",
            "another subnet",
            "another pool",
            "another MTU",
            "a delay",
            "a third node",
            "a FORWARD chain that drops",
        ],
    )
    def test_applies_the_difference_there_and_back(self, file: Path, old: str, new: str) -> None:
        bring(file)
        changed = SMALL.replace(old, new)
        assert changed != SMALL
        if "n3" in new:
            changed = changed.replace('n2 = "192.0.2.2/24"', 'n2 = "192.0.2.2/24", n3 = "192.0.2.3/24"')
        assert bring(file, changed).operations > 0
        assert everyone_reaches_everyone("small")
        assert lab.up(file).operations == 0
        assert bring(file).operations > 0
        assert everyone_reaches_everyone("small")
        assert lab.up(file).operations == 0

    def test_leaves_alone_what_the_difference_does_not_touch(self, file: Path) -> None:
        bring(file)
        before = sh("ip -n small.n1.a -o link show eth0")
        bring(file, SMALL.replace("b = {", 'c = { node = "n1" }\nb = {'))
        assert sh("ip -n small.n1.a -o link show eth0") == before

    def test_repairs_what_has_drifted(self, file: Path) -> None:
        bring(file)
        sh("ip -n small.n1 route flush proto 70; ip -n small.n2 link set eth0 down; ip netns delete small.n2.b")
        assert not everyone_reaches_everyone("small")
        assert lab.up(file).operations > 0
        assert everyone_reaches_everyone("small")

    def test_refuses_a_namespace_that_is_not_of_this_lab_and_makes_nothing(self, file: Path) -> None:
        sh("ip netns add small.n2")
        with pytest.raises(NotOursError, match=r"small\.n2 exists and is not of this lab"):
            bring(file)
        assert namespaces.names() == ["small.n2"]
        sh("ip netns delete small.n2")

    def test_that_fails_half_way_leaves_nothing(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from fairway.lab import raising

        def refuse(*_: object) -> None:
            raise UsageError("injected")

        monkeypatch.setattr(raising, "set_forward_policy", refuse)
        with pytest.raises(UsageError, match="injected"):
            bring(file)
        assert namespaces.names() == []
        assert directory.names() == []

    def test_of_two_labs_keeps_them_apart(self, file: Path, tmp_path: Path) -> None:
        bring(file)
        other = tmp_path / "other.toml"
        other.write_text(SMALL)
        lab.up(other)
        assert [running.name for running in lab.running()] == ["other", "small"]
        assert everyone_reaches_everyone("other")
        lab.down("small")
        assert everyone_reaches_everyone("other")
        with pytest.raises(UsageError, match="no lab 'small'"):
            lab.down("small")


class TestAnAccident:
    def test_killed_at_any_moment_of_up_the_next_up_completes_it(self, file: Path) -> None:
        file.write_text(SMALL)
        chance = 0
        while run_and_kill(lambda: lab.up(file), chance):
            lab.up(file)
            assert lab.up(file).operations == 0
            assert pings("small.n1.a", "10.0.2.9")
            lab.down("small")
            chance += 1
        assert chance > 40

    def test_killed_at_any_moment_of_up_the_next_down_leaves_nothing(self, file: Path) -> None:
        file.write_text(SMALL.replace("[links.lan]", '[links.lan]\ndelay = "1ms"'))
        chance = 0
        while run_and_kill(lambda: lab.up(file), chance):
            if lab.running():
                lab.down("small")
            assert namespaces.names() == []
            assert [relay for relay in find_relays("small.") if relay_is_here(relay)] == []
            assert sh("ls /run/netns") == ""
            chance += 1
        assert chance > 40

    def test_killed_at_any_moment_of_down_the_next_down_leaves_nothing(self, file: Path) -> None:
        bring(file)
        chance = 0
        while run_and_kill(lambda: lab.down("small"), chance):
            lab.down("small")
            assert namespaces.names() == []
            lab.up(file)
            chance += 1
        assert chance >= 4

    def test_without_its_files_a_lab_is_found_by_its_marks(self, file: Path) -> None:
        bring(file)
        shutil.rmtree(directory.LABS)
        assert [running.name for running in lab.running()] == ["small"]
        assert lab.up(file).operations >= 0
        assert everyone_reaches_everyone("small")
        shutil.rmtree(directory.LABS)
        lab.down("small")
        assert namespaces.names() == []

    def test_processes_that_still_run_inside_are_named_and_left_alone(self, file: Path) -> None:
        bring(file)
        process = subprocess.Popen(["ip", "netns", "exec", "small.n1.a", "sleep", "60"])
        try:
            while process.pid not in lab.down("small").processes:
                lab.up(file)
            assert process.poll() is None
        finally:
            process.kill()
            process.wait()
