"""What must not go wrong when everything does: kills, crowds, damaged files, full disks, reboots."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import crash
import pytest
from agents import COMMAND, RunningAgent, running, until
from test_agent import CONTAINER, attach
from test_host import A1, clear, home, leftovers, pings, sh  # noqa: F401 - home is a fixture

from fairway.net.agent.agent import Agent
from fairway.net.agent.calls import CALLS
from fairway.net.agent.client import Client
from fairway.net.agent.config import Config
from fairway.net.host import Host
from fairway.net.model.errors import FairwayError


@pytest.fixture
def place(home: str, own_state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:  # noqa: F811
    """Where an agent may live; nothing is left behind."""
    monkeypatch.setenv("FAIRWAY_STATE", str(tmp_path / "state"))
    for number in (1, 2):
        sh(f"ip netns add fwt-cni-{number}")
    yield tmp_path
    for number in (1, 2):
        sh(f"ip netns delete fwt-cni-{number}")
    with Host() as host:
        host.attachments.collect([])
    clear()


class MortalAgent:
    """An agent in a child process that is killed at its n-th chance after the first call of that name."""

    def __init__(self, directory: Path, call: str, chance: int) -> None:
        self.config = Config(state=directory / "state", socket=directory / "agent.sock", every_s=3600.0)
        self._child = os.fork()
        if self._child == 0:
            try:
                asyncio.run(Agent(self.config, more={call: self._armed(call, chance)}).run())
                os._exit(0)
            except BaseException:
                traceback.print_exc(file=sys.stderr)
                os._exit(1)
        until(self._listens)

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), Client(self.config.socket):
            return True
        return False

    @staticmethod
    def _armed(call: str, chance: int) -> Any:
        def work(*arguments: Any) -> Any:
            crash._arm(chance)
            return CALLS[call](*arguments)

        return work

    def end(self) -> bool:
        """Whether it was killed; one that is alive is told to end."""
        pid, status = os.waitpid(self._child, os.WNOHANG)
        if not pid:
            os.kill(self._child, signal.SIGTERM)
            _, status = os.waitpid(self._child, 0)
        self.config.socket.unlink(missing_ok=True)
        return os.WIFSIGNALED(status)


REQUEST = {"container": CONTAINER, "namespace": "/run/netns/fwt-cni-1", "network": "net", "addresses": [str(A1)]}
GONE = {"container": CONTAINER}


def ask(agent: MortalAgent, call: str, arguments: dict[str, Any]) -> None:
    with contextlib.suppress(FairwayError, OSError), Client(agent.config.socket) as client:
        client.call(call, arguments)


def check_nothing_is_wrong(host: Host) -> None:
    """No address twice and none leaked, no link, route, rule or chain that should not be, nothing missing."""
    pods = host.pods()
    addresses = [address for pod in pods for address in pod.addresses]
    assert len(addresses) == len(set(addresses))
    assert len(host.store.rows("SELECT address FROM addresses")) == len(addresses)
    assert sum(use.taken for use in host.pools.statistics()) == len(addresses)
    assert host.check() == []
    links = [line.split(": ")[1].split("@")[0] for line in sh("ip -o link").splitlines()]
    assert sorted(link for link in links if link.startswith("fwy-")) == sorted(pod.link for pod in pods)


class TestAnAgentThatIsKilled:
    @pytest.mark.parametrize("then", ["retry", "delete", "collect"])
    def test_at_any_moment_of_an_add_leaves_nothing_wrong(self, place: Path, then: str) -> None:
        chance = 0
        while True:
            agent = MortalAgent(place, "attach", chance)
            ask(agent, "attach", REQUEST)
            killed = agent.end()
            with running(place) as other:
                if then == "retry":
                    if other.call("pod.ls")[
                        "pods"
                    ]:  # killed after the last commit: a runtime deletes before it retries
                        other.call("detach", **GONE)
                    other.call("attach", **REQUEST)
                    assert pings("", A1)
                    other.call("detach", **GONE)
                elif then == "delete":
                    other.call("detach", **GONE)
                else:
                    other.call("collect", valid=[], network="net")
                assert other.call("pod.ls") == {"pods": []}
            with Host() as host:
                check_nothing_is_wrong(host)
                assert "eth0" not in sh("ip -n fwt-cni-1 link")
            if not killed:
                break
            chance += 1
        assert chance > 8

    def test_at_any_moment_of_a_deletion_leaves_nothing_wrong(self, place: Path) -> None:
        chance = 0
        while True:
            with Host() as host:
                host.attachments.add(_request_of_library())
            agent = MortalAgent(place, "detach", chance)
            ask(agent, "detach", GONE)
            killed = agent.end()
            with running(place) as other:
                other.call("detach", **GONE)
                assert other.call("pod.ls") == {"pods": []}
            with Host() as host:
                check_nothing_is_wrong(host)
            if not killed:
                break
            chance += 1
        assert chance > 3

    def test_while_packets_flow_loses_none_of_them(self, place: Path) -> None:
        with running(place) as agent:
            attach(agent, addresses=[str(A1)])
            ping = ["ping", "-i", "0.01", "-c", "300", "-W", "1", str(A1)]
            pinging = subprocess.Popen(ping, stdout=subprocess.PIPE, text=True)
            agent.kill()
            agent.again()
            agent.kill()
            agent.again()
            said, _ = pinging.communicate(timeout=30)
            assert " 0% packet loss" in said
            agent.call("detach", **GONE)


def _request_of_library() -> Any:
    from fairway.net.model.attachment import AttachRequest

    return AttachRequest(CONTAINER, "/run/netns/fwt-cni-1", network="net", addresses=(A1,))


class TestACrowd:
    NUMBER, AT_ONCE = 500, 50

    @pytest.fixture
    def names(self) -> Iterator[list[str]]:
        """Namespaces, as many as come and go at once."""
        names = [f"fwt-crowd-{number}" for number in range(self.AT_ONCE)]
        for name in names:
            sh(f"ip netns add {name}")
        yield names
        for name in names:
            sh(f"ip netns delete {name}")

    def test_of_five_hundred_that_come_and_go_with_collections_between_leaves_nothing_wrong(
        self, place: Path, names: list[str]
    ) -> None:
        turns = self.NUMBER // self.AT_ONCE
        errors: list[BaseException] = []
        kept: list[str] = []
        valid = {f"c{which}-{turn}" for which in range(self.AT_ONCE) for turn in range(turns)}
        """What collections must leave alone: the attached and, as they race with additions, those that will be."""
        addresses: list[str] = []

        def come_and_go(agent: RunningAgent, which: int) -> None:
            try:
                with Client(agent.socket) as client:
                    for turn in range(turns):
                        container = f"c{which}-{turn}"
                        arguments = {
                            "container": container,
                            "namespace": f"/run/netns/{names[which]}",
                            "network": "net",
                        }
                        addresses.append(client.call("attach", arguments)["pod"]["addresses"][0])
                        if turn == turns - 1 and which % 2:
                            kept.append(container)
                            continue
                        valid.discard(container)  # from here on a collection may be the one that removes it
                        client.call("detach", {"container": container})
            except BaseException as error:
                errors.append(error)

        with running(place) as agent:
            threads = [threading.Thread(target=come_and_go, args=(agent, which)) for which in range(self.AT_ONCE)]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                agent.call("collect", valid=[[container, "eth0"] for container in list(valid)], network="net")
                threads[random.randrange(self.AT_ONCE)].join(0.05)
            assert errors == []
            assert len(addresses) == self.NUMBER
            pods = agent.call("pod.ls")["pods"]
            assert sorted(pod["attachment"]["container"] for pod in pods) == sorted(kept)
            assert agent.call("check")["drift"] == []
            assert agent.said("repaired") == []
            removed = agent.call("collect", valid=[], network="net")["removed"]
            assert len(removed) == len(kept)
        with Host() as host:
            check_nothing_is_wrong(host)


def torn(data: bytearray) -> None:
    del data[len(data) // 2 + 100 :]


def emptied(data: bytearray) -> None:
    del data[:]


def garbled(data: bytearray) -> None:
    data[:] = b"x" * 5000


def flipped_in_the_header(data: bytearray) -> None:
    data[3] ^= 4


def flipped_in_an_address(data: bytearray) -> None:
    data[data.index(str(A1).encode()) + 7] ^= 1


def flipped_in_the_tree(data: bytearray) -> None:
    data[4096] ^= 0x40


DAMAGES = [torn, emptied, garbled, flipped_in_the_header, flipped_in_an_address, flipped_in_the_tree]


class TestAStateFile:
    @pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
    def test_that_is_damaged_is_put_aside_and_said_and_rebuilt_from_the_kernel(self, place: Path, damage: Any) -> None:
        with running(place, '[[pool]]\nnetwork = "10.0.0.0/16"') as agent:
            attach(agent, addresses=[str(A1)])
            attach(agent, 2, container="other", mac="0a:00:00:00:00:01", mtu=1300)
            agent.call("pod.add", name="demo01")
            agent.call("route.add", destination="10.3.0.0/24", via="192.0.2.9")
            before = agent.call("pod.ls"), agent.call("route.ls"), agent.call("pool.ls")
            agent.stop()
            path = agent.state / "state.db"
            data = bytearray(path.read_bytes())
            damage(data)
            path.write_bytes(data)
            agent.again()
            assert (agent.call("pod.ls"), agent.call("route.ls"), agent.call("pool.ls")) == before
            assert agent.call("check")["drift"] == []
            (said,) = agent.said("state rebuilt")
            assert ("has none of them" if damage is emptied else "is kept as") in said["why"]
            assert pings("fwt-cni-2", A1)
            agent.call("route.rm", destination="10.3.0.0/24")
            agent.call("pod.rm", names=["demo01"])
            assert sorted(agent.call("collect", valid=[], network="net")["removed"]) == [
                f"{CONTAINER}/eth0",
                "other/eth0",
            ]

    @pytest.fixture
    def disk(self, place: Path) -> Iterator[Path]:
        """A small disk of the state's own."""
        (place / "state").mkdir(exist_ok=True)
        sh(f"mount -t tmpfs -o size=4m none {place / 'state'}")
        yield place / "state"
        sh(f"umount {place / 'state'}")

    @staticmethod
    def add_many(agent: RunningAgent) -> None:
        for number in range(500):
            agent.call("pod.add", name=f"demo{number}")

    def test_on_a_full_disk_refuses_pods_cleanly_and_what_is_there_is_kept(self, place: Path, disk: Path) -> None:
        with running(place) as agent:
            attach(agent, addresses=[str(A1)])
            with open(disk / "filler", "wb", buffering=0) as filler, contextlib.suppress(OSError):
                while True:
                    filler.write(b"x" * 4096)
            with pytest.raises(FairwayError, match="cannot write the state"):
                self.add_many(agent)
            assert not agent.call("status")["state"]["writable"]
            sh(f"ip route delete {A1}")
            until(lambda: sh(f"ip route show {A1}"))
            (disk / "filler").unlink()
            assert agent.call("status")["state"]["writable"]
            agent.call("repair")
            names = [pod["name"] for pod in agent.call("pod.ls")["pods"] if pod["source"] == "fairway"]
            agent.call("pod.rm", names=names)
            agent.call("detach", **GONE)
        with Host() as host:
            check_nothing_is_wrong(host)
        assert not [found for found in leftovers() if not found.startswith("fwt-")]

    def test_on_a_read_only_disk_is_said_and_the_pods_go_on(self, place: Path, disk: Path) -> None:
        with running(place) as agent:
            attach(agent, addresses=[str(A1)])
            agent.stop()
            sh(f"mount -o remount,bind,ro {disk}")
            told = subprocess.run([*COMMAND, "agent", "--config", str(agent.config)], capture_output=True, text=True)
            assert told.returncode == 1
            assert "Read-only file system" in told.stderr
            assert pings("", A1)
            sh(f"mount -o remount,bind,rw {disk}")
            agent.again()
            agent.call("detach", **GONE)

    def test_from_before_a_reboot_gives_the_same_containers_their_interfaces_anew(self, place: Path) -> None:
        with running(place) as agent:
            pod = attach(agent, addresses=[str(A1)])
            attach(agent, 2, container="other")
            agent.call("pod.add", name="demo01")
            agent.kill()
            # A reboot: links, namespaces and rules are gone, paths and inodes are as before, and mean others.
            for link in [line.split(": ")[1].split("@")[0] for line in sh("ip -o link").splitlines()]:
                if link.startswith("fwy-"):
                    sh(f"ip link delete {link}")
            sh("nft flush ruleset; ip netns delete demo01; ip address delete 169.254.1.1/32 dev lo")
            with Host(agent.state) as host, host.store.transaction() as database:
                database.execute("UPDATE attachments SET boot = 'an earlier one'")
                database.execute("UPDATE pods SET seal = 0")
            agent.again()
            assert [each["name"] for each in agent.call("pod.ls")["pods"]] == ["demo01"], "Fairway's own are made anew"
            assert "eth0" not in sh("ip -n fwt-cni-1 link")
            again = attach(agent, addresses=[str(A1)])
            assert again == pod
            assert pings("demo01", A1)
            agent.call("pod.rm", names=["demo01"])
            agent.call("detach", **GONE)
