"""Hosts whose agents tell each other their routes: real namespaces, real kernels, real packets."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from peer_net import PeerNet, until

from fairway.net.host import Host


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
    return {node.name: str(node.add_pod("demo").addresses[0]) for node in net.nodes}


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
    until(lambda: all(node.learned().get("10.0.77.5") == net.nodes[0].address for node in net.nodes[1:]), 2.0)
    assert net.nodes[1].pings("demo", "10.0.77.5")
    net.nodes[0].remove_pod("guest")
    until(lambda: not any("10.0.77.5" in node.learned() for node in net.nodes), 2.0)


def test_when_an_agent_is_killed_traffic_goes_on_and_when_it_is_back_nothing_has_changed(net: PeerNet) -> None:
    net.start(restart_s=3.0)
    pods = _with_pods(net)
    until(net.blocks_known)
    net.nodes[1].kill()
    time.sleep(1.5)
    assert _all_pairs(net, pods) == []
    state = {peer["node"]: peer["state"] for peer in net.nodes[0].ask("peers")}
    assert state["node02"] == "restarting"
    net.nodes[1].start(restart_s=3.0)
    net.nodes[1].ready()
    until(lambda: all(peer["state"] == "up" and not peer["stale"] for peer in net.nodes[0].ask("peers")))
    time.sleep(3.5)  # what was kept for so long would go now
    assert net.blocks_known()
    assert _all_pairs(net, pods) == []


def test_routes_of_an_agent_that_does_not_come_back_go_after_the_limit(net: PeerNet) -> None:
    net.start(restart_s=2.0)
    until(net.blocks_known)
    gone = net.nodes[2]
    gone.kill()
    time.sleep(1.5)
    assert str(gone.block) in net.nodes[0].learned()
    until(lambda: not any(str(gone.block) in node.learned() for node in net.nodes[:2]), 3.0)
    gone.start()
    gone.ready()
    until(net.blocks_known)


def test_routes_of_a_host_that_is_dead_go_within_a_second(net: PeerNet) -> None:
    net.start()
    until(net.blocks_known)
    gone = net.nodes[2]
    gone.cut_off()
    took_s = until(lambda: not any(str(gone.block) in node.learned() for node in net.nodes[:2]), 3.0)
    assert took_s < 1.25
    gone.plug_in()
    assert until(net.blocks_known, 5.0) < 3.0


def test_what_was_learned_outlives_a_restart_of_who_learned_it(net: PeerNet) -> None:
    net.start(restart_s=3.0)
    pods = _with_pods(net)
    until(net.blocks_known)
    for node in net.nodes:
        node.kill()
    assert _all_pairs(net, pods) == []
    net.nodes[0].start(restart_s=3.0)
    net.nodes[0].ready()
    time.sleep(1.0)
    assert str(net.nodes[1].block) in net.nodes[0].learned()
    until(lambda: not net.nodes[0].learned(), 4.0)  # nobody has said it again


def test_learned_routes_are_no_drift_and_are_repaired(net: PeerNet) -> None:
    net.start()
    _with_pods(net)
    until(net.blocks_known)
    node = net.nodes[0]
    with node.host() as host:
        assert host.check() == []
        assert host.routes.all() == []
        for destination in list(node.learned()):
            _ip_route_delete(node.namespace, destination)
        assert len(host.check()) == 2
        assert host.repair()[1] == []
    assert net.blocks_known()


def _ip_route_delete(namespace: str, destination: str) -> None:
    import subprocess

    subprocess.run(["ip", "-n", namespace, "route", "delete", destination], check=True)


def test_a_route_that_a_person_wrote_comes_first_and_the_learned_one_is_left_when_it_goes(net: PeerNet) -> None:
    from fairway.net.model.pod import StaticRoute, parse_address

    net.start()
    until(net.blocks_known)
    block, elsewhere = net.nodes[1].block, net.nodes[2].address
    with net.nodes[0].host() as host:
        host.routes.add(StaticRoute(block, parse_address(elsewhere)))
        assert host.way_to(block[9]) == ("eth0", parse_address(elsewhere))
        assert host.check() == []
        host.routes.remove(block)
        assert host.way_to(block[9]) == ("eth0", parse_address(net.nodes[1].address))


def test_who_leaves_is_forgotten_and_forgets(net: PeerNet) -> None:
    net.start()
    until(net.blocks_known)
    net.nodes[2].stop("leave")
    until(lambda: not any(str(net.nodes[2].block) in node.learned() for node in net.nodes[:2]), 1.0)
    assert net.nodes[2].learned() == {}


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
