"""A host's pods, on the kernel, with packets."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from crash import run_and_kill

from fairway.net.host import Host
from fairway.net.kernel import namespaces
from fairway.net.model.errors import FairwayError, NotOursError, RouteTakenError, UsageError
from fairway.net.model.facts import Namespace, Veth
from fairway.net.model.pod import StaticRoute
from kernel_faults import failing_at

A1, A2 = ip_address("10.0.1.2"), ip_address("10.0.2.2")


def sh(command: str) -> str:
    return subprocess.run(command, shell=True, check=True, capture_output=True, text=True).stdout


def pings(namespace: str, address: object) -> bool:
    inside = f"ip netns exec {namespace} " if namespace else ""
    return subprocess.run(f"{inside}ping -c1 -W1 {address}", shell=True, capture_output=True).returncode == 0


@pytest.fixture
def home() -> Iterator[str]:
    """A host of its own: a namespace with an uplink, and the process's main thread moved into it for the while."""
    name = f"fwt-home-{os.getpid()}"
    back = os.open("/proc/self/ns/net", os.O_RDONLY)
    sh(f"ip netns add {name}; ip -n {name} link set lo up")
    sh(f"ip -n {name} link add eth0 mtu 1400 type veth peer name wire; ip -n {name} link set eth0 up")
    sh(f"ip -n {name} link set wire up; ip -n {name} addr add 192.0.2.2/24 dev eth0")
    sh(f"ip -n {name} addr add fd00:f::2/64 dev eth0 nodad")
    sh(f"ip -n {name} route add default via 192.0.2.1")
    namespaces.enter(name)
    yield name
    namespaces._libc.setns(back, 0)
    os.close(back)
    sh(f"ip netns delete {name}")


@pytest.fixture
def host(home: str, own_state: Path) -> Iterator[Host]:
    host = Host()
    yield host
    host.close()
    clear()


def clear() -> None:
    """Remove every pod, and see that nothing of them is left."""
    with Host() as host:
        for pod in host.pods():
            host.remove_pod(pod.name)
    assert leftovers() == []
    assert "inet 127.0.0.1/8" in sh("ip addr show lo"), "what was there before"
    assert "inet6 ::1/128" in sh("ip addr show lo")


def leftovers() -> list[str]:
    links = [line.split(":")[1].strip() for line in sh("ip -o link").splitlines()]
    found = [link for link in links if link.startswith("fwy-")]
    found += [name for name in namespaces.names() if not name.startswith("fwt-")]
    found += sh("ip route show proto 70").splitlines() + sh("ip -6 route show proto 70").splitlines()
    found += [line for line in sh("nft list tables").splitlines() if "fairway" in line]
    found += [line for line in sh("ip -o addr").splitlines() if "169.254.1.1" in line]
    return found


class TestAPod:
    def test_reaches_its_host_and_its_host_reaches_it(self, host: Host) -> None:
        host.add_pod("demo01", [A1])
        assert pings("", A1)
        assert pings("demo01", "192.0.2.2")
        assert pings("demo01", "169.254.1.1")

    def test_reaches_another_pod_through_the_host_as_a_router(self, host: Host) -> None:
        host.add_pod("demo01", [A1])
        host.add_pod("demo02", [A2])
        assert "ttl=63" in sh(f"ip netns exec demo01 ping -c1 {A2}")

    def test_has_an_address_of_each_version_that_there_is_a_pool_of(self, host: Host) -> None:
        host.pools.add(ip_network("10.7.0.0/24"))
        host.pools.add(ip_network("fd00:7::/64"))
        one, two = host.add_pod("demo01"), host.add_pod("demo02")
        assert [str(address) for address in one.addresses] == ["10.7.0.1", "fd00:7::1"]
        assert all(pings("demo01", address) and pings("", address) for address in two.addresses)

    def test_works_where_the_host_has_no_default_route(self, host: Host) -> None:
        sh("ip route delete default")
        host.add_pod("demo01", [A1])
        assert pings("demo01", "192.0.2.2")

    def test_has_no_subnet_and_its_host_end_no_address(self, host: Host) -> None:
        host.add_pod("demo01", [A1])
        assert sh("ip -4 -o addr show dev fwy-demo01") == ""
        assert f"{A1}/32" in sh("ip -n demo01 -4 -o addr show dev eth0")
        assert sh("ip -n demo01 route").strip() == "default via 169.254.1.1 dev eth0 proto 70 onlink"
        assert sh(f"ip route show {A1}").strip() == f"{A1} dev fwy-demo01 proto 70 scope link"

    def test_has_the_mtu_of_the_uplink_or_the_one_asked_for(self, host: Host) -> None:
        assert host.add_pod("demo01").mtu == 1400
        assert "mtu 1400" in sh("ip -n demo01 link show eth0")
        assert "mtu 9000" in (host.add_pod("demo02", mtu=9000) and sh("ip -n demo02 link show eth0"))

    def test_can_send_from_its_own_address_only(self, host: Host) -> None:
        host.add_pod("demo01", [A1])
        host.add_pod("demo02", [A2])
        sh("ip -n demo01 addr add 10.0.9.9/32 dev eth0; ip route add 10.0.9.9 dev fwy-demo01")
        sh("sysctl -qw net.ipv4.conf.all.rp_filter=0; sysctl -qw net.ipv4.conf.fwy-demo01.rp_filter=0")
        assert pings("demo01", A2)
        refused = subprocess.run(f"ip netns exec demo01 ping -I 10.0.9.9 -c1 -W1 {A2}", shell=True, capture_output=True)
        assert refused.returncode == 1

    def test_that_is_removed_leaves_nothing_and_its_name_can_be_used_at_once(self, host: Host) -> None:
        for _ in range(3):
            host.add_pod("demo01", [A1])
            assert pings("", A1)
            host.remove_pod("demo01")
            assert not pings("", A1)
        host.close()
        assert leftovers() == []

    def test_can_be_added_again_at_once_while_others_are_still_being_ended(self, host: Host) -> None:
        for name in ("demo01", "demo02", "demo03"):
            host.add_pod(name)
        for _ in range(3):
            for name in ("demo01", "demo02", "demo03"):
                host.remove_pod(name)
            for name in ("demo03", "demo02", "demo01"):
                host.add_pod(name)
        assert host.check() == []

    def test_outlives_the_program(self, host: Host) -> None:
        pod = host.add_pod("demo01")
        with Host() as other:
            assert other.pods() == [pod]
            assert other.check() == []
            other.remove_pod("demo01")
        assert leftovers() == []

    def test_whose_name_is_long_gets_an_interface_all_the_same(self, host: Host) -> None:
        pod = host.add_pod("a-very-long-name-of-a-pod-that-somebody-wanted")
        assert len(pod.link) == 15
        assert pings("", pod.addresses[0])


class TestBadInput:
    @pytest.mark.parametrize("name", ["", "Demo", "a_b", "-a", "a" * 64, "../etc", "a b", "ä"])
    def test_an_odd_name_is_refused(self, host: Host, name: str) -> None:
        with pytest.raises(UsageError, match="pod name"):
            host.add_pod(name)

    def test_an_address_that_is_taken_or_outside_every_pool_is_refused(self, host: Host) -> None:
        host.add_pod("demo01", [A1])
        with pytest.raises(UsageError, match="taken by the pod demo01"):
            host.add_pod("demo02", [A1])
        with pytest.raises(UsageError, match="outside every pool"):
            host.add_pod("demo02", [ip_address("10.99.0.1")])
        assert [pod.name for pod in host.pods()] == ["demo01"]

    def test_a_pod_that_exists_is_refused(self, host: Host) -> None:
        host.add_pod("demo01")
        with pytest.raises(UsageError, match="exists"):
            host.add_pod("demo01")
        assert host.check() == []

    def test_a_namespace_that_is_not_ours_is_left_alone(self, host: Host) -> None:
        sh("ip netns add demo01; ip -n demo01 link set lo up")
        with pytest.raises(NotOursError, match="/run/netns/demo01 exists and is not Fairway's"):
            host.add_pod("demo01", [A1])
        host.repair()
        assert "LOOPBACK,UP" in sh("ip -n demo01 link")
        sh("ip netns delete demo01")
        assert host.add_pod("demo01", [A1])

    def test_an_interface_that_is_not_ours_is_left_alone(self, host: Host) -> None:
        sh("ip link add fwy-demo01 type veth peer name other")
        with pytest.raises(NotOursError, match="interface fwy-demo01 exists and is not Fairway's"):
            host.add_pod("demo01", [A1])
        assert not namespaces.exists("demo01")
        assert sh("ip link show fwy-demo01")
        sh("ip link delete fwy-demo01")

    def test_a_route_that_is_not_ours_is_left_alone(self, host: Host) -> None:
        sh(f"ip route add {A1} dev eth0")
        with pytest.raises(NotOursError, match=rf"a route to {A1}/32 exists and is not Fairway's"):
            host.add_pod("demo01", [A1])
        assert sh(f"ip route show {A1}")
        sh(f"ip route delete {A1}")
        assert host.pods() == []

    def test_a_pool_that_the_host_is_on_is_refused(self, host: Host) -> None:
        with pytest.raises(UsageError, match=r"192\.0\.2\.0/24, which this host is on by eth0"):
            host.pools.add(ip_network("192.0.0.0/16"))

    def test_no_more_pods_than_addresses(self, host: Host) -> None:
        host.pools.add(ip_network("10.7.0.0/30"))
        host.add_pod("a")
        host.add_pod("b")
        with pytest.raises(FairwayError, match=r"every address of the pool 10\.7\.0\.0/30 is taken"):
            host.add_pod("c")
        host.remove_pod("a")
        host.close()
        with Host() as other:
            other.add_pod("c")
            for pod in other.pods():
                other.remove_pod(pod.name)


class TestAnAddressThatNoPodHas:
    def test_is_refused_whoever_asks_and_does_not_go_on_by_the_default_route(self, host: Host) -> None:
        host.pools.add(ip_network("10.7.0.0/24"))
        host.pools.add(ip_network("fd00:7::/64"))
        sh("ip -6 route add default via fd00:f::1")
        host.add_pod("demo01")
        for address in ("10.7.0.99", "fd00:7::99"):
            asked = subprocess.run(f"ip netns exec demo01 ping -c1 -W2 {address}", shell=True, capture_output=True)
            assert b"unreachable" in asked.stdout.lower(), address
            assert b"No route to host" in subprocess.run(["ip", "route", "get", address], capture_output=True).stderr

    def test_is_refused_in_a_pool_that_comes_later_and_until_it_goes(self, host: Host) -> None:
        host.pools.add(ip_network("10.7.0.0/24"))
        assert sh("ip route show proto 70") == "", "without a pod the host forwards nothing"
        host.add_pod("demo01")
        host.pools.add(ip_network("10.8.0.0/24"))
        assert sh("ip route show 10.8.0.0/24").startswith("unreachable 10.8.0.0/24 proto 70 ")
        assert host.check() == []
        host.pools.remove(ip_network("10.8.0.0/24"))
        assert sh("ip route show 10.8.0.0/24") == ""
        assert host.check() == []


class TestRoutes:
    def test_a_route_written_by_hand_is_in_the_kernel_and_outlives_the_program(self, host: Host) -> None:
        route = StaticRoute(ip_network("10.3.0.0/24"), ip_address("192.0.2.9"))
        host.routes.add(route)
        assert "via 192.0.2.9 dev eth0 proto 70" in sh("ip route show 10.3.0.0/24")
        sh("ip route delete 10.3.0.0/24")
        with Host() as other:
            assert len(other.check()) == 1
            other.repair()
            assert other.check() == []
        host.routes.add(StaticRoute(route.destination, ip_address("192.0.2.8")))
        assert "192.0.2.8" in sh("ip route show 10.3.0.0/24")
        host.routes.remove(route.destination)
        assert sh("ip route show 10.3.0.0/24") == ""

    def test_a_gateway_that_cannot_be_reached_is_an_error_and_nothing_is_kept(self, host: Host) -> None:
        sh("ip route delete default")
        with pytest.raises(FairwayError):
            host.routes.add(StaticRoute(ip_network("10.3.0.0/24"), ip_address("203.0.113.1")))
        assert host.routes.all() == []


DRIFT = {
    "the host route is gone": f"ip route delete {A1}",
    "the pod's default route is gone": "ip -n demo01 route delete default",
    "the pod's address is gone": f"ip -n demo01 addr delete {A1}/32 dev eth0",
    "the host end is down": "ip link set fwy-demo01 down",
    "the pod's end is down": "ip -n demo01 link set eth0 down",
    "lo is down": "ip -n demo01 link set lo down",
    "the link is gone": "ip link delete fwy-demo01",
    "the link has another MTU": "ip link set fwy-demo01 mtu 1300",
    "the link has another address": "ip link set fwy-demo01 address 02:00:00:00:00:01",
    "the namespace is gone": "ip netns delete demo01",
    "forwarding is off": "sysctl -qw net.ipv4.ip_forward=0",
    "the gateway's address is gone": "ip addr delete 169.254.1.1/32 dev lo",
    "the rule set was flushed": "nft flush ruleset",
    "our chain was flushed": "nft flush chain netdev fairway antispoof",
    "our chain at the pod's link is gone": "nft 'flush chain netdev fairway fwy-demo01; "
    "delete chain netdev fairway fwy-demo01'",
    "our chain at the pod's link was flushed": "nft flush chain netdev fairway fwy-demo01",
    "the pod may send what it likes": "nft insert rule netdev fairway fwy-demo01 accept",
    "the pod may send from another's address": f"nft 'add element netdev fairway sources4 {{ \"fwy-demo01\" . {A2} }}'",
    "the pod may not send from its address": "nft 'delete element netdev fairway sources4 "
    f'{{ "fwy-demo01" . {A1} }}\'',
    "a link that is gone may send": "nft 'add element netdev fairway sources4 { 4711 . 10.0.9.9 }'",
    "no pod may send": "nft flush set netdev fairway sources4",
    "the table is of a version that had addresses in rules": "nft 'flush table netdev fairway; "
    "delete set netdev fairway sources4; delete set netdev fairway sources6; "
    f"add rule netdev fairway fwy-demo01 ip saddr {A1} accept; add rule netdev fairway fwy-demo01 goto antispoof; "
    f"add rule netdev fairway fwy-demo02 ip saddr {A2} accept; add rule netdev fairway fwy-demo02 goto antispoof'",
    "what no pod has is not refused": "ip route delete unreachable 10.0.0.0/16 metric 1174405120",
    "a neighbour is gone": f"ip neigh delete {A1} dev fwy-demo01",
}


class TestDrift:
    @pytest.mark.parametrize("command", DRIFT.values(), ids=DRIFT.keys())
    def test_is_found_and_repaired(self, host: Host, command: str) -> None:
        host.pools.add(ip_network("10.0.0.0/16"))
        host.add_pod("demo01", [A1])
        host.add_pod("demo02", [A2])
        assert host.check() == []
        sh(command)
        assert host.check() != []
        operations, failures = host.repair()
        assert operations
        assert failures == []
        assert host.check() == []
        assert pings("demo02", A1)
        assert pings("demo01", A2)

    def test_what_no_pod_of_ours_needs_is_taken_away(self, host: Host) -> None:
        host.add_pod("demo01", [A1])
        host.store.delete("demo01")
        kinds = {type(operation.fact) for operation in host.check()}
        assert {Namespace, Veth} <= kinds
        host.repair()
        assert leftovers() == []

    def test_what_is_not_ours_is_not_drift(self, host: Host) -> None:
        host.add_pod("demo01", [A1])
        sh("ip netns add foreign; ip link add foreign0 type veth peer name foreign1")
        sh("ip route add 10.200.0.0/24 dev eth0")
        sh("nft add table inet other; ip -n demo01 addr add 10.0.1.3/32 dev eth0")
        assert host.check() == []
        sh("ip netns delete foreign; ip link delete foreign0")
        sh("ip route delete 10.200.0.0/24; nft delete table inet other")

    def test_one_operation_that_fails_holds_up_no_other(self, host: Host) -> None:
        host.add_pod("demo01", [A1])
        host.add_pod("demo02", [A2])
        sh(f"ip route delete {A1}; ip route delete {A2}; ip route add {A1} dev eth0")
        _, failures = host.repair()
        assert [failure.error.__class__ for failure in failures] == [RouteTakenError]
        assert pings("", A2)
        sh(f"ip route delete {A1}")
        assert host.repair()[1] == []


class TestAForeignForwardChain:
    HOOK = "{ type filter hook forward priority 0; policy drop; }"
    CHAIN = f"nft add table ip filter; nft add chain ip filter FORWARD '{HOOK}'"

    def test_that_drops_lets_pods_through_while_they_live(self, host: Host) -> None:
        sh(self.CHAIN)
        host.add_pod("demo01", [A1])
        host.add_pod("demo02", [A2])
        assert pings("demo01", A2)
        assert sh("nft list chain ip filter FORWARD").count("accept") == 4
        host.remove_pod("demo01")
        assert sh("nft list chain ip filter FORWARD").count("accept") == 2
        host.remove_pod("demo02")
        assert "accept" not in sh("nft list chain ip filter FORWARD")
        sh("nft delete table ip filter")

    def test_that_comes_later_is_drift(self, host: Host) -> None:
        host.add_pod("demo01", [A1])
        host.add_pod("demo02", [A2])
        sh(self.CHAIN)
        assert not pings("demo01", A2)
        host.repair()
        assert pings("demo01", A2)
        sh("nft delete table ip filter")

    def test_is_only_reported_if_it_is_to_be_left(self, home: str, own_state: Path) -> None:
        sh(self.CHAIN)
        with Host(touch_foreign_chains=False) as host:
            host.add_pod("demo01", [A1])
            host.add_pod("demo02", [A2])
            assert not pings("demo01", A2)
            assert pings("", A2)
            (chain,) = host.dropping_chains()
            assert (chain.family, chain.table, chain.chain) == ("ip", "filter", "FORWARD")
            host.remove_pod("demo01")
            host.remove_pod("demo02")
        assert "accept" not in sh("nft list chain ip filter FORWARD")


class TestAccidents:
    def test_killed_at_any_moment_of_adding_a_pod_the_next_repair_leaves_nothing_of_it(self, host: Host) -> None:
        host.add_pod("demo02", [A2])
        chance = 0
        while run_and_kill(lambda: Host().add_pod("demo01", [A1, ip_address("10.0.1.3")]), chance):
            with Host() as other:
                other.repair()
                assert other.check() == []
                if [pod.name for pod in other.pods()] != ["demo02"]:  # killed after the last commit
                    other.remove_pod("demo01")
            assert not any("demo01" in left for left in leftovers())
            assert pings("", A2)
            chance += 1
        assert chance > 15
        host.remove_pod("demo01")

    def test_killed_at_any_moment_of_adding_a_pod_adding_it_again_succeeds(self, host: Host) -> None:
        chance = 0
        while run_and_kill(lambda: Host().add_pod("demo01", [A1]), chance):
            with Host() as other:
                if not other.pods():
                    other.add_pod("demo01", [A1])
                assert other.check() == []
                assert pings("", A1)
                other.remove_pod("demo01")
            chance += 1
        assert chance > 10
        host.remove_pod("demo01")

    def test_killed_at_any_moment_of_removing_a_pod_the_next_repair_finishes_it(self, host: Host) -> None:
        chance = 0

        def remove() -> None:
            with Host() as other:
                other.remove_pod("demo01")

        host.add_pod("demo01", [A1])
        while run_and_kill(remove, chance):
            with Host() as other:
                other.repair()
                assert other.check() == []
                if other.pods():  # killed before the first commit
                    other.remove_pod("demo01")
            assert leftovers() == []
            host.add_pod("demo01", [A1])
            chance += 1
        assert chance > 3

    def test_a_hundred_pods_added_at_once_all_succeed_and_no_address_is_given_twice(self, host: Host) -> None:
        host.close()
        errors: list[BaseException] = []

        def add(number: int) -> None:
            try:
                namespaces.enter(home_name)
                with Host() as own:
                    own.add_pod(f"p{number}")
            except BaseException as error:
                errors.append(error)

        home_name = f"fwt-home-{os.getpid()}"
        threads = [threading.Thread(target=add, args=(number,)) for number in range(100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        with Host() as other:
            pods = other.pods()
            assert len(pods) == 100
            assert len({address for pod in pods for address in pod.addresses}) == 100
            assert other.check() == []

    def test_a_damaged_state_file_is_kept_aside_and_the_state_read_from_the_kernel(self, host: Host) -> None:
        host.pools.add(ip_network("10.0.0.0/16"))
        host.pools.add(ip_network("fd00:7::/64"))
        before = [host.add_pod("demo01"), host.add_pod("demo02", [A2])]
        host.routes.add(StaticRoute(ip_network("10.3.0.0/24"), ip_address("192.0.2.9")))
        host.store.close()
        host.store.path.write_bytes(b"x" * 5000)
        with Host() as other:
            assert other.corrupt is not None
            assert other.corrupt.kept.read_bytes() == b"x" * 5000
            assert other.pods() == before
            assert len(other.routes.all()) == 1
            other.pools.add(ip_network("10.0.0.0/16"))
            assert other.check() == []
            other.add_pod("demo03")
        with Host() as again:
            assert again.corrupt is None
            again.routes.remove(ip_network("10.3.0.0/24"))

    def test_a_full_disk_refuses_the_pod_and_leaves_nothing_of_it(self, home: str, tmp_path: Path) -> None:
        full = tmp_path / "full"
        full.mkdir()
        sh(f"mount -t tmpfs -o size=256k none {full}")
        try:
            with Host(full) as host:
                host.add_pod("demo01", [A1])
                with open(full / "filler", "wb") as filler:
                    self._fill(filler)
                with pytest.raises(FairwayError, match="cannot write the state"):
                    self._add_many(host)
                (full / "filler").unlink()
                host.repair()
                assert host.check() == []
                for pod in host.pods():
                    host.remove_pod(pod.name)
            assert leftovers() == []
        finally:
            sh(f"umount {full}")

    @staticmethod
    def _add_many(host: Host) -> None:
        for number in range(200):
            host.add_pod(f"p{number}")

    @staticmethod
    def _fill(filler: object) -> None:
        try:
            while True:
                os.write(filler.fileno(), b"x" * 4096)  # type: ignore[attr-defined]
        except OSError:
            pass

    def test_an_operation_that_fails_undoes_the_pod(self, host: Host) -> None:
        for failing in range(20):
            try:
                with failing_at(failing) as faults, Host() as other:
                    other.add_pod("demo01", [A1])
            except FairwayError:
                assert leftovers() == []
                assert host.pods() == []
            else:
                break
        assert faults.seen > 8
