"""nftables matches: what they are to answer where the packet is known, and None where it is not."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from fairway.net.explain.matching import Sets, holds
from fairway.net.explain.packet import Packet, Passage
from fairway.net.explain.ruleset import End, Ruleset, outcomes

PACKET = Packet(ip_address("10.0.1.2"), ip_address("10.0.3.2"), "tcp", None, 443)
SETS = Sets([{"name": "s", "elem": ["10.0.1.2"]}, {"name": "limited", "elem": [], "stmt": [{"limit": {}}]}])


def field(protocol: str, name: str) -> dict[str, Any]:
    return {"payload": {"protocol": protocol, "field": name}}


def meta(key: str) -> dict[str, Any]:
    return {"meta": {"key": key}}


def passage(packet: Packet = PACKET, state: str | None = "new") -> Passage:
    return Passage(packet, state, entering="fwy-a", leaving="eth0", seen=True)


STATE = {"ct": {"key": "state"}}
MATCHES = [
    (field("ip", "saddr"), "==", "10.0.1.2", True),
    (field("ip", "saddr"), "!=", "10.0.1.2", False),
    (field("ip", "saddr"), "==", {"prefix": {"addr": "10.0.0.0", "len": 16}}, True),
    (field("ip", "saddr"), "==", {"range": ["10.0.1.3", "10.0.1.9"]}, False),
    (field("ip", "saddr"), "==", {"set": ["10.9.9.9", {"prefix": {"addr": "10.0.1.0", "len": 24}}]}, True),
    (field("ip", "saddr"), "==", {"set": ["10.9.9.9", "some.name"]}, None),
    (field("ip", "saddr"), "==", "@s", True),
    (field("ip", "saddr"), "!=", "@s", False),
    (field("ip", "saddr"), "==", "@gone", None),
    (field("ip", "saddr"), "==", "@limited", None),
    (field("ip", "ttl"), "<", 5, None),
    (field("ip6", "saddr"), "!=", "::1", False),
    (field("tcp", "dport"), "==", 443, True),
    (field("tcp", "dport"), ">", 1024, False),
    (field("tcp", "dport"), "==", {"set": [80, {"range": [400, 500]}]}, True),
    (field("tcp", "sport"), "==", 443, None),
    (field("udp", "dport"), "!=", 443, False),
    (field("th", "dport"), "==", 443, True),
    (field("icmp", "type"), "==", "echo-request", False),
    (field("ip", "protocol"), "==", "tcp", True),
    (field("ip", "protocol"), "!=", "sctp", True),
    (field("ip", "protocol"), "==", "no-such", None),
    (meta("l4proto"), "==", {"set": ["udp", "icmp"]}, False),
    (meta("iifname"), "==", "fwy-*", True),
    (meta("iifname"), "==", {"set": ["eth0", "lo"]}, False),
    (meta("iifname"), "==", "fwy\\*", None),
    (meta("oif"), "!=", "eth0", False),
    (meta("mark"), "==", 0, True),
    ({"&": [meta("mark"), 255]}, "==", 5, False),
    (meta("skuid"), "==", 0, None),
    (STATE, "in", ["established", "related"], False),
    (STATE, "in", "new", True),
    (STATE, "!=", "new", False),
    (STATE, "==", {"set": ["new", "invalid"]}, True),
    ({"&": [STATE, "new"]}, "==", "new", True),
    ({"&": [field("tcp", "flags"), ["syn", "ack"]]}, "==", "syn", True),
    ({"&": [field("tcp", "flags"), ["syn", "ecn"]]}, "==", "syn", None),
    (field("tcp", "flags"), "in", "syn", True),
    ({"fib": {"result": "oif", "flags": ["saddr", "iif"]}}, "==", False, None),
    ({"numgen": {"mode": "random", "mod": 10}}, "<", 1, None),
    ({"concat": [meta("iifname"), field("ip", "saddr")]}, "==", {"set": [{"concat": ["fwy-a", "10.0.1.2"]}]}, True),
    ({"concat": [meta("iifname"), field("ip6", "saddr")]}, "!=", {"set": [{"concat": ["fwy-a", "::1"]}]}, False),
    ({"concat": [field("ip", "saddr"), field("tcp", "sport")]}, "==", {"set": [{"concat": ["10.0.1.2", 5]}]}, None),
    ({"concat": [field("ip", "saddr"), field("tcp", "sport")]}, "==", {"set": [{"concat": ["10.0.1.3", 5]}]}, False),
]


@pytest.mark.parametrize(("left", "operator", "right", "truth"), MATCHES)
def test_a_match_holds_or_not_or_cannot_be_told(left: Any, operator: str, right: Any, truth: bool | None) -> None:
    assert holds({"left": left, "op": operator, "right": right}, passage(), SETS) is truth


def test_nothing_is_told_of_a_connection_that_is_not_known() -> None:
    assert holds({"left": STATE, "op": "in", "right": "new"}, passage(state=None), SETS) is None


def ends(policy: str, *rules: list[Any], called: tuple[list[Any], ...] = ()) -> set[End]:
    listed: list[Any] = [
        {"table": {"family": "ip", "name": "t"}},
        {"chain": {"family": "ip", "table": "t", "name": "f", "hook": "forward", "prio": 0, "policy": policy}},
        {"chain": {"family": "ip", "table": "t", "name": "sub"}},
    ]
    for chain, statements in [("f", rule) for rule in rules] + [("sub", rule) for rule in called]:
        listed.append({"rule": {"family": "ip", "table": "t", "chain": chain, "handle": 1, "expr": statements}})
    ((table, chain),) = Ruleset(listed).base_chains("forward", 4)
    return {outcome.end for outcome in outcomes(table, chain, passage())}


ACCEPT, DROP, JUMP, GOTO = {"accept": None}, {"drop": None}, {"jump": {"target": "sub"}}, {"goto": {"target": "sub"}}
PERHAPS = {"match": {"left": meta("skuid"), "op": "==", "right": 0}}
NEVER = {"match": {"left": field("ip", "saddr"), "op": "==", "right": "10.9.9.9"}}


def test_a_doubtful_accept_before_a_drop_may_end_either_way() -> None:
    assert ends("drop", [PERHAPS, ACCEPT]) == {End.ACCEPT, End.DROP}


def test_a_doubtful_drop_before_a_drop_is_a_drop() -> None:
    assert ends("drop", [PERHAPS, DROP]) == {End.DROP}


def test_a_rule_that_cannot_apply_changes_nothing() -> None:
    assert ends("accept", [NEVER, PERHAPS, DROP]) == {End.ACCEPT}


def test_a_jump_comes_back_and_a_goto_does_not() -> None:
    assert ends("accept", [JUMP], [DROP]) == {End.DROP}
    assert ends("accept", [GOTO], [DROP]) == {End.ACCEPT}


def test_a_doubtful_return_leaves_both_open() -> None:
    assert ends("drop", [JUMP], called=([PERHAPS, {"return": None}], [ACCEPT])) == {End.ACCEPT, End.DROP}


def test_a_statement_nobody_knows_may_do_anything() -> None:
    assert End.ANYTHING in ends("accept", [{"novelty": {}}])


def test_a_jump_to_a_chain_that_is_not_there_may_do_anything() -> None:
    assert End.ANYTHING in ends("accept", [{"jump": {"target": "gone"}}])


def test_a_mark_that_was_perhaps_set_is_not_known() -> None:
    mark = {"mangle": {"key": meta("mark"), "value": 7}}
    marked = {"match": {"left": meta("mark"), "op": "==", "right": 7}}
    assert ends("accept", [mark], [marked, DROP]) == {End.DROP}
    assert ends("accept", [PERHAPS, mark], [marked, DROP]) == {End.ACCEPT, End.DROP}


def test_a_dormant_table_is_passed_by() -> None:
    table = {"table": {"family": "ip", "name": "t", "flags": "dormant"}}
    chain = {"chain": {"family": "ip", "table": "t", "name": "f", "hook": "forward", "prio": 0, "policy": "drop"}}
    assert Ruleset([table, chain]).base_chains("forward", 4) == []
