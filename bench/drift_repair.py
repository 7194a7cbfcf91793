"""From a change that somebody else makes until the agent has repaired it, each kind; with 100 pods beside."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.agent_process import agent, until
from bench.isolation import isolated
from bench.result import Result
from fairway.net.agent.client import Client
from fairway.net.kernel.netfilter import xtables

PODS = 100
ROUNDS = 10
LINK, ADDRESS = "fwy-pod7", "10.0.7.7"
_DROP = "add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }"


def _ip(arguments: str) -> str:
    return subprocess.run(f"ip {arguments}", shell=True, capture_output=True, text=True).stdout.strip()


def _nft(arguments: str) -> str:
    return subprocess.run(f"nft {arguments}", shell=True, capture_output=True, text=True).stdout.strip()


def _legacy() -> tuple[bool, bool]:
    """Whether iptables-legacy's FORWARD chain drops, and whether it has our rules; read without its lock."""
    chains = [chain for chain in xtables.forward_chains(xtables.IPV4) if chain.table == "filter"]
    rules = [rule for chain in chains for rule in chain.rules if rule.in_interface.startswith("fwy-")]
    return any(chain.policy == "DROP" for chain in chains), bool(rules)


def _forwards() -> bool:
    return Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == "1"


CASES = {
    "nft flush ruleset": (["nft flush ruleset"], lambda: _nft(f"list chain netdev fairway {LINK}")),
    "link set down": ([f"ip link set {LINK} down"], lambda: _ip(f"route show {ADDRESS}")),
    "route deleted": ([f"ip route delete {ADDRESS}"], lambda: _ip(f"route show {ADDRESS}")),
    "address deleted": (["ip address delete 169.254.1.1/32 dev lo"], lambda: _ip("-o address show to 169.254.1.1")),
    "neighbour deleted": (
        [f"ip neighbour delete {ADDRESS} dev {LINK}"],
        lambda: "PERMANENT" in _ip(f"neighbour show {ADDRESS}"),
    ),
    "link deleted": ([f"ip link delete {LINK}"], lambda: _ip(f"route show {ADDRESS}")),
    "FORWARD drops (nft)": (
        ["nft add table ip filter", f"nft '{_DROP}'"],
        lambda: "accept" in _nft("list chain ip filter FORWARD"),
    ),
    "FORWARD drops (iptables-legacy)": (
        ["iptables-legacy -P FORWARD DROP"],
        lambda: _legacy()[1],
    ),
    "forwarding switched off": (["sysctl -qw net.ipv4.ip_forward=0"], _forwards),
}


def run() -> Result:
    """Times in milliseconds."""
    return isolated(_measure)


def _measure() -> Result:
    result = Result("drift_repair")
    with (
        tempfile.TemporaryDirectory(dir="/var/tmp") as directory,
        agent(Path(directory)) as (_, socket),
        Client(socket) as client,
    ):
        for number in range(PODS):
            addresses = [ADDRESS] if number == 7 else []
            client.call("pod.add", {"name": f"pod{number}", "addresses": addresses})
        for what, (commands, repaired) in CASES.items():
            samples = [_timed(client, commands, repaired) for _ in range(ROUNDS)]
            result.add("fairway", what, samples, "ms")
            result.add("fairway", f"{what}, slowest", [max(samples)], "ms")
        client.call("pod.rm", {"names": [f"pod{number}" for number in range(PODS)]})
    result.notes.append("what the kernel tells nothing of (FORWARD drops, iptables-legacy) is looked at every 2 s")
    return result


def _timed(client: Client, commands: list[str], repaired: Callable[[], object]) -> float:
    """Milliseconds from the last command's end until what it took away is back."""
    for command in commands:
        subprocess.run(command, shell=True, check=True)
    took = until(repaired) * 1e3
    until(lambda: not client.call("check")["drift"])
    if _legacy()[0]:
        subprocess.run("iptables-legacy -P FORWARD ACCEPT", shell=True, check=True)
        until(lambda: not _legacy()[1])
    if _nft("list table ip filter"):
        subprocess.run("nft delete table ip filter", shell=True, check=True)
        until(lambda: not client.call("check")["drift"])
    return took
