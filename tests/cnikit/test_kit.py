"""The kit itself: it passes what is right, and notices each flaw of a plugin that has it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from cnikit.case import CASES, Status
from cnikit.profile import Profile, profile_for
from cnikit.runner import Score, score

PTP = Path("/usr/lib/cni/ptp")
ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not PTP.exists(), reason="needs root and the package containernetworking-plugins"
)


def flawed(flaw: str, directory: Path) -> Profile:
    program = directory / flaw
    program.write_text(f"#!{sys.executable} -IS\n" + (Path(__file__).parent / "flawed.py").read_text())
    program.chmod(0o755)
    return replace(profile_for(PTP), name=flaw, program=program)


def failed(result: Score) -> set[str]:
    return {case.name for (case, _), outcome in result.outcomes.items() if outcome.status is Status.FAIL}


@pytest.mark.parametrize(
    ("flaw", "version", "cases"),
    [
        ("talkative", "1.0.0", ["stdout_is_json_alone", "add_makes_the_interface"]),
        ("old-fashioned", "1.0.0", ["result_is_in_the_version_asked"]),
        ("stuck", "1.0.0", ["parallel_adds"]),
        ("mistaken", "1.0.0", ["result_tells_interfaces"]),
        ("cheerful", "1.0.0", ["add_twice_is_an_error", "exhausted"]),
        ("demanding", "1.0.0", ["del_without_netns", "addresses_come_back_without_netns"]),
        ("forgetful", "1.0.0", ["del_takes_the_interface_away", "addresses_come_back", "nothing_is_left"]),
        ("forgetful", "1.0.0", ["unreachable_after_del", "parallel_dels", "killed_adds_are_undone_by_del"]),
        ("deaf", "1.0.0", ["check_notices_a_missing_address", "check_notices_a_missing_interface"]),
        ("deaf", "1.0.0", ["check_notices_a_missing_route", "check_of_what_was_deleted", "check_needs_prev_result"]),
        ("ruthless", "1.1.0", ["gc_keeps_what_is_valid", "gc_is_of_one_network", "gc_without_a_list"]),
        ("idle", "1.1.0", ["gc_takes_away_what_is_stale", "gc_frees_addresses", "gc_of_everything"]),
        ("idle", "1.1.0", ["status_when_exhausted"]),
    ],
)
def test_a_flaw_is_noticed(flaw: str, version: str, cases: list[str], tmp_path: Path) -> None:
    profile = flawed(flaw, tmp_path)
    for name in cases:
        assert name in failed(score(profile, [version], only=f" {name}"))


def test_ptp_passes_what_the_flawed_plugins_fail() -> None:
    for name in ("stdout_is_json_alone", "parallel_adds", "nothing_is_left", "addresses_come_back"):
        assert not failed(score(profile_for(PTP), ["0.3.1", "1.0.0"], only=f" {name}"))


def test_a_version_that_the_plugin_does_not_speak_is_not_applicable() -> None:
    result = score(profile_for(PTP), ["1.1.0"], only="STATUS")
    assert {outcome.status for outcome in result.outcomes.values()} == {Status.NOT_APPLICABLE}
    assert result.count() == (0, 0)


def test_every_case_has_a_sentence_and_a_section_and_a_name_of_its_own() -> None:
    assert all(case.title and case.section for case in CASES)
    assert len({case.name for case in CASES}) == len(CASES)


def kit(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "cnikit", *arguments], cwd=ROOT, capture_output=True, text=True)


def test_the_command_prints_json_and_its_exit_code_is_the_verdict(tmp_path: Path) -> None:
    done = kit(str(PTP), "--version", "1.0.0", "--only", "stdout_is_json", "--json")
    assert done.returncode == 0, done.stderr
    (plugin,) = json.loads(done.stdout)["plugins"]
    assert (plugin["passed"], plugin["applicable"]) == (1, 1)
    talkative = flawed("talkative", tmp_path)
    config = tmp_path / "config.json"
    config.write_text(json.dumps(talkative.config))
    done = kit(str(talkative.program), "--config", str(config), "--version", "1.0.0", "--only", "stdout_is_json")
    assert done.returncode == 1
    assert "not one JSON object" in done.stdout


def test_what_is_no_plugin_is_an_error_that_says_so() -> None:
    done = kit("/bin/true")
    assert (done.returncode, "is no CNI plugin" in done.stderr) == (2, True)
    done = kit("/nowhere/plugin")
    assert (done.returncode, "no program that can be run" in done.stderr) == (2, True)
    done = kit(str(PTP), "--version", "2.0.0")
    assert (done.returncode, "the kit knows" in done.stderr) == (2, True)


def test_a_killed_kit_leaves_no_process_and_no_link(tmp_path: Path) -> None:
    before = (sorted(os.listdir("/sys/class/net")), os.listdir("/run"))
    process = subprocess.Popen(
        [sys.executable, "-m", "cnikit", str(PTP), "--version", "1.0.0", "--only", "accidents", "--verbose"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stderr is not None
    process.stderr.readline()  # a case has ended: others are running
    process.send_signal(signal.SIGKILL)
    process.wait()
    end = time.monotonic() + 10
    while _members(process.pid) and time.monotonic() < end:
        time.sleep(0.02)
    assert not _members(process.pid)
    assert (sorted(os.listdir("/sys/class/net")), os.listdir("/run")) == before


def _members(session: int) -> list[int]:
    """The living processes of a session."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path(f"/proc/{entry}/stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(entry))
    return found
