"""Rulesets made by chance, and one datagram through each: what explain says must never be wrong, only unknown."""

from __future__ import annotations

import dataclasses
import os
import random
from collections.abc import Iterator

import pytest
from explain_net import ADDRESSES, PORT, Net, network

from fairway.net.explain import Direction, Question, Verdict, explain, text_of
from fairway.net.explain.snapshot import Host
from fairway.net.host.snapshot import Namespaces

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

SEEDS = range(6)
ROUNDS = 25
MOST_UNKNOWN = 0.75
WAIT_S = 0.05

A, C = ADDRESSES[4]["a"], ADDRESSES[4]["c"]
MATCHES = (
    f"ip saddr {A}", f"ip saddr != {A}", "ip saddr 10.9.0.0/16", f"ip daddr {C}", "ip daddr 10.9.1.0-10.9.1.9",
    f"ip daddr {{ {C}, 10.8.0.0/16 }}", "ip daddr != { 10.9.1.0/24 }", "ip protocol udp", "ip protocol != tcp",
    "meta l4proto { tcp, udp }", "meta nfproto ipv4", "meta nfproto ipv6", "ip6 saddr fd00::/8", "ip6 daddr != ::1",
    'iifname "fwy-*"', 'iifname "eth0"', 'oifname "eth0"', 'oifname != "fwy-*"', 'iifname { "fwy-a", "eth*" }',
    f"udp dport {PORT}", f"udp dport != {PORT}", f"udp sport {PORT}", "udp dport 4000-5000", "udp dport > 4000",
    "udp dport { 53, 4711 }", "tcp dport 80", "tcp flags syn", "th dport 4711", "icmp type echo-request",
    "ct state new", "ct state established,related", "ct state != established", "ct state { new, invalid }",
    f"iifname . ip saddr {{ \"fwy-a\" . {A} }}", f"ip saddr . ip daddr . udp dport {{ {A} . {C} . 4711 }}",
    "ip saddr @names", "ip saddr != @names", "ip daddr . udp dport @pairs", "meta mark 5", "meta mark & 0x4 == 0x4",
    "ct state & (new|established) != 0", "ip saddr . udp sport @pairs", 'iifname "fwy-a" udp dport 4711',
)  # fmt: skip
OBSCURE = (
    "limit rate 1/second", "numgen random mod 2 < 1", "ip ttl > 3", "meta length > 10", "fib daddr type unicast",
    "ct direction original", "ip dscp 0", "meta pkttype unicast", "limit rate over 1000/second", "ct status confirmed",
)  # fmt: skip
VERDICTS = (
    "accept", "accept", "drop", "drop", "reject", "counter", "jump one", "jump two", "goto one", "return", "continue",
    "meta mark set 5", "counter drop", "log accept", "meta mark set 4 counter accept",
    f"ip saddr vmap {{ {A} : drop, {C} : accept }}", "udp dport vmap { 4711 : jump two, 1-99 : drop }",
    "ct state vmap { new : accept, established : continue, invalid : drop }", "ip saddr vmap @verdicts", "notrack",
)  # fmt: skip
INGRESS = "ingress device fwy-a"
HOOKS = (
    (INGRESS, -300), ("prerouting", -300), ("prerouting", -150), ("forward", 0), ("forward", 10), ("postrouting", 50),
)  # fmt: skip


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    with network() as made:
        assert made.udp("a", "c") == "answered"
        yield made


def _rule(chance: random.Random, *, deepest: bool, hook: str) -> str:
    matches = [chance.choice(MATCHES) for _ in range(chance.randrange(3))]
    if chance.random() < 0.12:
        matches.append(chance.choice(OBSCURE))
    if hook in (INGRESS, "prerouting", "one", "two"):
        matches = [match for match in matches if not match.startswith("oifname")]
    verdicts = [v for v in VERDICTS if not (deepest and any(word in v for word in ("jump", "goto", "vmap @")))]
    if hook != "prerouting":
        verdicts = [v for v in verdicts if v != "notrack"]
    elif "reject" in verdicts:
        verdicts.remove("reject")
    return " ".join([*matches, chance.choice(verdicts)])


def ruleset(chance: random.Random) -> list[str]:
    """The lines of a ruleset; one that nft refuses is left out by itself."""
    lines = ["add table inet t", "add chain inet t one", "add chain inet t two"]
    lines.append("add set inet t names { type ipv4_addr; flags interval; elements = { 10.9.1.0/28, 10.9.200.1 } }")
    lines.append(f"add set inet t pairs {{ type ipv4_addr . inet_service; elements = {{ {C} . {PORT} }} }}")
    lines.append(f"add map inet t verdicts {{ type ipv4_addr : verdict; elements = {{ {A} : jump two }} }}")
    for name in ("one", "two"):
        rules = [_rule(chance, deepest=True, hook=name) for _ in range(chance.randrange(4))]
        lines += [f"add rule inet t {name} {rule}" for rule in rules]
    for place, (hook, priority) in enumerate(chance.sample(HOOKS, chance.randrange(1, 4))):
        policy = "drop" if chance.random() < 0.25 else "accept"
        lines.append(f"add chain inet t c{place} {{ type filter hook {hook} priority {priority}; policy {policy}; }}")
        rules = [_rule(chance, deepest=False, hook=hook) for _ in range(chance.randrange(6))]
        lines += [f"add rule inet t c{place} {rule}" for rule in rules]
    return lines


@pytest.mark.parametrize("seed", SEEDS)
def test_no_ruleset_is_explained_wrongly(net: Net, seed: int) -> None:
    chance = random.Random(seed)
    world: dict[str, Host] = dict(Namespaces())
    question = Question(net.place("a"), net.place("c"), "udp", PORT)
    unknown = 0
    for round_ in range(ROUNDS):
        net.nft("one", "flush ruleset\n")
        lines = ruleset(chance)
        for line in lines:
            try:
                net.nft("one", line + "\n")
            except AssertionError:
                continue
        fresh = Namespaces()[net.name("one")]
        explanation = explain({**world, net.name("one"): dataclasses.replace(fresh, neighbours=())}, question)
        fate = net.udp("a", "c", wait_s=WAIT_S)
        text = "\n".join([f"seed {seed} round {round_}: {fate}", *lines, text_of(explanation)])
        check(explanation.there, fate != "lost", text)
        if fate != "lost" and explanation.back is not None:
            check(explanation.back, fate == "answered", text)
        unknown += explanation.verdict is Verdict.UNKNOWN
    assert unknown <= MOST_UNKNOWN * ROUNDS, f"{unknown} of {ROUNDS} are unknown: the test proves too little"


def check(direction: Direction, arrived: bool, text: str) -> None:
    if direction.verdict is Verdict.ACCEPTED:
        assert arrived, text
    elif direction.verdict.fatal:
        assert not arrived, text


BASE = "add table inet t\nadd chain inet t f {{ type filter hook {hook} priority 0; policy {policy}; }}\n"
TCP_AND_UDP = (
    ("forward", "accept", f"tcp dport {PORT} drop", "tcp", Verdict.DROPPED),
    ("forward", "accept", f"tcp dport {PORT} drop", "udp", Verdict.ACCEPTED),
    ("forward", "drop", f"tcp dport {PORT} accept", "tcp", Verdict.UNKNOWN),  # the client may have that port
    ("forward", "drop", f"tcp dport {PORT} accept;ct state established accept", "tcp", Verdict.ACCEPTED),
    ("forward", "accept", "tcp flags & (syn|ack) == syn drop", "tcp", Verdict.DROPPED),
    ("forward", "accept", "tcp flags & (fin|syn|rst|ack) != syn ct state new drop", "tcp", Verdict.ACCEPTED),
    ("forward", "accept", "meta l4proto tcp reject with tcp reset", "tcp", Verdict.DROPPED),
    ("forward", "accept", "tcp flags & (syn|ack) == (syn|ack) drop", "tcp", Verdict.UNKNOWN),  # or it is a reset
    ("input", "drop", "ct state established,related accept", "tcp", Verdict.ACCEPTED),  # not on the way
    ("prerouting", "accept", "meta pkttype host drop", "udp", Verdict.UNKNOWN),
    ("forward", "accept", "limit rate 1/day drop", "udp", Verdict.UNKNOWN),
    ("forward", "drop", "limit rate 1/day drop", "udp", Verdict.DROPPED),
    ("forward", "accept", "ip saddr 10.9.1.2 meta mark set 7;meta mark 7 drop", "tcp", Verdict.DROPPED),
)


@pytest.mark.parametrize(("hook", "policy", "rules", "protocol", "verdict"), TCP_AND_UDP)
def test_a_rule_is_read_as_the_kernel_reads_it(
    net: Net, hook: str, policy: str, rules: str, protocol: str, verdict: Verdict
) -> None:
    net.nft("one", "flush ruleset\n" + BASE.format(hook=hook, policy=policy))
    for rule in rules.split(";"):
        net.nft("one", f"add rule inet t f {rule}\n")
    explanation = net.explain("a", "c", protocol)
    arrived = net.tcp("a", "c") if protocol == "tcp" else net.udp("a", "c") == "answered"
    assert explanation.verdict is verdict, text_of(explanation)
    assert verdict is Verdict.UNKNOWN or arrived is (verdict is Verdict.ACCEPTED), text_of(explanation)


IPTABLES = (
    ("-P FORWARD DROP", "-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED,NEW -j ACCEPT", Verdict.UNKNOWN),
    ("-P FORWARD DROP", "-A FORWARD -p udp -s 10.9.0.0/16 -d 10.9.0.0/16 -j ACCEPT", Verdict.ACCEPTED),
    ("-P FORWARD ACCEPT", "-A FORWARD -p udp --dport 4711 -i fwy-+ -j REJECT", Verdict.DROPPED),
    ("-P FORWARD ACCEPT", "-A FORWARD -p udp -m multiport --dports 1,4711 -j DROP", Verdict.UNKNOWN),
    ("-P FORWARD ACCEPT", "-A FORWARD -p tcp -m multiport --dports 1,4711 -j DROP", Verdict.ACCEPTED),
    ("-P FORWARD ACCEPT", "-A FORWARD -p udp -m comment --comment why -j DROP", Verdict.DROPPED),
)


@pytest.mark.parametrize(("policy", "rule", "verdict"), IPTABLES)
def test_what_iptables_writes_into_nftables_is_read_or_unknown(
    net: Net, policy: str, rule: str, verdict: Verdict
) -> None:
    net.nft("one", "flush ruleset\n")
    for command in (policy, rule):
        net.run("one", "iptables-nft", *command.split())
    explanation = net.explain("a", "c", "udp")
    arrived = net.udp("a", "c") == "answered"
    assert explanation.verdict is verdict, text_of(explanation)
    assert verdict is Verdict.UNKNOWN or arrived is (verdict is Verdict.ACCEPTED), text_of(explanation)
