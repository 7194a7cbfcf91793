"""The two halves of a move, by the hosts themselves, cut off at every step: the pod is on one of them, and works."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from functools import partial
from ipaddress import ip_address
from pathlib import Path

import pytest
from crash import run_and_kill

from fairway import lab
from fairway.lab import directory
from fairway.lab.nodes import node_host
from fairway.net.host.moving import Arrival
from fairway.net.kernel import namespaces
from fairway.net.model.errors import UsageError

TOPOLOGY = """
[nodes.n1]
pools = ["10.0.1.0/24"]
[nodes.n2]
pools = ["10.0.2.0/24"]
[links.lan]
members = { n1 = "192.0.2.1/24", n2 = "192.0.2.2/24" }
[pods]
a = { node = "n1", address = "10.0.1.2" }
"""
ADDRESS = ip_address("10.0.1.2")
STEPS_MAX = 60


@pytest.fixture(autouse=True)
def small(tmp_path: Path) -> Iterator[None]:
    file = tmp_path / "small.toml"
    file.write_text(TOPOLOGY)
    lab.up(file)
    yield
    lab.down("small")
    assert namespaces.names() == []


def move(source: str, target: str, interface: str, addresses: tuple = (ADDRESS,)) -> None:
    with node_host("small", target) as there, node_host("small", source) as here:
        there.moving.take_in("a", Arrival(f"small.{source}.a", interface, 1500, addresses))
        here.moving.let_go("a", keeps=bool(addresses))


def where() -> list[str]:
    return [pod.node for pod in lab.find("small").pods()]


def inside(node: str) -> str:
    with node_host("small", node) as host:
        return host.pod("a").interface


def works_on(node: str, address: object = ADDRESS) -> bool:
    ping = ["ip", "netns", "exec", f"small.{node}", "ping", "-c1", "-W1", str(address)]
    out = ["ip", "netns", "exec", f"small.{node}.a", "ping", "-c1", "-W1", "169.254.1.1"]
    return all(subprocess.run(words, capture_output=True).returncode == 0 for words in (ping, out))


def repair(*nodes: str) -> None:
    for node in nodes:
        with node_host("small", node) as host:
            host.repair()
    for node in nodes:
        with node_host("small", node) as host:
            assert host.check() == []


def test_a_pod_goes_and_comes_back_in_the_same_namespace():
    before = namespaces.identify("/run/netns/small.n1.a").inode
    move("n1", "n2", "eth0")
    assert (where(), namespaces.names("small.n1.")) == (["n2"], [])
    assert namespaces.identify("/run/netns/small.n2.a").inode == before
    assert works_on("n2")
    repair("n1", "n2")
    move("n2", "n1", "eth1")
    assert (where(), namespaces.names("small.n2.")) == (["n1"], [])
    assert namespaces.identify("/run/netns/small.n1.a").inode == before
    assert works_on("n1")
    repair("n1", "n2")


def test_a_host_that_lost_its_state_knows_the_pods_that_it_took_in_by_their_links():
    move("n1", "n2", "eth0")
    for path in directory.node_state("small", "n2").glob("state.db*"):
        path.unlink()
    with node_host("small", "n2") as host:
        assert host.corrupt is not None
        assert (host.pod("a").addresses, host.pod("a").interface) == ((ADDRESS,), "eth1")
    repair("n2", "n1")
    assert (where(), works_on("n2")) == (["n2"], True)


def test_nobody_else_gets_the_address_of_a_pod_that_is_away():
    move("n1", "n2", "eth0")
    with node_host("small", "n1") as home:
        with pytest.raises(UsageError, match=r"10\.0\.1\.2 is taken"):
            home.add_pod("b", [ADDRESS])
        assert [pod.name for pod in home.moving.away()] == ["a"]
        home.moving.forget_away("a")
        assert home.add_pod("b", [ADDRESS]).addresses == (ADDRESS,)


def test_one_that_gets_a_new_address_leaves_its_former_one_free():
    move("n1", "n2", "eth0", ())
    (pod,) = lab.find("small").pods()
    assert (pod.node, str(pod.addresses[0])[:7]) == ("n2", "10.0.2.")
    assert works_on("n2", pod.addresses[0])
    with node_host("small", "n1") as home:
        assert home.add_pod("b", [ADDRESS]).addresses == (ADDRESS,)


def test_a_pod_that_nobody_has_taken_in_is_not_let_go():
    with node_host("small", "n1") as here, pytest.raises(UsageError, match="no other host"):
        here.moving.let_go("a")
    assert works_on("n1")


def test_a_pod_that_is_here_is_not_taken_in_again():
    with node_host("small", "n1") as here, pytest.raises(UsageError, match="is here"):
        here.moving.take_in("a", Arrival("small.n1.a", "eth0", 1500, (ADDRESS,)))
    assert works_on("n1")


@pytest.mark.parametrize("order", [("n1", "n2"), ("n2", "n1")])
@pytest.mark.parametrize("returning", [False, True])
def test_killed_at_any_step_the_pod_is_on_one_host_and_works(order: tuple[str, str], returning: bool):
    source, target = ("n2", "n1") if returning else ("n1", "n2")
    if returning:
        move("n1", "n2", "eth0")
    ends = set()
    for chance in range(STEPS_MAX):
        killed = run_and_kill(partial(move, source, target, inside(source)), chance)
        repair(*order)
        (node,) = where()
        assert works_on(node), f"cut off at step {chance}, the pod does not work on {node}"
        ends.add(node)
        if not killed:
            break
        if node == target:  # for the next try, back to where it was
            move(target, source, inside(target))
    else:
        pytest.fail("the move was never finished")
    assert ends == {source, target}
