"""What the kernel must hold for a lab's ground, before any pod."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import TypeVar

import pytest

from fairway.lab.topology import facts, is_cable, link_ports, load, parse
from fairway.net.model.facts import (
    Address,
    Bridge,
    BridgePort,
    Fact,
    Namespace,
    Neighbour,
    Route,
    Sysctl,
    Up,
    Veth,
)

EXAMPLES = Path(__file__).parents[2] / "examples"
F = TypeVar("F")

THREE = """
[nodes.a]
[nodes.b]
[routers.r]
[links.lan]
members = { b = "10.0.0.2/24", a = "10.0.0.1/24", r = "10.0.0.3/24" }
mtu = 1400
"""


def of(kind: type[F], found: set[Fact]) -> list[F]:
    return sorted((fact for fact in found if isinstance(fact, kind)), key=str)


def many(members: int) -> str:
    lines = [f"[nodes.n{number}]" for number in range(1, members + 1)]
    lines.append("[links.lan.members]")
    lines += [f'n{number} = ["10.0.0.{number}/24", "fd00::{number}/64"]' for number in range(1, members)]
    return "\n".join([*lines, f'n{members} = "10.0.0.{members}/24"'])


class TestNodes:
    def test_nodes_and_routers_are_marked_namespaces_that_forward(self) -> None:
        found = facts(load(EXAMPLES / "cross-subnet.toml"), relayed=False)
        assert of(Namespace, found) == [
            Namespace("cross-subnet.node01", "fairway lab cross-subnet node node01"),
            Namespace("cross-subnet.node02", "fairway lab cross-subnet node node02"),
            Namespace("cross-subnet.r1", "fairway lab cross-subnet router r1"),
        ]
        for name in ("cross-subnet.node01", "cross-subnet.node02", "cross-subnet.r1"):
            assert Sysctl(name, "net/ipv4/ip_forward", "1") in found
            assert Sysctl(name, "net/ipv6/conf/all/forwarding", "1") in found
            assert Sysctl(name, "net/ipv6/conf/eth0/accept_dad", "0") in found
            assert Sysctl(name, "net/ipv6/conf/eth0/accept_ra", "0") in found
        assert Up("cross-subnet.r1", "lo", "fairway lab cross-subnet router r1") in found

    def test_reverse_path_filters_are_off_where_ways_may_differ(self) -> None:
        found = facts(load(EXAMPLES / "cross-subnet.toml"), relayed=False)
        filters = {(fact.namespace, fact.path) for fact in of(Sysctl, found) if fact.path.endswith("rp_filter")}
        assert filters == {
            ("cross-subnet.r1", f"net/ipv4/conf/{interface}/rp_filter") for interface in ("all", "eth0", "eth1")
        }

    def test_routers_have_their_routes_here_and_nodes_do_not(self) -> None:
        found = facts(load(EXAMPLES / "cross-subnet.toml"), relayed=False)
        assert of(Route, found) == [
            Route("cross-subnet.r1", ip_network("10.1.0.0/24"), "eth0", ip_address("192.168.1.10")),
            Route("cross-subnet.r1", ip_network("10.2.0.0/24"), "eth1", ip_address("192.168.2.10")),
        ]

    def test_an_interface_too_narrow_for_ipv6_has_no_settings_of_it(self) -> None:
        found = facts(parse(THREE.replace("1400", "1000"), "x.toml"), relayed=False)
        assert not any("ipv6/conf/eth" in fact.path for fact in of(Sysctl, found))


class TestLinks:
    def test_two_members_are_joined_by_one_pair(self) -> None:
        found = facts(load(EXAMPLES / "two-hosts.toml"), relayed=True)
        (veth,) = of(Veth, found)
        assert (veth.namespace, veth.name) == ("two-hosts.node03", "eth0")
        assert (veth.peer_namespace, veth.peer) == ("two-hosts.node02", "eth0")
        assert veth.mtu == 1500
        assert Address("two-hosts.node03", "eth0", ip_interface("100.100.198.250/24")) in found
        assert Address("two-hosts.node02", "eth0", ip_interface("100.100.198.253/24")) in found
        assert Up("two-hosts.node02", "eth0", "fairway lab two-hosts link lan") in found
        assert len(of(Namespace, found)) == 2

    def test_more_members_are_joined_by_a_bridge_in_the_links_namespace(self) -> None:
        topology = parse(THREE, "x.toml")
        found = facts(topology, relayed=True)
        assert Namespace("x.lan", "fairway lab x link lan") in found
        assert of(Bridge, found) == [Bridge("x.lan", "br0", 1400)]
        assert link_ports(topology, "lan") == ("p0", "p1", "p2")
        assert {(veth.namespace, veth.name, veth.peer_namespace, veth.peer) for veth in of(Veth, found)} == {
            ("x.b", "eth0", "x.lan", "p0"),
            ("x.a", "eth0", "x.lan", "p1"),
            ("x.r", "eth0", "x.lan", "p2"),
        }
        assert of(BridgePort, found) == [BridgePort("x.lan", port, "br0") for port in ("p0", "p1", "p2")]
        assert {fact.link for fact in of(Up, found) if fact.namespace == "x.lan"} == {"br0", "p0", "p1", "p2"}
        assert {veth.mtu for veth in of(Veth, found)} == {1400}

    @pytest.mark.parametrize("name", ["lossy", "three"])
    def test_a_relayed_link_has_ports_and_no_bridge(self, name: str) -> None:
        text = (EXAMPLES / "lossy.toml").read_text() if name == "lossy" else f'{THREE}delay = "1ms"'
        topology = parse(text, "x.toml")
        (link,) = topology.links
        found = facts(topology, relayed=True)
        assert not is_cable(link, relayed=True)
        assert {veth.peer for veth in of(Veth, found)} == set(link_ports(topology, link.name))
        assert {veth.peer_namespace for veth in of(Veth, found)} == {f"x.{link.name}"}
        assert not of(Bridge, found)
        assert not of(BridgePort, found)

    def test_with_netem_a_link_with_faults_is_built_like_one_without(self) -> None:
        topology = load(EXAMPLES / "lossy.toml")
        assert is_cable(topology.links[0], relayed=False)
        assert len(of(Veth, facts(topology, relayed=False))) == 1
        assert of(Bridge, facts(parse(f'{THREE}delay = "1ms"', "x.toml"), relayed=False))

    def test_up_to_twenty_members_find_their_neighbours_by_themselves(self) -> None:
        assert not of(Neighbour, facts(parse(many(20), "x.toml"), relayed=False))

    def test_neighbours_on_larger_links_are_written_down_for_the_families_that_a_node_has(self) -> None:
        found = facts(parse(many(21), "x.toml"), relayed=False)
        neighbours = of(Neighbour, found)
        assert len([each for each in neighbours if each.address.version == 4]) == 21 * 20
        assert len([each for each in neighbours if each.address.version == 6]) == 20 * 19
        macs = {veth.namespace: veth.mac for veth in of(Veth, found)}
        assert Neighbour("x.n1", "eth0", ip_address("10.0.0.21"), macs["x.n21"]) in found


class TestStability:
    @pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.stem)
    @pytest.mark.parametrize("relayed", [False, True])
    def test_the_same_file_gives_the_same_facts_each_with_a_key_of_its_own(self, path: Path, relayed: bool) -> None:
        found = facts(load(path), relayed)
        assert found == facts(load(path), relayed)
        assert len({fact.key for fact in found}) == len(found)

    def test_the_macs_of_an_interface_outlast_changes_elsewhere_in_the_file(self) -> None:
        before = {veth.namespace: veth.mac for veth in of(Veth, facts(parse(THREE, "x.toml"), relayed=False))}
        text = THREE.replace("[links.lan]", '[nodes.c]\n[links.lan]\nmembers.c = "10.0.0.4/24"')
        text = text.replace(
            'members = { b = "10.0.0.2/24", a = "10.0.0.1/24", r = "10.0.0.3/24" }',
            'members.b = "10.0.0.2/24"\nmembers.a = "10.0.0.1/24"\nmembers.r = "10.0.0.3/24"',
        )
        after = {veth.namespace: veth.mac for veth in of(Veth, facts(parse(text, "x.toml"), relayed=False))}
        assert before.items() <= after.items()

    def test_macs_are_those_that_earlier_runs_gave(self) -> None:
        (veth,) = of(Veth, facts(load(EXAMPLES / "two-hosts.toml"), relayed=False))
        assert (veth.mac, veth.peer_mac) == ("02:b9:74:6c:68:1f", "02:81:83:04:dd:45")

    def test_macs_are_local_unicast_and_all_different(self) -> None:
        veths = of(Veth, facts(parse(many(100), "x.toml"), relayed=False))
        macs = [mac for veth in veths for mac in (veth.mac, veth.peer_mac)]
        assert len(set(macs)) == 200
        assert {mac[:2] for mac in macs} == {"02"}
