"""The commands of a real host, played by the tests' own namespace: every one is a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it makes namespaces")]

COMMAND = [sys.executable, "-c", "from fairway.cli import main; main(prog_name='fairway')"]


def fairway(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    result = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True)
    assert result.returncode == code, result
    assert "Traceback" not in result.stderr
    return result


def document(*arguments: str, code: int = 0) -> Any:
    return json.loads(fairway(*arguments, "--json", code=code).stdout)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


@pytest.fixture(autouse=True)
def uplink() -> Iterator[None]:
    """A link with an address, as every host has, and no pod left behind."""
    ip("link", "add", "fwt-up", "type", "veth", "peer", "name", "fwt-far")
    ip("address", "add", "192.0.2.1/24", "dev", "fwt-up")
    ip("link", "set", "fwt-far", "up")
    ip("link", "set", "fwt-up", "up")
    yield
    pods = [pod["name"] for pod in document("pod", "ls")["pods"]]
    if pods:
        fairway("pod", "rm", *pods)
    ip("link", "delete", "fwt-up")


def test_a_pod_is_added_shown_listed_and_removed():
    assert fairway("pod", "add", "demo01", "--address", "10.0.1.2").stdout == "demo01 10.0.1.2\n"
    added = document("pod", "add", "demo02", "--mtu", "1400")["pod"]
    assert added == document("pod", "show", "demo02")["pod"]
    assert added["mtu"] == 1400
    assert [pod["name"] for pod in document("pod", "ls")["pods"]] == ["demo01", "demo02"]
    assert "demo01  10.0.1.2" in fairway("pod", "ls").stdout
    assert "eth0 in /run/netns/demo01" in fairway("pod", "show", "demo01").stdout
    assert document("pod", "rm", "demo01", "demo02") == {"removed": ["demo01", "demo02"]}
    assert document("pod", "ls") == {"pods": []}
    assert not Path("/run/netns/demo01").exists()


def test_the_way_between_two_pods_is_explained_and_what_drops_on_it_is_named():
    fairway("pod", "add", "demo01")
    fairway("pod", "add", "demo02")
    assert document("explain", "demo01", "demo02")["verdict"] == "accepted"
    subprocess.run(
        [
            "nft",
            "add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }",
        ],
        check=True,
    )
    try:
        found = document("explain", "demo01", "demo02", code=1)
        assert found["verdict"] == "dropped"
        assert found["mend"]
        stopped = [s for d in found["directions"] for h in d["hosts"] for s in h["stages"] if s["verdict"] == "dropped"]
        assert (stopped[0]["hook"], stopped[0]["table"], stopped[0]["chain"]) == ("FORWARD", "ip filter", "FORWARD")
    finally:
        subprocess.run(["nft", "delete table ip filter"], check=True)


def test_the_hosts_own_addresses_stay():
    before = {"127.0.0.1", "::1", "192.0.2.1"}
    fairway("pod", "add", "demo01")
    fairway("pod", "rm", "demo01")
    fairway("check", "--repair")
    found = json.loads(subprocess.run(["ip", "-j", "address"], capture_output=True, check=True).stdout)
    assert before <= {address["local"] for link in found for address in link["addr_info"]}


def test_one_unknown_name_and_no_pod_is_removed():
    fairway("pod", "add", "demo01")
    assert "there is no pod 'nobody'" in fairway("pod", "rm", "demo01", "nobody", code=2).stderr
    assert len(document("pod", "ls")["pods"]) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pod", "add", "Odd_Name"], "is not valid"),
        (["pod", "add", "x" * 64], "64 characters"),
        (["pod", "add", "x", "--address", "10.0.1.2/24"], "--address"),
        (["pod", "add", "x", "--address", "192.168.7.7"], "outside every pool"),
        (["pod", "show", "nobody"], "there is no pod 'nobody'"),
        (["pool", "add", "10.0.0.1/24"], "host bits set"),
        (["pool", "rm", "10.77.0.0/24"], "is not a pool"),
        (["route", "add", "10.3.0.0/24", "--via", "fd00::1"], "is IPv4 and fd00::1 is not"),
        (["route", "rm", "10.3.0.0/24"], "no route of ours"),
        (["exec", "nobody", "--", "true"], "there is no pod or node 'nobody'"),
        (["ping", "nobody", "10.0.0.1"], "there is no pod or node 'nobody'"),
        (["ping", "nobody"], "both A and B"),
    ],
)
def test_what_cannot_be_is_a_usage_error(arguments: list[str], words: str):
    assert words in fairway(*arguments, code=2).stderr
    if arguments[0] != "exec":
        error = json.loads(fairway(*arguments, "--json", code=2).stderr)["error"]
        assert words in error["message"]


def test_pools_and_routes_are_kept():
    fairway("pool", "add", "10.7.0.0/24")
    fairway("pool", "add", "10.8.3.0/24", "--name", "shop", "--of", "10.8.0.0/16", "--for-namespace", "shop")
    common = {"networks": [], "cooldown_s": 60, "masquerade": False, "taken": 0, "capacity": 254}
    assert document("pool", "ls")["pools"] == [
        {"name": "10.7.0.0/24", "network": "10.7.0.0/24", "of": "", "namespaces": [], **common},
        {"name": "shop", "network": "10.8.3.0/24", "of": "10.8.0.0/16", "namespaces": ["shop"], **common},
    ]
    assert fairway("pod", "add", "shop", "--pool", "shop").stdout == "shop 10.8.3.1\n"
    fairway("pod", "rm", "shop")
    fairway("pool", "rm", "10.8.3.0/24")
    fairway("route", "add", "10.3.0.0/24", "--via", "192.0.2.2")
    assert document("route", "ls") == {"routes": [{"destination": "10.3.0.0/24", "via": "192.0.2.2"}]}
    assert "10.3.0.0/24  192.0.2.2" in fairway("route", "ls").stdout
    fairway("route", "rm", "10.3.0.0/24")
    fairway("pool", "rm", "10.7.0.0/24")
    assert document("route", "ls") == {"routes": []}


def test_a_command_runs_inside_and_its_exit_code_is_ours():
    fairway("pod", "add", "demo01", "--address", "10.0.1.2")
    assert "10.0.1.2/32" in fairway("exec", "demo01", "--", "ip", "address").stdout
    fairway("exec", "host/demo01", "--", "sh", "-c", "exit 7", code=7)
    fairway("exec", "demo01", "no-such-command", code=127)
    fairway("exec", "demo01", "--", "/etc/passwd", code=126)
    result = fairway("exec", "demo01", "--", "sh", "-c", "yes | head -1; echo over >&2", code=0)
    assert (result.stdout, result.stderr) == ("y\n", "over\n")


def test_only_the_network_is_another_inside():
    fairway("pod", "add", "demo01")
    mounts = str(Path("/proc/self/ns/mnt").readlink())
    assert fairway("exec", "demo01", "--", "readlink", "/proc/self/ns/mnt").stdout.strip() == mounts


def test_pods_and_the_host_ping_each_other():
    fairway("pod", "add", "demo01", "--address", "10.0.1.2")
    fairway("pod", "add", "demo02", "--address", "10.0.2.2")
    result = document("ping", "demo01", "demo02", "--count", "2", "--interval", "0.01")
    assert [(a["address"], a["sent"], a["received"]) for a in result["addresses"]] == [("10.0.2.2", 2, 2)]
    assert "1 of 1 echo came back" in fairway("ping", "host", "demo01", "--count", "1").stdout
    fairway("ping", "demo01", "192.0.2.1", "--count", "1")
    assert "none came back" in fairway("ping", "demo01", "192.0.2.77", "--count", "1", code=1).stdout


def test_drift_is_told_in_words_and_repaired():
    fairway("pod", "add", "demo01", "--address", "10.0.1.2")
    assert fairway("check").stdout == "all is as it should be\n"
    ip("route", "delete", "10.0.1.2")
    result = fairway("check", code=1)
    assert result.stdout == "the route to 10.0.1.2 by fwy-demo01 is missing\n"
    assert "fairway check --repair" in result.stderr
    assert [item["state"] for item in document("check", code=1)["drift"]] == ["missing"]
    assert fairway("check", "--repair").stdout.endswith("is missing - repaired\n")
    assert document("check") == {"drift": [], "repaired": False, "failures": []}


def test_foreign_chains_are_only_reported_if_asked():
    rules = "table ip other { chain forward { type filter hook forward priority 0; policy drop; }; }"
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
    try:
        result = fairway("pod", "add", "demo01", "--leave-foreign-chains", "--json")
        assert [chain["chain"] for chain in json.loads(result.stdout)["pod"]["foreign_chains"]] == ["forward"]
        assert "nft ip other forward drops" in result.stderr
        assert [chain["table"] for chain in document("check", "--leave-foreign-chains")["foreign_chains"]] == ["other"]
        assert "the rule that accepts what goes from fwy-demo01" in fairway("check", code=1).stdout
    finally:
        subprocess.run(["nft", "delete", "table", "ip", "other"], check=True)


def test_a_corrupt_state_is_warned_of_and_rebuilt(own_state: Path):
    fairway("pod", "add", "demo01", "--address", "10.0.1.2")
    (own_state / "state.db").write_bytes(b"nothing" * 1000)
    result = fairway("pod", "ls")
    assert "demo01" in result.stdout
    assert "cannot be read" in result.stderr
    assert fairway("pod", "ls").stderr == ""


def test_names_of_pods_are_completed():
    fairway("pod", "add", "demo01")
    environment = os.environ | {"_FAIRWAY_COMPLETE": "bash_complete", "COMP_CWORD": "2"}
    for words in ("fairway exec d", "fairway ping d"):
        result = subprocess.run(COMMAND, env=environment | {"COMP_WORDS": words}, capture_output=True, text=True)
        assert (result.stdout.strip(), result.stderr) == ("plain,demo01", "")


def test_an_interrupt_exits_with_130():
    fairway("pod", "add", "demo01")
    with subprocess.Popen([*COMMAND, "ping", "demo01", "192.0.2.1"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "ms" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130


def test_a_reader_that_leaves_is_no_error():
    fairway("pod", "add", "demo01")
    process = subprocess.Popen([*COMMAND, "pod", "ls"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    _, errors = process.communicate(timeout=20)
    assert errors == b""
