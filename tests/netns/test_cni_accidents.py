"""Accidents of CNI: killed at every step, the agent down, everything at once; no address is lost, none given twice."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from agents import RunningAgent
from crash import run_and_kill

from fairway.net.cni import PENDING, SOCKET, Answer, Plugin, Request, shim
from fairway.net.cni.pending import Pending, waiting_in
from fairway.net.cni.wire import encode_request
from fairway.net.host import Host
from fairway.net.kernel import Kernel
from fairway.net.model.errors import KernelError

POOL = "10.92.0.0/24"
MANY = 500


def sh(command: str) -> str:
    return subprocess.run(command, shell=True, check=True, capture_output=True, text=True).stdout


def pings(address: str) -> bool:
    return subprocess.run(["ping", "-c1", "-W1", address], capture_output=True).returncode == 0


@pytest.fixture(autouse=True)
def uplink() -> Iterator[None]:
    sh("ip link add uplink type veth peer name line; ip link set uplink up; ip link set line up")
    sh("ip addr add 192.0.2.1/24 dev uplink; ip route add default via 192.0.2.2")
    yield
    sh("ip link del uplink")


class Containers:
    """Namespaces under one prefix, and calls on them as a runtime makes them."""

    def __init__(self, prefix: str, count: int) -> None:
        self.names = [f"{prefix}{number}" for number in range(count)]
        self._batch("add")

    def _batch(self, verb: str) -> None:
        there = {path.name for path in Path("/run/netns").glob("*")}
        names = [name for name in self.names if (name in there) == (verb == "del")]
        lines = "".join(f"netns {verb} {name}\n" for name in names)
        subprocess.run(["ip", "-batch", "-"], input=lines.encode(), check=True)

    def close(self) -> None:
        self._batch("del")


def request(command: str, name: str = "", **keys: Any) -> Request:
    variables = {"CNI_COMMAND": command, "CNI_PATH": "/usr/lib/cni"}
    if name:
        variables |= {"CNI_CONTAINERID": name, "CNI_NETNS": f"/run/netns/{name}", "CNI_IFNAME": "eth0"}
    document = {"cniVersion": "1.1.0", "name": "pods", "type": "fairway"} | keys
    return Request(variables, json.dumps(document).encode())


def collect(*valid: str) -> Request:
    listed = [{"containerID": name, "ifname": "eth0"} for name in valid]
    return request("GC", **{"cni.dev/valid-attachments": listed})


def addresses(answer: Answer) -> list[str]:
    assert answer.exit_code == 0, answer.stdout
    return [entry["address"].partition("/")[0] for entry in json.loads(answer.stdout)["ips"]]


def left_on_the_host() -> str:
    """Whatever of an attachment the kernel has: links, routes, neighbours, chains and rules.

    The route that refuses the rest of a pool is not: it stays until the agent ends, as all that pods stand on.
    """
    links = [line for line in sh("ip -o link").splitlines() if "fwy-" in line]
    found = sh("ip route; ip neigh").splitlines()
    routes = [line for line in found if "10.92." in line and not line.startswith("unreachable 10.92.0.0/")]
    chains = [line for line in sh("nft list ruleset").splitlines() if "fwy-" in line]
    return "\n".join(links + routes + chains)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    with Host(tmp_path / "host") as host:
        host.pools.add(ip_network(POOL))
    return tmp_path / "host"


@pytest.fixture
def one() -> Iterator[str]:
    containers = Containers("fwt-one", 1)
    yield containers.names[0]
    containers.close()


def answered(state: Path, *requests: Request) -> list[Answer]:
    """What a new agent answers, one after the other; it ends orderly."""
    with Host(state) as host:
        plugin = Plugin(host)
        found = []
        for each in requests:
            done = plugin.answer(each)
            for name in done.ending:
                host.wait_removed(name)
            found.append(done.answer)
        return found


def taken(state: Path) -> int:
    with Host(state) as host:
        return sum(use.taken for use in host.pools.statistics())


def chances(work: Any, after: Any) -> int:
    """Kill `work` at its first chance, its second and so on, do `after` each time; returns how many there were.

    The last time it is done whole.
    """
    chance = 0
    while run_and_kill(work, chance):
        after(chance)
        chance += 1
    return chance


class TestKilledAgent:
    """SIGKILL before each kernel operation and around each commit."""

    def test_an_add_that_was_cut_off_is_undone_by_del(self, state: Path, one: str) -> None:
        def after(chance: int) -> None:
            (answer,) = answered(state, request("DEL", one))
            assert answer == Answer(0), chance
            assert left_on_the_host() == "", chance
            assert sh(f"ip -n {one} -o link").count("\n") == 1, chance
            assert taken(state) == 0, chance

        assert chances(lambda: answered(state, request("ADD", one)), after) > 10
        answered(state, request("DEL", one))

    def test_an_add_that_was_cut_off_is_tried_again(self, state: Path, one: str) -> None:
        def after(chance: int) -> None:
            (answer,) = answered(state, request("ADD", one))
            if answer.exit_code:  # cut off when all was done: the runtime did not hear, and deletes it
                assert json.loads(answer.stdout)["code"] == 100, chance
                _, answer = answered(state, request("DEL", one), request("ADD", one))
            assert pings(addresses(answer)[0]), chance
            assert answered(state, request("DEL", one)) == [Answer(0)]
            assert (left_on_the_host(), taken(state)) == ("", 0), chance

        assert chances(lambda: answered(state, request("ADD", one)), after) > 10
        answered(state, request("DEL", one))

    def test_an_add_that_was_cut_off_is_collected(self, state: Path, one: str) -> None:
        def after(chance: int) -> None:
            assert answered(state, collect()) == [Answer(0)], chance
            assert (left_on_the_host(), taken(state)) == ("", 0), chance

        assert chances(lambda: answered(state, request("ADD", one)), after) > 10
        answered(state, request("DEL", one))

    def test_a_del_that_was_cut_off_is_completed_by_the_next(self, state: Path, one: str) -> None:
        answered(state, request("ADD", one))

        def after(chance: int) -> None:
            assert answered(state, request("DEL", one)) == [Answer(0)], chance
            assert (left_on_the_host(), taken(state)) == ("", 0), chance
            answered(state, request("ADD", one))

        assert chances(lambda: answered(state, request("DEL", one)), after) > 3

    def test_a_del_that_was_cut_off_is_completed_by_gc(self, state: Path, one: str) -> None:
        answered(state, request("ADD", one))

        def after(chance: int) -> None:
            assert answered(state, collect()) == [Answer(0)], chance
            assert (left_on_the_host(), taken(state)) == ("", 0), chance
            answered(state, request("ADD", one))

        assert chances(lambda: answered(state, request("DEL", one)), after) > 3


class TestReboot:
    def test_the_same_container_comes_again_at_the_same_path(self, state: Path, one: str) -> None:
        (first,) = answered(state, request("ADD", one))
        sh(f"ip netns del {one}; ip netns add {one}")
        (second,) = answered(state, request("ADD", one))
        assert pings(addresses(second)[0])
        assert addresses(first) != addresses(second)
        answered(state, request("DEL", one))
        assert (left_on_the_host(), taken(state)) == ("", 0)

    def test_a_del_by_a_stale_path_leaves_who_is_there_now(self, state: Path, one: str) -> None:
        answered(state, request("ADD", one))
        sh(f"ip netns del {one}; ip netns add {one}")
        new = request("ADD", one)
        new.environment["CNI_CONTAINERID"] = "new"
        added, deleted = answered(state, new, request("DEL", one))
        assert deleted == Answer(0)
        assert pings(addresses(added)[0])
        assert answered(state, collect()) == [Answer(0)]
        assert (left_on_the_host(), taken(state)) == ("", 0)


class Agent(RunningAgent):
    """An agent as a process, and the shim that finds it."""

    def __init__(self, directory: Path, pool: str) -> None:
        super().__init__(directory, f'[[pool]]\nnetwork = "{pool}"\n')
        self.cni_socket = directory / SOCKET.name
        self.pending = self.state / PENDING.name
        self.program = directory / "fairway"
        self.program.write_text(shim.source(shim.best(), self.cni_socket, self.pending))
        self.program.chmod(0o755)

    def cni(self, request: Request) -> Answer:
        """What the shim ends with."""
        variables = os.environ | request.environment
        command = [str(self.program)]
        done = subprocess.run(command, input=request.stdin, env=variables, stdout=subprocess.PIPE, close_fds=False)
        return Answer(done.returncode, done.stdout)

    def together(self, requests: list[Request]) -> list[Answer]:
        with ThreadPoolExecutor(50) as pool:
            return list(pool.map(self.cni, requests))


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    found = Agent(tmp_path, "10.92.0.0/16")
    found.wait_ready()
    yield found
    if found.process.poll() is None:
        found.stop()


@pytest.fixture
def many() -> Iterator[list[str]]:
    containers = Containers("fwt-many", MANY)
    yield containers.names
    containers.close()


def test_a_shim_that_is_killed_at_any_byte_of_its_request_leaves_nothing_that_del_does_not_take(
    agent: Agent, one: str
) -> None:
    whole = encode_request(request("ADD", one))
    for length in range(0, len(whole) + 1, 7):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(agent.cni_socket))
            connection.sendall(whole[:length])
        # The next call is answered after what was cut off.
        assert agent.cni(request("DEL", one)) == Answer(0)
        assert left_on_the_host() == "", length
    assert addresses(agent.cni(request("ADD", one)))
    agent.cni(request("DEL", one))


def test_a_hundred_deletions_are_accepted_while_the_agent_is_down_and_done_when_it_is_back(
    agent: Agent, many: list[str]
) -> None:
    names = many[:100]
    for answer in agent.together([request("ADD", name) for name in names]):
        addresses(answer)
    agent.kill()
    assert agent.together([request("DEL", name) for name in names]) == [Answer(0)] * 100
    assert len(waiting_in(agent.pending)) == 100
    agent.again()
    assert waiting_in(agent.pending) == []
    assert left_on_the_host() == ""
    # Nothing of theirs is in the way of their coming again.
    again = agent.together([request("ADD", name) for name in names])
    assert len({addresses(answer)[0] for answer in again}) == 100
    assert agent.cni(collect()) == Answer(0)


def test_a_container_that_comes_again_has_its_noted_deletion_done_first(agent: Agent, one: str) -> None:
    agent.cni(request("ADD", one))
    note = agent.pending / "1.1"
    note.write_bytes(encode_request(request("DEL", one)))
    assert pings(addresses(agent.cni(request("ADD", one)))[0])
    assert not note.exists()
    agent.cni(request("DEL", one))


@pytest.mark.timeout(240)
def test_five_hundred_added_and_deleted_at_once_with_collections_between(agent: Agent, many: list[str]) -> None:
    half = MANY // 2
    early, late = many[:half], many[half:]
    given = {
        name: addresses(a)[0] for name, a in zip(early, agent.together([request("ADD", n) for n in early]), strict=True)
    }
    kept, stale = early[::2], early[1::2]
    assert agent.cni(collect(*kept)) == Answer(0)
    mixed = [request("ADD", name) for name in late] + [request("DEL", name) for name in kept[: half // 4]]
    answers = agent.together(mixed)
    assert all(answer.exit_code == 0 for answer in answers)
    given |= {name: addresses(answer)[0] for name, answer in zip(late, answers[:half], strict=True)}
    living = [*kept[half // 4 :], *late]
    assert len({given[name] for name in living}) == len(living)
    assert agent.cni(collect(*living)) == Answer(0)
    for name in living:
        assert given[name] in sh(f"ip -n {name} -o addr show dev eth0")
    for name in stale:
        assert "eth0" not in sh(f"ip -n {name} -o link")
    assert all(answer == Answer(0) for answer in agent.together([request("DEL", name) for name in living]))
    assert left_on_the_host() == ""
    agent.kill()
    assert taken(agent.state) == 0


def test_what_waits_is_done_by_the_plugin_that_comes(state: Path, one: str, tmp_path: Path) -> None:
    answered(state, request("ADD", one))
    pending = tmp_path / "pending"
    pending.mkdir()
    (pending / "1.1").write_bytes(encode_request(request("DEL", one)))
    with Host(state) as host:
        assert Plugin(host, Pending(pending)).drain() == 1
    assert (left_on_the_host(), taken(state)) == ("", 0)


def test_a_collection_goes_on_after_what_cannot_be_removed(
    state: Path, many: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answered(state, *(request("ADD", name) for name in many[:3]))
    asked = Kernel.link_index

    def refusing(self: Kernel, link: str) -> int:
        if link == stuck.link:
            raise KernelError("the kernel refuses", 5)
        return asked(self, link)

    with Host(state) as host, monkeypatch.context() as patch:
        stuck = host.attachments.all()[0]
        patch.setattr(Kernel, "link_index", refusing)
        answer = Plugin(host).answer(collect()).answer
        told = json.loads(answer.stdout)
        assert (answer.exit_code, told["code"]) == (1, 104)
        assert "1 of 3 were not removed" in told["msg"]
        assert host.attachments.all() == []
    assert answered(state, collect()) == [Answer(0)]
    assert (left_on_the_host(), taken(state)) == ("", 0)
