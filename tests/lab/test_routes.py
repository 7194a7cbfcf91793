"""The routes between the nodes of a lab: each packet comes home, by a shortest way, over routers only."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairway.lab.model import Link, Member, Node, Topology
from fairway.lab.topology import Unreachable, static_routes, unreachable
from fairway.net.model.errors import UsageError
from fairway.net.model.facts import IPAddress, IPNetwork
from fairway.net.model.pod import StaticRoute


def node(name: str, *pools: str, router: bool = False, routes: tuple[StaticRoute, ...] = ()) -> Node:
    return Node(name, router, tuple(map(ip_network, pools)), routes)


def link(name: str, **addresses: str) -> Link:
    members = tuple(Member(node, "eth0", tuple(map(ip_interface, each.split()))) for node, each in addresses.items())
    return Link(name, members)


def route(to: str, via: str) -> StaticRoute:
    return StaticRoute(ip_network(to), ip_address(via))


def lab(nodes: list[Node], links: list[Link], routes: str = "auto") -> Topology:
    return Topology("lab", tuple(nodes), tuple(links), (), routes)


class TestAuto:
    def test_nodes_on_one_link_reach_each_others_pools_directly(self) -> None:
        topology = lab(
            [node("a", "10.0.1.0/24"), node("b", "10.0.2.0/24", "10.0.3.0/24")],
            [link("lan", a="10.9.0.1/24", b="10.9.0.2/24")],
        )
        assert static_routes(topology) == {
            "a": (route("10.0.2.0/24", "10.9.0.2"), route("10.0.3.0/24", "10.9.0.2")),
            "b": (route("10.0.1.0/24", "10.9.0.1"),),
        }

    def test_nodes_behind_a_router_reach_each_others_pools_and_links_through_it(self) -> None:
        topology = lab(
            [node("a", "10.0.1.0/24"), node("b", "10.0.2.0/24"), node("r", router=True)],
            [link("left", a="10.8.0.2/24", r="10.8.0.1/24"), link("right", b="10.9.0.2/24", r="10.9.0.1/24")],
        )
        assert static_routes(topology) == {
            "a": (route("10.0.2.0/24", "10.8.0.1"), route("10.9.0.0/24", "10.8.0.1")),
            "b": (route("10.0.1.0/24", "10.9.0.1"), route("10.8.0.0/24", "10.9.0.1")),
            "r": (route("10.0.1.0/24", "10.8.0.2"), route("10.0.2.0/24", "10.9.0.2")),
        }

    def test_of_two_ways_of_one_length_the_first_in_the_file_is_taken(self) -> None:
        topology = lab(
            [node("a"), node("b", "10.0.2.0/24"), node("r", router=True), node("s", router=True)],
            [
                link("left", a="10.8.0.9/24", s="10.8.0.2/24", r="10.8.0.1/24"),
                link("right", b="10.9.0.9/24", r="10.9.0.1/24", s="10.9.0.2/24"),
            ],
        )
        assert route("10.0.2.0/24", "10.8.0.1") in static_routes(topology)["a"]

    def test_each_family_goes_its_own_way(self) -> None:
        topology = lab(
            [node("a", "10.0.1.0/24"), node("b", "10.0.2.0/24", "fd00:2::/64"), node("r", router=True)],
            [
                link("direct", a="10.7.0.1/24", b="10.7.0.2/24"),
                link("left", a="fd00:8::2/64", r="fd00:8::1/64"),
                link("right", b="fd00:9::2/64", r="fd00:9::1/64"),
            ],
        )
        assert static_routes(topology)["a"] == (
            route("10.0.2.0/24", "10.7.0.2"),
            route("fd00:2::/64", "fd00:8::1"),
            route("fd00:9::/64", "fd00:8::1"),
        )

    def test_a_node_carries_nothing_for_others_even_where_it_is_the_only_way(self) -> None:
        topology = lab(
            [node("a", "10.0.1.0/24"), node("between"), node("b", "10.0.2.0/24")],
            [
                link("left", a="10.8.0.1/24", between="10.8.0.2/24"),
                link("right", b="10.9.0.1/24", between="10.9.0.2/24"),
            ],
        )
        assert [(missing.source, missing.target) for missing in unreachable(topology)] == [("b", "a"), ("a", "b")]
        with pytest.raises(UsageError, match=r"no path leads from b to a with its pool 10\.0\.1\.0/24"):
            static_routes(topology)

    def test_a_node_without_a_family_needs_no_way_to_the_pools_of_that_family(self) -> None:
        topology = lab(
            [node("a", "10.0.1.0/24", "fd00:1::/64"), node("b", "10.0.2.0/24")],
            [link("lan", a="10.9.0.1/24", b="10.9.0.2/24")],
        )
        assert static_routes(topology)["b"] == (route("10.0.1.0/24", "10.9.0.1"),)

    def test_a_subnet_to_which_no_path_leads_has_no_route_and_is_no_error(self) -> None:
        topology = lab(
            [node("a"), node("b"), node("c"), node("d")],
            [link("one", a="10.8.0.1/24", b="10.8.0.2/24"), link("two", c="10.9.0.1/24", d="10.9.0.2/24")],
        )
        assert not any(static_routes(topology).values())

    def test_a_hundred_nodes_on_one_link_have_9900_routes(self) -> None:
        names = [f"n{number}" for number in range(1, 101)]
        nodes = [node(name, f"10.1.{number}.0/24") for number, name in enumerate(names, 1)]
        members = {name: f"10.9.0.{number}/24" for number, name in enumerate(names, 1)}
        routes = static_routes(lab(nodes, [link("lan", **members)]))
        assert {len(each) for each in routes.values()} == {99}


class TestByHand:
    NODES = (
        node("a", "10.0.1.0/24", routes=(route("10.0.2.0/24", "10.9.0.7"), route("10.7.0.0/16", "10.9.0.2"))),
        node("b", "10.0.2.0/24", "10.0.3.0/24"),
    )
    LINKS = (link("lan", a="10.9.0.1/24", b="10.9.0.2/24"),)

    def test_manual_means_only_what_the_file_says(self) -> None:
        topology = lab(list(self.NODES), list(self.LINKS), "manual")
        assert static_routes(topology) == {"a": self.NODES[0].routes, "b": ()}

    def test_a_route_by_hand_stands_in_for_the_automatic_one(self) -> None:
        topology = lab(list(self.NODES), list(self.LINKS))
        assert static_routes(topology)["a"] == (*self.NODES[0].routes, route("10.0.3.0/24", "10.9.0.2"))

    def test_a_pool_that_a_route_by_hand_covers_needs_no_path(self) -> None:
        nodes = [node("a", routes=(route("0.0.0.0/0", "10.8.0.2"),)), node("b"), node("c", "10.0.3.0/24"), node("d")]
        links = [link("one", a="10.8.0.1/24", b="10.8.0.2/24"), link("two", c="10.9.0.1/24", d="10.9.0.2/24")]
        assert [missing.source for missing in unreachable(lab(nodes, links))] == ["b"]

    def test_the_pool_that_is_named_is_one_that_no_route_by_hand_covers(self) -> None:
        nodes = [
            node("a", routes=(route("10.0.3.0/24", "10.8.0.2"),)),
            node("b"),
            node("c", "10.0.3.0/24", "10.0.4.0/24"),
        ]
        links = [link("one", a="10.8.0.1/24", b="10.8.0.2/24")]
        assert unreachable(lab(nodes, links))[0] == Unreachable("a", "c", ip_network("10.0.4.0/24"))


@st.composite
def networks(draw: st.DrawFn) -> Topology:
    """A tree of routers, some links more between them, and nodes on links; some links IPv4, the others both."""
    routers = draw(st.integers(1, 6))
    ends = [[draw(st.integers(0, each - 1)), each] for each in range(1, routers)]
    extra = st.lists(st.integers(0, routers - 1), min_size=1, max_size=3, unique=True)
    ends += draw(st.lists(extra, min_size=1, max_size=4))
    dual = [each < routers - 1 or draw(st.booleans()) for each in range(len(ends))]
    members = [[f"r{each}" for each in routers_there] for routers_there in ends]
    nodes = [node(f"r{number}", router=True) for number in range(routers)]
    for number in range(draw(st.integers(2, 6))):
        homes = draw(st.lists(st.integers(0, len(ends) - 1), min_size=1, max_size=2, unique=True))
        pools = [f"10.1.{number}.0/24"] + [f"fd00:1:{number}::/64"] * any(dual[home] for home in homes)
        nodes.append(node(f"n{number}", *pools))
        for home in homes:
            members[home].append(f"n{number}")
    links = []
    for number, names in enumerate(draw(st.permutations(list(enumerate(members))))):
        index, there = names
        each = {name: f"10.2.{index}.{host}/24" for host, name in enumerate(there, 1)}
        if dual[index]:
            each = {name: f"{v4} fd00:2:{index}::{host}/64" for host, (name, v4) in enumerate(each.items(), 1)}
        links.append(link(f"l{number}", **each))
    return lab(nodes, links)


def owner(topology: Topology, address: IPAddress) -> str:
    """The node that has `address` on a link."""
    return next(m.node for each in topology.links for m in each.members for i in m.addresses if i.ip == address)


def own_subnets(topology: Topology, name: str) -> Iterator[IPv4Interface | IPv6Interface]:
    for each in topology.links:
        for member in each.members:
            if member.node == name:
                yield from member.addresses


def walk(topology: Topology, routes: dict[str, tuple[StaticRoute, ...]], start: str, to: IPNetwork) -> list[str]:
    """The nodes that a packet from `start` to a host in the pool `to` passes, `start` and the last one among them."""
    pools = {each.name: each.pools for each in topology.nodes}
    routers = {each.name for each in topology.nodes if each.router}
    passed = [start]
    while to not in pools[passed[-1]]:
        (found,) = [route for route in routes[passed[-1]] if route.destination == to]
        assert any(found.gateway in interface.network for interface in own_subnets(topology, passed[-1]))
        passed.append(owner(topology, found.gateway))
        assert passed.count(passed[-1]) == 1, f"a loop: {passed}"
        assert passed[-1] in routers or to in pools[passed[-1]], f"through a node: {passed}"
    return passed


class TestAnyNetwork:
    @settings(deadline=None)
    @given(networks())
    def test_every_packet_comes_home_without_a_loop_and_over_routers_only(self, topology: Topology) -> None:
        routes = static_routes(topology)
        for source in topology.nodes:
            families = {interface.version for interface in own_subnets(topology, source.name)}
            for target in topology.nodes:
                for pool in target.pools:
                    if pool.version in families:
                        assert walk(topology, routes, source.name, pool)[-1] == target.name

    @settings(deadline=None)
    @given(networks())
    def test_no_neighbour_would_have_been_a_shorter_way(self, topology: Topology) -> None:
        routes = static_routes(topology)
        pools = [pool for each in topology.nodes for pool in each.pools if pool.version == 4]
        routers = {each.name for each in topology.nodes if each.router}
        for pool in pools:
            length = {each.name: len(walk(topology, routes, each.name, pool)) for each in topology.nodes}
            for each in topology.links:
                for here in each.members:
                    for there in each.members:
                        if there.node in routers or pool in next(
                            n.pools for n in topology.nodes if n.name == there.node
                        ):
                            assert length[here.node] <= length[there.node] + 1

    @settings(deadline=None)
    @given(networks())
    def test_every_subnet_of_a_link_has_a_route_from_where_it_is_not(self, topology: Topology) -> None:
        routes = static_routes(topology)
        for each in topology.links:
            subnet = next(i.network for m in each.members for i in m.addresses if i.version == 4)
            for source in topology.nodes:
                on_it = any(member.node == source.name for member in each.members)
                assert (subnet in {route.destination for route in routes[source.name]}) is not on_it
