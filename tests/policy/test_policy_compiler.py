"""Policies compiled: what the table lets pass is what the documents allow, for random policies, pods and changes."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_reference import Party, World

from fairway.net.model.policy import ContainerPort, Direction, Endpoint
from fairway.net.model.policy_table import Element, Isolated, PolicyTable, RuleLine
from fairway.net.policy import Compiler, read_documents

NAMESPACES = {"a": {"team": "x"}, "b": {"team": "y", "env": "prod"}, "c": {}}
KEYS, VALUES = ("app", "role"), ("1", "2", "3")
NAMES = ("http", "dns")
PORTS = (53, 80, 8080)
BLOCKS = ("10.0.0.0/24", "10.0.0.0/28", "10.0.0.8/29", "0.0.0.0/0", "fd00::/64", "192.0.2.0/24")

labels = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES))
expressions = st.lists(
    st.one_of(
        st.builds(
            lambda key, operator, values: {"key": key, "operator": operator, "values": values},
            st.sampled_from(KEYS),
            st.sampled_from(("In", "NotIn")),
            st.lists(st.sampled_from(VALUES), min_size=1, max_size=2),
        ),
        st.builds(
            lambda key, operator: {"key": key, "operator": operator},
            st.sampled_from(KEYS),
            st.sampled_from(("Exists", "DoesNotExist")),
        ),
    ),
    max_size=1,
)
selectors = st.builds(lambda m, e: {"matchLabels": m, "matchExpressions": e}, labels, expressions)
namespace_selectors = st.sampled_from(
    (
        {},
        {"matchLabels": {"team": "x"}},
        {"matchLabels": {"kubernetes.io/metadata.name": "c"}},
        {"matchExpressions": [{"key": "env", "operator": "DoesNotExist"}]},
    )
)


@st.composite
def blocks(draw: st.DrawFn) -> dict[str, Any]:
    cidr = ip_network(draw(st.sampled_from(BLOCKS)))
    inside = [each for each in map(ip_network, BLOCKS) if each.version == cidr.version and each.subnet_of(cidr)]
    return {
        "ipBlock": {"cidr": str(cidr), "except": [str(e) for e in draw(st.lists(st.sampled_from(inside), max_size=1))]}
    }


peers = st.one_of(
    selectors.map(lambda s: {"podSelector": s}),
    namespace_selectors.map(lambda s: {"namespaceSelector": s}),
    st.builds(lambda n, p: {"namespaceSelector": n, "podSelector": p}, namespace_selectors, selectors),
    blocks(),
)
protocols = st.sampled_from(("TCP", "UDP"))
ports = st.one_of(
    protocols.map(lambda p: {"protocol": p}),
    st.builds(lambda p, n: {"protocol": p, "port": n}, protocols, st.sampled_from((*PORTS, *NAMES))),
    st.just({"port": 60, "endPort": 100}),
    st.just({"port": 53}),
)


def rules(word: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    rule = st.builds(
        lambda p, q: {**({word: p} if p is not None else {}), **({"ports": q} if q is not None else {})},
        st.none() | st.lists(peers, max_size=2),
        st.none() | st.lists(ports, max_size=2),
    )
    return st.lists(rule, max_size=2)


specs = st.builds(
    lambda pods, types, ingress, egress: {
        "podSelector": pods,
        **({"policyTypes": types} if types else {}),
        "ingress": ingress,
        "egress": egress,
    },
    selectors,
    st.sampled_from(([], ["Ingress"], ["Egress"], ["Ingress", "Egress"])),
    rules("from"),
    rules("to"),
)
policies = st.lists(st.tuples(st.sampled_from(tuple(NAMESPACES)), specs), max_size=4)
pods = st.lists(
    st.tuples(
        st.sampled_from(tuple(NAMESPACES)), labels, st.dictionaries(st.sampled_from(NAMES), st.sampled_from(PORTS))
    ),
    min_size=1,
    max_size=5,
)


def documents(chosen: Iterable[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    return [
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"namespace": namespace, "name": f"p{number}"},
            "spec": spec,
        }
        for number, (namespace, spec) in enumerate(chosen)
    ]


def endpoint(number: int, namespace: str, labelled: dict[str, str], named: dict[str, int]) -> Endpoint:
    addresses = (ip_address(f"10.0.{number >> 8}.{number & 255}"), ip_address(f"fd00::{number:x}"))
    listed = tuple(ContainerPort(name, "udp" if name == "dns" else "tcp", port) for name, port in named.items())
    return Endpoint(namespace, f"pod{number}", addresses, labelled, listed, local=True)


def party(pod: Endpoint, version: int) -> Party:
    (address,) = (str(a) for a in pod.addresses if a.version == version)
    named = {(port.protocol.upper(), port.name): port.number for port in pod.ports}
    return Party(pod.name, address, pod.namespace, dict(pod.labels), named)


def lets(table: PolicyTable, source: str, destination: str, protocol: str, port: int) -> bool:
    """What the kernel would do with a new connection, told from the table alone."""
    for direction, own, peer in ((Direction.EGRESS, source, destination), (Direction.INGRESS, destination, source)):
        ways = {way.chain for way in table.isolated if (way.direction, way.address) == (direction, own)}
        assert len(ways) <= 1
        for chain in ways:
            *lines, _ = table.chains[chain].lines
            if not any(_passes(table, line, peer, protocol, port) for line in lines):
                return False
    return True


def _passes(table: PolicyTable, line: RuleLine, peer: str, protocol: str, port: int) -> bool:
    if line.set_name:
        kind, elements = table.sets[line.set_name]
        assert kind.version == line.version
        if ip_address(peer).version != kind.version:
            return False
        wanted: Element = (peer, protocol, port) if line.with_port else peer
        networks = (ip_network(str(e)) for e in elements) if kind.networks else ()
        if wanted not in elements and not any(ip_address(peer) in network for network in networks):
            return False
    if line.protocol and line.protocol != protocol:
        return False
    return not line.ports or any(first <= port <= last for first, last in line.ports)


def compiler_of(texts: list[dict[str, Any]]) -> Compiler:
    text = "\n---\n".join(map(json.dumps, texts))
    return Compiler(read_documents(text, "test").policies.values(), NAMESPACES)


@given(policies, pods)
@settings(max_examples=150, deadline=None)
def test_the_table_lets_pass_what_the_documents_allow(chosen: Any, world: Any) -> None:
    texts = documents(chosen)
    compiler, reference = compiler_of(texts), World(texts, NAMESPACES)
    endpoints = [endpoint(number, *pod) for number, pod in enumerate(world, 1)]
    for each in endpoints:
        compiler.put(each)
    table = compiler.table()
    for version in (4, 6):
        parties = [party(each, version) for each in endpoints]
        parties.append(Party("stranger", "192.0.2.7" if version == 4 else "2001:db8::7"))
        for source in parties:
            for destination in parties:
                for protocol in ("TCP", "UDP"):
                    for port in PORTS:
                        expected = reference.allows(source, destination, protocol, port)
                        found = lets(table, source.address, destination.address, protocol.lower(), port)
                        assert found == expected, (source, destination, protocol, port)


@given(policies, st.lists(st.tuples(st.integers(1, 4), pods), min_size=1, max_size=8))
@settings(max_examples=100, deadline=None)
def test_changes_one_by_one_come_to_the_same_as_all_at_once(chosen: Any, changes: Any) -> None:
    texts = documents(chosen)
    compiler = compiler_of(texts)
    kernel = Kernel(compiler.table())
    standing: dict[int, Endpoint] = {}
    for number, ((namespace, labelled, named), *_) in changes:
        if number in standing and not labelled:
            kernel.apply(compiler.remove(standing.pop(number).key))
        else:
            if number in standing and standing[number].namespace != namespace:
                kernel.apply(compiler.remove(standing.pop(number).key))
            standing[number] = endpoint(number, namespace, labelled, named)
            kernel.apply(compiler.put(standing[number]))
    fresh = compiler_of(texts)
    for each in standing.values():
        fresh.put(each)
    assert compiler.table() == fresh.table()
    assert kernel.table() == compiler.table()


class Kernel:
    """As strict as the kernel: what is added is not there, what is removed is, and nothing refers to what is not."""

    def __init__(self, table: PolicyTable) -> None:
        self.active = table.active
        self.sets = {name: (kind, set(elements)) for name, (kind, elements) in table.sets.items()}
        self.chains = dict(table.chains)
        self.isolated = set(table.isolated)

    def apply(self, delta: Any) -> None:
        for chain in delta.new_chains:
            assert chain.name not in self.chains
            self.chains[chain.name] = chain
        for name, elements in delta.add.items():
            assert not elements & self.sets[name][1]
            self.sets[name][1].update(elements)
        assert delta.release <= self.isolated
        self.isolated -= delta.release
        assert not {_place(way) for way in delta.isolate} & {_place(way) for way in self.isolated}
        self.isolated |= delta.isolate
        for name, elements in delta.remove.items():
            assert elements <= self.sets[name][1]
            self.sets[name][1].difference_update(elements)
        for name in delta.old_chains:
            del self.chains[name]
        assert {way.chain for way in self.isolated} == set(self.chains)

    def table(self) -> PolicyTable:
        sets = {name: (kind, frozenset(elements)) for name, (kind, elements) in self.sets.items()}
        return PolicyTable(self.active, sets, self.chains, frozenset(self.isolated))


def _place(way: Isolated) -> tuple[Direction, str]:
    return way.direction, way.address


def test_ten_thousand_pods_in_a_hundred_policies_are_as_the_documents_have_it() -> None:
    dice = random.Random(1)
    apps = [str(number) for number in range(100)]
    texts = documents(
        (
            "a",
            {
                "podSelector": {"matchLabels": {"app": app}},
                "ingress": [
                    {"from": [{"podSelector": {"matchLabels": {"app": dice.choice(apps)}}}], "ports": [{"port": 80}]}
                ],
            },
        )
        for app in apps
    )
    compiler, reference = compiler_of(texts), World(texts, NAMESPACES)
    endpoints = [endpoint(number, "a", {"app": dice.choice(apps)}, {}) for number in range(1, 10_001)]
    for each in endpoints:
        compiler.put(each)
    table = compiler.table()
    assert len(table.chains) == len({each.labels["app"] for each in endpoints})
    ways = {(way.direction, way.address): way.chain for way in table.isolated}
    for _ in range(2_000):
        source, destination = (party(each, 4) for each in dice.sample(endpoints, 2))
        port = dice.choice(PORTS)
        *lines, _ = table.chains[ways[Direction.INGRESS, destination.address]].lines
        found = any(_passes(table, line, source.address, "tcp", port) for line in lines)
        assert found == reference.allows(source, destination, "TCP", port)


def test_the_names_of_sets_do_not_depend_on_who_asks() -> None:
    spec = {
        "podSelector": {},
        "ingress": [{"from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "1"}}}]}],
    }
    compiler = compiler_of(documents((("a", spec), ("b", spec))))
    assert len([name for name in compiler.table().sets if "pods" in name]) == 2  # one for each version of IP


@pytest.mark.parametrize(("added", "expected"), [(False, 0), (True, 1)])
def test_a_pod_of_another_host_is_a_peer_but_not_guarded_here(added: bool, expected: int) -> None:
    spec = {"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}]}]}
    compiler = compiler_of(documents((("a", spec),)))
    if added:
        compiler.put(Endpoint("a", "far", (ip_address("10.9.0.1"),)))
    table = compiler.table()
    assert not table.isolated
    assert sum("10.9.0.1" in elements for _, elements in table.sets.values()) == expected


@pytest.mark.parametrize("to", [None, [{"podSelector": {"matchLabels": {"app": "1"}}}]])
def test_a_named_port_out_is_what_the_receiving_pod_calls_so(to: Any) -> None:
    rule = {"ports": [{"port": "http"}], **({"to": to} if to else {})}
    texts = documents(
        (("a", {"podSelector": {"matchLabels": {"app": "2"}}, "policyTypes": ["Egress"], "egress": [rule]}),)
    )
    compiler = compiler_of(texts)
    for number, (label, named) in enumerate((("1", 80), ("1", 8080), ("2", 53)), 1):
        compiler.put(endpoint(number, "a", {"app": label}, {"http": named}))
    table = compiler.table()
    assert lets(table, "10.0.0.3", "10.0.0.1", "tcp", 80)
    assert lets(table, "10.0.0.3", "10.0.0.2", "tcp", 8080)
    assert not lets(table, "10.0.0.3", "10.0.0.2", "tcp", 80)
    assert not lets(table, "10.0.0.3", "10.0.0.1", "udp", 80)
