"""`python -m interop`: cells that pass, and checks that fail where the capture does not show what the case is about."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from interop.capture import CERTIFICATE, HANDSHAKE, INITIAL, ONE_RTT, RETRY, ZERO_RTT, Capture, Datagram
from interop.cases import CASES, FailedError, Seen, verify
from interop.faults import TO_CLIENT, TO_SERVER, BlackHole, Corrupt, Drop, DropList, Nat
from interop.packets import Packet, checksum
from interop.peers import FAIRWAY, PEERS

ROOT = Path(__file__).parents[2]
CLIENT, SERVER = ("193.167.0.100", 40000), ("193.167.100.100", 443)


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("tshark") is None, reason="needs root and tshark")
@pytest.mark.parametrize(("client", "server"), [(FAIRWAY, FAIRWAY), ("aioquic", FAIRWAY), (FAIRWAY, "ngtcp2")])
def test_cells_pass(client: str, server: str) -> None:
    cases = [word for case in ("handshake", "retry", "zerortt") for word in ("--case", case)]
    command = [sys.executable, "-m", "interop", "--client", client, "--server", server, *cases, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=100)
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    assert [outcome["verdict"] for outcome in outcomes] == ["pass"] * 3, (outcomes, done.stderr)


# Checks, on captures that were made up


def datagram(time: float, *, client: bool, kinds: list[int], **more: object) -> Datagram:
    ends = (CLIENT, SERVER) if client else (SERVER, CLIENT)
    lists = ["source_ids", "destination_ids", "tokens", "retry_tokens", "numbers", "key_phases", "frames"]
    lists += ["crypto_bytes", "crypto_offsets", "challenges", "responses", "messages", "cipher_suites"]
    lists += ["max_streams_bidi"]
    known: dict[str, object] = {name: [] for name in lists}
    known |= {"sizes": [1200] * len(kinds), "versions": [1 for kind in kinds if kind != ONE_RTT], "ecn": 0}
    known |= {"source_ids": ["server" if not client else "client"]}
    known |= {"time": time, "from_client": client, "source": ends[0], "destination": ends[1], "size": 1200}
    return Datagram(kinds=kinds, **(known | more))  # type: ignore[arg-type]


HELLO = datagram(0.0, client=True, kinds=[INITIAL], numbers=[0], crypto_offsets=[0])
ANSWER = datagram(0.1, client=False, kinds=[INITIAL, HANDSHAKE], messages=[CERTIFICATE], crypto_bytes=[8000])
FINISHED = datagram(0.2, client=True, kinds=[HANDSHAKE])
SIMPLE = [HELLO, ANSWER, FINISHED]


def judge(case: str, *datagrams: Datagram, versions: str = "4") -> None:
    capture = Capture(list(datagrams), frozenset(versions))
    verify(CASES[case], Seen(capture, capture))


def fails(case: str, why: str, *datagrams: Datagram, versions: str = "4") -> None:
    with pytest.raises(FailedError, match=why):
        judge(case, *datagrams, versions=versions)


def test_a_handshake_is_one_without_retry() -> None:
    judge("handshake", *SIMPLE)
    fails("handshake", "2 handshakes", *SIMPLE, replace(ANSWER, source_ids=["another"]))
    fails("handshake", "Retry", HELLO, datagram(0.05, client=False, kinds=[RETRY]), ANSWER, FINISHED)
    fails("handshake", "version 0x6b3343cf", HELLO, ANSWER, replace(FINISHED, versions=[0x6B3343CF]))


def test_a_retry_is_answered_with_its_token_and_higher_numbers() -> None:
    retry = datagram(0.05, client=False, kinds=[RETRY], retry_tokens=["aa"])
    again = datagram(0.08, client=True, kinds=[INITIAL], tokens=["aa"], numbers=[1])
    judge("retry", HELLO, retry, again, ANSWER, FINISHED)
    fails("retry", "no Retry", *SIMPLE)
    fails("retry", "token", HELLO, retry, replace(again, tokens=["bb"]), ANSWER, FINISHED)
    fails("retry", "began anew", HELLO, retry, replace(again, numbers=[0]), ANSWER, FINISHED)


def test_a_resumed_handshake_has_no_certificate() -> None:
    second = replace(ANSWER, time=1.0, source_ids=["second"], messages=[])
    judge("resumption", *SIMPLE, second)
    fails("resumption", "as well", *SIMPLE, replace(second, messages=[CERTIFICATE]))
    fails("resumption", "1 handshakes", *SIMPLE)


def test_0_rtt_is_seen_and_leaves_little_for_1_rtt() -> None:
    second = replace(ANSWER, time=1.0, source_ids=["second"])
    early = datagram(0.9, client=True, kinds=[ZERO_RTT])
    late = datagram(1.1, client=True, kinds=[ONE_RTT], frames=[0x08])
    judge("zerortt", *SIMPLE, early, second, late)
    fails("zerortt", "nothing in 0-RTT", *SIMPLE, second, late)
    fails("zerortt", "6000 bytes", *SIMPLE, early, second, *[late] * 5)


def test_a_server_sends_at_most_four_times_as_much_before_the_address_is_proved() -> None:
    judge("amplificationlimit", *SIMPLE)
    fails("amplificationlimit", "5.0 times", HELLO, *[ANSWER] * 5, FINISHED)
    fails("amplificationlimit", "never proved", HELLO, ANSWER)
    fails("amplificationlimit", "100 bytes only", HELLO, replace(ANSWER, crypto_bytes=[100]), FINISHED)


def test_a_new_path_begins_with_a_challenge_that_is_answered() -> None:
    moved = ("193.167.0.100", 40001)
    there = datagram(1.0, client=True, kinds=[ONE_RTT], source_ids=[])
    there = replace(there, source=moved)
    asked = replace(datagram(1.1, client=False, kinds=[ONE_RTT], challenges=["c"]), destination=moved)
    answered = replace(there, time=1.2, responses=["c"])
    judge("rebind-port", *SIMPLE, there, asked, answered)
    fails("rebind-port", "one path only", *SIMPLE)
    fails("rebind-port", "no PATH_CHALLENGE", *SIMPLE, there, replace(asked, challenges=[]), answered)
    fails("rebind-port", "answered no challenge", *SIMPLE, there, asked)
    fails("rebind-addr", "one path only", *SIMPLE, there, asked, answered)


def test_marks_key_phases_and_versions_of_ip_are_looked_for() -> None:
    both = [replace(datagram(2.0, client=client, kinds=[ONE_RTT], frames=[3]), ecn=2) for client in (True, False)]
    judge("ecn", *SIMPLE, *both)
    fails("ecn", "server marked no packet", *SIMPLE, both[0])
    fails("ecn", "client sent no counts", *SIMPLE, replace(both[0], frames=[2]), both[1])
    phases = [datagram(2.0, client=client, kinds=[ONE_RTT], key_phases=[1]) for client in (True, False)]
    judge("keyupdate", *SIMPLE, *phases)
    fails("keyupdate", "server is of the second", *SIMPLE, phases[0])
    judge("ipv6", *SIMPLE, versions="6")
    fails("ipv6", "IPv4", *SIMPLE, versions="46")


# Faults


def packet(payload: bytes = b"payload!") -> Packet:
    udp = (40000).to_bytes(2, "big") + (443).to_bytes(2, "big") + (8 + len(payload)).to_bytes(2, "big") + b"\0\0"
    ip = bytes([0x45, 0]) + (28 + len(payload)).to_bytes(2, "big") + bytes(5) + b"\x11\0\0"
    made = Packet.parse(bytes(12) + b"\x08\x00" + ip + bytes([10, 0, 0, 1, 10, 0, 0, 2]) + udp + payload)
    assert made is not None
    return made


def test_the_nat_exchanges_the_port_both_ways_and_forgets_the_old_one() -> None:
    nat = Nat(first=1, every=5, address=False)
    first = nat(packet(), TO_SERVER, 0.0)
    assert first is not None
    outer = first.source

    def back(to: tuple[bytes, int], now: float) -> Packet | None:
        answer = packet()
        answer.source, answer.destination = (bytes([10, 0, 0, 2]), 443), to
        return nat(answer, TO_CLIENT, now)

    arrived = back(outer, 0.5)
    assert arrived is not None
    assert arrived.destination == (bytes([10, 0, 0, 1]), 40000)
    second = nat(packet(), TO_SERVER, 1.5)
    assert second is not None
    assert second.source[0] == outer[0]
    assert second.source[1] != outer[1]
    assert back(outer, 1.6) is None
    moved = Nat(first=0, every=5, address=True)(packet(), TO_SERVER, 0.0)
    assert moved is not None
    assert moved.source[0] == bytes([10, 0, 0, 2])


def test_what_is_hurt_has_another_payload_and_rightchecksums() -> None:
    hurt = Corrupt(percent=100, burst=3, seed=1)(packet(), TO_SERVER, 0.0)
    assert hurt is not None
    assert hurt.frame[42:] != packet().frame[42:]
    assert checksum(hurt.frame[14:34]) == 0
    length = len(hurt.frame) - 34
    pseudo = bytes(hurt.frame[26:34]) + bytes([0, 17]) + length.to_bytes(2, "big")
    assert checksum(pseudo + bytes(hurt.frame[34:])) == 0


def test_chance_hits_at_most_so_many_in_a_row() -> None:
    drop = Drop(percent=100, burst=3, seed=1)
    assert [drop(packet(), TO_SERVER, 0.0) is None for _ in range(8)] == [True, True, True, False] * 2


def test_a_drop_list_counts_the_clients_packets_and_a_black_hole_the_seconds() -> None:
    drops = DropList([2])
    assert [drops(packet(), direction, 0.0) is None for direction in (TO_SERVER, TO_CLIENT, TO_SERVER)] == [
        False,
        False,
        True,
    ]
    hole = BlackHole(on=5, off=2)
    assert [hole(packet(), TO_CLIENT, now) is None for now in (0, 4.9, 5.1, 6.9, 7.1)] == [
        False,
        False,
        True,
        True,
        False,
    ]


def test_who_cannot_says_why() -> None:
    assert PEERS["caddy"].cannot("client", "handshake")
    assert PEERS["curl"].cannot("client", "v2")
    assert PEERS[FAIRWAY].cannot("client", "v2") is None
