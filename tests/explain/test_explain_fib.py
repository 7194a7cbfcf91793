"""The look-up of routes, and the whole tree, over namespaces that are written down here."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from fairway.net.explain import Place, Question, Verdict, explain, text_of
from fairway.net.explain.fib import lookup, words
from fairway.net.explain.snapshot import DEFAULT_RULES, Address, Host, Link, Peer, PolicyRule, Route


def route(destination: str, **values: object) -> Route:
    return Route(ip_network(destination), **values)  # type: ignore[arg-type]


def host(*routes: Route, rules: tuple[PolicyRule, ...] = DEFAULT_RULES) -> Host:
    return Host("h", "h", routes=routes, rules=rules)


B = ip_address("10.0.2.2")
DEFAULT = route("0.0.0.0/0", link="eth0", gateway=ip_address("192.0.2.1"))


def found(of: Host, source: str = "10.0.1.2", entering: str = "") -> str:
    result = lookup(of, B, ip_address(source), entering)
    return words(result.route) if result.route and not result.doubt else result.kind


@pytest.mark.parametrize(
    ("of", "answer"),
    [
        (host(DEFAULT, route("10.0.2.2/32", link="fwy-b")), "10.0.2.2/32 dev fwy-b"),
        (host(DEFAULT), "default via 192.0.2.1 dev eth0"),
        (host(), "none"),
        (host(DEFAULT, route("10.0.2.0/24", kind="blackhole")), "blackhole 10.0.2.0/24"),
        (host(DEFAULT, route("10.0.2.0/24", link="x", dead=True)), "default via 192.0.2.1 dev eth0"),
        (host(route("10.0.2.0/24", link="x", metric=5), route("10.0.2.0/24", link="y")), "10.0.2.0/24 dev y"),
        (host(DEFAULT, route("10.0.2.2/32", kind="local", table=255)), "local 10.0.2.2/32"),
        (host(route("10.0.2.0/24", kind="throw"), route("0.0.0.0/0", table=253, link="z")), "default dev z"),
        (host(route("10.0.2.0/24", odd="has several ways")), "unknown"),
    ],
)
def test_the_longest_prefix_then_the_least_metric_decides(of: Host, answer: str) -> None:
    assert found(of) == answer


def test_a_policy_rule_counts_for_those_it_names_only() -> None:
    rule = PolicyRule(4, 100, 77, source=ip_network("10.0.1.2/32"), entering="fwy-a")
    of = host(DEFAULT, route("0.0.0.0/0", table=77, link="other"), rules=(*DEFAULT_RULES, rule))
    assert found(of, entering="fwy-a") == "default dev other"
    assert found(of, entering="fwy-b") == found(of, "10.0.9.9", "fwy-a") == "default via 192.0.2.1 dev eth0"


def test_a_policy_rule_that_is_not_understood_makes_the_answer_unknown() -> None:
    rule = PolicyRule(4, 100, 77, odd=True)
    assert found(host(DEFAULT, rules=(*DEFAULT_RULES, rule))) == "unknown"


def pod(name: str, address: str, index: int) -> Host:
    return Host(
        name,
        name,
        links=(Link(1, "lo"), Link(2, "eth0", "veth", peer=Peer("node", index), mac=f"0a:{index}")),
        addresses=(Address("eth0", ip_interface(address)),),
        routes=(
            route(address, kind="local", table=255, link="eth0"),
            route("0.0.0.0/0", link="eth0", gateway=ip_address("169.254.1.1")),
        ),
    )


def world() -> dict[str, Host]:
    links = [Link(n, f"fwy-{p}", "veth", peer=Peer(p, 2), mac="ee") for n, p in ((5, "a"), (6, "b"))]
    node = Host(
        "node",
        "node",
        links=(Link(1, "lo"), *links),
        addresses=(Address("lo", ip_interface("169.254.1.1/32"), scope=253),),
        routes=(
            route("169.254.1.1/32", kind="local", table=255, link="lo"),
            route("10.0.1.2/32", link="fwy-a"),
            route("10.0.2.2/32", link="fwy-b"),
        ),
        settings={"net/ipv4/ip_forward": "1", **{f"net/ipv4/conf/fwy-{p}/forwarding": "1" for p in "ab"}},
    )
    return {"a": pod("a", "10.0.1.2/32", 5), "b": pod("b", "10.0.2.2/32", 6), "node": node}


QUESTION = Question(Place("a", "a", (ip_address("10.0.1.2"),)), Place("b", "b", (B,)))


def test_a_packet_is_sent_forwarded_and_received_and_so_is_its_answer() -> None:
    explanation = explain(world(), QUESTION)
    assert explanation.verdict is Verdict.ACCEPTED, text_of(explanation)
    assert explanation.back is not None
    for direction, hosts in ((explanation.there, ["a", "node", "b"]), (explanation.back, ["b", "node", "a"])):
        ways = zip(hosts, ("sent", "forwarded", "received"), strict=True)
        assert [(hop.label, hop.way) for hop in direction.hops] == list(ways)
        assert [[stage.hook for stage in hop.stages] for hop in direction.hops] == [
            ["route", "OUTPUT", "POSTROUTING", "device"],
            ["PREROUTING", "route", "FORWARD", "POSTROUTING", "device"],
            ["PREROUTING", "route", "INPUT"],
        ]


def test_rules_that_could_not_be_read_make_the_verdict_unknown() -> None:
    of = world()
    of["node"] = replace(of["node"], ruleset=None)
    assert explain(of, QUESTION).verdict is Verdict.UNKNOWN


def test_a_pod_without_a_default_route_is_told_how_to_get_one() -> None:
    of = world()
    of["a"] = replace(of["a"], routes=of["a"].routes[:1])
    explanation = explain(of, QUESTION)
    assert explanation.verdict is Verdict.UNREACHABLE
    assert any("route add default" in line for line in explanation.mend)


def test_what_leaves_the_known_hosts_is_unknown_unless_the_pod_hangs_here() -> None:
    of = world()
    wire = Link(9, "uplink", mac="77")
    routes = tuple(each for each in of["node"].routes if each.link != "fwy-b")
    away = route("0.0.0.0/0", link="uplink", gateway=ip_address("192.0.2.1"))
    of["node"] = replace(of["node"], links=(*of["node"].links, wire), routes=(*routes, away))
    assert explain(of, QUESTION).verdict is Verdict.UNREACHABLE
    elsewhere = replace(QUESTION, destination=Place("b", None, (B,)))
    assert explain(of, elsewhere).verdict is Verdict.UNKNOWN


def test_the_json_holds_what_the_text_says() -> None:
    explanation = explain(world(), QUESTION)
    document = explanation.json()
    assert document["verdict"] == "accepted"
    assert [each["name"] for each in document["directions"]] == ["there", "back"]
    assert document["directions"][0]["hosts"][1]["stages"][1]["text"] == "not local: 10.0.2.2/32 dev fwy-b"
    assert text_of(explanation).splitlines()[0] == "a (10.0.1.2) -> b (10.0.2.2), icmp: ACCEPTED"
