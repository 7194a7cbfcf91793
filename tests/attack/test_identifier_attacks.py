"""PATH_CHALLENGE floods and the churn of connection IDs (attacks 7 and 8)."""

from __future__ import annotations

import os

import pytest
from quic_attacker import Attacker, bounded
from quic_pair import CLIENT_ADDRESS

from fairway.quic import ErrorCode, PeerError, frames
from fairway.quic.connection_ids import RemoteIds


class TestPathsAndIds:  # 7, 8
    def test_7_a_flood_of_path_challenges_is_answered_a_few_times(self) -> None:
        attacker = Attacker()
        before = attacker.answered
        challenges = [
            attacker.packet(b"".join(frames.PathChallenge(os.urandom(8)).encode() for _ in range(120)))
            for _ in range(10)
        ]
        attacker.batch(challenges)
        attacker.pair.settle()
        # One datagram answers the last four; it is padded to the size that proves the path: RFC 9000 section 8.2.2.
        assert attacker.answered - before <= 1200 + 100
        with bounded(steps=250_000, megabytes=1.0):
            for _ in range(300):
                attacker.pair.endpoint.receive(
                    packet := attacker.packet(frames.PathChallenge(os.urandom(8)).encode()),
                    len(packet),
                    CLIENT_ADDRESS,
                    attacker.pair.now,
                )
        assert attacker.code is None

    def test_8_connection_ids_that_retire_each_other_without_end_close(self) -> None:
        attacker = Attacker()
        with bounded(steps=80_000, megabytes=1.0):
            for sequence in range(100, 1000):
                frame = frames.NewConnectionId(sequence, sequence, os.urandom(8), os.urandom(16))
                attacker.send(frame.encode())
                if attacker.code is not None:
                    break
        assert attacker.code == ErrorCode.CONNECTION_ID_LIMIT_ERROR
        assert sequence < 150

    def test_8_more_than_the_limit_at_once_close(self) -> None:
        attacker = Attacker()
        for sequence in range(100, 120):
            attacker.send(frames.NewConnectionId(sequence, 0, os.urandom(8), os.urandom(16)).encode())
        assert attacker.code == ErrorCode.CONNECTION_ID_LIMIT_ERROR

    def test_8_one_id_under_two_numbers_closes(self) -> None:
        attacker = Attacker()
        for sequence in (100, 101):
            attacker.send(frames.NewConnectionId(sequence, 100, b"the same", bytes(16)).encode())
        assert attacker.code == ErrorCode.PROTOCOL_VIOLATION

    @pytest.mark.parametrize("sequence", [0, 999])
    def test_8_the_id_in_use_and_unknown_ones_cannot_be_retired(self, sequence: int) -> None:
        attacker = Attacker()
        attacker.send(frames.RetireConnectionId(sequence).encode())
        assert attacker.code == ErrorCode.PROTOCOL_VIOLATION


class TestRetirements:  # 8
    def test_8_what_was_issued_and_not_yet_sent_cannot_be_retired(self) -> None:
        """Without acknowledgements our frames wait; retiring them blindly would make ever more of them wait."""
        attacker = Attacker()
        with bounded(steps=2_000, megabytes=1.0):
            for sequence in range(1, 3000):
                attacker.push(frames.RetireConnectionId(sequence).encode())
                if attacker.code is not None:
                    break
        assert attacker.code == ErrorCode.PROTOCOL_VIOLATION
        assert sequence < 20

    def test_8_retiring_what_was_sent_without_acknowledging_is_bounded(self) -> None:
        attacker = Attacker()
        with bounded(steps=500_000, megabytes=1.0):
            for sequence in range(1, 3000):
                attacker.send(frames.RetireConnectionId(sequence).encode())
                if attacker.code is not None:
                    break
        assert attacker.code == ErrorCode.PROTOCOL_VIOLATION  # once the window is full, nothing new is announced

    def test_8_one_retired_id_said_again_and_again_is_no_churn(self) -> None:
        attacker = Attacker()
        attacker.send(frames.NewConnectionId(20, 20, b"the next", bytes(16)).encode())
        for _ in range(100):
            attacker.send(frames.NewConnectionId(18, 0, b"too late", bytes(16)).encode())
        assert attacker.code is None

    def test_8_an_acknowledgement_said_twice_makes_no_room(self) -> None:
        ids = RemoteIds(b"first id")
        ids.add(frames.NewConnectionId(1, 1, b"the 2nd.", bytes(16)))
        for _ in range(1000):
            ids.retirement_acknowledged(0)

        def churn() -> None:
            for sequence in range(2, 100):
                ids.add(frames.NewConnectionId(sequence, sequence, sequence.to_bytes(8, "big"), bytes(16)))

        with pytest.raises(PeerError) as raised:
            churn()
        assert raised.value.code == ErrorCode.CONNECTION_ID_LIMIT_ERROR

    @pytest.mark.parametrize(
        "payload",
        [
            frames.NewConnectionId(1, 2, b"12345678", bytes(16)).encode(),
            b"\x18\x01\x00\x00" + bytes(16),
            b"\x18\x01\x00\x15" + bytes(21 + 16),
            b"\x18\x01\x00\x08" + bytes(8 + 15),
        ],
    )
    def test_8_ids_that_cannot_be(self, payload: bytes) -> None:
        attacker = Attacker()
        packet = attacker.packet(payload)
        attacker.pair.inject(packet, to_server=True)
        assert attacker.code == ErrorCode.FRAME_ENCODING_ERROR


class TestChallenges:  # 7
    def test_7_challenges_without_acknowledgements_keep_nothing(self) -> None:
        attacker = Attacker()
        with bounded(steps=3_000_000, megabytes=1.0):
            for _ in range(1500):
                attacker.send(frames.PathChallenge(os.urandom(8)).encode())
        assert attacker.code is None
        assert attacker.server.statistics()["bytes_in_flight"] <= 2 * 12_000
        assert attacker.server.statistics()["runs_remembered"] < 1000
        attacker.honest_peers_notice_nothing()
