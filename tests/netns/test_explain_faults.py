"""Every fault that has a name: what explain says of it, beside what becomes of a real packet."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from explain_net import ADDRESSES, Net, network

from fairway.net.explain import Explanation, Verdict, text_of

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

FOREVER = (4, 6)


@pytest.fixture
def net() -> Iterator[Net]:
    with network() as made:
        yield made


@dataclass(frozen=True)
class Case:
    """What is broken, who asks whom, and what explain must say: the verdict, the place, the mend."""

    name: str
    spoil: Callable[[Net, int], None]
    verdict: Verdict
    words: tuple[str, ...] = ()
    mend: tuple[str, ...] = ()
    pair: tuple[str, str] = ("a", "b")
    versions: tuple[int, ...] = FOREVER

    def __str__(self) -> str:
        return self.name


def _ip(member: str, command: str) -> Callable[[Net, int], None]:
    """Run an ip command in `member`; {name} stands for that member's address, {n} for the prefix length."""

    def spoil(net: Net, version: int) -> None:
        family = "-6 " if version == 6 else "-4 "
        net.ip(member, family + command.format(n=32 if version == 4 else 128, **ADDRESSES[version]))

    return spoil


def _nft(member: str, rules: str) -> Callable[[Net, int], None]:
    return lambda net, version: net.nft(member, rules)


def _iptables(member: str, *commands: str) -> Callable[[Net, int], None]:
    def spoil(net: Net, version: int) -> None:
        tool = "iptables-nft" if version == 4 else "ip6tables-nft"
        for command in commands:
            net.run(member, tool, *command.split())

    return spoil


def _legacy(member: str, *commands: str) -> Callable[[Net, int], None]:
    def spoil(net: Net, version: int) -> None:
        for command in commands:
            net.run(member, "iptables-legacy" if version == 4 else "ip6tables-legacy", *command.split())

    return spoil


def _sysctl(member: str, path4: str, path6: str, value: int) -> Callable[[Net, int], None]:
    return lambda net, version: net.sysctl(member, path4 if version == 4 else path6, value)


def _all(*spoilers: Callable[[Net, int], None]) -> Callable[[Net, int], None]:
    def spoil(net: Net, version: int) -> None:
        for each in spoilers:
            each(net, version)

    return spoil


def _lie(net: Net, version: int) -> None:
    """Pod a takes an address of its own choice, and prefers it."""
    net.antispoof()
    wrong = ADDRESSES[version]["a"] + "2" if version == 4 else "fd09:1::66"
    net.ip("a", f"addr add {wrong}/{32 if version == 4 else 128} dev eth0" + (" nodad" if version == 6 else ""))
    net.ip("a", f"route replace default via {'169.254.1.1' if version == 4 else 'fe80::ecee:eeff:feee:eeee'} dev eth0 "
           f"onlink src {wrong}")  # fmt: skip
    if version == 6:
        net.ip("a", "-6 route del default via fe80::ecee:eeff:feee:eeee dev eth0 metric 1024")
        net.ip("a", f"route add default via fe80::ecee:eeff:feee:eeee dev eth0 onlink src {wrong}")


def _lie_as_another(net: Net, version: int) -> None:
    """As `_lie`; another pod may send from that address, and so might an interface that is gone."""
    _lie(net, version)
    wrong = ADDRESSES[version]["a"] + "2" if version == 4 else "fd09:1::66"
    for link in ("4711", '"fwy-b"'):
        net.nft("one", f"add element netdev fairway sources{version} {{ {link} . {wrong} }}")


def _own_table(net: Net, version: int) -> None:
    net.antispoof()


OK, LOST, DROP, UNKNOWN = Verdict.ACCEPTED, Verdict.UNREACHABLE, Verdict.DROPPED, Verdict.UNKNOWN
CASES = [
    Case("healthy, two pods of one host", lambda net, version: None, OK),
    Case("healthy, two hosts", lambda net, version: None, OK, pair=("a", "c")),
    Case("healthy, from a host", lambda net, version: None, OK, pair=("one", "c")),
    Case("healthy, with Fairway's own table", _own_table, OK, pair=("c", "a")),
    Case(
        "the host route is missing, and the default route leads back",
        _ip("one", "route del {b}"),
        LOST,
        ("on one", "leaves by default via", "fwy-b, the pod's own interface, has no route"),
        ("route replace {b}/{n} dev fwy-b", "fairway check --repair"),
    ),
    Case(
        "the host route is missing, and there is no default route",
        _all(_ip("one", "route del {b}"), _ip("one", "route del default")),
        LOST,
        ("on one", "no route"),
        ("route replace {b}/{n} dev fwy-b",),
    ),
    Case(
        "the pod has no default route",
        _ip("a", "route del default"),
        LOST,
        ("on a", "Network is unreachable"),
        ("route add default via",),
        pair=("a", "c"),
    ),
    Case(
        "the other pod has no default route",
        _ip("b", "route del default"),
        LOST,
        ("on b (the answer)", "Network is unreachable"),
        ("route add default via",),
    ),
    Case(
        "iptables' FORWARD drops",
        _iptables("one", "-P FORWARD DROP"),
        DROP,
        ("on one", "FORWARD of table ip", "chain FORWARD: policy drop"),
        ("filter FORWARD iifname fwy-a accept", "filter FORWARD oifname fwy-a accept"),
    ),
    Case("iptables' FORWARD drops, the host is reached all the same", _iptables("one", "-P FORWARD DROP"), OK,
         pair=("a", "one")),
    Case(
        "iptables' FORWARD drops, but two rules let pod a through",
        _iptables("one", "-P FORWARD DROP", "-A FORWARD -i fwy-a -j ACCEPT", "-A FORWARD -o fwy-a -j ACCEPT"),
        OK,
    ),
    Case(
        "iptables' FORWARD drops, and only one rule is there",
        _iptables("one", "-P FORWARD DROP", "-A FORWARD -i fwy-a -j ACCEPT"),
        DROP,
        ("on one (the answer)", "policy drop"),
        ("oifname fwy-a accept",),
    ),
    Case(
        "iptables-legacy's FORWARD drops",
        _legacy("one", "-P FORWARD DROP"),
        DROP,
        ("on one", "tables-legacy filter", "policy drop"),
        ("-I FORWARD -i fwy-a -j ACCEPT", "-I FORWARD -o fwy-b -j ACCEPT"),
    ),
    Case(
        "iptables-legacy's FORWARD drops, but two rules let pod a through",
        _legacy("one", "-P FORWARD DROP", "-A FORWARD -i fwy-a -j ACCEPT", "-A FORWARD -o fwy-a -j ACCEPT"),
        OK,
        versions=(4,),
    ),
    Case("iptables-legacy's rules elsewhere are not read", _legacy("two", "-t mangle -A PREROUTING -j DROP"), UNKNOWN,
         ("on two", "read in FORWARD only"), pair=("a", "c"), versions=(4,)),
    Case(
        "the host does not forward",
        _sysctl("one", "net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", 0),
        DROP,
        ("on one", "does not forward"),
        ("sysctl -w net.ipv",),
    ),
    Case(
        "one interface does not forward",
        _sysctl("one", "net/ipv4/conf/fwy-a/forwarding", "", 0),
        DROP,
        ("net.ipv4.conf.fwy-a.forwarding is 0",),
        ("sysctl -w net.ipv4.conf.fwy-a.forwarding=1",),
        versions=(4,),
    ),
    Case(
        "the host's end of the pod's link is down",
        _ip("one", "link set fwy-b down"),
        LOST,
        ("on one", "fwy-b", "is down"),
        ("link set fwy-b up",),
    ),
    Case("the pod's own interface is down", _ip("b", "link set eth0 down"), LOST, ("eth0", "down"),
         ("link set eth0 up",)),
    Case("the sender's interface is down", _ip("a", "link set eth0 down"), LOST, ("on a",), ("link set eth0 up",)),
    Case("the host's uplink is down", _ip("one", "link set eth0 down"), LOST, ("on one", "no route"), (),
         pair=("a", "c")),
    Case("the pod lies about its source", _lie, DROP, ("on one", "INGRESS", "netdev fairway, chain fwy-a"),
         ("fairway pod show",)),
    Case("the pod takes another's address for its source", _lie_as_another, DROP,
         ("INGRESS", "netdev fairway, chain fwy-a"), ("fairway pod show",)),
    Case(
        "there is no route to the other host's pod",
        _ip("one", "route del {c}"),
        LOST,
        ("on one", "no route to two's pods"),
        ("route add {c}/{n} via {two}", "fairway route add {c}/{n} via {two}"),
        pair=("a", "c"),
    ),
    Case(
        "there is no route to the other host's pod, nor a default route",
        _all(_ip("one", "route del {c}"), _ip("one", "route del default")),
        LOST,
        ("on one", "no route"),
        ("route add {c}/{n} via {two}",),
        pair=("a", "c"),
    ),
    Case(
        "there is no route back",
        _ip("two", "route del {a}"),
        LOST,
        ("on two (the answer)", "no route to one's pods"),
        ("route add {a}/{n} via {one}",),
        pair=("a", "c"),
    ),
    Case("a blackhole route is in the way", _ip("one", "route replace blackhole {c}"), DROP, ("blackhole",),
         pair=("a", "c"), versions=(4,)),
    Case("a prohibit route is in the way", _ip("one", "route replace prohibit {c}"), LOST, ("prohibit",),
         pair=("a", "c"), versions=(4,)),
    Case("the pod lacks its address", _ip("b", "addr del {b}/{n} dev eth0"), LOST, (), ("addr add {b}/{n} dev eth0",)),
    Case("the sender lacks its address", _ip("a", "addr del {a}/{n} dev eth0"), LOST, ("on a",),
         ("addr add {a}/{n} dev eth0",)),
    Case(
        "rp_filter is strict and the way back is another",
        _all(_sysctl("two", "net/ipv4/conf/fwy-c/rp_filter", "", 1),
             _ip("two", "route replace {c} via {gw}")),
        DROP,
        ("rp_filter of fwy-c", "on two"),
        ("rp_filter=0",),
        pair=("c", "a"),
        versions=(4,),
    ),
    Case(
        "rp_filter is strict and the ways are the same",
        _all(*(_sysctl(host, "net/ipv4/conf/all/rp_filter", "", 1) for host in ("one", "two"))),
        OK,
        pair=("a", "c"),
        versions=(4,),
    ),
    Case("nobody has the gateway's address", _ip("one", "route replace {c} via " + "192.168.77.99"), LOST,
         ("nobody there has 192.168.77.99",), pair=("a", "c"), versions=(4,)),
    Case("two hosts send the packet to each other", _ip("two", "route replace {c} via {one}"), DROP, ("has no route",),
         ("dev fwy-c",), pair=("a", "c"), versions=(4,)),
    Case("the receiver answers no echo", _sysctl("b", "net/ipv4/icmp_echo_ignore_all", "", 1), DROP,
         ("answers no echo",), versions=(4,)),
    Case("IPv6 is switched off on the way", _sysctl("one", "", "net/ipv6/conf/fwy-b/disable_ipv6", 1),
         LOST, ("on one",), versions=(6,)),
    Case("a policy rule that is not followed", _ip("one", "rule add fwmark 5 table 77"), UNKNOWN, ("policy rule",),
         pair=("a", "c")),
    Case("a policy rule that is for others", _ip("one", "rule add from {c} iif fwy-a table 77"), OK,
         pair=("a", "c")),
    Case("a rule leads to another table", _all(_ip("one", "rule add from {a} table 77"),
                                                _ip("one", "route add unreachable default table 77")),
         LOST, ("unreachable",), pair=("a", "c")),
    Case("several ways to the other host", _ip("one", "route replace {c} nexthop via {two} nexthop via {gw}"), UNKNOWN,
         ("several",), pair=("a", "c"), versions=(4,)),
    Case("addresses are translated", _nft("one", "table ip t { chain c { type nat hook postrouting priority 100;\n"
                                          "oifname eth0 masquerade\n}\n}\n"), UNKNOWN, ("translate",),
         pair=("a", "c"), versions=(4,)),
    Case("a chain drops at the device", _nft("one", "table netdev t { chain c { type filter hook ingress device "
                                               "fwy-a priority 0; policy drop;\n}\n}\n"), DROP, ("on one", "INGRESS"),
         pair=("a", "c")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("case", "version"), [(c, v) for c in CASES for v in c.versions], ids=lambda value: str(value).replace(" ", "-")
)
def test_a_fault_is_named_and_the_packet_fares_as_explain_says(net: Net, case: Case, version: int) -> None:
    case.spoil(net, version)
    explanation = net.explain(*case.pair, version=version)
    text = text_of(explanation)
    assert explanation.verdict is case.verdict, text
    for words in case.words:
        assert words in text.splitlines()[0], text
    known = {**ADDRESSES[version], "n": 32 if version == 4 else 128}
    for words in case.mend:
        assert any(words.format(**known) in line for line in explanation.mend), text
    assert_true(explanation, arrived=net.ping(*case.pair, version), text=text)


@pytest.mark.parametrize("case", [case for case in CASES if case.mend], ids=str)
def test_the_mend_mends(net: Net, case: Case) -> None:
    version = case.versions[0]
    case.spoil(net, version)
    explanation = net.explain(*case.pair, version=version)
    for _ in range(3):
        for line in explanation.mend:
            if line.startswith(("ip ", "nft ")) and "rp_filter" not in line:
                net.run("gw", "sh", "-c", line, check=False)
        explanation = net.explain(*case.pair, version=version)
    assert explanation.verdict is OK or case.name in NOT_BY_HAND, text_of(explanation)
    if case.name not in NOT_BY_HAND:
        assert net.ping(*case.pair, version)


NOT_BY_HAND = (
    "the pod lies about its source",
    "the pod takes another's address for its source",
    "rp_filter is strict and the way back is another",
)


def assert_true(explanation: Explanation, *, arrived: bool, text: str) -> None:
    """The promise of the explainer: never accepted what is lost, never lost what arrives."""
    if explanation.verdict is Verdict.ACCEPTED:
        assert arrived, text
    elif explanation.verdict.fatal:
        assert not arrived, text
