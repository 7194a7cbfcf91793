"""Pods whose namespace a container runtime made, on the kernel, with packets."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from crash import run_and_kill
from test_host import A1, A2, clear, home, leftovers, pings, sh  # noqa: F401 - home is a fixture

from fairway.net.host import Host
from fairway.net.kernel import Kernel
from fairway.net.model.attachment import AttachRequest, Kubernetes
from fairway.net.model.errors import (
    AttachedError,
    ExhaustedError,
    FairwayError,
    NamespaceError,
    NotOursError,
    UsageError,
)
from fairway.net.model.names import host_interface
from fairway.net.model.operations import Delete
from fairway.net.model.pool import Pool
from kernel_faults import failing_at

C1, C2 = "3f2a9c81d0e4" * 5, "77aa9c81d0e4" * 5


@pytest.fixture
def runtime(home: str) -> Iterator[list[str]]:  # noqa: F811
    """Two namespaces as a runtime makes them; whatever is bound at their names at the end is taken away."""
    names = ["fwt-cni-1", "fwt-cni-2"]
    for name in names:
        sh(f"ip netns add {name}; ip -n {name} link set lo up")
    yield [f"/run/netns/{name}" for name in names]
    for name in names:
        sh(f"ip netns delete {name} || true")


@pytest.fixture
def host(home: str, own_state: Path, runtime: list[str]) -> Iterator[Host]:  # noqa: F811
    host = Host()
    yield host
    host.close()
    with Host() as other:
        other.attachments.collect([])
    clear()


def request(path: str, container: str = C1, **wishes: object) -> AttachRequest:
    return replace(AttachRequest(container, path, network="podnet"), **wishes)


def inside(path: str, command: str) -> str:
    return sh(f"ip -n {path.removeprefix('/run/netns/')} {command}")


class TestAnAttachment:
    def test_reaches_its_host_another_one_and_a_pod_of_fairways_own(self, host: Host, runtime: list[str]) -> None:
        host.attachments.add(request(runtime[0], addresses=(A1,)))
        host.attachments.add(request(runtime[1], C2, addresses=(A2,)))
        host.add_pod("demo03", [ip_address("10.0.3.2")])
        assert pings("", A1)
        assert pings("fwt-cni-1", A2)
        assert pings("fwt-cni-2", "10.0.3.2")
        assert pings("demo03", A1)
        assert host.check() == []

    def test_has_what_was_asked_for(self, host: Host, runtime: list[str]) -> None:
        pod = host.attachments.add(
            request(runtime[0], interface="net0", mac="0A:58:0a:00:01:02", mtu=1300, addresses=(A1,), config="{}"),
            lambda pod: f"told of {pod.addresses[0]}",
        )
        link = inside(runtime[0], "link show net0")
        assert "0a:58:0a:00:01:02" in link
        assert "mtu 1300" in link
        assert f"{A1}/32" in inside(runtime[0], "addr show net0")
        assert host.attachments.texts(pod) == ("{}", f"told of {A1}")

    def test_may_be_given_by_any_path_to_its_namespace(self, host: Host, runtime: list[str]) -> None:
        sleeper = os.spawnvp(os.P_NOWAIT, "nsenter", ["nsenter", f"--net={runtime[0]}", "sleep", "60"])
        try:
            while os.stat(f"/proc/{sleeper}/ns/net").st_ino != os.stat(runtime[0]).st_ino:
                pass
            host.attachments.add(request(f"/proc/{sleeper}/ns/net", addresses=(A1,)))
            assert pings("", A1)
            assert host.check() == []
        finally:
            os.kill(sleeper, 9)
            os.waitpid(sleeper, 0)
        assert host.check() == [], "the namespace is out of reach; its link and routes are as they should be"
        sh(f"ip route delete {A1}")
        assert host.repair()[1] == []
        assert pings("", A1)

    def test_of_both_versions_works_by_both(self, host: Host, runtime: list[str]) -> None:
        host.pools.add(ip_network("10.7.0.0/24"))
        host.pools.add(ip_network("fd00:7::/64"))
        one = host.attachments.add(request(runtime[0]))
        host.attachments.add(request(runtime[1], C2))
        assert [str(address) for address in one.addresses] == ["10.7.0.1", "fd00:7::1"]
        assert all(pings("fwt-cni-2", address) for address in one.addresses)

    def test_can_send_from_its_own_address_only(self, host: Host, runtime: list[str]) -> None:
        host.attachments.add(request(runtime[0], addresses=(A1,)))
        inside(runtime[0], "addr add 10.0.9.9/32 dev eth0")
        link = host.attachments.find(C1, "eth0").link
        sh(f"ip route add 10.0.9.9 dev {link}; sysctl -qw net.ipv4.conf.{link}.rp_filter=0")
        sh("ip netns exec fwt-cni-1 ping -I 10.0.9.9 -c1 -W1 192.0.2.2 || true")
        assert "packets 1" in sh("nft list chain netdev fairway antispoof")

    def test_outlives_the_program_with_all_that_is_known_of_it(self, host: Host, runtime: list[str]) -> None:
        known = Kubernetes("shop", "cart-0", {"app": "cart"}, {"note": "ü"})
        pod = host.attachments.add(request(runtime[0], kubernetes=known))
        with Host() as other:
            assert other.attachments.all() == [pod]
            assert other.attachments.find(C1, "eth0").attachment.kubernetes == known
            assert other.check() == []

    def test_that_is_removed_leaves_nothing_and_may_be_removed_again(self, host: Host, runtime: list[str]) -> None:
        for _ in range(3):
            host.attachments.add(request(runtime[0], addresses=(A1,)))
            assert host.attachments.remove(C1, "eth0")
            assert not pings("", A1)
        host.wait_removed(f"{C1}/eth0")
        assert "eth0" not in inside(runtime[0], "link")
        host.close()
        with Host() as other:
            assert not other.attachments.remove(C1, "eth0")
        assert leftovers_but_runtime() == []
        assert Path(runtime[0]).exists(), "the namespace is the runtime's"

    def test_whose_namespace_is_gone_can_be_removed(self, host: Host, runtime: list[str]) -> None:
        host.attachments.add(request(runtime[0], addresses=(A1,)))
        sh("ip netns delete fwt-cni-1")
        assert host.attachments.remove(C1, "eth0")
        host.wait_removed(f"{C1}/eth0")
        assert host.attachments.all() == []

    def test_has_a_second_interface_without_a_default_route(self, host: Host, runtime: list[str]) -> None:
        host.attachments.add(request(runtime[0], addresses=(A1,)))
        host.attachments.add(request(runtime[0], interface="net1", addresses=(A2,), default_route=False))
        assert inside(runtime[0], "route").count("default") == 1
        assert host.check() == []
        host.attachments.remove(C1, "net1")
        host.wait_removed(f"{C1}/net1")
        assert host.check() == []
        assert pings("", A1)

    def test_whose_host_ends_name_is_taken_gets_another(self, host: Host, runtime: list[str]) -> None:
        taken = host_interface(f"{C1}/eth0")
        host.add_pod(taken.removeprefix("fwy-"))
        sh(f"ip link add {host_interface(f'{C1}/eth0', 1)} type veth peer name other")
        pod = host.attachments.add(request(runtime[0], addresses=(A1,)))
        assert pod.link == host_interface(f"{C1}/eth0", 2)
        assert pings("", A1)
        assert host.attachments.all() == [pod]
        assert host.check() == []
        host.attachments.remove(C1, "eth0")
        sh("ip link delete other")


def leftovers_but_runtime() -> list[str]:
    return [found for found in leftovers() if not found.startswith("fwt-")]


class TestAddresses:
    def test_come_from_the_pool_of_the_pods_namespace(self, host: Host, runtime: list[str]) -> None:
        host.pools.add(ip_network("10.7.0.0/24"))
        host.pools.add(Pool(ip_network("10.8.0.0/24"), "shop", kubernetes_namespaces=frozenset({"shop"})))
        shop = host.attachments.add(request(runtime[0], kubernetes=Kubernetes("shop", "cart-0")))
        other = host.attachments.add(request(runtime[1], C2, kubernetes=Kubernetes("blog", "web")))
        assert [str(pod.addresses[0]) for pod in (shop, other)] == ["10.8.0.1", "10.7.0.1"]
        assert pings("fwt-cni-1", "10.7.0.1")
        assert [use.taken for use in host.pools.statistics()] == [1, 1]

    def test_are_the_same_again_for_a_pod_whose_annotation_says_so(self, host: Host, runtime: list[str]) -> None:
        known = Kubernetes("shop", "cart-0", annotations={"fairway/sticky": "true"})
        first = host.attachments.add(request(runtime[0], kubernetes=known))
        host.attachments.remove(C1, "eth0")
        host.attachments.add(request(runtime[1], C2))
        host.wait_removed(f"{C1}/eth0")
        again = host.attachments.add(request(runtime[0], "another" + C1, kubernetes=known))
        assert again.addresses == first.addresses
        assert pings("fwt-cni-2", first.addresses[0])

    def test_that_run_out_are_an_error_with_the_pools_name_and_nothing_is_left(
        self, host: Host, runtime: list[str]
    ) -> None:
        host.pools.add(Pool(ip_network("10.7.0.0/32"), "tiny"))
        host.attachments.add(request(runtime[0]))
        with pytest.raises(ExhaustedError, match="pool tiny"):
            host.attachments.add(request(runtime[1], C2))
        assert len(host.attachments.all()) == 1
        assert host.check() == []


class TestBadInput:
    @pytest.mark.parametrize(
        ("wish", "words"),
        [
            ({"container": ""}, "container ID"),
            ({"container": "../x"}, "container ID"),
            ({"container": "a" * 200}, "longer than 128"),
            ({"interface": ""}, "interface name"),
            ({"interface": "a" * 16}, "interface name"),
            ({"interface": "a/b"}, "interface name"),
            ({"network": "pod net"}, "network name"),
            ({"mac": "01:00:00:00:00:00"}, "mac"),
            ({"mac": "nonsense"}, "mac"),
        ],
    )
    def test_is_refused(self, host: Host, runtime: list[str], wish: dict[str, str], words: str) -> None:
        with pytest.raises(UsageError, match=words):
            host.attachments.add(request(runtime[0], **wish))

    def test_a_path_that_is_no_network_namespace_is_refused(self, host: Host, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        for path in ("/run/netns/nobody", str(tmp_path / "file"), "/proc/self/ns/mnt", "/proc/self/ns/net", ""):
            with pytest.raises(NamespaceError):
                host.attachments.add(request(path))
        assert host.attachments.all() == []

    def test_the_same_interface_of_the_same_container_twice_is_refused(self, host: Host, runtime: list[str]) -> None:
        host.attachments.add(request(runtime[0], addresses=(A1,)))
        with pytest.raises(AttachedError):
            host.attachments.add(request(runtime[0]))
        assert pings("", A1)

    def test_an_interface_that_is_there_already_is_left_alone(self, host: Host, runtime: list[str]) -> None:
        inside(runtime[0], "link add eth0 type veth peer name other")
        with pytest.raises(NotOursError, match=f"eth0 in {runtime[0]} exists"):
            host.attachments.add(request(runtime[0]))
        assert "eth0" in inside(runtime[0], "link")
        assert not any(found.startswith("fwy-") for found in leftovers())
        assert host.attachments.all() == []

    def test_a_runtimes_attachment_is_removed_as_a_pod_by_force_only(self, host: Host, runtime: list[str]) -> None:
        host.attachments.add(request(runtime[0]))
        with pytest.raises(UsageError, match="container runtime"):
            host.remove_pod(f"{C1}/eth0")
        host.remove_pod(C1[:6], force=True)
        assert host.attachments.all() == []


DRIFT = {
    "the host route is gone": f"ip route delete {A1}",
    "the neighbour is gone": f"ip neigh delete {A1} dev LINK",
    "the host end is down": "ip link set LINK down",
    "the pod's default route is gone": "ip -n fwt-cni-1 route delete default",
    "the pod's address is gone": f"ip -n fwt-cni-1 addr delete {A1}/32 dev eth0",
    "the pod's end is down": "ip -n fwt-cni-1 link set eth0 down",
    "the link is gone": "ip link delete LINK",
    "the link has another MTU": "ip link set LINK mtu 1300",
    "our chain at the link was flushed": "nft flush chain netdev fairway LINK",
    "the rule set was flushed": "nft flush ruleset",
    "forwarding is off": "sysctl -qw net.ipv4.ip_forward=0",
}


class TestDrift:
    @pytest.mark.parametrize("command", DRIFT.values(), ids=DRIFT.keys())
    def test_is_found_by_the_check_of_all_and_of_the_one_and_repaired(
        self, host: Host, runtime: list[str], command: str
    ) -> None:
        pod = host.attachments.add(request(runtime[0], addresses=(A1,)))
        host.attachments.add(request(runtime[1], C2, addresses=(A2,)))
        assert host.attachments.check(C1, "eth0", runtime[0]) == []
        sh(command.replace("LINK", pod.link))
        assert host.attachments.check(C1, "eth0")
        assert host.check()
        assert host.repair()[1] == []
        assert host.attachments.check(C1, "eth0") == host.check() == []
        assert pings("fwt-cni-2", A1)

    def test_of_one_attachment_is_not_another_ones(self, host: Host, runtime: list[str]) -> None:
        host.attachments.add(request(runtime[0], addresses=(A1,)))
        host.attachments.add(request(runtime[1], C2, addresses=(A2,)))
        sh(f"ip route delete {A1}")
        assert host.attachments.check(C2, "eth0") == []

    def test_what_is_in_the_runtimes_namespace_and_not_ours_is_left_alone(self, host: Host, runtime: list[str]) -> None:
        host.attachments.add(request(runtime[0], addresses=(A1,)))
        inside(runtime[0], "link add net1 type veth peer name net2")
        inside(runtime[0], "addr add 10.9.9.9/24 dev net1")
        inside(runtime[0], "route add 10.77.0.0/16 dev net1 proto 70 || true")
        assert host.check() == []

    def test_a_check_of_an_attachment_says_that_its_namespace_is_gone_or_another(
        self, host: Host, runtime: list[str]
    ) -> None:
        host.attachments.add(request(runtime[0]))
        with pytest.raises(NamespaceError, match="another"):
            host.attachments.check(C1, "eth0", runtime[1])
        sh("ip netns delete fwt-cni-1")
        with pytest.raises(NamespaceError, match="no longer at"):
            host.attachments.check(C1, "eth0")
        with pytest.raises(UsageError, match="no attachment eth1"):
            host.attachments.check(C1, "eth1")


class TestFurtherPlugins:
    def test_may_give_the_pods_end_another_mtu_which_no_repair_takes_back(self, host: Host, runtime: list[str]) -> None:
        pod = host.attachments.add(request(runtime[0]))
        inside(runtime[0], "link set eth0 mtu 1400")
        inside(runtime[0], "addr add 203.0.113.9/32 dev eth0")
        assert host.attachments.check(C1, "eth0") == host.check() == []
        host.repair()
        assert "mtu 1400" in inside(runtime[0], "link show eth0")
        sh(f"ip link set {pod.link} mtu 1300")
        assert host.check()
        host.repair()
        assert host.check() == []

    def test_before_it_may_have_given_the_container_its_default_route(self, host: Host, runtime: list[str]) -> None:
        inside(runtime[0], "link add other type veth peer name far")
        inside(runtime[0], "link set other up")
        inside(runtime[0], "route add default dev other")
        pod = host.attachments.add(request(runtime[0], addresses=(A1,)))
        assert not pod.default_route
        assert inside(runtime[0], "route show default").startswith("default dev other")
        assert host.attachments.check(C1, "eth0") == []


class TestGarbageCollection:
    def test_removes_what_is_not_valid_in_that_network_only(self, host: Host, runtime: list[str]) -> None:
        host.attachments.add(request(runtime[0]))
        kept = host.attachments.add(request(runtime[0], interface="net1", default_route=False))
        other = host.attachments.add(request(runtime[1], C2, network="other"))
        (gone,) = host.attachments.collect([(C1, "net1")], "podnet")
        assert gone.name == f"{C1}/eth0"
        assert host.attachments.all() == [kept, other]

    def test_a_namespace_that_is_gone_frees_its_address_at_the_repair(self, host: Host, runtime: list[str]) -> None:
        host.attachments.add(request(runtime[0], addresses=(A1,)))
        sh("ip netns delete fwt-cni-1")
        while sh("ip -o link").count("fwy-"):
            pass
        host.repair()
        assert host.attachments.all() == []
        assert host.store.addresses.holder(A1) == ""

    def test_another_namespace_at_the_same_path_is_not_touched(self, host: Host, runtime: list[str]) -> None:
        host.attachments.add(request(runtime[0], addresses=(A1,)))
        sh("ip netns delete fwt-cni-1; ip netns add fwt-cni-1")
        while sh("ip -o link").count("fwy-"):
            pass
        host.repair()
        assert "eth0" not in inside(runtime[0], "link")
        assert host.attachments.all() == host.check() == []
        assert host.attachments.add(request(runtime[0], addresses=(A1,)))

    def test_after_a_reboot_the_same_container_gets_an_interface_again(
        self, host: Host, runtime: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pod = host.attachments.add(request(runtime[0], addresses=(A1,)))
        sh(f"ip link delete {pod.link}")
        with host.store.transaction() as database:
            database.execute("UPDATE attachments SET boot = 'an earlier one'")
        assert all(isinstance(each, Delete) for each in host.check()), "path and inode are the same: not the namespace"
        assert host.attachments.add(request(runtime[0], addresses=(A1,))).addresses == (A1,)
        assert pings("", A1)


class TestAccidents:
    def test_killed_at_any_moment_of_attaching_the_next_one_succeeds(self, host: Host, runtime: list[str]) -> None:
        chance = 0
        while run_and_kill(lambda: Host().attachments.add(request(runtime[0], addresses=(A1,))), chance):
            with Host() as other:
                if other.attachments.all():  # killed after the last commit
                    other.attachments.remove(C1, "eth0")
                other.attachments.add(request(runtime[0], addresses=(A1,)))
                assert pings("", A1)
                assert other.check() == []
                other.attachments.remove(C1, "eth0")
                other.wait_removed(f"{C1}/eth0")
            assert leftovers_but_runtime() == []
            chance += 1
        assert chance > 8

    def test_killed_at_any_moment_of_detaching_the_next_one_leaves_nothing(
        self, host: Host, runtime: list[str]
    ) -> None:
        def detach() -> None:
            with Host() as own:
                own.attachments.remove(C1, "eth0")

        chance = 0
        while True:
            with Host() as other:
                other.attachments.add(request(runtime[0], addresses=(A1,)))
            if not run_and_kill(detach, chance):
                break
            with Host() as other:
                other.attachments.remove(C1, "eth0")
                other.repair()  # what all stood on, where the pod was forgotten and the program killed before its end
            assert leftovers_but_runtime() == []
            assert host.store.entries() == []
            chance += 1
        assert chance > 4

    def test_an_operation_that_fails_undoes_the_attachment(self, host: Host, runtime: list[str]) -> None:
        for failing in range(30):
            try:
                with failing_at(failing) as faults, Host() as other:
                    other.attachments.add(request(runtime[0], addresses=(A1,)))
            except FairwayError:
                assert leftovers_but_runtime() == []
                assert "eth0" not in inside(runtime[0], "link")
                assert host.attachments.all() == []
            else:
                break
        assert faults.seen > 8

    def test_a_damaged_state_file_is_rebuilt_from_the_kernel(self, host: Host, runtime: list[str]) -> None:
        host.pools.add(ip_network("10.0.0.0/16"))
        host.pools.add(ip_network("fd00:7::/64"))
        before = [
            host.attachments.add(request(runtime[0])),
            host.attachments.add(request(runtime[1], C2, mac="0a:00:00:00:00:01")),
        ]
        host.store.close()
        host.store.path.write_bytes(b"x" * 5000)
        with Host() as other:
            assert other.corrupt is not None
            assert other.attachments.all() == before
            assert other.check() == []
            assert [str(pool.block) for pool in other.pools.all()] == ["10.0.0.0/16", "fd00:7::/64"]
            other.attachments.remove(C1, "eth0")

    def test_what_the_state_file_does_not_know_is_removed_by_its_mark(self, host: Host, runtime: list[str]) -> None:
        host.attachments.add(request(runtime[0], addresses=(A1,)))
        host.store.delete(f"{C1}/eth0")
        assert host.attachments.remove(C1, "eth0")
        assert "eth0" not in inside(runtime[0], "link")


class Clock:
    """Stands for `time`: a sleep moves it on at once; while it `stands`, a sleep is one and no time passes."""

    def __init__(self) -> None:
        self.now_s, self.sleeps, self.stands = 0.0, 0, False

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.sleeps += 1
        if self.stands:
            time.sleep(seconds)
        else:
            self.now_s += seconds


class TestReadiness:
    def test_both_ends_hand_packets_on_when_attach_returns(self, host: Host, runtime: list[str]) -> None:
        for _ in range(10):
            pod = host.attachments.add(request(runtime[0]))
            outer, inner = sh(f"ip -o link show {pod.link}"), inside(runtime[0], "-o link")
            assert "qdisc noop " not in outer + inner
            host.attachments.remove(C1, "eth0")
            host.wait_removed(f"{C1}/eth0")

    def test_it_is_the_kernels_queue_that_is_waited_for_and_not_for_ever(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = Clock()
        monkeypatch.setattr("fairway.net.kernel.kernel.time", clock)
        sh("ip link add fwt-a type veth peer name fwt-b")
        kernel = Kernel()
        try:
            kernel.wait_transmits("", "fwt-a")  # it is down, and drops everything
            assert 0.9 < clock.now_s < 1.1
            sh("ip link set fwt-a up; ip link set fwt-b up")
            clock.stands = True
            kernel.wait_transmits("", "fwt-a")
            assert "qdisc noop " not in sh("ip -o link show fwt-a")
            looks = clock.sleeps
            kernel.wait_transmits("", "fwt-a")
            assert clock.sleeps == looks
        finally:
            kernel.close()
            sh("ip link del fwt-a")
