"""Hosts whose agents tell each other their routes: real namespaces, real kernels, real packets."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from peer_net import Node, PeerNet, ip, until

from fairway.net.enrolment.certificate import issue
from fairway.net.host import Host
from fairway.net.model.errors import FairwayError
from fairway.net.model.permit import Permit


@pytest.fixture
def net(tmp_path: Path) -> Iterator[PeerNet]:
    net = PeerNet(tmp_path, 3)
    yield net
    for node in net.nodes:
        print(node.name, node.log.read_text() if node.log.exists() else "")
    net.close()


def _all_pairs(net: PeerNet, pods: dict[str, str]) -> list[str]:
    """The pairs of pods, by their hosts, that cannot reach each other."""
    return [
        f"{node.name} {target}"
        for node in net.nodes
        for name, target in pods.items()
        if name != node.name and not node.pings("demo", target)
    ]


def _with_pods(net: PeerNet) -> dict[str, str]:
    return {node.name: node.add_pod("demo") for node in net.nodes}


def test_pods_reach_each_other_without_a_typed_route(net: PeerNet) -> None:
    net.start()
    pods = _with_pods(net)
    until(net.blocks_known)
    assert _all_pairs(net, pods) == []


def test_a_pod_outside_its_hosts_block_is_told_and_withdrawn(net: PeerNet) -> None:
    net.start()
    _with_pods(net)
    until(net.blocks_known)
    net.nodes[0].add_pod("guest", "10.0.77.5")
    until(lambda: all(node.learned().get("10.0.77.5") == net.nodes[0].address for node in net.nodes[1:]))
    assert net.nodes[1].pings("demo", "10.0.77.5")
    net.nodes[0].remove_pod("guest")
    until(lambda: not any("10.0.77.5" in node.learned() for node in net.nodes))


def test_a_pod_that_moved_is_announced_with_its_version_after_a_restart(net: PeerNet) -> None:
    net.start()
    until(net.blocks_known)
    first, second, other = net.nodes
    first.add_pod("guest", "10.0.77.5")
    until(lambda: "10.0.77.5" in second.learned())
    second.add_pod("guest", "10.0.77.5")  # the first node still announces it: the second comes before it by a version
    until(lambda: _version(other, "10.0.77.5", second) == 1)
    second.kill()
    until(lambda: _version(other, "10.0.77.5", second) is None)
    second.start()
    heard: list[int | None] = []
    until(lambda: heard.append(_version(other, "10.0.77.5", second)) or heard[-1] is not None, 30.0)
    assert heard[-1] == 1
    assert other.learned()["10.0.77.5"] == second.address
    second.ready()
    second.remove_pod("guest")
    until(lambda: other.learned().get("10.0.77.5") == first.address)
    until(lambda: _kept_versions(second) == {})
    second.add_pod("guest", "10.0.77.5")
    until(lambda: _version(other, "10.0.77.5", second) == 1)


def _version(node: Node, prefix: str, announcer: Node) -> int | None:
    """What `node` holds of the announcer's word on `prefix`, unless that is of a life before."""
    for route in node.call("routes.ls")["routes"]:
        if (route["prefix"].removesuffix("/32"), route["node"], route["stale"]) == (prefix, announcer.name, False):
            return int(route["version"])
    return None


def _kept_versions(node: Node) -> dict[object, int]:
    with node.host() as host:
        return dict(host.store.own_versions())


class Witness:
    """What a host tells of its pods, and what its kernel had and its store said at that moment."""

    def __init__(self, node: Node, host: Host) -> None:
        self.told: list[tuple[str, list[str], bool, bool]] = []
        self.foretold: list[tuple[str, list[str], bool]] = []
        self._node = node
        self._host = host
        host.watch_pods(self._tell, self._foretell)

    def _foretell(self, name: str, addresses: tuple[object, ...]) -> None:
        self.foretold.append((name, list(map(str, addresses)), self._node.has_route("10.0.77.5")))

    def _tell(self, name: str, addresses: tuple[object, ...]) -> None:
        present = name in [pod.name for pod in self._host.pods()]
        self.told.append((name, list(map(str, addresses)), self._node.has_route("10.0.77.5"), present))


def test_a_pod_is_told_when_its_route_is_there_and_before_that_goes(net: PeerNet) -> None:
    with net.nodes[0].host() as host:
        witness = Witness(net.nodes[0], host)
        host.add_pod("guest", [ip_address("10.0.77.5")])
        assert witness.told == [("guest", ["10.0.77.5"], True, False)], "the disk need not know yet"
        host.remove_pod("guest")
        assert witness.told[1:] == [("guest", [], True, False)]


def test_a_pod_is_foretold_before_anything_of_it_is_there(net: PeerNet) -> None:
    with net.nodes[0].host() as host:
        witness = Witness(net.nodes[0], host)
        host.add_pod("guest", [ip_address("10.0.77.5")])
        host.remove_pod("guest")
        assert witness.foretold == [("guest", ["10.0.77.5"], False)]


def test_others_hear_of_a_pod_while_it_is_made_and_that_it_could_not_be(net: PeerNet) -> None:
    net.start()
    until(net.blocks_known)
    first, second, _ = net.nodes
    before = _changes(second, first)
    with _in_the_way(first, "guest"), pytest.raises(FairwayError, match="is not Fairway's"):
        first.add_pod("guest", "10.0.77.5")
    until(lambda: _changes(second, first) == before + 2)  # announced, and withdrawn
    until(lambda: not any("10.0.77.5" in node.learned() for node in net.nodes))


def test_a_pod_that_another_host_has_is_not_announced_before_it_is_here(net: PeerNet) -> None:
    net.start()
    until(net.blocks_known)
    first, second, other = net.nodes
    first.add_pod("guest", "10.0.77.5")
    until(lambda: "10.0.77.5" in second.learned() and "10.0.77.5" in other.learned())
    before = _changes(other, second)
    second.call("pool.add", network=str(first.block))
    for address in ("10.0.77.5", str(first.block[9])):
        with _in_the_way(second, "guest"), pytest.raises(FairwayError, match="is not Fairway's"):
            second.add_pod("guest", address)
    second.add_pod("later", "10.0.77.6")
    until(lambda: "10.0.77.6" in other.learned())
    assert _changes(other, second) == before + 1


def _changes(node: Node, announcer: Node) -> int:
    """How many announcements and withdrawals of the other `node` has taken in."""
    return int(node.peers()[announcer.name]["counters"]["changes"])


@contextlib.contextmanager
def _in_the_way(node: Node, pod: str) -> Iterator[None]:
    """A namespace of somebody else's, where the pod's would be."""
    ip("netns", "add", f"{node.name}-{pod}")
    yield
    ip("netns", "delete", f"{node.name}-{pod}")


def test_a_pod_that_is_undone_is_told_as_gone(net: PeerNet, monkeypatch: pytest.MonkeyPatch) -> None:
    with net.nodes[0].host() as host:
        witness = Witness(net.nodes[0], host)
        monkeypatch.setattr(host.store, "finish", _full)
        with pytest.raises(FairwayError, match="full"):
            host.add_pod("guest", [ip_address("10.0.77.5")])
        assert [told[:2] for told in witness.told] == [("guest", ["10.0.77.5"]), ("guest", [])]
        assert host.pods() == []


def _full(name: str, result: str) -> None:
    raise FairwayError("the disk is full")


def test_when_an_agent_is_killed_traffic_goes_on_and_when_it_is_back_nothing_has_changed(net: PeerNet) -> None:
    net.start(restart_s=8.0)
    pods = _with_pods(net)
    until(net.blocks_known)
    net.nodes[1].kill()
    until(lambda: net.nodes[0].peers()["node02"]["state"] == "restarting")
    assert _all_pairs(net, pods) == []
    net.nodes[1].start(restart_s=8.0)
    net.nodes[1].ready()
    until(lambda: all(peer["state"] == "up" and not peer["stale"] for peer in net.nodes[0].peers().values()))
    time.sleep(8.5)  # what was kept for so long would go now
    assert net.blocks_known()
    assert _all_pairs(net, pods) == []


def test_routes_of_an_agent_that_does_not_come_back_go_after_the_limit(net: PeerNet) -> None:
    net.start(restart_s=4.0)
    until(net.blocks_known)
    gone = net.nodes[2]
    gone.kill()
    until(lambda: net.nodes[0].peers()["node03"]["state"] == "restarting")
    assert str(gone.block) in net.nodes[0].learned()
    until(lambda: not any(str(gone.block) in node.learned() for node in net.nodes[:2]))
    gone.start()
    gone.ready()
    until(net.blocks_known)


def test_routes_of_a_host_that_is_dead_are_not_kept_as_for_a_restart(net: PeerNet) -> None:
    net.start()
    until(net.blocks_known)
    gone = net.nodes[2]
    gone.cut_off()
    until(lambda: not any(str(gone.block) in node.learned() for node in net.nodes[:2]))
    gone.plug_in()
    until(net.blocks_known)


def test_a_busy_agent_costs_no_route(net: PeerNet) -> None:
    net.start()
    until(net.blocks_known)
    busy = net.nodes[2]
    assert busy.process is not None
    busy.process.send_signal(signal.SIGSTOP)
    try:
        for _ in range(20):
            time.sleep(0.1)
            assert net.blocks_known()
    finally:
        busy.process.send_signal(signal.SIGCONT)
    until(lambda: all(peer["state"] == "up" for peer in net.nodes[0].peers().values()))


def test_what_was_learned_outlives_a_restart_of_who_learned_it(net: PeerNet) -> None:
    net.start(restart_s=6.0)
    pods = _with_pods(net)
    until(net.blocks_known)
    time.sleep(0.5)  # what is in the kernel is on the disk a little later
    for node in net.nodes:
        node.kill()
    assert _all_pairs(net, pods) == []
    net.nodes[0].start(restart_s=6.0)
    net.nodes[0].ready()
    time.sleep(1.0)
    assert str(net.nodes[1].block) in net.nodes[0].learned()
    until(lambda: not net.nodes[0].learned())  # nobody has said it again


def test_learned_routes_are_no_drift_and_are_repaired(net: PeerNet) -> None:
    net.start()
    _with_pods(net)
    until(net.blocks_known)
    node = net.nodes[0]
    assert node.call("check")["drift"] == []
    assert node.call("route.ls") == {"routes": []}
    for destination in list(node.learned()):
        ip("-n", node.namespace, "route", "delete", destination)
    until(net.blocks_known)


def test_a_route_that_a_person_wrote_comes_first_and_the_learned_one_is_left_when_it_goes(net: PeerNet) -> None:
    net.start()
    until(net.blocks_known)
    node, block, elsewhere = net.nodes[0], net.nodes[1].block, net.nodes[2].address
    node.call("route.add", destination=str(block), via=elsewhere)
    assert node.way_to(block[9]) == elsewhere
    assert node.call("check")["drift"] == []
    node.call("route.rm", destination=str(block))
    assert node.way_to(block[9]) == net.nodes[1].address


def test_an_agent_that_stops_in_order_is_waited_for(net: PeerNet) -> None:
    net.start()
    until(net.blocks_known)
    net.nodes[2].stop()
    until(lambda: net.nodes[0].peers()["node03"]["state"] == "restarting")
    assert net.blocks_known()


def test_what_routes_and_peers_say_is_what_is(net: PeerNet) -> None:
    net.start()
    until(net.blocks_known)
    net.nodes[1].add_pod("guest", "10.0.77.5")
    until(lambda: "10.0.77.5" in net.nodes[0].learned())
    routes = {route["prefix"]: route for route in net.nodes[0].call("routes.ls")["routes"]}
    assert routes["10.0.77.5/32"]["node"] == "node02"
    assert routes["10.0.77.5/32"]["in_kernel"] is True
    assert routes[str(net.nodes[0].block)]["own"] is True
    peer = net.nodes[0].peers()["node02"]
    assert peer["address"] == net.nodes[1].address
    assert peer["routes"] == 2
    assert peer["rtt_ms"] > 0
    assert net.nodes[0].call("check") == {
        "drift": [],
        "failures": [],
        "repaired": False,
        "conflicts": [],
        "routers": [],
    }


def test_overlapping_blocks_are_said_on_both_sides(net: PeerNet) -> None:
    first, second = net.nodes[:2]
    credentials = second.membership.credentials()
    wide = Permit(second.name, (first.block.supernet(),), (), 7)
    key = first.authority._key()
    forged = issue(credentials.authority, key, wide, credentials.key.public_key(), datetime.now(UTC))
    pem = second.membership.directory / "node.pem"
    pem.write_bytes(pem.read_bytes().split(b"-----BEGIN CERTIFICATE")[0] + forged.public_bytes(Encoding.PEM))
    net.start()
    words = [f"{wide.blocks[0]} of node02 overlaps {first.block} of node01"]
    until(lambda: first.call("check")["conflicts"] == words)
    until(lambda: second.call("check")["conflicts"] == words)
    assert str(wide.blocks[0]) not in first.learned()


def test_a_damaged_state_file_does_not_make_learned_routes_into_written_ones(net: PeerNet) -> None:
    net.start()
    until(net.blocks_known)
    node = net.nodes[0]
    node.kill()
    (node.state / "state.db").write_bytes(b"not a database, " * 100)
    for suffix in ("-wal", "-shm"):
        (node.state / f"state.db{suffix}").unlink(missing_ok=True)
    with node.host() as host:
        assert isinstance(host, Host)
        assert host.routes.all() == []


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[PeerNet]:
    """Two hosts on links of their own, and a router between them that knows only these links."""
    net = PeerNet(tmp_path, 1)
    ip("link", "add", "far", "type", "bridge")
    ip("link", "set", "far", "up")
    net.nodes.append(Node(tmp_path, 2, net.nodes[0], "far", "100.101"))
    ip("netns", "add", "router")
    ip("netns", "exec", "router", "sysctl", "-qw", "net.ipv4.ip_forward=1")
    for number, (node, bridge) in enumerate(zip(net.nodes, (net.bridge, "far"), strict=True)):
        address = f"100.10{number}.255.254"
        ip("link", "add", f"router{number}", "type", "veth", "peer", "name", f"eth{number}", "netns", "router")
        ip("link", "set", f"router{number}", "master", bridge, "up")
        ip("-n", "router", "addr", "add", f"{address}/16", "dev", f"eth{number}")
        ip("-n", "router", "link", "set", f"eth{number}", "up")
        ip("-n", node.namespace, "route", "add", "default", "via", address)
    yield net
    for node in net.nodes:
        print(node.name, node.log.read_text() if node.log.exists() else "")
    net.close()
    for number in range(2):
        ip("link", "delete", f"router{number}")
    ip("netns", "delete", "router")
    ip("link", "delete", "far")


def test_through_a_router_pods_are_reached_once_it_knows_them_and_check_says_what_it_needs(apart: PeerNet) -> None:
    apart.start()
    first, second = apart.nodes
    pods = {node.name: node.add_pod("demo") for node in apart.nodes}
    until(lambda: first.learned().get(str(second.block)) == "100.100.255.254")
    assert not first.pings("demo", pods["node02"])
    (need,) = first.call("check")["routers"]
    assert need == {
        "router": "100.100.255.254",
        "destination": str(second.block),
        "via": second.address,
        "node": "node02",
        "confirmed": False,
    }
    for node in apart.nodes:
        ip("-n", "router", "route", "add", str(node.block), "via", node.address)
    assert first.pings("demo", pods["node02"])
    assert [need["confirmed"] for need in first.call("check")["routers"]] == [True]


def test_a_host_whose_address_changes_keeps_its_peers_and_is_followed(net: PeerNet) -> None:
    net.start(addresses=[])
    until(net.blocks_known)
    node, other = net.nodes[0], net.nodes[1]
    begun = other.peers()["node01"]["counters"]["sessions"]
    ip("-n", node.namespace, "addr", "add", "100.100.9.9/15", "dev", "eth0")
    ip("-n", node.namespace, "addr", "del", f"{node.address}/16", "dev", "eth0")
    until(lambda: other.learned().get(str(node.block)) == "100.100.9.9")
    assert str(other.block) in node.learned()
    assert other.peers()["node01"]["counters"]["sessions"] <= begun + 1
