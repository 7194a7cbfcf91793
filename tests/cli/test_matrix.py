"""Who is to reach whom, what counts as reached, and how it is drawn."""

from __future__ import annotations

import json
from ipaddress import ip_address

import pytest

from fairway.cli.matrix import Member, Outcome, Result, one_of_each_version, print_document, print_text, ways


def member(name: str, *addresses: str, pod: bool = True) -> Member:
    return Member(name, pod, f"lab.{name}", tuple(map(ip_address, addresses)))


A = member("a", "10.0.0.1", "fd00::1")
B = member("b", "10.0.0.2", "fd00::2")
FOUR = member("four", "10.0.0.4")
SIX = member("six", "fd00::6")
N = member("n", "192.0.2.1", pod=False)


def result(*members: Member, lost: tuple[tuple[str, str, int], ...] = (), rtt_ms: float = 0.5) -> Result:
    return Result(
        "lab",
        members,
        [
            Outcome(source, target, address, None if (source.name, target.name, address.version) in lost else rtt_ms)
            for source, target, address in ways(members, members)
        ],
    )


def test_everyone_is_to_reach_everyone_else_by_every_address():
    assert [(s.name, t.name, str(address)) for s, t, address in ways([A], [A, B])] == [
        ("a", "b", "10.0.0.2"),
        ("a", "b", "fd00::2"),
    ]


def test_members_that_share_no_version_are_no_pair():
    assert list(ways([FOUR, SIX], [FOUR, SIX])) == []
    assert [(s.name, t.name) for s, t, _ in ways([FOUR], [A, FOUR, SIX])] == [("four", "a")]


def test_a_pair_counts_once_and_is_reached_by_all_its_addresses():
    assert result(A, B).summary()["pods"] == {"reached": 2, "pairs": 2}
    assert result(A, B, lost=(("a", "b", 6),)).summary()["pods"] == {"reached": 1, "pairs": 2}


def test_pods_and_nodes_are_counted_apart():
    assert result(A, B, N).summary() == {
        "pods": {"reached": 2, "pairs": 2},
        "nodes": {"reached": 0, "pairs": 0},
        "nodes-pods": {"reached": 4, "pairs": 4},
    }


def test_a_node_is_reached_by_its_first_address_of_each_version():
    addresses = [ip_address(text) for text in ("192.0.2.1", "198.51.100.1", "fd00::1")]
    assert one_of_each_version(addresses) == (addresses[0], addresses[2])


def test_a_small_lab_is_drawn(capsys: pytest.CaptureFixture[str]):
    print_text(result(FOUR, N, lost=(("n", "four", 4),)))
    assert capsys.readouterr().out == (
        "ms     four      n\n"
        "four      -   0.50\n"
        "n         x      -\n"
        "\n"
        "nodes-pods  1 of 2 pairs reached\n"
        "  n does not reach four (10.0.0.4)\n"
    )


def test_long_names_are_numbered(capsys: pytest.CaptureFixture[str]):
    members = [member(f"{number:02}-a-pod-of-a-long-name", f"10.0.0.{number + 1}") for number in range(5)]
    print_text(result(*members))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["ms", "1", "2", "3", "4", "5"]
    assert lines[2].split() == ["2", "01-a-pod-of-a-long-name", "0.50", "-", "0.50", "0.50", "0.50"]
    assert max(map(len, lines)) <= 100


def test_a_large_lab_is_a_summary_and_what_fails(capsys: pytest.CaptureFixture[str]):
    members = [member(f"p{number}", f"10.0.0.{number + 1}") for number in range(30)]
    print_text(result(*members, lost=tuple(("p1", each.name, 4) for each in members)))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["pods", "841", "of", "870", "pairs", "reached"]
    assert lines[1] == "  p1 does not reach p0 (10.0.0.1)"
    assert lines[-1] == "  and 9 more; --json lists all"


def test_the_document_is_one_and_says_all(capsys: pytest.CaptureFixture[str]):
    print_document(result(FOUR, N, lost=(("n", "four", 4),)))
    assert json.loads(capsys.readouterr().out) == {
        "lab": "lab",
        "summary": {
            "pods": {"reached": 0, "pairs": 0},
            "nodes": {"reached": 0, "pairs": 0},
            "nodes-pods": {"reached": 1, "pairs": 2},
        },
        "pairs": [
            {"from": "four", "to": "n", "address": "192.0.2.1", "reached": True, "rtt_ms": 0.5},
            {"from": "n", "to": "four", "address": "10.0.0.4", "reached": False, "rtt_ms": None},
        ],
    }
