"""The TOML file of a lab, read into a Topology; and the examples."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import pytest

from fairway.lab.model import Faults, LabPod, Link, Member, Node, Topology
from fairway.lab.topology import load, parse, static_routes
from fairway.lab.topology.lines import key_lines
from fairway.lab.topology.parse import LAB_KEYS, LINK_KEYS, NODE_KEYS, POD_KEYS, ROUTE_KEYS, ROUTER_KEYS
from fairway.net.model.errors import UsageError
from fairway.net.model.pod import StaticRoute

EXAMPLES = Path(__file__).parents[2] / "examples"
TWO_NODES = """
[nodes.a]
pools = ["10.0.1.0/24"]
[nodes.b]
pools = ["10.0.2.0/24"]
[links.lan]
members = { a = "192.168.0.1/24", b = "192.168.0.2/24" }
"""


class TestReading:
    def test_the_reference_network_has_the_addresses_of_the_article(self) -> None:
        assert load(EXAMPLES / "two-hosts.toml") == Topology(
            name="two-hosts",
            nodes=(
                Node("node03", pools=(ip_network("10.0.1.0/24"), ip_network("10.0.2.0/24"))),
                Node("node02", pools=(ip_network("10.0.3.0/24"), ip_network("10.0.4.0/24"))),
            ),
            links=(
                Link(
                    "lan",
                    (
                        Member("node03", "eth0", (ip_interface("100.100.198.250/24"),)),
                        Member("node02", "eth0", (ip_interface("100.100.198.253/24"),)),
                    ),
                ),
            ),
            pods=(
                LabPod("demo01", "node03", (ip_address("10.0.1.2"),)),
                LabPod("demo02", "node03", (ip_address("10.0.2.2"),)),
                LabPod("demo03", "node02", (ip_address("10.0.3.2"),)),
                LabPod("demo04", "node02", (ip_address("10.0.4.2"),)),
            ),
            agents=True,
        )

    def test_a_lab_is_called_what_its_file_is_called_or_what_it_says(self) -> None:
        assert parse(TWO_NODES, "some/where/my-lab.toml").name == "my-lab"
        assert parse(f'name = "mine"\n{TWO_NODES}', "<stdin>").name == "mine"

    def test_interfaces_are_numbered_on_each_node_in_the_order_of_the_links(self) -> None:
        topology = parse(
            """
            [nodes.a]
            [nodes.b]
            [routers.r]
            [links.one]
            members = { a = "10.0.0.1/24", r = "10.0.0.2/24" }
            [links.two]
            members = { r = "10.0.1.1/24", b = "10.0.1.2/24" }
            [links.three]
            members = { r = "10.0.2.1/24", b = "10.0.2.2/24", a = "10.0.2.3/24" }
            """,
            "lab.toml",
        )
        named = {(link.name, member.node): member.interface for link in topology.links for member in link.members}
        assert named == {
            ("one", "a"): "eth0",
            ("one", "r"): "eth0",
            ("two", "r"): "eth1",
            ("two", "b"): "eth0",
            ("three", "r"): "eth2",
            ("three", "b"): "eth1",
            ("three", "a"): "eth1",
        }

    def test_the_mtu_of_the_lab_is_that_of_links_without_their_own(self) -> None:
        assert parse(TWO_NODES, "lab.toml").links[0].mtu == 1500
        assert parse(f"mtu = 9000\n{TWO_NODES}", "lab.toml").links[0].mtu == 9000
        assert parse(f"mtu = 9000\n{TWO_NODES}\nmtu = 1400", "lab.toml").links[0].mtu == 1400

    def test_faults_are_read_with_their_units(self) -> None:
        assert load(EXAMPLES / "lossy.toml").links[0].faults == Faults(10.0, 1.0, 0.005, 100_000_000)
        faults = parse(f'{TWO_NODES}\ndelay = "1.5 s"\njitter = "250us"\nloss = "100%"\nrate = "1.5Gbit"', "lab.toml")
        assert faults.links[0].faults == Faults(1500.0, 0.25, 1.0, 1_500_000_000)

    def test_a_link_without_faults_has_none(self) -> None:
        assert not parse(f'{TWO_NODES}\ndelay = "0ms"\nloss = "0%"', "lab.toml").links[0].faults

    def test_routes_by_hand_and_a_dropping_firewall_belong_to_their_node(self) -> None:
        text = TWO_NODES.replace(
            "[nodes.b]", 'forward_policy = "drop"\nroutes = [{ to = "10.9.0.0/16", via = "192.168.0.2" }]\n[nodes.b]'
        )
        node = parse(text, "lab.toml").nodes[0]
        assert node.routes == (StaticRoute(ip_network("10.9.0.0/16"), ip_address("192.168.0.2")),)
        assert node.forward_policy == "drop"

    def test_one_value_may_stand_where_a_list_may(self) -> None:
        pods = '[pods]\nx = { node = "a", address = ["10.0.1.7"] }\ny = { node = "a", addresses = "10.0.1.8" }'
        text = TWO_NODES.replace('["10.0.1.0/24"]', '"10.0.1.0/24"') + pods
        topology = parse(text, "lab.toml")
        assert topology.nodes[0].pools == (ip_network("10.0.1.0/24"),)
        assert [pod.addresses for pod in topology.pods] == [(ip_address("10.0.1.7"),), (ip_address("10.0.1.8"),)]

    def test_a_node_may_be_alone_without_a_link(self) -> None:
        topology = parse('[nodes.a]\npools = "10.0.0.0/24"\n[pods.x]\nnode = "a"\nmtu = 1400', "lab.toml")
        assert topology.links == ()
        assert topology.pods == (LabPod("x", "a", (), 1400),)

    def test_a_point_to_point_subnet_has_no_address_of_its_own_to_spare(self) -> None:
        text = '[nodes.a]\n[nodes.b]\n[links.l]\nmembers = { a = "10.0.0.0/31", b = "10.0.0.1/31" }'
        assert len(parse(text, "lab.toml").links[0].members) == 2

    def test_members_may_be_of_one_family_or_both(self) -> None:
        text = """
        [nodes.a]
        pools = ["10.0.1.0/24", "fd00:1::/64"]
        [nodes.b]
        pools = "10.0.2.0/24"
        [nodes.c]
        pools = "fd00:3::/64"
        [links.l.members]
        a = ["10.9.0.1/24", "fd00:9::1/64"]
        b = "10.9.0.2/24"
        c = "fd00:9::3/64"
        """
        assert len(parse(text, "lab.toml").links[0].members) == 3


class TestExamples:
    @pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.stem)
    def test_every_example_is_a_lab_with_a_way_to_every_pool(self, path: Path) -> None:
        topology = load(path)
        assert topology.pods
        assert topology.name == path.stem
        routes = static_routes(replace(topology, agents=False))
        for node in topology.nodes:
            known = {route.destination for route in routes[node.name]}
            assert known.issuperset(pool for other in topology.nodes if other is not node for pool in other.pools)

    def test_the_script_prints_a_hundred_nodes_with_a_thousand_pods(self) -> None:
        text = subprocess.run([EXAMPLES / "hundred-nodes.sh"], check=True, capture_output=True, text=True).stdout
        topology = parse(text, "<stdin>")
        assert (len(topology.nodes), len(topology.pods), len(topology.links)) == (100, 1000, 1)
        assert sum(map(len, static_routes(topology).values())) == 9900


class TestAgents:
    TOPOLOGY = """
agents = true
[nodes.a]
pools = "10.0.1.0/24"
routes = [{ to = "10.0.2.0/25", via = "192.0.2.2" }]
[nodes.b]
pools = "10.0.2.0/24"
[routers.r]
[links.one]
members = { a = "192.0.2.1/24", r = "192.0.2.2/24" }
[links.two]
members = { b = "198.51.100.1/24", r = "198.51.100.2/24" }
"""

    def test_nodes_are_given_no_routes_to_pools_but_those_by_hand_and_routers_are(self) -> None:
        routes = static_routes(parse(self.TOPOLOGY, "lab.toml"))
        known = {name: {str(route.destination) for route in found} for name, found in routes.items()}
        assert known == {
            "a": {"10.0.2.0/25", "198.51.100.0/24"},
            "b": {"192.0.2.0/24"},
            "r": {"10.0.1.0/24", "10.0.2.0/24"},
        }

    def test_without_the_key_there_are_none(self) -> None:
        topology = parse(self.TOPOLOGY.replace("agents = true", ""), "lab.toml")
        assert not topology.agents
        assert "10.0.2.0/24" in {str(route.destination) for route in static_routes(topology)["a"]}

    @pytest.mark.parametrize(
        ("old", "new", "expected"),
        [
            ("agents = true", "agents = 1", "agents: expected true or false, got 1"),
            ('pools = "10.0.2.0/24"', "", "nodes.b: expected pools: with agents"),
            ("agents = true", f"agents = true\nname = '{'n' * 63}'\n[nodes.{'m' * 9}]", "expected a shorter name"),
        ],
    )
    def test_what_agents_need_is_said(self, old: str, new: str, expected: str) -> None:
        with pytest.raises(UsageError) as refused:
            parse(self.TOPOLOGY.replace(old, new), "lab.toml")
        assert expected in refused.value.message


class TestReference:
    PAGE = (EXAMPLES.parent / "docs" / "topology.md").read_text()

    def test_the_first_example_of_the_page_is_a_lab(self) -> None:
        text = self.PAGE.split("```toml\n")[1].split("```")[0]
        assert len(parse(text, "two-hosts.toml").pods) == 4

    def test_the_line_of_shell_on_the_page_prints_a_hundred_nodes(self) -> None:
        line = self.PAGE.split("```sh\n")[1].split(" > hundred.toml\n")[0]
        text = subprocess.run(["sh", "-c", line], check=True, capture_output=True, text=True).stdout
        topology = parse(text, "hundred.toml")
        assert (len(topology.nodes), len(topology.pods)) == (100, 100)

    @pytest.mark.parametrize("key", sorted({*LAB_KEYS, *NODE_KEYS, *ROUTER_KEYS, *ROUTE_KEYS, *LINK_KEYS, *POD_KEYS}))
    def test_the_page_explains_every_key(self, key: str) -> None:
        assert f"`{key}`" in self.PAGE


class TestKeyLines:
    def test_tables_keys_and_dotted_keys_have_the_line_they_first_stand_on(self) -> None:
        text = "[a.b]\n# c = 1\nc = 1\n d.e = 2 # f = 3\n[\"x y\".z]\n\n'c' = { g = 1 }\n"
        assert key_lines(text) == {
            ("a",): 1,
            ("a", "b"): 1,
            ("a", "b", "c"): 3,
            ("a", "b", "d"): 4,
            ("a", "b", "d", "e"): 4,
            ("x y",): 5,
            ("x y", "z"): 5,
            ("x y", "z", "c"): 7,
        }

    def test_elements_of_an_array_of_tables_are_counted(self) -> None:
        lines = key_lines("[[r]]\nto = 1\n[[r]]\nto = 2\n")
        assert (lines["r",], lines["r", 0, "to"], lines["r", 1], lines["r", 1, "to"]) == (1, 2, 3, 4)

    def test_what_stands_inside_a_list_over_several_lines_is_no_key(self) -> None:
        assert key_lines('a = [ # [\n  ["b"]\n, "]",\n]\nc = 1\n') == {("a",): 1, ("c",): 5}

    def test_nothing_is_said_of_a_text_with_multi_line_strings(self) -> None:
        assert key_lines('a = """\nb = 1\n"""\n') == {}
