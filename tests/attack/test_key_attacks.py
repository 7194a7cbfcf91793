"""Garbage key phases, updates without end, worn keys (attack 22)."""

from __future__ import annotations

import pytest
from quic_attacker import Attacker, bounded
from quic_pair import Pair, SimulatedPath

from fairway.quic import ErrorCode, frames
from fairway.quic.packets import protection
from fairway.quic.packets.headers import KEY_PHASE


def stream(stream_id: int, offset: int, data: bytes, fin: bool = False) -> bytes:
    return frames.Stream(stream_id, offset, data, fin).encode()


class TestKeys:  # 22
    def test_22_flipped_key_phases_change_nothing(self) -> None:
        attacker = Attacker()
        for _ in range(500):
            forged = bytearray(attacker.packet(b"\x01" * 50, phase=KEY_PHASE))  # sealed with the wrong keys
            attacker.pair.inject(bytes(forged), to_server=True)
        assert attacker.code is None
        attacker.send(stream(0, 0, b"still here"))
        attacker.pair.run_for(0.1)
        assert attacker.pair.server.received[0] == b"still here"

    def test_22_too_many_forgeries_reach_the_aead_limit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(protection.INTEGRITY_LIMIT, protection.CipherSuite.AES_128_GCM_SHA256, 100)
        attacker = Attacker()
        for _ in range(101):
            packet = attacker.packet(b"\x01" * 50)
            attacker.pair.inject(packet[:-1] + bytes((packet[-1] ^ 1,)), to_server=True)
        assert attacker.code == ErrorCode.AEAD_LIMIT_REACHED

    def test_22_keys_are_updated_before_they_wear_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for suite in protection.CONFIDENTIALITY_LIMIT:
            monkeypatch.setitem(protection.CONFIDENTIALITY_LIMIT, suite, 300)
        phases = set()

        def look(index: int, data: bytes) -> bool:
            return False

        pair = Pair(there=SimulatedPath(drop=look))
        assert pair.client.core is not None
        for _ in range(10):
            stream_id = pair.client.core.open_stream(unidirectional=True)
            assert stream_id is not None
            pair.client.core.write(stream_id, bytes(100_000), end=True)
            pair.run(lambda stream_id=stream_id: stream_id in pair.server.ended)  # type: ignore[misc]
            phases.add(pair.client.core.statistics()["key_updates"])
        assert pair.client.core.closing is None
        assert max(phases) >= 2


class TestUpdates:  # 22
    def test_22_a_second_update_before_anything_of_ours_answers_the_first(self) -> None:
        attacker = Attacker()
        for _ in range(2):
            assert attacker.code is None
            attacker.update_keys()
            attacker.push(frames.Ping().encode())
        assert attacker.code == ErrorCode.KEY_UPDATE_ERROR

    def test_22_updates_that_are_answered_keep_nothing(self) -> None:
        attacker = Attacker()
        with bounded(steps=1_000_000, megabytes=1.0):
            for turn in range(1, 200):
                attacker.update_keys()
                attacker.push(frames.Ping().encode() * 2)
                attacker.pair.run_for(0.05)
                assert attacker.server.statistics()["key_updates"] == turn
        assert attacker.code is None
        attacker.honest_peers_notice_nothing()

    def test_22_the_next_phase_cannot_have_lower_numbers(self) -> None:
        attacker = Attacker()
        attacker.update_keys()
        attacker.send(frames.Ping().encode(), 5000)
        attacker.update_keys()
        attacker.send(frames.Ping().encode(), 4000)
        assert attacker.code == ErrorCode.KEY_UPDATE_ERROR

    def test_22_the_previous_phase_cannot_have_higher_numbers(self) -> None:
        attacker = Attacker()
        late = attacker.packet(frames.Ping().encode(), 6000)
        attacker.update_keys()
        attacker.send(frames.Ping().encode(), 5000)
        attacker.pair.inject(late, to_server=True)
        assert attacker.code == ErrorCode.KEY_UPDATE_ERROR

    def test_22_reserved_bits_are_a_violation_only_if_they_are_genuine(self) -> None:
        attacker = Attacker()
        packet = attacker.packet(frames.Ping().encode(), phase=0x18)
        attacker.pair.inject(packet[:-1] + bytes((packet[-1] ^ 1,)), to_server=True)
        assert attacker.code is None
        attacker.pair.inject(packet, to_server=True)
        assert attacker.code == ErrorCode.PROTOCOL_VIOLATION

    def test_22_a_packet_without_frames(self) -> None:
        attacker = Attacker()
        empty = attacker.sealer.seal(0x40, attacker.server_id, 2000, 4, [b""])
        attacker.pair.inject(empty, to_server=True)
        assert attacker.code == ErrorCode.PROTOCOL_VIOLATION
