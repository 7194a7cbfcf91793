"""The agent as a process: its socket, what it repairs, and that the pods go on without it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from agents import COMMAND, RunningAgent, running, until
from test_host import A1, A2, clear, home, leftovers, pings, sh  # noqa: F401 - home is a fixture

from fairway.net.agent.client import Client
from fairway.net.agent.protocol import AnswerError
from fairway.net.agent.suspicion import Suspicion
from fairway.net.host import Host, Scope
from fairway.net.kernel.events import OverrunError
from fairway.net.model.errors import FairwayError, UsageError
from fairway.net.model.pod import LearnedRoute

CONTAINER = "3f2a9c81d0e4" * 5


@pytest.fixture
def place(home: str, own_state: Path, tmp_path: Path) -> Iterator[Path]:  # noqa: F811
    """Where an agent may live; no pod is left behind."""
    sh("ip netns add fwt-cni-1; ip netns add fwt-cni-2")
    yield tmp_path
    with Host() as host:
        host.attachments.collect([])
    clear()
    sh("ip netns delete fwt-cni-1; ip netns delete fwt-cni-2")


@pytest.fixture
def agent(place: Path) -> Iterator[RunningAgent]:
    with running(place) as agent:
        yield agent


def attach(agent: RunningAgent, number: int = 1, **wishes: Any) -> dict[str, Any]:
    arguments = {"container": CONTAINER, "namespace": f"/run/netns/fwt-cni-{number}", "network": "net"} | wishes
    return agent.call("attach", **arguments)["pod"]


def fairway(agent: RunningAgent | None, *arguments: str, code: int = 0) -> str:
    socket_path = str(agent.socket) if agent is not None else "/nowhere"
    environment = os.environ | {"FAIRWAY_SOCKET": socket_path}
    found = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, env=environment)
    assert found.returncode == code, found
    return found.stdout + found.stderr


class TestItsCalls:
    def test_a_pod_is_added_listed_shown_and_removed(self, agent: RunningAgent) -> None:
        added = agent.call("pod.add", name="demo01", addresses=[str(A1)])["pod"]
        assert pings("", A1)
        assert agent.call("pod.ls") == {"pods": [added]}
        assert agent.call("pod.show", name="demo01") == {"pod": added}
        assert agent.call("pod.rm", names=["demo01"]) == {"removed": ["demo01"]}
        assert agent.call("pod.ls") == {"pods": []}

    def test_a_container_is_attached_checked_and_detached(self, agent: RunningAgent) -> None:
        pod = attach(agent, addresses=[str(A1)], mac="0a:00:00:00:00:07")
        assert pings("", A1)
        assert pod["attachment"]["mac"] == "0a:00:00:00:00:07"
        assert agent.call("check_attachment", container=CONTAINER)["drift"] == []
        assert agent.call("detach", container=CONTAINER) == {"detached": True}
        assert "eth0" not in sh("ip -n fwt-cni-1 link"), "it answers when the interface is gone"
        assert agent.call("detach", container=CONTAINER) == {"detached": False}

    def test_what_is_not_valid_is_collected(self, agent: RunningAgent) -> None:
        attach(agent)
        kept = attach(agent, 2, container="kept")
        found = agent.call("collect", valid=[["kept", "eth0"]], network="net")
        assert found == {"removed": [f"{CONTAINER}/eth0"]}
        assert agent.call("pod.ls") == {"pods": [kept]}

    def test_an_error_has_the_same_words_and_class_as_without_an_agent(self, agent: RunningAgent) -> None:
        with pytest.raises(UsageError, match="there is no pool called 'x'"):
            agent.call("pod.add", name="demo01", pools=["x"])
        with pytest.raises(FairwayError, match="there is no route of ours"):
            agent.call("route.rm", destination="10.9.0.0/24")

    def test_the_commands_print_the_same_with_it_and_without(self, agent: RunningAgent) -> None:
        def session(who: RunningAgent | None) -> list[str]:
            shown = [
                fairway(who, "pool", "add", "10.7.0.0/24", "--name", "main"),
                fairway(who, "pod", "add", "demo01", "--address", "10.7.0.9"),
                fairway(who, "pod", "add", "demo01", code=2),
                fairway(who, "pod", "ls"),
                fairway(who, "pod", "show", "demo01", "--json"),
                fairway(who, "route", "add", "10.3.0.0/24", "--via", "192.0.2.9"),
                fairway(who, "route", "add", "10.3.0.0/24", "--via", "fd00::9", code=2),
                fairway(who, "route", "ls", "--json"),
                fairway(who, "pool", "ls", "--json"),
                fairway(who, "check"),
                fairway(who, "check", "--repair", "--json"),
                fairway(who, "exec", "demo01", "--", "true"),
                fairway(who, "pod", "rm", "demo01"),
                fairway(who, "route", "rm", "10.3.0.0/24"),
            ]
            return [*shown, fairway(who, "pool", "rm", "10.7.0.0/24")]

        assert session(agent) == session(None)

    def test_its_status_is_shown(self, agent: RunningAgent) -> None:
        attach(agent)
        shown = fairway(agent, "status")
        assert f"pid {agent.process.pid}, ready" in shown
        assert "1, 1 of them a runtime's" in shown
        assert json.loads(fairway(agent, "status", "--json"))["agent"]["ready"]
        assert "none runs" in fairway(None, "status")

    def test_whether_foreign_chains_are_left_is_its_own_to_say(self, place: Path, agent: RunningAgent) -> None:
        assert "leave_foreign_chains = true" in fairway(agent, "check", "--leave-foreign-chains", code=2)
        agent.stop()
        with running(place, "leave_foreign_chains = true") as other:
            assert fairway(other, "check", "--leave-foreign-chains").startswith("all is as it should be")


DRIFT = {
    "the rule set is flushed": "nft flush ruleset",
    "a pod's link is set down": "ip link set fwy-demo01 down",
    "a pod's route is deleted": f"ip route delete {A1}",
    "the gateway's address is deleted": "ip address delete 169.254.1.1/32 dev lo",
    "FORWARD is set to DROP": "nft add table ip filter; nft 'add chain ip filter FORWARD "
    "{ type filter hook forward priority 0; policy drop; }'",
    "forwarding is switched off": "sysctl -qw net.ipv4.ip_forward=0",
    "a pod's neighbour entry is deleted": f"ip neighbour delete {A1} dev fwy-demo01",
    "a pod's neighbour entry is changed": f"ip neighbour replace {A1} dev fwy-demo01 lladdr 02:00:00:00:00:09",
    "a pod's chain is deleted": "nft 'flush chain netdev fairway fwy-demo01; delete chain netdev fairway fwy-demo01'",
    "a pod may send from another's address": f"nft 'add element netdev fairway sources4 {{ \"fwy-demo01\" . {A2} }}'",
    "a link that is gone may send": "nft 'add element netdev fairway sources4 { 4711 . 10.0.9.9 }'",
    "a pod's link is deleted": "ip link delete fwy-demo01",
    "a pod's own end is set down": "ip -n demo01 link set eth0 down",
    "iptables-legacy drops": "iptables-legacy -P FORWARD DROP",
}


class TestDrift:
    @pytest.fixture(autouse=True)
    def without_other_programs_rules(self) -> Iterator[None]:
        yield
        sh("iptables-legacy -P FORWARD ACCEPT; nft delete table ip filter || true")

    @pytest.mark.parametrize("command", DRIFT.values(), ids=DRIFT.keys())
    def test_is_repaired_within_five_seconds_and_said(self, place: Path, command: str) -> None:
        with running(place, "[repair]\nsettings_every_s = 0.5") as agent:
            agent.call("pod.add", name="demo01", addresses=[str(A1)])
            agent.call("pod.add", name="demo02", addresses=[str(A2)])
            sh(command)
            until(lambda: agent.said("repaired"))
            until(lambda: agent.call("check")["drift"] == [])
            assert pings("demo02", A1)
            assert agent.call("status")["agent"]["repaired"]
            agent.call("pod.rm", names=["demo01", "demo02"])

    @pytest.mark.parametrize("setting", ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"])
    def test_forwarding_is_not_waited_for(self, place: Path, setting: str) -> None:
        with running(place, "[repair]\nsettings_every_s = 3600\nevery_s = 3600") as agent:
            for network in (f"{A1}/32", "fd00:10::/64"):
                agent.call("pool.add", network=network)
            agent.call("pod.add", name="demo01", addresses=[str(A1), "fd00:10::1"])
            sh(f"sysctl -qw {setting}=0")
            until(lambda: agent.said("repaired"))
            assert sh(f"sysctl -n {setting}").strip() == "1"
            assert [said["what"] for said in agent.said("repaired")] == [f"the setting {setting} is 0, and should be 1"]
            agent.call("pod.rm", names=["demo01"])

    def test_in_iptables_legacy_is_seen_whoever_put_it_right_the_last_time(self, place: Path) -> None:
        with running(place, "[repair]\nsettings_every_s = 1\nevery_s = 3600") as agent:
            agent.call("pod.add", name="demo01", addresses=[str(A1)])
            sh("iptables-legacy -P FORWARD DROP")
            until(lambda: agent.said("repaired"))
            select.select([], [], [], 1.5)  # the agent has looked again, and all was right
            for command in ("-F FORWARD", "-P FORWARD ACCEPT", "-P FORWARD DROP"):  # between two looks of the agent's
                sh(f"iptables-legacy {command}")
            until(lambda: len(agent.said("repaired")) > 2)
            assert agent.call("check")["drift"] == []
            agent.call("pod.rm", names=["demo01"])

    def test_names_the_program_that_did_it(self, agent: RunningAgent) -> None:
        agent.call("pod.add", name="demo01")
        sh("nft flush ruleset")
        until(lambda: agent.said("repaired"))
        assert all(said["who"].startswith("nft (pid ") for said in agent.said("repaired"))

    def test_is_only_said_where_it_is_not_to_be_repaired(self, place: Path) -> None:
        with running(place, "[repair]\nenabled = false") as agent:
            agent.call("pod.add", name="demo01", addresses=[str(A1)])
            sh(f"ip route delete {A1}")
            until(lambda: agent.said("drift"))
            assert sh(f"ip route show {A1}") == ""
            assert agent.call("repair")["repaired"]
            agent.call("pod.rm", names=["demo01"])

    def test_of_policies_is_repaired(self, agent: RunningAgent, tmp_path: Path) -> None:
        agent.call("pod.add", name="demo01", addresses=[str(A1)])
        agent.call("pod.add", name="demo02", addresses=[str(A2)])
        policy = {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "nobody", "namespace": "default"},
            "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
        }
        (tmp_path / "policy.yaml").write_text(json.dumps(policy))
        assert "nobody applied" in fairway(agent, "policy", "apply", str(tmp_path / "policy.yaml"))
        assert not pings("demo02", A1)
        sh("nft flush ruleset")
        until(lambda: agent.call("check")["drift"] == [])
        assert not pings("demo02", A1)
        assert "only what is allowed by default/nobody" in fairway(agent, "policy", "of", "demo01")
        fairway(agent, "policy", "rm", "nobody")
        assert pings("demo02", A1)
        agent.call("pod.rm", names=["demo01", "demo02"])

    def test_in_a_pods_namespace_is_found_by_the_look_at_everything(self, place: Path) -> None:
        with running(place, "[repair]\nevery_s = 0.5") as agent:
            attach(agent, addresses=[str(A1)])
            sh("ip -n fwt-cni-1 route delete default")
            until(lambda: "default" in sh("ip -n fwt-cni-1 route"))
            agent.call("detach", container=CONTAINER)

    def test_that_cannot_be_repaired_is_said_once_and_holds_up_nothing(self, place: Path) -> None:
        with running(place, "[repair]\nevery_s = 0.3") as agent:
            agent.call("pod.add", name="demo01", addresses=[str(A1)])
            agent.call("pod.add", name="demo02", addresses=[str(A2)])
            sh(f"ip route replace {A1} dev eth0; ip route delete {A2}")
            until(lambda: sh(f"ip route show {A2}"))
            until(lambda: agent.call("status")["agent"]["looks"] > 3)
            (said,) = agent.said("not repaired")
            assert "is not Fairway's" in said["why"]
            sh(f"ip route delete {A1}")
            until(lambda: "fwy-demo01" in sh(f"ip route show {A1}"))

    def test_is_not_what_the_agent_itself_does(self, agent: RunningAgent) -> None:
        for _ in range(5):
            attach(agent)
            agent.call("pod.add", name="demo01")
            agent.call("pod.rm", names=["demo01"])
            agent.call("detach", container=CONTAINER)
        assert agent.said("repaired") == agent.said("not repaired") == []
        assert agent.call("status")["agent"]["repaired"] == {}

    def test_that_somebody_makes_again_at_once_keeps_neither_busy(self, agent: RunningAgent) -> None:
        agent.call("pod.add", name="demo01", addresses=[str(A1)])
        fight = f"end=$(($(date +%s) + 5)); while [ $(date +%s) -lt $end ]; do ip route delete {A1} 2>&-; done"
        subprocess.run(["sh", "-c", fight])
        assert 5 < len(agent.said("repaired")) < 40
        until(lambda: sh(f"ip route show {A1}"))

    def test_is_found_though_the_kernels_messages_were_lost(self, agent: RunningAgent, tmp_path: Path) -> None:
        agent.call("pod.add", name="demo01", addresses=[str(A1)])
        agent.process.send_signal(signal.SIGSTOP)
        for verb in ("add", "delete"):
            (tmp_path / "batch").write_text(
                "".join(f"route {verb} 11.{n // 250}.{n % 250}.0/24 dev eth0\n" for n in range(12_000))
            )
            sh(f"ip -batch {tmp_path / 'batch'}")
        sh(f"ip route delete {A1}")
        agent.process.send_signal(signal.SIGCONT)
        until(lambda: sh(f"ip route show {A1}"))
        until(lambda: agent.said("overrun"))
        assert agent.call("status")["agent"]["overruns"] == 1

    def test_an_interface_that_is_left_over_is_taken_away_by_the_look_at_everything(self, place: Path) -> None:
        with running(place, "[repair]\nevery_s = 0.5") as agent:
            agent.call("pod.add", name="demo01", addresses=[str(A1)])
            with Host(agent.state) as other:
                other.store.delete("demo01")
            until(lambda: "fwy-demo01" not in sh("ip link"))
            until(lambda: not Path("/run/netns/demo01").exists())


class TestTheKernelsMessages:
    def test_that_do_not_fit_into_the_queue_are_an_overrun(self, home: str, own_state: Path) -> None:  # noqa: F811
        with Host() as host:
            events = host._kernel.events(queue=4096)
            for number in range(200):
                sh(f"ip route add 11.0.{number}.0/24 dev eth0")
            with pytest.raises(OverrunError):
                events.read()
            while True:
                try:
                    events.read()
                    break
                except OverrunError:
                    continue
            sh("ip route delete 11.0.0.0/24")
            (event,) = events.read()
            assert (event.kind, event.gone, str(event.network)) == ("route", True, "11.0.0.0/24")
            events.close()

    def test_are_no_reason_to_look_at_a_pod_that_this_process_has_made(self, home: str, own_state: Path) -> None:  # noqa: F811
        with Host() as host:
            host.add_pod("demo01", addresses=[A1])  # and what pods stand on
            events, suspicion, told = host.events(), Suspicion(), 0
            pod = host.add_pod("demo02", addresses=[A2])
            while select.select(events.filenos(), [], [], 0.5)[0]:
                told += len(suspicion.add(events.read()))
            assert told
            assert suspicion.scope(frozenset({pod.link})) == Scope()
            sh(f"ip link set {pod.link} down; ip link set {pod.link} up")
            suspicion = Suspicion(suspicion.risen)
            while select.select(events.filenos(), [], [], 0.5)[0]:
                suspicion.add(events.read())
            assert suspicion.scope(frozenset({pod.link})).links == {pod.link}
            events.close()

    def test_are_not_of_the_routes_that_this_process_has_learned(self, home: str, own_state: Path) -> None:  # noqa: F811
        with Host() as host:
            events = host.events()
            learned = LearnedRoute(ip_network("11.0.1.0/24"), ip_address("192.0.2.9"), "node02")
            host.learned.hasten([learned])
            assert "11.0.1.0/24 via 192.0.2.9" in sh("ip route")
            assert events.read() == []
            sh("ip route delete 11.0.1.0/24")
            (event,) = events.read()
            assert (event.kind, event.gone, str(event.network)) == ("route", True, "11.0.1.0/24")
            events.close()


class TestWithoutIt:
    def test_traffic_goes_on_and_the_next_takes_over(self, agent: RunningAgent) -> None:
        agent.call("pod.add", name="demo01", addresses=[str(A1)])
        attach(agent, addresses=[str(A2)])
        before = agent.call("pod.ls")
        agent.kill()
        assert pings("demo01", A2)
        sh(f"ip route delete {A1}")
        agent.again()
        assert agent.call("pod.ls") == before
        assert pings("fwt-cni-1", A1)

    def test_ending_it_in_order_leaves_the_pods(self, agent: RunningAgent) -> None:
        agent.call("pod.add", name="demo01", addresses=[str(A1)])
        assert agent.stop() == 0
        assert not agent.socket.exists()
        assert pings("", A1)
        agent.again()
        agent.call("pod.rm", names=["demo01"])

    def test_a_second_one_is_refused_while_it_runs_and_not_after_it_was_killed(
        self, agent: RunningAgent, tmp_path: Path
    ) -> None:
        found = subprocess.run([*COMMAND, "agent", "--config", str(agent.config)], capture_output=True, text=True)
        assert found.returncode == 1
        assert f"another agent (pid {agent.process.pid})" in found.stderr
        assert agent.is_ready()
        agent.kill()
        agent.again()

    def test_a_wrong_configuration_is_told_before_anything_is_done(self, place: Path) -> None:
        (place / "wrong.toml").write_text("[repair]\nevery_s = 'often'")
        found = fairway(None, "agent", "--config", str(place / "wrong.toml"), code=2)
        assert "wrong.toml: repair.every_s is 'often'" in found

    def test_the_pools_of_its_configuration_are_its_hosts(self, place: Path) -> None:
        with running(place, '[[pool]]\nnetwork = "10.8.3.0/24"\nname = "main"') as agent:
            assert attach(agent)["addresses"] == ["10.8.3.1"]
            agent.call("detach", container=CONTAINER)


class TestItsSocket:
    def test_is_for_root_only(self, agent: RunningAgent) -> None:
        assert agent.socket.stat().st_mode & 0o777 == 0o600
        agent.socket.chmod(0o666)
        for directory in agent.socket.parents:
            if directory != Path("/") and directory.stat().st_uid == 0:
                directory.chmod(directory.stat().st_mode | 0o011)
        code = (
            "import os, socket, sys; os.setgid(65534); os.setuid(65534); s = socket.socket(socket.AF_UNIX);"
            f"s.connect({str(agent.socket)!r}); print(s.makefile().readline())"
        )
        found = subprocess.run(["python3", "-c", code], capture_output=True, text=True)
        assert "only root may call the agent" in found.stdout, found

    def test_is_not_held_up_by_clients_that_are_slow_or_talk_nonsense(self, agent: RunningAgent) -> None:
        strange = []
        for sent in (b"", b'{"id": 1, "call"', b"\xff\xfe\n", b"[]\n" * 1000, b'{"call": "x", "arguments": 3}\n'):
            client = socket.socket(socket.AF_UNIX)
            client.connect(str(agent.socket))
            client.sendall(sent)
            strange.append(client)
        assert agent.call("pod.ls") == {"pods": []}  # before any of them is let go, in two minutes
        answer = json.loads(strange[2].makefile().readline())
        assert "JSON object" in answer["error"]["message"]
        for client in strange:
            client.close()

    def test_refuses_a_request_that_is_too_long(self, agent: RunningAgent) -> None:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(agent.socket))
            with contextlib.suppress(OSError):  # it has let go already
                client.sendall(b"x" * (20 << 20))
            answer = client.makefile().readline()
            assert answer == "" or "8388608 bytes at most" in answer
        assert agent.is_ready()

    def test_serves_many_at_once(self, agent: RunningAgent) -> None:
        clients = [Client(agent.socket) for _ in range(200)]
        assert all(client.call("pod.ls") == {"pods": []} for client in clients)
        for client in clients:
            client.close()

    def test_lets_one_watch_what_happens(self, agent: RunningAgent) -> None:
        seen: list[dict[str, Any]] = []
        with Client(agent.socket) as client:
            watching = threading.Thread(target=lambda: seen.extend(client.watch()), daemon=True)
            watching.start()
            until(lambda: agent.call("status")["agent"]["clients"] >= 2)
            agent.call("pod.add", name="demo01", addresses=[str(A1)])
            sh(f"ip route delete {A1}")
            until(lambda: len(seen) >= 2)
            assert seen[0] == {"event": "added", "pod": "demo01", "addresses": str(A1)}
            assert (seen[1]["event"], seen[1]["kind"]) == ("repaired", "route")
            agent.stop()
            watching.join(5)
            assert not watching.is_alive()
        agent.again()

    def test_what_was_asked_is_answered_though_the_agent_is_told_to_end(self, agent: RunningAgent) -> None:
        answers: list[Any] = []

        def ask() -> None:
            try:
                answers.append(attach(agent))
            except (FairwayError, OSError) as error:
                answers.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        agent.process.send_signal(signal.SIGTERM)
        asking.join(20)
        assert agent.process.wait(20) == 0
        agent.again()
        (answer,) = answers
        known = [pod["name"] for pod in agent.call("pod.ls")["pods"]]
        assert known == ([f"{CONTAINER}/eth0"] if isinstance(answer, dict) else [])

    def test_a_client_is_told_when_the_agent_is_gone(self, agent: RunningAgent) -> None:
        with Client(agent.socket) as client:
            client.call("pod.ls")
            agent.kill()
            with pytest.raises(AnswerError, match="the agent"):
                client.call("pod.ls")
        agent.again()


class TestItsMetrics:
    @staticmethod
    def fetch(path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:9469{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def test_are_there_for_prometheus_and_so_is_its_health(self, place: Path) -> None:
        sh("ip link set lo up")
        with running(place, '[metrics]\nlisten = "127.0.0.1:9469"') as agent:
            attach(agent)
            agent.call("pod.add", name="demo01", addresses=[str(ip_address("10.0.9.9"))])
            with pytest.raises(UsageError):
                agent.call("pod.add", name="demo01")
            status, text = self.fetch("/metrics")
            assert status == 200
            for line in (
                'fairway_pods{source="fairway"} 1.0',
                'fairway_pods{source="runtime"} 1.0',
                'fairway_pool_addresses_taken{network="10.0.0.0/16",pool="10.0.0.0/16"} 2.0',
                'fairway_calls_total{call="pod.add",outcome="ok"} 1.0',
                'fairway_calls_total{call="pod.add",outcome="error"} 1.0',
                "fairway_ready 1.0",
            ):
                assert line in text
            assert self.fetch("/healthz") == self.fetch("/readyz") == (200, "ok\n")
            assert self.fetch("/")[0] == 404
            agent.call("pod.rm", names=["demo01"])
            agent.call("detach", container=CONTAINER)


class TestSystemd:
    def test_is_told_that_it_is_ready_goes_on_and_ends(self, place: Path) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
            listening.bind(str(place / "notify"))
            listening.settimeout(10)
            with running(place, NOTIFY_SOCKET=str(place / "notify"), WATCHDOG_USEC="200000") as agent:
                assert listening.recv(100) == b"READY=1"
                assert listening.recv(100) == b"WATCHDOG=1"
                agent.stop()
            told = [listening.recv(100)]
            while told[-1] != b"STOPPING=1":
                told.append(listening.recv(100))
