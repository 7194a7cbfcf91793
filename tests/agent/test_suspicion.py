"""Where one must look after what the kernel tells, and who is to be named for it."""

from __future__ import annotations

import os
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from fairway.net.agent.culprits import culprit, program_of
from fairway.net.agent.suspicion import Suspicion, suspect
from fairway.net.host import Scope
from fairway.net.kernel.events import Event
from fairway.net.model.facts import Address, AllowedSources, Firewall, Neighbour, Route, Sysctl, Up, Veth

POD = ip_network("10.0.1.2/32")
LINK = "fwy-demo01"
A_LINK, AN_ADDRESS = Scope(links=frozenset({LINK})), Scope(addresses=frozenset({POD.network_address}))

REASONS = {
    "a pod's link goes": (Event("link", gone=True, name=LINK), A_LINK),
    "somebody changes a pod's link": (Event("link", name=LINK, port=7), A_LINK),
    "a pod's link is down": (Event("link", name=LINK, working=False), A_LINK),
    "an interface of the host's goes down": (Event("link", name="eth0", working=False), Scope(routes=True)),
    "the loopback interface goes down": (
        Event("link", index=1, name="lo", working=False),
        Scope(routes=True, ground=True),
    ),
    "the gateway's address goes": (Event("address", gone=True, index=1), Scope(ground=True)),
    "the host's own address goes": (Event("address", gone=True, index=2), Scope(routes=True)),
    "a pod's route goes": (Event("route", gone=True, network=POD, protocol=70), AN_ADDRESS),
    "a pod's route is replaced by another's": (Event("route", replaced=True, network=POD, protocol=3), AN_ADDRESS),
    "a route to other hosts' pods goes, or one that refuses": (
        Event("route", gone=True, network=ip_network("10.3.0.0/24"), protocol=70),
        Scope(routes=True, ground=True),
    ),
    "another program's route takes the place of one": (
        Event("route", replaced=True, network=ip_network("10.3.0.0/24"), protocol=3),
        Scope(routes=True),
    ),
    "a pod's neighbour entry goes": (Event("neighbour", gone=True, network=POD), AN_ADDRESS),
    "somebody changes a pod's neighbour entry": (Event("neighbour", network=POD, port=7), AN_ADDRESS),
    "forwarding is switched off": (Event("forwarding", gone=True), Scope(ground=True)),
    "somebody changes nftables": (Event("rules", port=7), Scope(ground=True, guards=True)),
}

NO_REASONS = {
    "what this process does": Event("link", gone=True, name=LINK, own=True),
    "a link that works": Event("link", name="eth0"),
    "forwarding is switched on": Event("forwarding"),
    "a new address": Event("address", index=2),
    "a new route of another program's": Event("route", network=ip_network("10.9.0.0/24"), protocol=12),
    "another program's route that goes": Event("route", gone=True, network=ip_network("10.9.0.0/24"), protocol=12),
    "the default route": Event("route", gone=True),
    "a group's entry that goes with its link": Event("neighbour", gone=True, network=ip_network("ff02::16/128")),
    "a neighbour that the kernel found": Event("neighbour", network=ip_network("192.0.2.1/32")),
}


@pytest.mark.parametrize(("event", "scope"), REASONS.values(), ids=REASONS.keys())
def test_there_is_reason_to_look_when(event, scope):
    assert suspect(event) == scope


@pytest.mark.parametrize("event", NO_REASONS.values(), ids=NO_REASONS.keys())
def test_there_is_no_reason_to_look_for(event):
    assert suspect(event) == Scope()


def scope_after(*events, settled=frozenset()):
    suspicion = Suspicion()
    suspicion.add(events)
    return suspicion.scope(settled)


def test_a_link_that_this_process_has_just_made_may_come_up():
    settled = frozenset({LINK})
    up = Event("link", name=LINK)
    assert scope_after(up) == A_LINK
    assert scope_after(up, settled=settled) == Scope()
    assert scope_after(up, settled=frozenset({"fwy-other"})) == A_LINK
    down = Event("link", name=LINK, working=False)
    assert scope_after(down, down, up, settled=settled) == Scope()  # so the kernel tells of a link that is made
    assert scope_after(down, down, up) == A_LINK
    assert scope_after(down, settled=settled) == A_LINK
    assert scope_after(up, down, up, settled=settled) == A_LINK
    for event in (Event("link", name=LINK, port=7), Event("link", name=LINK, gone=True)):
        assert scope_after(event, up, settled=settled) == A_LINK


def test_a_link_that_had_come_up_before_the_last_look_and_falls_is_looked_at():
    up, down = Event("link", name=LINK), Event("link", name=LINK, working=False)
    before = Suspicion()
    before.add([down, up])
    assert before.risen == {LINK}
    since = Suspicion(before.risen)
    since.add([down, up])
    assert since.scope(frozenset({LINK})) == A_LINK
    since = Suspicion(before.risen)
    since.add([up])
    assert since.scope(frozenset({LINK})) == Scope()


def test_suspicions_gather_and_what_gave_reason_is_told():
    suspicion = Suspicion()
    events = [event for event, _ in REASONS.values()]
    assert suspicion.add([*NO_REASONS.values(), *events]) == events
    assert suspicion.add(NO_REASONS.values()) == []
    assert suspicion.scope() == A_LINK | AN_ADDRESS | Scope(ground=True, guards=True, routes=True)


def test_nftables_names_the_program_and_a_process_that_lives_can_be_named():
    assert program_of(Event("rules", port=7, program="nft")) == "nft (pid 7)"
    assert program_of(Event("route", port=os.getpid())).endswith(f"(pid {os.getpid()})")
    assert program_of(Event("route", port=(1 << 22) - 1)) == "pid 4194303, which has ended"
    for port in (0, -4096, 4_294_963_200):
        assert program_of(Event("route", port=port)) == ""


def test_the_last_who_touched_the_thing_is_named_and_nobody_else():
    events = [
        (Event("route", gone=True, network=POD), "networkd"),
        (Event("rules"), "nft"),
        (Event("link", name="fwy-other"), "ip"),
        (Event("address", network=ip_network("169.254.1.1/32")), "dhcp"),
        (Event("neighbour", network=POD), "arp"),
        (Event("link", name=LINK), ""),
    ]
    facts = {
        Route("", POD, LINK): "networkd",
        Route("", ip_network("10.0.1.3/32"), "fwy-other"): "ip",
        Firewall(""): "nft",
        AllowedSources("", LINK, frozenset()): "nft",
        Address("", "lo", ip_interface("169.254.1.1/32")): "dhcp",
        Neighbour("", LINK, ip_address("10.0.1.2"), "x"): "arp",
        Up("", LINK): "",
        Veth("", "fwy-other", "x", "eth0", 1500): "ip",
        Sysctl("", "net/ipv4/ip_forward", "1"): "",
    }
    for fact, who in facts.items():
        assert culprit(fact, events) == who
