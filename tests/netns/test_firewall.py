"""Fairway's own table, before real packets: who may send what, and what mends a table that someone broke."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Barrier

import pytest
from two_pods import HOST_LINK_LOCAL, PORT, STAYS_AWAY_S, Member, TwoPods, arrives, run, talk, two_pods

from fairway.net.kernel import namespaces
from fairway.net.kernel.netfilter.firewall import FirewallDriver
from fairway.net.kernel.netfilter.nftables import Json, Nft
from fairway.net.kernel.netfilter.source_sets import NAMES
from fairway.net.model.errors import KernelError
from fairway.net.model.facts import AllowedSources, Firewall

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it makes network namespaces"),
]

DROPPED = {4: "fairway: IPv4 from a pod, not its own source", 6: "fairway: IPv6 from a pod, not its own source"}
STRANGER = {4: "10.9.9.9", 6: "fd00:9::9"}
LENGTH = {4: 32, 6: 128}
ROUNDS = 10
ROUTER_ADVERTISEMENT = bytes([134]) + bytes(15)
REDIRECT = bytes([137]) + bytes(39)
IPV6_CHECKSUM_AT = 2


@pytest.fixture(scope="module")
def network() -> Iterator[TwoPods]:
    with two_pods() as pods:
        yield pods


@pytest.fixture
def guarded(network: TwoPods) -> Iterator[tuple[TwoPods, FirewallDriver]]:
    driver = driver_in(network.host)
    driver.install()
    allow_all(network, driver)
    yield network, driver
    driver.remove()
    driver.close()


def driver_in(member: Member) -> FirewallDriver:
    return namespaces.inside(member.namespace, lambda: FirewallDriver(member.namespace))


def sources_of(network: TwoPods) -> set[AllowedSources]:
    return {
        AllowedSources(network.host.namespace, link, frozenset([ip_address(pod.v4), ip_address(pod.v6)]))
        for link, pod in (("fwy-a", network.a), ("fwy-b", network.b))
    }


def index_of_a(network: TwoPods) -> int:
    return int(json.loads(run(network.host, "ip -j link show fwy-a"))[0]["ifindex"])


def sources_of_a(network: TwoPods, *addresses: str) -> AllowedSources:
    return AllowedSources(network.host.namespace, "fwy-a", frozenset(ip_address(address) for address in addresses))


def allow_all(network: TwoPods, driver: FirewallDriver) -> None:
    for sources in sources_of(network):
        driver.allow(sources)


def counters(network: TwoPods) -> dict[str, int]:
    """How many packets each rule of ours with a counter has seen."""
    listed = json.loads(run(network.host, "nft -j list table netdev fairway"))["nftables"]
    return {
        item["rule"]["comment"]: expression["counter"]["packets"]
        for item in listed
        if "rule" in item
        for expression in item["rule"]["expr"]
        if "counter" in expression
    }


def shape(network: TwoPods) -> list[str]:
    """The lines of our table, without what its sets hold and its counters have counted."""
    return sorted(run(network.host, "nft --stateless --terse list table netdev fairway").splitlines())


@pytest.fixture
def stranger(network: TwoPods) -> Iterator[None]:
    """Pod a bears addresses that are not its own, and the host even has routes to them: only our table objects."""
    for version, address in STRANGER.items():
        run(network.a, f"ip address add {address}/{LENGTH[version]} dev eth0 {'nodad' if version == 6 else ''}")
        run(network.host, f"ip -{version} route add {address} dev fwy-a")
    yield
    for version, address in STRANGER.items():
        run(network.a, f"ip address delete {address}/{LENGTH[version]} dev eth0")
        run(network.host, f"ip -{version} route delete {address} dev fwy-a")


@pytest.mark.parametrize("version", [4, 6])
class TestAPodSendsFromItsOwnAddress:
    def test_and_is_heard_by_the_host_and_by_the_other_pod(
        self, guarded: tuple[TwoPods, FirewallDriver], version: int
    ) -> None:
        network, _ = guarded
        assert talk(network.a, network.host, version)
        assert talk(network.a, network.b, version)
        assert counters(network)[DROPPED[version]] == 0

    def test_and_is_silenced_when_the_address_is_taken_back(
        self, guarded: tuple[TwoPods, FirewallDriver], version: int
    ) -> None:
        network, driver = guarded
        source, other = network.a.address(version), network.a.address(10 - version)
        assert talk(network.a, network.host, version)
        driver.change(sources_of_a(network, other))
        there = network.host.address(version)
        assert not arrives(network.a, source, network.host, there, timeout=STAYS_AWAY_S)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.usefixtures("stranger")
class TestAPacketFromAForeignAddress:
    @pytest.mark.parametrize("rp_filter", [0, 1, 2])
    def test_is_dropped_and_counted_whatever_rp_filter_says(
        self, guarded: tuple[TwoPods, FirewallDriver], version: int, rp_filter: int
    ) -> None:
        network, driver = guarded
        for where in ("all", "fwy-a"):
            run(network.host, f"echo {rp_filter} > /proc/sys/net/ipv4/conf/{where}/rp_filter")
        assert talk(network.a, network.host, version)
        source, there = STRANGER[version], network.host.address(version)
        assert not arrives(network.a, source, network.host, there, timeout=STAYS_AWAY_S)
        assert counters(network)[DROPPED[version]] == 1
        driver.remove()
        assert arrives(network.a, source, network.host, there), "without our table nothing else would have dropped it"

    def test_does_not_reach_the_other_pod_either(self, guarded: tuple[TwoPods, FirewallDriver], version: int) -> None:
        network, _ = guarded
        assert talk(network.a, network.b, version)
        there = network.b.address(version)
        assert not arrives(network.a, STRANGER[version], network.b, there, timeout=STAYS_AWAY_S)

    def test_is_dropped_even_if_another_pod_may_use_that_address(
        self, guarded: tuple[TwoPods, FirewallDriver], version: int
    ) -> None:
        network, driver = guarded
        everything = frozenset(map(ip_address, (network.b.v4, network.b.v6, STRANGER[version])))
        driver.allow(AllowedSources(network.host.namespace, "fwy-b", everything))
        there = network.host.address(version)
        assert talk(network.a, network.host, version)
        assert not arrives(network.a, STRANGER[version], network.host, there, timeout=STAYS_AWAY_S)


@pytest.mark.parametrize("source", ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "169.254.1.1"])
def test_an_ipv4_source_that_is_no_pods_address_is_dropped(
    guarded: tuple[TwoPods, FirewallDriver], source: str
) -> None:
    network, _ = guarded
    before = counters(network)[DROPPED[4]]
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28, 0, 0, 64, 17, 0, *map(socket.inet_aton, (source, "10.0.0.1")))
    checksum = struct.pack("!H", internet_checksum(header))
    on_the_wire(network.a, 0x0800, header[:10] + checksum + header[12:] + struct.pack("!HHHH", 1, 2, 8, 0))
    assert counters(network)[DROPPED[4]] - before == 1


VLAN_TAGS = {
    "tagged": b"",
    "tagged twice": b"\x00\x00",
    "tagged three times": b"\x00\x00\x81\x00\x00\x00",
}
"""What follows the first EtherType of a tag: the tags of VLAN 0, which the kernel takes off without a VLAN."""


@pytest.mark.parametrize("tags", VLAN_TAGS.values(), ids=VLAN_TAGS)
@pytest.mark.parametrize("outer", [0x8100, 0x88A8], ids=["802.1Q", "802.1ad"])
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.usefixtures("stranger")
def test_a_foreign_address_is_no_better_in_a_vlan_frame(
    guarded: tuple[TwoPods, FirewallDriver], version: int, outer: int, tags: bytes
) -> None:
    network, _ = guarded
    packet = datagram(STRANGER[version], network.host.address(version))
    inner = struct.pack("!H", 0x0800 if version == 4 else 0x86DD)
    frame = (tags + b"\x81\x00" if tags else b"") + b"\x00\x00" + inner + packet

    def opened() -> socket.socket:
        handle = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
        handle.bind((network.host.address(version), PORT))
        return handle

    assert talk(network.a, network.host, version)
    with namespaces.inside(network.host.namespace, opened) as listener:
        listener.settimeout(STAYS_AWAY_S)
        on_the_wire(network.a, outer, frame)
        with pytest.raises(TimeoutError):
            listener.recvfrom(100)


class TestAnIPv6Pod:
    def test_is_found_by_its_host_and_finds_it(self, guarded: tuple[TwoPods, FirewallDriver]) -> None:
        network, _ = guarded
        for member, link in ((network.host, "fwy-a"), (network.a, "eth0")):
            run(member, f"ip -6 neighbour flush dev {link}")
        run(network.host, f"ping -6 -c 1 -W 2 {network.a.v6}")
        for member, link in ((network.host, "fwy-a"), (network.a, "eth0")):
            run(member, f"ip -6 neighbour flush dev {link}")
        run(network.a, f"ping -6 -c 1 -W 2 {network.host.v6}")
        run(network.a, f"ping -6 -c 1 -W 2 {HOST_LINK_LOCAL}%eth0")
        assert counters(network)[DROPPED[6]] == 0

    def test_learns_that_an_address_is_taken(self, guarded: tuple[TwoPods, FirewallDriver]) -> None:
        network, _ = guarded
        run(network.host, "ip address add fd00:8::8/64 dev fwy-a nodad")
        try:
            run(network.a, "echo 1 > /proc/sys/net/ipv6/conf/eth0/accept_dad")
            with namespaces.inside(network.a.namespace, lambda: _address_events()) as events:
                run(network.a, "ip address add fd00:8::8/64 dev eth0")
                while "dadfailed" not in run(network.a, "ip -6 address show dev eth0 to fd00:8::8"):
                    events.recv(65536)
        finally:
            run(network.a, "ip address delete fd00:8::8/64 dev eth0; echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad")
            run(network.host, "ip address delete fd00:8::8/64 dev fwy-a")

    @pytest.mark.parametrize("message", [ROUTER_ADVERTISEMENT, REDIRECT], ids=["advertisement", "redirect"])
    def test_is_no_router(self, guarded: tuple[TwoPods, FirewallDriver], message: bytes) -> None:
        network, _ = guarded
        before = counters(network)[DROPPED[6]]
        icmpv6(network.a, "ff02::1", message)
        assert counters(network)[DROPPED[6]] - before == 1

    def test_speaks_of_neighbours_only_from_its_link_local_address(
        self, guarded: tuple[TwoPods, FirewallDriver]
    ) -> None:
        network, driver = guarded
        source = link_local_of(network.a)
        assert talk(network.a, network.host, 6)
        run(network.a, f"ping -6 -c 1 -W 2 {HOST_LINK_LOCAL}%eth0")

        def heard(timeout: float) -> bool:
            return arrives(network.a, source, network.host, HOST_LINK_LOCAL, timeout=timeout, scope="eth0")

        assert not heard(STAYS_AWAY_S)
        assert counters(network)[DROPPED[6]] == 1
        driver.remove()
        assert heard(2.0), "without our table nothing else would have dropped it"

    def test_sends_nothing_off_the_link_from_its_link_local_address(
        self, guarded: tuple[TwoPods, FirewallDriver]
    ) -> None:
        network, _ = guarded
        before = counters(network)[DROPPED[6]]
        icmpv6(network.a, network.b.v6, bytes([128]) + bytes(7))
        assert counters(network)[DROPPED[6]] - before == 1


def test_what_enters_by_other_links_is_let_alone(guarded: tuple[TwoPods, FirewallDriver]) -> None:
    network, _ = guarded
    run(network.host, f"ip link add uplink type veth peer name far netns {network.b.namespace}")
    try:
        run(network.host, "ip link set uplink up; ip address add 192.0.2.1/24 dev uplink")
        run(network.b, "ip link set far up; ip address add 192.0.2.2/24 dev far")
        assert arrives(network.b, "192.0.2.2", network.host, "192.0.2.1")
    finally:
        run(network.host, "ip link delete uplink")


DAMAGE = {
    "the table is deleted": "delete table netdev fairway",
    "the table that policies are in is deleted": "delete table inet fairway",
    "a chain is flushed": "flush chain netdev fairway antispoof",
    "a chain is deleted": "flush table netdev fairway; delete chain netdev fairway antispoof",
    "a chain is at a hook": "flush table netdev fairway; delete chain netdev fairway antispoof; "
    "add chain netdev fairway antispoof { type filter hook ingress device fwy-b priority 9; }",
    "a rule is put before ours": "insert rule netdev fairway antispoof accept",
    "a rule is put behind ours": "add rule netdev fairway antispoof drop",
    "a set is deleted": "flush chain netdev fairway antispoof; delete set netdev fairway sources4",
    "a set is of addresses only": "flush chain netdev fairway antispoof; delete set netdev fairway sources4; "
    "add set netdev fairway sources4 { type ipv4_addr; }",
    "a set forgets": "flush chain netdev fairway antispoof; delete set netdev fairway sources6; "
    "add set netdev fairway sources6 { type iface_index . ipv6_addr; timeout 1h; }",
    "the table sleeps": "add table netdev fairway { flags dormant; }",
    "the table that policies are in sleeps": "add table inet fairway { flags dormant; }",
}


class TestATableThatSomeoneBroke:
    @pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
    def test_is_noticed_and_mended(self, guarded: tuple[TwoPods, FirewallDriver], damage: str) -> None:
        network, driver = guarded
        whole = {Firewall(network.host.namespace), *sources_of(network)}
        assert driver.observe() == whole
        written = shape(network)
        run(network.host, f"nft '{damage}'")
        assert not driver.whole()
        broken = driver.observe()
        assert Firewall(network.host.namespace) not in broken
        driver.install()
        assert driver.whole()
        assert driver.observe() == {Firewall(network.host.namespace), *broken}, "what was allowed still is"
        allow_all(network, driver)
        assert driver.observe() == whole
        assert shape(network) == written
        assert talk(network.a, network.b, 4)
        assert talk(network.a, network.b, 6)

    def test_is_noticed_when_any_one_rule_is_missing(self, guarded: tuple[TwoPods, FirewallDriver]) -> None:
        chain = "antispoof"
        network, driver = guarded
        listed = json.loads(run(network.host, f"nft -j list chain netdev fairway {chain}"))["nftables"]
        for index in range(sum("rule" in item for item in listed)):
            now = json.loads(run(network.host, f"nft -j list chain netdev fairway {chain}"))["nftables"]
            handle = [item["rule"]["handle"] for item in now if "rule" in item][index]
            run(network.host, f"nft delete rule netdev fairway {chain} handle {handle}")
            assert Firewall(network.host.namespace) not in driver.observe()
            assert not driver.whole()
            driver.install()
            assert Firewall(network.host.namespace) in driver.observe()

    def test_is_told_from_tables_of_others_that_look_like_it(self, guarded: tuple[TwoPods, FirewallDriver]) -> None:
        network, driver = guarded
        run(
            network.host,
            "nft 'add table ip fairway; add chain ip fairway antispoof; add chain ip fairway fwy-a; "
            "add table netdev fairways; "
            "add chain netdev fairways fwy-b { type filter hook ingress device fwy-b priority 9; }; "
            "add chain inet fairway antispoof; add chain inet fairway fwy-a'",
        )
        run(
            network.host,
            "nft 'add table inet other; add chain inet other antispoof; "
            "add chain inet other fwy-a { type filter hook ingress device fwy-a priority -300; policy drop; accept; }'",
        )
        assert driver.whole()
        assert driver.observe() == {Firewall(network.host.namespace), *sources_of(network)}
        run(network.host, "nft 'delete table ip fairway; delete table inet other; delete table netdev fairways'")
        run(network.host, "nft 'delete chain inet fairway antispoof; delete chain inet fairway fwy-a'")

    @pytest.mark.usefixtures("stranger")
    def test_lets_no_packet_slip_by_while_it_is_mended(self, guarded: tuple[TwoPods, FirewallDriver]) -> None:
        network, driver = guarded
        assert talk(network.a, network.host, 4)
        stop = threading.Event()

        def opened(address: str, port: int) -> socket.socket:
            handle = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            handle.bind((address, port))
            return handle

        with (
            namespaces.inside(network.host.namespace, lambda: opened(network.host.v4, 4712)) as listener,
            namespaces.inside(network.a.namespace, lambda: opened(STRANGER[4], 0)) as talker,
        ):

            def flood() -> None:
                while not stop.is_set():
                    talker.sendto(b"spoofed", (network.host.v4, 4712))

            thread = threading.Thread(target=flood)
            thread.start()
            for _ in range(60):
                run(
                    network.host,
                    "nft 'add rule netdev fairway antispoof counter; add rule netdev fairway fwy-a counter'",
                )
                driver.install()
                allow_all(network, driver)
            stop.set()
            thread.join()
            listener.setblocking(False)
            with pytest.raises(BlockingIOError):
                listener.recv(100)
        assert Firewall(network.host.namespace) in driver.observe()

    def test_is_mended_once_when_another_mends_it_after_we_looked(
        self, network: TwoPods, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        driver, other = driver_in(network.host), driver_in(network.host)
        run_ours = Nft.run
        others_turn = iter([other.install])

        def run_after_the_other(nft: Nft, commands: Sequence[Json], *, terse: bool = False) -> list[Json]:
            if "add" in commands[0]:
                next(others_turn, lambda: None)()
            return run_ours(nft, commands, terse=terse)

        monkeypatch.setattr(Nft, "run", run_after_the_other)
        driver.install()
        assert driver.whole()
        driver.remove()
        driver.close()
        other.close()

    def test_is_mended_once_when_many_processes_mend_it_together(self, network: TwoPods) -> None:
        fork = multiprocessing.get_context("fork")
        gate = fork.Barrier(6)
        whole = fork.Value("i", 0)
        workers = [fork.Process(target=mend_together, args=(network.host, gate, whole)) for _ in range(gate.parties)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
            assert worker.exitcode == 0
        assert whole.value == ROUNDS


DAMAGE_TO_A_PODS_CHAIN = {
    "it is deleted": "flush chain netdev fairway fwy-a; delete chain netdev fairway fwy-a",
    "it is flushed": "flush chain netdev fairway fwy-a",
    "a rule is put before ours": "insert rule netdev fairway fwy-a accept",
    "a rule is put behind ours": "add rule netdev fairway fwy-a drop",
    "another rule has the place of ours": "flush chain netdev fairway fwy-a; add rule netdev fairway fwy-a accept",
    "an IPv4 address is added": 'add element netdev fairway sources4 { "fwy-a" . 10.9.9.9 }',
    "an IPv6 address is added": 'add element netdev fairway sources6 { "fwy-a" . fd00:9::9 }',
    "an address is added and the chain is deleted": 'add element netdev fairway sources4 { "fwy-a" . 10.9.9.9 }; '
    "delete chain netdev fairway fwy-a",
    "an IPv4 address is taken away": 'delete element netdev fairway sources4 { "fwy-a" . 10.0.1.2 }',
    "an IPv6 address is taken away": 'delete element netdev fairway sources6 { "fwy-a" . fd00:1::2 }',
    "it has another policy": "add chain netdev fairway fwy-a { policy accept; }",
    "it is off its hook": "flush chain netdev fairway fwy-a; delete chain netdev fairway fwy-a; "
    "add chain netdev fairway fwy-a",
    "it has another priority": "flush chain netdev fairway fwy-a; delete chain netdev fairway fwy-a; "
    "add chain netdev fairway fwy-a { type filter hook ingress device fwy-a priority 10; policy drop; }",
    "it is at another link": "flush chain netdev fairway fwy-a; delete chain netdev fairway fwy-a; "
    "add chain netdev fairway fwy-a { type filter hook ingress device fwy-b priority -300; policy drop; }",
}


class TestAPodsChain:
    @pytest.mark.parametrize("damage", DAMAGE_TO_A_PODS_CHAIN.values(), ids=DAMAGE_TO_A_PODS_CHAIN.keys())
    def test_that_someone_broke_is_noticed_and_replaced(
        self, guarded: tuple[TwoPods, FirewallDriver], damage: str
    ) -> None:
        network, driver = guarded
        whole = {Firewall(network.host.namespace), *sources_of(network)}
        mine = sources_of_a(network, network.a.v4, network.a.v6)
        run(network.host, f"nft '{damage}'")
        assert mine not in driver.observe()
        driver.change(mine)
        assert driver.observe() == whole
        assert talk(network.a, network.b, 4)
        assert talk(network.a, network.b, 6)

    def test_reads_like_what_a_person_would_have_written(self, guarded: tuple[TwoPods, FirewallDriver]) -> None:
        network, _ = guarded
        assert run(network.host, "nft list chain netdev fairway fwy-a").split("\n")[1:5] == [
            "\tchain fwy-a {",
            '\t\ttype filter hook ingress device "fwy-a" priority -300; policy drop;',
            '\t\tgoto antispoof comment "fairway: from a pod"',
            "\t}",
        ]
        for version, name in NAMES.items():
            listed = json.loads(run(network.host, f"nft -j list set netdev fairway {name}"))["nftables"][1]["set"]
            elements = sorted(each["concat"] for each in listed["elem"])
            assert elements == [["fwy-a", network.a.address(version)], ["fwy-b", network.b.address(version)]]

    def test_that_is_as_it_should_be_is_seen_without_a_look_at_others(
        self, guarded: tuple[TwoPods, FirewallDriver]
    ) -> None:
        network, driver = guarded
        mine = sources_of_a(network, network.a.v4, network.a.v6)
        assert driver.observe_link(mine) == {mine}
        run(network.host, f"nft 'delete element netdev fairway sources4 {{ \"fwy-a\" . {network.a.v4} }}'")
        assert driver.observe_link(mine) == {sources_of_a(network, network.a.v6)}
        run(network.host, "nft insert rule netdev fairway fwy-a accept")
        assert driver.observe_link(mine) == {sources_of_a(network)}
        driver.disallow("fwy-a")
        assert driver.observe_link(mine) == set()

    def test_is_made_for_a_link_that_comes_again_and_taken_away_from_one_that_is_gone(
        self, guarded: tuple[TwoPods, FirewallDriver]
    ) -> None:
        network, driver = guarded
        here = network.host.namespace
        before = {Firewall(here), *sources_of(network)}
        mine = AllowedSources(here, "fwy-new", frozenset([ip_address("10.0.3.2")]))
        for _ in range(2):
            run(network.host, "ip link add fwy-new type veth peer name new")
            driver.allow(mine)
            assert driver.observe() == before | {mine}
            index = str(json.loads(run(network.host, "ip -j link show fwy-new"))[0]["ifindex"])
            run(network.host, "ip link delete fwy-new")
            left = AllowedSources(here, index, mine.addresses)
            assert left in driver.observe(), "no link that is called so later may send from them"
            driver.disallow(index)
            assert driver.observe() - before <= {AllowedSources(here, "fwy-new", frozenset())}
        driver.disallow("fwy-new")
        assert driver.observe() == before

    def test_is_made_for_no_link_that_is_not_there(self, guarded: tuple[TwoPods, FirewallDriver]) -> None:
        network, driver = guarded
        before = driver.observe()
        with pytest.raises(KernelError, match="there is no interface fwy-new"):
            driver.allow(AllowedSources(network.host.namespace, "fwy-new", frozenset([ip_address("10.0.3.2")])))
        assert driver.observe() == before

    def test_lets_nothing_pass_once_the_link_is_silenced_and_is_ended_by_its_handle_only(
        self, guarded: tuple[TwoPods, FirewallDriver]
    ) -> None:
        network, driver = guarded
        here = network.host.namespace
        mine = sources_of_a(network, network.a.v4, network.a.v6)
        assert talk(network.a, network.host, 4)
        old = driver.silence(mine, index_of_a(network))
        assert not arrives(network.a, network.a.v4, network.host, network.host.v4, timeout=STAYS_AWAY_S)
        driver.allow(mine)
        driver.end("fwy-a", old)
        assert driver.observe() == {Firewall(here), *sources_of(network)}, "a newer chain of that name stays"
        driver.end("fwy-a", driver.silence(mine, index_of_a(network)))
        assert driver.observe() == {Firewall(here), *sources_of(network)} - {mine}
        driver.remove()
        assert driver.silence(mine, index_of_a(network)) == 0

    def test_is_silenced_though_it_may_not_send_from_all_its_addresses(
        self, guarded: tuple[TwoPods, FirewallDriver]
    ) -> None:
        network, driver = guarded
        run(network.host, f"nft 'delete element netdev fairway sources4 {{ \"fwy-a\" . {network.a.v4} }}'")
        assert driver.silence(sources_of_a(network, network.a.v4, network.a.v6), index_of_a(network))
        assert sources_of_a(network) in driver.observe()

    def test_is_silenced_though_it_ends_by_itself_meanwhile(self, guarded: tuple[TwoPods, FirewallDriver]) -> None:
        network, driver = guarded
        before = driver.observe()
        run(network.host, "ip link add fwy-c type veth peer name c")
        index = int(json.loads(run(network.host, "ip -j link show fwy-c"))[0]["ifindex"])
        sources = AllowedSources(network.host.namespace, "fwy-c", frozenset([ip_address("10.0.3.2")]))
        driver.allow(sources)
        run(network.host, "ip link delete fwy-c")
        driver.end("fwy-c", driver.silence(sources, index))
        assert driver.observe() == before

    def test_is_passed_by_nothing_that_enters_elsewhere(self, guarded: tuple[TwoPods, FirewallDriver]) -> None:
        network, _ = guarded
        listed = json.loads(run(network.host, "nft -j list chains"))["nftables"]
        hooks = {item["chain"]["name"]: item["chain"].get("hook") for item in listed if "chain" in item}
        assert hooks == {"antispoof": None, "fwy-a": "ingress", "fwy-b": "ingress"}


class TestWhatNoPodMaySendFrom:
    def test_is_noticed_and_taken_away(self, guarded: tuple[TwoPods, FirewallDriver]) -> None:
        network, driver = guarded
        here = network.host.namespace
        whole = driver.observe()
        run(network.host, "nft 'add element netdev fairway sources4 { \"lo\" . 10.9.9.9, 4711 . 10.9.9.9 }'")
        run(network.host, "nft 'add element netdev fairway sources6 { 4711 . fd00:9::9 }'")
        gone = AllowedSources(here, "4711", frozenset(map(ip_address, STRANGER.values())))
        assert driver.observe() == whole | {gone, AllowedSources(here, "lo", frozenset())}
        driver.disallow("4711")
        assert driver.observe() == whole | {AllowedSources(here, "lo", frozenset())}
        driver.disallow("lo")
        assert driver.observe() == whole

    def test_is_taken_away_however_much_it_is(self, guarded: tuple[TwoPods, FirewallDriver]) -> None:
        network, driver = guarded
        whole = driver.observe()
        many = ", ".join(f"{4711 + number} . fd00:9::{number:x}" for number in range(3000))
        run(network.host, f"nft 'add element netdev fairway sources6 {{ {many} }}'")
        assert len(driver.observe()) == len(whole) + 3000
        driver.disallow("4711")
        assert driver.observe() == whole


EARLIER = """
flush table netdev fairway
delete set netdev fairway sources4
delete set netdev fairway sources6
add rule netdev fairway antispoof meta protocol ip counter drop \\
    comment "fairway: IPv4 from a pod, not its own source"
add rule netdev fairway antispoof counter drop comment "fairway: from a pod, ARP of others or neither IP nor ARP"
"""
EARLIER_POD = """
add rule netdev fairway {link} ip saddr {v4} accept comment "fairway: from a pod, its own source"
add rule netdev fairway {link} ip6 saddr {v6} accept comment "fairway: from a pod, its own source"
add rule netdev fairway {link} arp saddr ip {v4} accept comment "fairway: ARP from a pod, its own address"
add rule netdev fairway {link} goto antispoof comment "fairway: from a pod, not its own source"
"""
"""A table of a version that had each pod's addresses in rules of its own."""


class TestATableOfAnEarlierVersion:
    @pytest.fixture(autouse=True)
    def earlier(self, guarded: tuple[TwoPods, FirewallDriver]) -> None:
        network, _ = guarded
        pods = [("fwy-a", network.a), ("fwy-b", network.b)]
        script = EARLIER + "".join(EARLIER_POD.format(link=link, v4=pod.v4, v6=pod.v6) for link, pod in pods)
        run(network.host, f"nft -f - <<'END'\n{script}\nEND")

    @pytest.mark.usefixtures("stranger")
    def test_is_made_one_of_this_and_guards_meanwhile(self, guarded: tuple[TwoPods, FirewallDriver]) -> None:
        network, driver = guarded

        def guards() -> bool:
            there = network.host.v4
            lied = arrives(network.a, STRANGER[4], network.host, there, timeout=STAYS_AWAY_S)
            return talk(network.a, network.b, 4) and talk(network.b, network.a, 6) and not lied

        nothing = {AllowedSources(network.host.namespace, link, frozenset()) for link in ("fwy-a", "fwy-b")}
        assert guards()
        assert driver.observe() == nothing
        driver.install()
        assert guards()
        assert driver.observe() == nothing | {Firewall(network.host.namespace)}
        for sources in sources_of(network):
            driver.change(sources)
        assert guards()
        assert driver.observe() == {Firewall(network.host.namespace), *sources_of(network)}

    def test_lets_nothing_pass_once_the_link_is_silenced(self, guarded: tuple[TwoPods, FirewallDriver]) -> None:
        network, driver = guarded
        assert talk(network.a, network.host, 4)
        assert driver.silence(sources_of_a(network, network.a.v4, network.a.v6), index_of_a(network))
        assert not arrives(network.a, network.a.v4, network.host, network.host.v4, timeout=STAYS_AWAY_S)
        assert talk(network.b, network.host, 4)


class TestDoingAThingTwice:
    def test_installing_changes_nothing_not_even_a_counter(self, guarded: tuple[TwoPods, FirewallDriver]) -> None:
        network, driver = guarded
        assert talk(network.a, network.b, 4)
        before = run(network.host, "nft -a list table netdev fairway")
        driver.install()
        assert run(network.host, "nft -a list table netdev fairway") == before

    def test_allowing_and_disallowing_is_harmless(self, guarded: tuple[TwoPods, FirewallDriver]) -> None:
        network, driver = guarded
        here = network.host.namespace
        mine = sources_of_a(network, network.a.v4, network.a.v6)
        for _ in range(2):
            driver.allow(mine)
            assert driver.observe() == {Firewall(here), *sources_of(network)}
        for _ in range(2):
            assert driver.silence(mine, index_of_a(network))
            assert driver.observe() == {Firewall(here), *sources_of(network)} - {mine} | {sources_of_a(network)}
        for _ in range(2):
            driver.disallow("fwy-a")
            assert driver.observe() == {Firewall(here), *sources_of(network)} - {mine}

    def test_removing_takes_our_table_and_no_other(self, guarded: tuple[TwoPods, FirewallDriver]) -> None:
        network, driver = guarded
        run(network.host, "nft add table ip fairway; nft add table inet other")
        for _ in range(2):
            driver.remove()
        assert driver.observe() == set()
        driver.disallow("fwy-a")
        assert run(network.host, "nft list tables") == "table ip fairway\ntable inet other\n"
        run(network.host, "nft flush ruleset")


def test_an_address_cannot_be_allowed_without_the_table(network: TwoPods) -> None:
    driver = driver_in(network.host)
    with pytest.raises(KernelError, match="No such file or directory") as caught:
        driver.allow(sources_of_a(network, network.a.v4))
    assert caught.value.errno == errno.ENOENT
    driver.close()


def test_without_the_library_the_reader_is_told_what_to_install() -> None:
    program = (
        "import ctypes\n"
        "from fairway.net.kernel.netfilter.nftables import Nft\n"
        "def missing(*_, **__): raise OSError('no such library')\n"
        "ctypes.CDLL = missing\n"
        "try: Nft()\n"
        "except Exception as error: print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said == "libnftables.so.1 is not installed\n  mend: apt-get install libnftables1\n"


def mend_together(host: Member, gate: Barrier, whole: Synchronized[int]) -> None:
    """Install the table when other processes do, time and again; count the times that it came out whole."""
    driver = driver_in(host)
    for _ in range(ROUNDS):
        turn = gate.wait(10)
        driver.install()
        gate.wait(10)
        if turn == 0:
            whole.value += driver.whole()
            driver.remove()
        gate.wait(10)


def on_the_wire(pod: Member, protocol: int, packet: bytes) -> None:
    """Send `packet` to the host just as it is: no routing, no choice of source."""

    def opened() -> socket.socket:
        return socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)

    with namespaces.inside(pod.namespace, opened) as handle:
        handle.sendto(packet, ("eth0", protocol, 0, 0, b"\xee" * 6))


def datagram(source: str, destination: str) -> bytes:
    """A UDP datagram to `PORT`, in IP."""
    if ":" not in source:
        ends = socket.inet_aton(source) + socket.inet_aton(destination)
        head = struct.pack("!BBHHHBBH", 0x45, 0, 28, 0, 0, 64, 17, 0)
        head = head[:10] + struct.pack("!H", internet_checksum(head + ends))
        return head + ends + struct.pack("!HHHH", 1, PORT, 8, 0)
    ends = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, destination)
    udp = struct.pack("!HHH", 1, PORT, 8)
    checksum = struct.pack("!H", internet_checksum(ends + struct.pack("!II", 8, 17) + udp))
    return struct.pack("!IHBB", 6 << 28, 8, 17, 64) + ends + udp + checksum


def icmpv6(pod: Member, destination: str, message: bytes) -> None:
    """Send an ICMPv6 message from the pod's link-local address to the host's interface."""
    ends = b"".join(socket.inet_pton(socket.AF_INET6, end) for end in (link_local_of(pod), destination))
    checksum = struct.pack("!H", internet_checksum(ends + struct.pack("!II", len(message), 58) + message))
    whole = message[:IPV6_CHECKSUM_AT] + checksum + message[IPV6_CHECKSUM_AT + 2 :]
    on_the_wire(pod, 0x86DD, struct.pack("!IHBB", 6 << 28, len(message), 58, 255) + ends + whole)


def link_local_of(pod: Member) -> str:
    listed = json.loads(run(pod, "ip -j -6 address show dev eth0 scope link"))
    return next(entry["local"] for item in listed for entry in item.get("addr_info", ()) if "local" in entry)


def _address_events() -> socket.socket:
    """A socket that becomes readable when an IPv6 address changes in this namespace."""
    handle = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    handle.bind((0, 0x100))  # RTMGRP_IPV6_IFADDR
    handle.settimeout(5)
    return handle


def internet_checksum(data: bytes) -> int:
    """RFC 1071."""
    total = sum(word for (word,) in struct.iter_unpack("!H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
