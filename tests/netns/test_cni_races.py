"""ADD, DEL and GC of the same containers at once, by many runtimes, and the agent killed in the midst."""

from __future__ import annotations

import json
import random
import subprocess
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from test_cni_accidents import Agent, Containers, addresses, collect, left_on_the_host, request, sh, taken, uplink

from fairway.net.cni import Answer, Request
from fairway.net.cni.pending import waiting_in

__all__ = ["uplink"]  # a fixture that every test of this room needs

FEW = 6
CALLS = 40
"""Of each container, in a round."""
INTERFACES = ("eth0", "net1")


@pytest.fixture
def few() -> Iterator[list[str]]:
    containers = Containers("fwt-few", FEW)
    yield containers.names
    containers.close()


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    found = Agent(tmp_path, "10.92.0.0/24")
    found.wait_ready()
    yield found
    if found.process.poll() is None:
        found.stop()


def on(interface: str, asked: Request) -> Request:
    asked.environment["CNI_IFNAME"] = interface
    return asked


def held(name: str) -> dict[str, list[str]]:
    """The addresses of the container's interfaces, as its kernel has them."""
    links = json.loads(sh(f"ip -n {name} -j -4 addr"))
    return {link["ifname"]: [each["local"] for each in link["addr_info"]] for link in links if link["ifname"] != "lo"}


def everywhere(names: list[str]) -> dict[tuple[str, str], str]:
    """Who has which address; each interface has one, and no two have the same."""
    found = {(name, interface): have for name in names for interface, have in held(name).items()}
    assert all(len(have) == 1 for have in found.values()), found
    assert set(Counter(have[0] for have in found.values()).values()) <= {1}, found
    return {key: have[0] for key, have in found.items()}


def crowd(names: list[str], seed: int) -> list[Request]:
    """Calls of all kinds on the same keys, in an order that the seed says; GC knows of some of them."""
    chance = random.Random(seed)
    calls = []
    for _ in range(CALLS * len(names)):
        name, interface = chance.choice(names), chance.choice(INTERFACES)
        kind = chance.choice(("ADD", "ADD", "DEL", "DEL", "GC"))
        known = chance.sample(names, len(names) // 2)
        calls.append(collect(*known) if kind == "GC" else on(interface, request(kind, name)))
    return calls


def code(answer: Answer) -> int:
    return 0 if answer.exit_code == 0 else int(json.loads(answer.stdout)["code"])


def delete_all(agent: Agent, names: list[str]) -> None:
    """The last DEL of each, as a runtime sends it however an ADD went."""
    last = [on(interface, request("DEL", name)) for name in names for interface in INTERFACES]
    assert agent.together(last) == [Answer(0)] * len(last)


def nothing_is_left(agent: Agent, names: list[str]) -> None:
    assert left_on_the_host() == ""
    assert {name: held(name) for name in names} == {name: {} for name in names}
    assert waiting_in(agent.pending) == []


def test_calls_on_the_same_interfaces_at_once_give_each_one_address_and_leave_nothing(
    agent: Agent, few: list[str]
) -> None:
    for seed in range(2):
        answers = agent.together(crowd(few, seed))
        # 100: it is there already; nothing else may fail.
        assert {code(answer) for answer in answers} <= {0, 100}
        found = everywhere(few)
        told = {addresses(answer)[0] for answer in answers if answer.exit_code == 0 and b'"ips"' in answer.stdout}
        assert set(found.values()) <= told
        assert sum("fwy-" in line for line in sh("ip -o link").splitlines()) == len(found)
        assert agent.cni(collect(*few[:2])) == Answer(0)  # GC knows of eth0 alone
        assert everywhere(few) == {key: have for key, have in found.items() if key in [(n, "eth0") for n in few[:2]]}
        delete_all(agent, few)
        nothing_is_left(agent, few)
    agent.kill()
    assert taken(agent.state) == 0


def test_of_many_that_add_the_same_interface_at_once_one_succeeds(agent: Agent, few: list[str]) -> None:
    name = few[0]
    answers = agent.together([request("ADD", name) for _ in range(50)])
    assert Counter(map(code, answers)) == {0: 1, 100: 49}
    (added,) = [answer for answer in answers if not answer.exit_code]
    assert everywhere([name]) == {(name, "eth0"): addresses(added)[0]}
    delete_all(agent, few)
    nothing_is_left(agent, few)


def test_an_agent_that_is_killed_in_the_midst_again_and_again_loses_no_address_and_gives_none_twice(
    agent: Agent, few: list[str]
) -> None:
    for seed in range(4):
        calls = crowd(few, 100 + seed)
        with ThreadPoolExecutor(40) as pool:
            running = [pool.submit(agent.cni, each) for each in calls]
            for done in running[: 20 + 20 * seed]:
                done.result()
            agent.kill()
            # What is asked meanwhile is put off: DEL is noted, ADD and GC are to be tried again.
            answers = [done.result() for done in running]
        assert {code(answer) for answer in answers} <= {0, 11, 100}
        agent.again()
        everywhere(few)
        answers = agent.together(crowd(few, 200 + seed))
        assert {code(answer) for answer in answers} <= {0, 100}
        everywhere(few)
        delete_all(agent, few)
        nothing_is_left(agent, few)
    agent.kill()
    assert taken(agent.state) == 0


def test_a_namespace_that_goes_and_comes_again_under_a_crowd_leaves_nothing(agent: Agent, few: list[str]) -> None:
    """A runtime takes the namespace away before its DEL, and another container has the path by then."""
    with ThreadPoolExecutor(40) as pool:
        running = [pool.submit(agent.cni, each) for each in crowd(few, 7)]
        for _ in range(5):
            for name in few:
                subprocess.run(f"ip netns del {name}; ip netns add {name}", shell=True, check=True)
        answers = [done.result() for done in running]
    # 4: there was nothing at the path just then.
    assert {code(answer) for answer in answers} <= {0, 4, 100, 102}
    everywhere(few)
    delete_all(agent, few)
    nothing_is_left(agent, few)
    agent.kill()
    assert taken(agent.state) == 0
