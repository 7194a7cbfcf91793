"""The commands of a lab, on the examples: every one is a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it makes namespaces")]

COMMAND = [sys.executable, "-c", "from fairway.cli import main; main(prog_name='fairway')"]
EXAMPLES = Path(__file__).parents[2] / "examples"
TWO_HOSTS = str(EXAMPLES / "two-hosts.toml")


def fairway(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    result = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True)
    assert result.returncode == code, result
    assert "Traceback" not in result.stderr
    return result


def document(*arguments: str, code: int = 0) -> Any:
    return json.loads(fairway(*arguments, "--json", code=code).stdout)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    fairway("down", "--all")
    assert fairway("ls").stdout == ""


def test_the_reference_network_comes_up_is_shown_pings_and_goes():
    up = document("up", TWO_HOSTS)
    assert (up["name"], up["nodes"], up["pods"], up["links"]) == ("two-hosts", 2, 4, 1)
    assert up["operations"] > 0
    (lab,) = document("ls")["labs"]
    assert (lab["name"], lab["file"], lab["engine"]) == ("two-hosts", TWO_HOSTS, "none")
    assert {pod["name"]: pod["addresses"] for pod in lab["pods"]}["demo01"] == ["10.0.1.2"]
    assert {node["name"]: node["addresses"] for node in lab["nodes"]}["node03"] == ["100.100.198.250"]
    assert "demo01  pod   node03  10.0.1.2" in fairway("ls", "two-hosts").stdout
    ping = document("ping")
    assert ping["summary"] == {
        "pods": {"reached": 12, "pairs": 12},
        "nodes": {"reached": 2, "pairs": 2},
        "nodes-pods": {"reached": 16, "pairs": 16},
    }
    assert len(ping["pairs"]) == 30
    (ended,) = document("down")["ended"]
    assert (ended["name"], ended["namespaces"], ended["processes"]) == ("two-hosts", 6, [])
    assert document("ls") == {"labs": []}


def test_up_twice_changes_nothing():
    fairway("up", TWO_HOSTS)
    assert document("up", TWO_HOSTS)["operations"] == 0
    assert "nothing to change" in fairway("up", TWO_HOSTS).stdout


def test_who_is_not_reached_is_named_and_the_exit_code_is_1():
    fairway("up", "--no-agents", TWO_HOSTS)  # which would put the route back
    fairway("exec", "node03", "--", "ip", "route", "delete", "10.0.3.0/24")
    result = fairway("ping", code=1)
    assert "pods        8 of 12 pairs reached" in result.stdout
    assert "node03 does not reach demo03 (10.0.3.2): Network is unreachable" in result.stdout
    lost = [(pair["from"], pair["to"]) for pair in document("ping", code=1)["pairs"] if not pair["reached"]]
    assert ("demo01", "demo03") in lost
    assert ("demo02", "demo04") not in lost


def test_commands_run_in_nodes_routers_and_pods():
    fairway("up", str(EXAMPLES / "cross-subnet.toml"))
    for name, address in (("node01", "192.168.1.10"), ("r1", "192.168.2.1"), ("web", "10.1.0.10")):
        assert address in fairway("exec", name, "--", "ip", "-br", "address").stdout
    assert "1 of 1 echo came back" in fairway("ping", "web", "db", "--count", "1").stdout


def test_both_versions_are_pinged():
    fairway("up", str(EXAMPLES / "dual-stack.toml"))
    ping = document("ping")
    assert ping["summary"]["pods"] == {"reached": 12, "pairs": 12}
    assert len([pair for pair in ping["pairs"] if ":" in pair["address"]]) == 30
    answers = document("ping", "demo01", "demo03", "--count", "1")["addresses"]
    assert [(answer["address"], answer["received"]) for answer in answers] == [("10.0.2.2", 1), ("fd00:0:0:2::2", 1)]


def test_of_two_labs_one_must_be_named():
    fairway("up", TWO_HOSTS)
    fairway("up", str(EXAMPLES / "ipv6.toml"))
    assert "several labs" in fairway("ping", code=2).stderr
    assert "two-hosts/demo01" in fairway("exec", "demo01", "--", "true", code=2).stderr
    fairway("exec", "ipv6/demo01", "--", "true")
    assert document("ping", "--lab", "ipv6")["lab"] == "ipv6"
    assert document("ping", "demo01", "demo03", "--lab", "two-hosts", "--count", "1")["to"] == "demo03"
    fairway("down", TWO_HOSTS)
    assert [lab["name"] for lab in document("ls")["labs"]] == ["ipv6"]


def test_the_engine_of_a_bad_line_is_named():
    assert "link faults by" in fairway("up", str(EXAMPLES / "lossy.toml")).stdout
    assert document("ls")["labs"][0]["engine"] in ("netem", "relay")
    slow = {(pair["from"], pair["to"]): pair["rtt_ms"] for pair in document("ping")["pairs"]}
    assert slow["demo01", "demo02"] > 15


def test_a_process_that_goes_on_is_told_of():
    fairway("up", TWO_HOSTS)
    with subprocess.Popen(
        [*COMMAND, "exec", "demo01", "--", "sh", "-c", "echo in; exec sleep 60"], stdout=-1
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert str(process.pid) in fairway("down").stderr
        process.kill()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["up", "nowhere.toml"], "nowhere.toml"),
        (["down", "nothing"], "no lab"),
        (["down"], "no lab is running"),
        (["down", "--all", "two-hosts"], "exclude each other"),
        (["ping"], "no lab is running"),
        (["ls", "nothing"], "no lab"),
    ],
)
def test_what_cannot_be_is_a_usage_error(arguments: list[str], words: str):
    assert words in fairway(*arguments, code=2).stderr
    assert words in json.loads(fairway(*arguments, "--json", code=2).stderr)["error"]["message"]


def test_a_wrong_file_leaves_nothing(tmp_path: Path):
    file = tmp_path / "wrong.toml"
    file.write_text("[nodes.node01]\npolls = []\n")
    assert "polls" in fairway("up", str(file), code=2).stderr


def test_names_of_labs_and_their_members_are_completed():
    fairway("up", TWO_HOSTS)
    environment = os.environ | {"_FAIRWAY_COMPLETE": "bash_complete", "COMP_CWORD": "2"}
    for words, expected in (
        ("fairway exec node", {"plain,node03", "plain,node02"}),
        ("fairway ls t", {"plain,two-hosts"}),
    ):
        result = subprocess.run(COMMAND, env=environment | {"COMP_WORDS": words}, capture_output=True, text=True)
        assert set(result.stdout.split()) == expected
