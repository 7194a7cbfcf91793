"""Pods of a pool that asks for it, seen from outside: by the host's address; by other pods: by their own."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from ipaddress import ip_address, ip_network

import pytest

from fairway.net.host import Host
from fairway.net.kernel import namespaces
from fairway.net.model.pod import StaticRoute
from fairway.net.model.pool import Pool

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it makes namespaces")]
OUTSIDE = "fwt-outside"
HOST, STRANGER, FAR_POD = "192.0.2.1", "192.0.2.10", "10.7.0.5"


@pytest.fixture
def host() -> Iterator[Host]:
    commands = f"""
        ip netns add {OUTSIDE}; ip link add outside type veth peer name eth0 netns {OUTSIDE}
        ip link set outside up; ip addr add {HOST}/24 dev outside
        ip -n {OUTSIDE} link set lo up; ip -n {OUTSIDE} link set eth0 up
        ip -n {OUTSIDE} addr add {STRANGER}/24 dev eth0; ip -n {OUTSIDE} addr add {FAR_POD}/32 dev lo
        ip -n {OUTSIDE} route add 10.0.0.0/8 via {HOST}
    """
    subprocess.run(["sh", "-e", "-c", commands], check=True)
    try:
        with Host() as found:
            yield found
            for pod in found.pods():
                found.remove_pod(pod.name)
    finally:
        subprocess.run(["sh", "-c", f"ip link del outside; ip netns del {OUTSIDE}"], check=True)


def seen_as(pod: str, place: str, address: str) -> str:
    """The source of a datagram from `pod` to `address`, as whoever is there sees it."""
    server = namespaces.inside(place, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    client = namespaces.inside(pod, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with server, client:
        server.bind((address, 7))
        server.settimeout(2)
        client.settimeout(2)
        client.sendto(b"?", (address, 7))
        _, source = server.recvfrom(10)
        server.sendto(b"!", source)
        assert client.recv(10) == b"!"
    return str(source[0])


def test_only_what_leaves_the_network_is_hidden(host: Host) -> None:
    host.pools.add(Pool(ip_network("10.0.1.0/24"), masquerade=True))
    host.routes.add(StaticRoute(ip_network("10.7.0.0/16"), ip_address(STRANGER)))
    one, two = (str(host.add_pod(name).addresses[0]) for name in ("one", "two"))
    assert seen_as("one", OUTSIDE, STRANGER) == HOST
    assert seen_as("one", "two", two) == one
    assert seen_as("one", OUTSIDE, FAR_POD) == one, "pods of other hosts see pods as they are"
    assert host.check() == []


def test_a_pool_that_does_not_ask_is_not_hidden_and_one_may_change_its_mind(host: Host) -> None:
    host.pools.add(ip_network("10.0.1.0/24"))
    one = str(host.add_pod("one").addresses[0])
    assert seen_as("one", OUTSIDE, STRANGER) == one
    host.pools.add(Pool(ip_network("10.0.1.0/24"), masquerade=True))
    assert seen_as("one", OUTSIDE, STRANGER) == HOST
    host.pools.add(Pool(ip_network("10.0.1.0/24")))
    assert seen_as("one", OUTSIDE, STRANGER) == one
    assert host.check() == []


def test_a_route_that_comes_later_leads_to_pods_that_see_pods_as_they_are(host: Host) -> None:
    host.pools.add(Pool(ip_network("10.0.1.0/24"), masquerade=True))
    one = str(host.add_pod("one").addresses[0])
    subprocess.run(["ip", "route", "add", "10.7.0.0/16", "via", STRANGER], check=True)
    assert seen_as("one", OUTSIDE, FAR_POD) == HOST
    subprocess.run(["ip", "route", "del", "10.7.0.0/16"], check=True)
    host.routes.add(StaticRoute(ip_network("10.7.0.0/16"), ip_address(STRANGER)))
    assert seen_as("one", OUTSIDE, FAR_POD) == one


@pytest.mark.parametrize("damage", ["flush chain inet fairway masquerading", "delete chain inet fairway masquerading"])
def test_a_chain_that_somebody_broke_is_repaired(damage: str, host: Host) -> None:
    host.pools.add(Pool(ip_network("10.0.1.0/24"), masquerade=True))
    host.add_pod("one")
    subprocess.run(["nft", f"flush chain inet fairway masquerading; {damage}"], check=True)
    assert len(host.check()) == 1
    host.repair()
    assert host.check() == []
    assert seen_as("one", OUTSIDE, STRANGER) == HOST
