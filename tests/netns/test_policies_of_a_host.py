"""A host's policies: in force before a pod has traffic, kept, repaired, and gone with what they are about."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from fairway.net.host import Host, traces
from fairway.net.kernel import namespaces
from fairway.net.kernel.netfilter.packet_filter import PacketFilter
from fairway.net.model.attachment import AttachRequest, Kubernetes
from fairway.net.model.errors import UsageError
from fairway.net.model.pod import Pod
from fairway.net.model.policy import Direction

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it makes namespaces")]
COMMAND = [sys.executable, "-c", "from fairway.cli import main; main(prog_name='fairway')"]
WEB = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress, Egress]
  ingress: [{from: [{podSelector: {matchLabels: {role: client}}}]}]
---
{kind: Pod, metadata: {name: web, labels: {app: web}}}
---
{kind: Pod, metadata: {name: client, labels: {role: client}}}
"""
DENY = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny, namespace: shop}
spec: {podSelector: {}, policyTypes: [Ingress]}
"""


@pytest.fixture
def host(own_state: Path) -> Iterator[Host]:
    subprocess.run(["ip", "address", "replace", "192.0.2.1/32", "dev", "lo"], check=True)
    with Host() as found:
        found.pools.add(ip_network("10.0.0.0/16"))
        yield found
        for pod in found.pods():
            found.remove_pod(pod.name, force=True)


def pings(name: str, address: object) -> bool:
    inside = ["nsenter", f"--net=/run/netns/{name}"] if name else []
    return subprocess.run([*inside, "ping", "-c1", "-W1", str(address)], capture_output=True).returncode == 0


def our_table() -> str:
    return subprocess.run(["nft", "list", "table", "inet", "fairway"], capture_output=True, text=True).stdout


class TestAPod:
    def test_that_comes_later_is_guarded_and_is_a_peer(self, host: Host) -> None:
        host.policies.apply(WEB, "web.yaml")
        web, client, other = (host.add_pod(name).addresses[0] for name in ("web", "client", "other"))
        assert pings("client", web)
        assert not pings("other", web)
        assert not pings("web", client)
        assert pings("", web), "a host reaches its own pods"
        assert pings("other", client)
        assert other != client
        assert host.check() == []

    def test_gets_no_packet_before_its_policy_is_in_force(self, host: Host) -> None:
        host.policies.apply(WEB, "web.yaml")
        host.add_pod("other")
        address = "10.0.9.9"
        sender = namespaces.inside("other", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        stop = threading.Event()

        def send() -> None:
            while not stop.is_set():
                sender.sendto(b"?", (address, 7777))

        thread = threading.Thread(target=send)
        thread.start()
        try:
            for _ in range(5):
                host.add_pod("web", [_address(address)])
                got = _heard("web", address)
                host.remove_pod("web")
                host.wait_removed("web")
                assert got == []
        finally:
            stop.set()
            thread.join()
            sender.close()

    def test_that_goes_takes_its_chain_along(self, host: Host) -> None:
        host.policies.apply(WEB, "web.yaml")
        host.add_pod("other")
        host.add_pod("web")
        assert "policy-in-" in our_table()
        host.remove_pod("web")
        host.wait_removed("web")
        deadline = time.monotonic() + 5
        while "policy-in-" in our_table() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert "policy-in-" not in our_table()

    def test_of_a_runtime_is_known_by_what_kubernetes_calls_it(self, host: Host) -> None:
        host.policies.apply(DENY, "deny.yaml")
        host.add_pod("other")
        subprocess.run(["ip", "netns", "add", "fwt-cni"], check=True)
        try:
            known = Kubernetes(namespace="shop", pod="till")
            pod = host.attachments.add(AttachRequest("c1", "/run/netns/fwt-cni", kubernetes=known))
            assert not pings("other", pod.addresses[0])
            assert list(host.policies.isolating(pod)) == [Direction.INGRESS]
            host.attachments.remove("c1", "eth0")
            host.wait_removed(pod.name)
        finally:
            subprocess.run(["ip", "netns", "del", "fwt-cni"], check=True)


class Reuse:
    """An address that a pod had, over which another got an answer, and that a pod gets again under policies."""

    GUARDED = "{kind: Pod, metadata: {name: guarded, labels: {app: web}}}"  # for the kernel to track connections

    def __init__(self, host: Host, pool: str) -> None:
        if ":" in pool:
            host.pools.add(ip_network(pool))
        self.host = host
        self.again = ip_network(pool)[777]
        self.policies = f"{WEB}---\n{self.GUARDED}"

    def opened(self, port: int) -> socket.socket:
        handle = socket.socket(socket.AF_INET if self.again.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
        handle.bind(("", port))
        handle.settimeout(1)
        return handle

    def talk(self, sender: socket.socket, *, answers: bool = True) -> None:
        """The pod that has the address answers whoever sends, or is answered."""
        with namespaces.inside("former", lambda: self.opened(7777)) as former:
            if not answers:
                there = next(each for each in self.host.pod("other").addresses if each.version == self.again.version)
                former.sendto(b"asked", (str(there), 5555))
                assert sender.recv(100) == b"asked"
            sender.sendto(b"allowed", (str(self.again), 7777))
            former.sendto(b"answer", former.recvfrom(100)[1])
            assert sender.recv(100) == b"answer"

    def is_heard(self, sender: socket.socket) -> bool:
        """Whether the pod that has it now hears that sender."""
        with namespaces.inside("web", lambda: self.opened(7777)) as web:
            sender.sendto(b"denied", (str(self.again), 7777))
            try:
                return bool(web.recv(100))
            except TimeoutError:
                return False


@pytest.mark.parametrize("many", [False, True], ids=["few connections", "too many to read"])
@pytest.mark.parametrize("policies", ["before the pod", "while it is there", "when it is gone"])
@pytest.mark.parametrize(
    ("pool", "answers"), [("10.0.0.0/16", True), ("fd00:7::/64", False)], ids=["IPv4, it answers", "IPv6, it asks"]
)
def test_who_gets_an_address_again_does_not_get_what_was_allowed_to_who_had_it(
    host: Host, pool: str, policies: str, monkeypatch: pytest.MonkeyPatch, *, answers: bool, many: bool
) -> None:
    if many:
        monkeypatch.setattr(traces, "_MOST", 0)
    reuse = Reuse(host, pool)
    tracking = "table inet fwt-tracked { chain c { type filter hook forward priority 0; ct state new accept; }; }"
    subprocess.run(["nft", tracking], check=True)
    try:
        for name, when in (("other", "before the pod"), ("former", ""), ("guarded", "while it is there")):
            if when == policies:
                host.policies.apply(reuse.policies, "web.yaml")
            host.add_pod(name, [reuse.again] if name == "former" else [])
        with namespaces.inside("other", lambda: reuse.opened(5555)) as sender:
            reuse.talk(sender, answers=answers)
            host.remove_pod("former")
            host.wait_removed("former")
            if policies == "when it is gone":
                host.policies.apply(reuse.policies, "web.yaml")
            host.add_pod("web", [reuse.again])
            assert not reuse.is_heard(sender)
    finally:
        subprocess.run(["nft", "delete table inet fwt-tracked"], check=True)


def test_who_gets_an_address_that_another_process_gave_and_took_does_not_get_what_was_allowed(
    host: Host, own_state: Path
) -> None:
    reuse = Reuse(host, "10.0.0.0/16")
    host.policies.apply(reuse.policies, "web.yaml")
    for name in ("guarded", "other"):
        host.add_pod(name)
    with namespaces.inside("other", lambda: reuse.opened(5555)) as sender:
        with Host(own_state) as another:
            another.add_pod("former", [reuse.again])
            reuse.talk(sender)
            another.remove_pod("former")
        host.add_pod("web", [reuse.again])
        assert not reuse.is_heard(sender)


def test_what_is_tracked_is_read_once_for_many_pods_and_again_for_who_gets_an_address_back(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.policies.apply(WEB, "web.yaml")
    looks = []
    read, forget = PacketFilter.tracked_addresses, PacketFilter.forget_connections
    monkeypatch.setattr(PacketFilter, "tracked_addresses", lambda *of: (looks.append("all"), read(*of))[1])
    monkeypatch.setattr(PacketFilter, "forget_connections", lambda *of: (looks.extend(of[1]), forget(*of))[1])
    # Addresses that no other test's pods had: what was theirs may still be tracked.
    pods = [host.add_pod(f"pod{number}", [ip_address(f"10.0.99.{number}")]) for number in range(4)]
    assert looks == ["all"]
    host.remove_pod("pod0")
    host.wait_removed("pod0")
    host.add_pod("pod4", pods[0].addresses)
    assert looks == ["all", "all"]


class TestPodsThatKubernetesCallsTheSame:
    """A pod of several interfaces, and a sandbox that comes before the former one of its name is gone."""

    @pytest.fixture
    def twins(self, host: Host) -> Iterator[list[Pod]]:
        host.policies.apply(DENY, "deny.yaml")
        host.add_pod("other")
        known = Kubernetes(namespace="shop", pod="till")
        for name in ("fwt-one", "fwt-two"):
            subprocess.run(["ip", "netns", "add", name], check=True)
        try:
            yield [
                host.attachments.add(AttachRequest(name, f"/run/netns/{name}", kubernetes=known))
                for name in ("fwt-one", "fwt-two")
            ]
        finally:
            for name in ("fwt-one", "fwt-two"):
                host.attachments.remove(name, "eth0")
                subprocess.run(["ip", "netns", "del", name], check=True)

    def test_are_all_guarded(self, twins: list[Pod]) -> None:
        assert [pings("other", pod.addresses[0]) for pod in twins] == [False, False]

    def test_are_guarded_still_when_one_of_them_goes(self, host: Host, twins: list[Pod]) -> None:
        host.attachments.remove("fwt-one", "eth0")
        host.wait_removed(twins[0].name)
        assert not pings("other", twins[1].addresses[0])

    def test_are_all_guarded_by_an_agent_that_was_started_since(self, host: Host, twins: list[Pod]) -> None:
        host.policies.apply(DENY, "deny.yaml")
        assert [pings("other", pod.addresses[0]) for pod in twins] == [False, False]
        assert host.check() == []


class TestDocuments:
    def test_applied_changed_and_removed_are_in_force_at_once(self, host: Host) -> None:
        web = host.add_pod("web").addresses[0]
        host.add_pod("other")
        assert pings("other", web)
        host.policies.apply(WEB, "web.yaml")
        assert not pings("other", web)
        host.policies.apply("{kind: Pod, metadata: {name: other, labels: {role: client}}}", "other.yaml")
        assert pings("other", web)
        host.policies.remove([("NetworkPolicy", "default", "web")])
        assert "policy" not in our_table().replace("policy drop", "")
        assert host.check() == []

    def test_may_have_dates_and_other_values_that_json_has_not(self, host: Host) -> None:
        dated = WEB.replace(
            "metadata: {name: web}", "metadata: {name: web, creationTimestamp: 2026-05-01, 1: !!binary aGk=}"
        )
        host.policies.apply(dated, "web.yaml")
        assert len(host.policies.documents().policies) == 1

    def test_one_wrong_and_none_is_kept(self, host: Host) -> None:
        with pytest.raises(UsageError, match="document 4"):
            host.policies.apply(f"{WEB}---\nkind: NetworkPolicy\n", "web.yaml")
        assert not host.policies.documents().policies

    def test_outlive_the_program_and_what_another_does_is_seen(self, host: Host, own_state: Path) -> None:
        host.policies.apply(WEB, "web.yaml")
        host.add_pod("other")
        with Host() as another:
            another.add_pod("web")
            assert another.check() == []
            another.policies.apply(DENY, "deny.yaml")
        assert set(host.policies.documents().policies) == {("default", "web"), ("shop", "deny")}
        host.add_pod("client")
        assert host.check() == []
        assert pings("client", host.pod("web").addresses[0])


class TestDrift:
    @pytest.mark.parametrize(
        "damage", ["flush ruleset", "flush chain inet fairway policies", "delete table inet fairway"]
    )
    def test_is_found_and_repaired(self, damage: str, host: Host) -> None:
        host.policies.apply(WEB, "web.yaml")
        web = host.add_pod("web").addresses[0]
        host.add_pod("other")
        subprocess.run(["nft", damage], check=True)
        assert host.check()
        _, failures = host.repair()
        assert (failures, host.check()) == ([], [])
        assert not pings("other", web)

    def test_of_a_table_that_was_flushed_does_not_hold_up_the_next_pod(self, host: Host) -> None:
        host.policies.apply(WEB, "web.yaml")
        host.add_pod("other")
        subprocess.run(["nft", "flush ruleset"], check=True)
        host.repair()
        subprocess.run(["nft", "flush chain inet fairway policies"], check=True)
        web = host.add_pod("web").addresses[0]
        host.repair()
        assert not pings("other", web)


class TestCommands:
    def run(self, *arguments: str, code: int = 0, text: str = "") -> Any:
        done = subprocess.run([*COMMAND, "policy", *arguments, "--json"], capture_output=True, text=True, input=text)
        assert done.returncode == code, done
        return json.loads(done.stdout) if done.stdout else done.stderr

    def test_apply_list_tell_and_remove(self, host: Host, tmp_path: Path) -> None:
        file = tmp_path / "web.yaml"
        file.write_text(WEB)
        host.add_pod("web")
        assert self.run("check", str(file)) == {"documents": 3, "right": True}
        assert len(self.run("apply", str(file))["applied"]) == 3
        assert [each["name"] for each in self.run("ls")["documents"]] == ["web", "client", "web"]
        assert self.run("of", "web")["isolated"] == {"ingress": ["default/web"], "egress": ["default/web"]}
        assert self.run("rm", "web")["removed"][0]["name"] == "web"
        assert "there is no NetworkPolicy default/web" in self.run("rm", "web", code=2)
        assert "-: document 1: kind: expected one of" in self.run("check", "-", code=2, text="kind: X")

    def test_explain_names_the_policy_that_drops(self, host: Host) -> None:
        host.policies.apply(WEB, "web.yaml")
        host.add_pod("web")
        host.add_pod("other")
        done = subprocess.run([*COMMAND, "explain", "other", "web", "--json"], capture_output=True, text=True)
        found = json.loads(done.stdout)
        assert (done.returncode, found["verdict"]) == (1, "dropped")
        stages = [s for d in found["directions"] for h in d["hosts"] for s in h["stages"] if s["verdict"] == "dropped"]
        assert "not allowed by default/web" in stages[0]["text"]
        assert any("fairway policy apply" in line for line in found["mend"])


def _address(text: str) -> Any:
    return ip_address(text)


def _heard(name: str, address: str) -> list[bytes]:
    """What comes to the pod from its first moment to a little later."""
    listener = namespaces.inside(name, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    listener.bind((address, 7777))
    listener.settimeout(0.05)
    try:
        return [listener.recv(10)]
    except TimeoutError:
        return []
    finally:
        listener.close()
