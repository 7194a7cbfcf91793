"""Every difference has words, and no two kinds the same."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

import pytest

from fairway.net.model.differences import document, words
from fairway.net.model.facts import (
    Address,
    AllowedSources,
    Bridge,
    BridgePort,
    Fact,
    Firewall,
    ForeignChain,
    ForwardAccept,
    Masquerade,
    Namespace,
    Neighbour,
    PolicyRules,
    Refusal,
    Route,
    Sysctl,
    TunnelGuard,
    Up,
    Veth,
    Vxlan,
)
from fairway.net.model.operations import Change, Create, Delete, Operation
from fairway.net.model.policy_table import PolicyTable

VETH = Veth("", "fwy-a", "a", "eth0", 1500, "ee:ee:ee:ee:ee:ee", "0a:00:00:00:00:01")
NFT = ForeignChain("nft", "ip", "filter", "FORWARD", "policy drop")
ROUTE = Route("", ip_network("10.0.1.2/32"), link="fwy-a")
FAR = Route("", ip_network("10.3.0.0/24"), gateway=ip_address("192.0.2.1"))
DEFAULT = Route("a", ip_network("::/0"), link="eth0", gateway=ip_address("fe80::1"))

CASES: list[tuple[Operation, str]] = [
    (Create(Namespace("a", "fairway pod a")), "the namespace a is missing"),
    (Create(VETH), "the link fwy-a to eth0 in a is missing"),
    (Create(Bridge("n", "br0", 1500)), "the bridge br0 in n is missing"),
    (Create(BridgePort("n", "p0", "br0")), "the port p0 of the bridge br0 in n is missing"),
    (Create(Firewall("")), "Fairway's own nftables table is missing"),
    (Create(Up("", "fwy-a", "x")), "the interface fwy-a is down"),
    (Create(Address("a", "eth0", ip_interface("10.0.1.2/32"))), "the address 10.0.1.2/32 of eth0 in a is missing"),
    (
        Create(Neighbour("", "fwy-a", ip_address("10.0.1.2"), "0a:00:00:00:00:01")),
        "the neighbour entry for 10.0.1.2 on fwy-a is missing",
    ),
    (Create(ROUTE), "the route to 10.0.1.2 by fwy-a is missing"),
    (Delete(FAR), "the route to 10.3.0.0/24 via 192.0.2.1 is left over"),
    (Create(Refusal("", FAR.destination)), "the route that refuses what no pod of 10.3.0.0/24 has is missing"),
    (Delete(Masquerade("", "m")), "the chain that hides pods' addresses from outside the network is left over"),
    (
        Change(PolicyRules("", PolicyTable(active=True)), PolicyRules("", PolicyTable())),
        "the network policies in Fairway's nftables table were changed by somebody else",
    ),
    (Create(DEFAULT), "the default route via fe80::1 by eth0 in a is missing"),
    (
        Create(AllowedSources("", "fwy-a", frozenset([ip_address("10.0.1.2"), ip_address("fd00::2")]))),
        "the chain that lets fwy-a send from 10.0.1.2, fd00::2 only is missing",
    ),
    (
        Change(
            AllowedSources("", "fwy-a", frozenset([ip_address("10.0.1.2")])),
            AllowedSources("", "fwy-a", frozenset()),
        ),
        "the chain that lets fwy-a send from 10.0.1.2 only was changed by somebody else",
    ),
    (
        Delete(AllowedSources("", "17", frozenset([ip_address("10.0.1.2")]))),
        "what let the interface 17, which is gone, send from 10.0.1.2 is left over",
    ),
    (
        Create(ForwardAccept("", NFT, "fwy-a", True)),
        "the rule that accepts what goes from fwy-a, in the chain ip filter FORWARD (nft) is missing",
    ),
    (
        Change(Sysctl("", "net/ipv4/ip_forward", "1"), Sysctl("", "net/ipv4/ip_forward", "0")),
        "the setting net.ipv4.ip_forward is 0, and should be 1",
    ),
    (
        Change(VETH, Veth("", "fwy-a", "a", "eth0", 1400, "ee:ee:ee:ee:ee:ee", "0a:00:00:00:00:01")),
        "the link fwy-a to eth0 in a has mtu 1400, and should have 1500",
    ),
    (
        Change(VETH, Veth("", "fwy-a", "a", "eth0", 1500, "ee:ee:ee:ee:ee:ee", "0a:00:00:00:00:01", 1400)),
        "the link fwy-a to eth0 in a has MTU 1500 at one end, 1400 at the other; both should be 1500",
    ),
    (
        Change(FAR, Route("", FAR.destination, link="up0", gateway=ip_address("192.0.2.9"))),
        "the route to 10.3.0.0/24 via 192.0.2.1 has gateway 192.0.2.9, and should have 192.0.2.1",
    ),
    (
        Change(
            Vxlan("", "fairway-vxlan", 1450, "0a:00:00:00:00:01", 4789),
            Vxlan("", "fairway-vxlan", 1500, "0a:00:00:00:00:01", 4789),
        ),
        "the VXLAN device fairway-vxlan has mtu 1500, and should have 1450",
    ),
    (
        Change(TunnelGuard("", "mark"), TunnelGuard("", "")),
        "the table that says who may send VXLAN to this host was changed by somebody else",
    ),
    (
        Create(
            Route("", FAR.destination, "fairway-vxlan", ip_address("fe80::1"), True, tunnel=ip_address("192.0.2.1"))
        ),
        "the route to 10.3.0.0/24 via 192.0.2.1 within VXLAN is missing",
    ),
    (Change(Firewall(""), Firewall("")), "Fairway's own nftables table was changed by somebody else"),
]


@pytest.mark.parametrize(("operation", "expected"), CASES)
def test_a_difference_in_words(operation: Operation, expected: str):
    assert words(operation) == expected


def test_every_kind_of_fact_has_words():
    assert {type(operation.fact) for operation, _ in CASES} == set(Fact.__args__)


def test_a_difference_as_a_document():
    assert document(Create(ROUTE)) == {
        "state": "missing",
        "kind": "route",
        "namespace": "",
        "text": "the route to 10.0.1.2 by fwy-a is missing",
    }
