"""Network policy, before real packets: what arrives is what the documents allow, for every pair, protocol and port."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from policy_world import NAMESPACES, POLICY_TESTS, World, policy_reference, policy_world

from fairway.net.kernel.netfilter.firewall import TABLE
from fairway.net.kernel.netfilter.policy import PolicyDriver
from fairway.net.policy import Compiler, read_documents

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it makes network namespaces"),
]
CASES = sorted((POLICY_TESTS / "cases").glob("*.yaml"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with policy_world(tmp_path_factory.mktemp("policy")) as found:
        yield found


@pytest.fixture
def driver() -> Iterator[PolicyDriver]:
    found = PolicyDriver(TABLE)
    yield found
    found.replace(Compiler().table())
    found.close()


def compiled(text: str, world: World) -> Compiler:
    compiler = Compiler(read_documents(text, "case").policies.values(), NAMESPACES)
    for endpoint in world.endpoints:
        compiler.put(endpoint)
    return compiler


def allowed(text: str, world: World) -> set[object]:
    reference = policy_reference.World([each for each in yaml.safe_load_all(text) if each], NAMESPACES)
    return {
        attempt
        for attempt in world.attempts()
        if reference.allows(attempt.source, attempt.destination, attempt.protocol, attempt.port)
    }


class TestWithoutPolicies:
    def test_everybody_reaches_everybody(self, world: World) -> None:
        assert world.arrived(world.attempts()) == set(world.attempts())


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
class TestEachCase:
    def test_what_arrives_is_what_the_documents_allow(self, case: Path, world: World, driver: PolicyDriver) -> None:
        text = case.read_text()
        driver.replace(compiled(text, world).table())
        expected = allowed(text, world)
        assert expected != set(world.attempts()), "a case that stops nothing proves nothing"
        assert world.arrived(world.attempts()) == expected

    def test_pods_that_come_one_by_one_make_the_same(self, case: Path, world: World, driver: PolicyDriver) -> None:
        text = case.read_text()
        compiler = Compiler(read_documents(text, "case").policies.values(), NAMESPACES)
        driver.replace(compiler.table())
        for endpoint in world.endpoints:
            driver.apply(compiler.put(endpoint))
        table = compiler.table()
        assert driver.observe(table) == table
        assert world.arrived(world.attempts()) == allowed(text, world)
        for endpoint in world.endpoints:
            driver.apply(compiler.remove(endpoint.key))
        assert driver.observe(compiler.table()) == compiler.table()


DENY = (POLICY_TESTS / "cases" / "deny-all-both.yaml").read_text().replace("prod", "default")


class TestConnectionsThatAreThere:
    def test_go_on_when_a_policy_comes_that_would_not_allow_them(self, world: World, driver: PolicyDriver) -> None:
        driver.replace(compiled((POLICY_TESTS / "cases" / "one-pod-one-port.yaml").read_text(), world).table())
        client, server = (
            next(
                p.address for p in world.parties if p.name == name and p.namespace == "default" and ":" not in p.address
            )
            for name in ("client", "web")
        )
        connection = world.connect(client, server, 80)
        accepted, _ = world.listening[server, "TCP", 80].accept()
        driver.replace(compiled(DENY, world).table())
        connection.sendall(b"still")
        accepted.settimeout(2)
        assert accepted.recv(10) == b"still"
        with pytest.raises(TimeoutError):
            world.inside(client, lambda: socket.create_connection((server, 80), 0.3))
        connection.close()
        accepted.close()


class TestWhatSomebodyBroke:
    @pytest.mark.parametrize(
        "damage",
        [
            "flush chain inet fairway policies",
            "delete element inet fairway policy-to-4 {{ {web} }}",
            "add rule inet fairway policies accept",
            "flush map inet fairway policy-to-4",
        ],
    )
    def test_is_seen_and_made_whole(self, damage: str, world: World, driver: PolicyDriver) -> None:
        text = (POLICY_TESTS / "cases" / "one-pod.yaml").read_text()
        table = compiled(text, world).table()
        driver.replace(table)
        web = next(
            p.address for p in world.parties if (p.namespace, p.name) == ("default", "web") and ":" not in p.address
        )
        assert os.system(f"nft '{damage.format(web=web)}'") == 0
        assert driver.observe(table) != table
        driver.replace(table)
        assert driver.observe(table) == table
        assert world.arrived(world.attempts()) == allowed(text, world)
