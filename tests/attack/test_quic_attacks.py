"""Attacks on a QUIC endpoint, numbered as in the list of known ones: each has a named answer and bounded cost."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quic_attacker import Attacker, bounded
from quic_pair import CLIENT_ADDRESS, Pair, SimulatedPath

from fairway.quic import ErrorCode, PeerError, Phase, QuicConfiguration, frames, protection
from fairway.quic import events as ev
from fairway.quic.packet import KEY_PHASE, PacketType
from fairway.quic.spaces import ReceivedNumbers
from fairway.quic.transport_parameters import TransportParameters, decode_parameters, encode_parameters
from fairway.wire import encode_varint

STREAMS = QuicConfiguration(handshake_timeout_s=120.0, max_streams_bidi=8, max_streams_uni=8)


def stream(stream_id: int, offset: int, data: bytes, fin: bool = False) -> bytes:
    return frames.Stream(stream_id, offset, data, fin).encode()


class TestCryptoData:  # 1
    @pytest.mark.parametrize("kind", [PacketType.INITIAL, PacketType.HANDSHAKE])
    def test_1_handshake_data_far_ahead_exceeds_the_buffer(self, kind: PacketType) -> None:
        attacker = Attacker(connect=False)
        # The server's last flight is lost, so that it keeps its handshake keys.
        attacker.pair.run(lambda: any(True for _ in attacker.pair.endpoint.connections()))
        if kind is PacketType.HANDSHAKE:
            attacker.pair.there.drop = None
            attacker.pair.run(lambda: bool(attacker.pair.client.of(ev.HandshakeCompleted)))
        attacker.pair.client.core = None
        attacker.pair.server.core = attacker.pair.endpoint.connections()[0]
        packet = attacker.long_packet(kind, frames.Crypto(70_000, b"x" * 100).encode())
        attacker.pair.inject(packet, to_server=True)
        assert attacker.code == ErrorCode.CRYPTO_BUFFER_EXCEEDED

    def test_1_after_the_handshake_too(self) -> None:
        attacker = Attacker()
        attacker.send(frames.Crypto(65_536 + 100, b"x").encode())
        assert attacker.code == ErrorCode.CRYPTO_BUFFER_EXCEEDED

    def test_1_what_fits_is_kept_within_the_bound(self) -> None:
        attacker = Attacker()
        with bounded(megabytes=1.0):
            for offset in range(1, 60_000, 1000):
                attacker.send(frames.Crypto(offset, b"x" * 500).encode())
        assert attacker.code is None
        attacker.honest_peers_notice_nothing()


class TestAcknowledgements:  # 2 to 6
    def test_2_a_packet_that_was_never_sent_cannot_be_acknowledged(self) -> None:
        attacker = Attacker()
        attacker.send(frames.Ack(((100_000, 100_000),), 0).encode())
        assert attacker.code == ErrorCode.PROTOCOL_VIOLATION

    def test_3_an_optimistic_acknowledgement_hits_a_skipped_number(self) -> None:
        attacker = Attacker()
        attacker.send(frames.MaxData(1 << 40).encode())
        stream_id = attacker.server.open_stream()
        assert stream_id is not None
        acknowledged = -1
        while attacker.code is None and acknowledged < 10_000:
            attacker.server.write(stream_id, bytes(100_000))
            attacker.pair.settle()
            attacker.pair.run_for(0.02)
            acknowledged += 5  # never seen, acknowledged all the same
            attacker.send(
                frames.Ack(((0, acknowledged),), 0).encode() + frames.MaxStreamData(stream_id, 1 << 40).encode()
            )
        assert attacker.code == ErrorCode.PROTOCOL_VIOLATION
        assert attacker.closing is not None
        assert "skipped" in attacker.closing.reason or "not sent" in attacker.closing.reason

    def test_4_ranges_below_zero_and_beyond_everything(self) -> None:
        for payload in (
            bytes([frames.ACK, 5, 0, 0, 9]),
            bytes([frames.ACK]) + encode_varint((1 << 62) - 1) + bytes([0, 0]) + encode_varint((1 << 62) - 1),
        ):
            attacker = Attacker()
            with bounded(seconds=0.5):
                attacker.send(payload)
            assert attacker.code in (ErrorCode.FRAME_ENCODING_ERROR, ErrorCode.PROTOCOL_VIOLATION)

    def test_5_odd_packet_numbers_only_leave_a_bounded_number_of_ranges(self) -> None:
        attacker = Attacker()
        with bounded(megabytes=1.0):
            for number in range(10_001, 20_001, 2):
                attacker.send(frames.Ping().encode(), number)
                attacker.pair.run_for(0.001)
        assert attacker.code is None
        received = ReceivedNumbers()
        for number in range(1, 10_000, 2):
            received.add(number, number, 0.0)
        assert len(received.ranges()) <= 32
        assert all(number in received for number in range(1, 9000))  # forgotten ones count as received
        attacker.honest_peers_notice_nothing()

    def test_6_a_replayed_packet_does_nothing(self) -> None:
        answered = []
        for replays in (0, 100):
            attacker = Attacker()
            packet = attacker.packet(frames.PathChallenge(b"12345678").encode())
            attacker.pair.inject(packet, to_server=True)
            attacker.pair.run_for(1.0)
            for _ in range(replays):
                attacker.pair.inject(packet, to_server=True)
            attacker.pair.run_for(1.0)
            answered.append(attacker.answered)
        assert answered[0] == answered[1]


class TestPathsAndIds:  # 7 to 9
    def test_7_a_flood_of_path_challenges_is_answered_a_few_times(self) -> None:
        attacker = Attacker()
        before = attacker.answered
        attacker.send(b"".join(frames.PathChallenge(os.urandom(8)).encode() for _ in range(120)))
        assert attacker.answered - before < 200
        with bounded(megabytes=1.0):
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
        with bounded(megabytes=1.0):
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

    @pytest.mark.parametrize("coalesced", [False, True])
    def test_9_an_unvalidated_address_gets_three_times_what_it_sent(self, coalesced: bool) -> None:
        pair = Pair(there=SimulatedPath(), connect=False)
        assert pair.client.core is not None
        sent = []
        while (out := pair.client.core.transmit(pair.now)) is not None:
            sent.append(out.data)
        pair.client.core = None
        datagrams = [b"".join(data[: len(data) // 2] for data in sent)] if coalesced else []
        for datagram in [*sent, *datagrams]:
            pair.inject(datagram, to_server=True)
        received = sum(map(len, sent)) + sum(map(len, datagrams))
        pair.run_for(60.0)
        assert 0 < pair.back.bytes <= 3 * received


class TestVersions:  # 13
    def test_13_version_zero_and_tiny_headers_get_no_answer(self) -> None:
        pair = Pair()
        before = pair.back.count
        for datagram in (
            b"\xc0\0\0\0\0\x08" + bytes(8) + b"\0" + bytes(1200),
            b"\xc0\x1a\x2a\x3a\x4a\x08" + bytes(8) + b"\0",
            b"\xc0\x1a\x2a",
            b"\xc0",
            b"",
        ):
            if datagram:
                pair.inject(datagram, to_server=True)
        pair.run_for(0.1)
        assert pair.back.count == before

    def test_13_unknown_versions_are_answered_at_a_bounded_rate(self) -> None:
        pair = Pair()
        before = pair.back.count
        for _ in range(1000):
            pair.inject(b"\xc0\x1a\x2a\x3a\x4a\x08" + os.urandom(8) + b"\0" + bytes(1200), to_server=True)
        assert 0 < pair.back.count - before <= 100


class TestFramesInTheWrongPlace:  # 16
    def test_16_a_client_cannot_say_that_the_handshake_is_done(self) -> None:
        attacker = Attacker()
        attacker.send(frames.HandshakeDone().encode())
        assert attacker.code == ErrorCode.PROTOCOL_VIOLATION

    @pytest.mark.parametrize(
        "frame",
        [
            frames.HandshakeDone(),
            frames.Stream(0, 0, b"early"),
            frames.MaxData(1),
            frames.NewToken(b"x"),
            frames.PathChallenge(bytes(8)),
            frames.ConnectionClose(1, application=True),
        ],
    )
    def test_16_frames_of_another_level_close_without_an_exception(self, frame: frames.Frame) -> None:
        attacker = Attacker(connect=False)
        attacker.pair.run(lambda: attacker.pair.server.core is not None)
        attacker.pair.client.core = None
        attacker.pair.inject(attacker.long_packet(PacketType.INITIAL, frame.encode()), to_server=True)
        assert attacker.code == ErrorCode.PROTOCOL_VIOLATION

    def test_16_a_client_sends_no_tokens(self) -> None:
        attacker = Attacker()
        attacker.send(frames.NewToken(b"token").encode())
        assert attacker.code == ErrorCode.PROTOCOL_VIOLATION


class TestStreams:  # 17, 18, 20
    def test_17_fragments_of_one_byte_are_bounded(self) -> None:
        attacker = Attacker()
        with bounded(seconds=10.0, megabytes=2.0):
            for start in range(1, 8000, 200):
                attacker.send(b"".join(stream(0, offset, b"x") for offset in range(start, start + 200, 2)))
                if attacker.code is not None:
                    break
        assert attacker.code == ErrorCode.PROTOCOL_VIOLATION
        attacker.honest_peers_notice_nothing()

    def test_17_fragments_that_touch_become_one(self) -> None:
        attacker = Attacker()
        with bounded(seconds=10.0, megabytes=2.0):
            for start in range(1, 6000, 100):
                attacker.send(b"".join(stream(0, offset, b"x") for offset in range(start, start + 100)))
        assert attacker.code is None

    def test_18_a_reset_past_the_stream_limit(self) -> None:
        attacker = Attacker(STREAMS)
        attacker.send(frames.ResetStream(4 * 8, 0, 0).encode())
        assert attacker.code == ErrorCode.STREAM_LIMIT_ERROR

    def test_18_rapid_resets_are_capped(self) -> None:
        attacker = Attacker(STREAMS)
        opened = 0
        with bounded(megabytes=1.0):
            for index in range(5000):
                attacker.send(stream(2 + 4 * index, 0, b"x") + frames.ResetStream(2 + 4 * index, 0, 1).encode())
                attacker.pair.now += 0.0001
                if attacker.code is not None:
                    break
                opened += 1
        assert attacker.code in (ErrorCode.PROTOCOL_VIOLATION, ErrorCode.STREAM_LIMIT_ERROR)
        assert opened <= 1001
        attacker.honest_peers_notice_nothing()

    def test_20_past_a_streams_window(self) -> None:
        attacker = Attacker(replace(STREAMS, stream_window=1000))
        attacker.send(stream(0, 1000, b"x"))
        assert attacker.code == ErrorCode.FLOW_CONTROL_ERROR

    def test_20_past_the_connections_window_also_in_many_packets(self) -> None:
        attacker = Attacker(replace(STREAMS, stream_window=5000, connection_window=6000))
        attacker.pair.server.reading = False
        data = bytes(1000)
        for stream_id in (0, 4):
            for offset in range(0, 4000, 1000):
                attacker.send(stream(stream_id, offset, data))
        assert attacker.code == ErrorCode.FLOW_CONTROL_ERROR

    def test_20_a_reset_counts_up_to_its_final_size(self) -> None:
        attacker = Attacker(replace(STREAMS, stream_window=5000, connection_window=6000))
        for stream_id in (0, 4):
            attacker.send(frames.ResetStream(stream_id, 0, 4000).encode())
        assert attacker.code is None  # what a reset stream used is given back
        attacker.send(frames.ResetStream(8, 0, 5001).encode())
        assert attacker.code == ErrorCode.FLOW_CONTROL_ERROR

    def test_20_a_final_size_that_changes(self) -> None:
        attacker = Attacker(STREAMS)
        attacker.send(stream(0, 0, b"0123456789", fin=True) + stream(0, 5, b"56789x"))
        assert attacker.code == ErrorCode.FINAL_SIZE_ERROR

    def test_20_our_own_streams_are_ours(self) -> None:
        attacker = Attacker(STREAMS)
        attacker.send(stream(1, 0, b"x"))
        assert attacker.code == ErrorCode.STREAM_STATE_ERROR


class TestFloods:  # 21
    def test_21_control_frames_without_end_are_bounded(self) -> None:
        attacker = Attacker(STREAMS)
        flood = (
            frames.Ping().encode() * 100
            + b"".join(frames.MaxData(n).encode() for n in range(100))
            + b"".join(frames.DataBlocked(n).encode() for n in range(100))
            + b"".join(frames.StreamsBlocked(n, False).encode() for n in range(100))
        )
        answered = attacker.answered
        with bounded(seconds=20.0, megabytes=1.0):
            for _ in range(200):
                attacker.send(flood)
        assert attacker.code is None
        assert attacker.answered - answered < 200 * 100
        attacker.honest_peers_notice_nothing()


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


class TestTransportParameters:  # 30
    @pytest.mark.parametrize(
        ("number", "value"),
        [
            (0x03, encode_varint(1199)),
            (0x08, encode_varint((1 << 60) + 1)),
            (0x09, encode_varint((1 << 62) - 1)),
            (0x0A, encode_varint(21)),
            (0x0B, encode_varint(1 << 14)),
            (0x0E, encode_varint(1)),
            (0x0F, bytes(21)),
            (0x01, b""),
            (0x04, encode_varint(5) + b"x"),
            (0x0C, b"x"),
            (0x00, bytes(8)),  # a server's, from a client
            (0x02, bytes(16)),
            (0x0D, bytes(45)),
            (0x10, bytes(8)),
        ],
    )
    def test_30_values_out_of_range(self, number: int, value: bytes) -> None:
        data = encode_varint(number) + encode_varint(len(value)) + value
        with pytest.raises(PeerError) as raised:
            decode_parameters(data, from_client=True)
        assert raised.value.code == ErrorCode.TRANSPORT_PARAMETER_ERROR

    def test_30_a_parameter_given_twice(self) -> None:
        data = encode_parameters(TransportParameters(initial_max_data=5))
        with pytest.raises(PeerError, match="twice"):
            decode_parameters(data + data, from_client=True)

    def test_30_parameters_without_end(self) -> None:
        data = b"".join(encode_varint(31 * n + 27) + b"\0" for n in range(1000))
        with pytest.raises(PeerError, match="too many"):
            decode_parameters(data, from_client=True)


class TestParsers:  # 32
    @settings(max_examples=200, deadline=1000)
    @given(st.binary(min_size=1, max_size=300))
    def test_32_any_payload_ends_legally_or_closes(self, payload: bytes) -> None:
        attacker = SHARED.fresh()
        attacker.send(payload)
        assert attacker.server.phase in Phase

    @settings(max_examples=200, deadline=1000)
    @given(st.lists(st.binary(max_size=1300), min_size=1, max_size=4), st.integers(1, 1300))
    def test_32_any_datagrams_end_legally(self, parts: list[bytes], segment: int) -> None:
        attacker = SHARED.fresh()
        buffer = b"".join(parts)
        attacker.pair.endpoint.receive(buffer, segment, CLIENT_ADDRESS, attacker.pair.now)
        attacker.pair.settle()
        assert attacker.server.closing is None

    def test_32_damaged_datagrams_of_a_handshake_end_legally(self) -> None:
        rng = random.Random(7)
        patient = QuicConfiguration(handshake_timeout_s=600.0, idle_timeout_s=600.0)
        for _ in range(60):
            bad = SimulatedPath(corruption=0.4)
            pair = Pair(patient, there=bad, back=replace(bad), seed=rng.randrange(1 << 32))
            assert pair.connected


class _Shared:
    """One attacker for many examples, as long as its connection lives."""

    def __init__(self) -> None:
        self._attacker: Attacker | None = None

    def fresh(self) -> Attacker:
        if self._attacker is None or self._attacker.code is not None or self._attacker.server.closing:
            self._attacker = Attacker()
        return self._attacker


SHARED = _Shared()


class TestBombs:  # 33
    def test_33_a_client_hello_that_says_it_is_huge(self) -> None:
        attacker = Attacker(connect=False)
        attacker.pair.run(lambda: True)
        assert attacker.pair.client.core is not None
        attacker.pair.settle()
        attacker.pair.client.core = None
        hello = b"\x01" + (1 << 23).to_bytes(3, "big") + bytes(1000)
        pair = Attacker(connect=False)
        pair.pair.settle()
        pair.pair.client.core = None
        packet = pair.long_packet(PacketType.INITIAL, frames.Crypto(0, hello).encode(), number=0)
        pair.pair.inject(packet, to_server=True)
        assert pair.code is not None
        assert 0x100 <= pair.code < 0x200

    def test_33_handshake_messages_without_end(self) -> None:
        attacker = Attacker(connect=False)
        attacker.pair.settle()
        attacker.pair.client.core = None
        with bounded(megabytes=2.0):
            for index in range(400):
                hello = b"\x01\x00\x3f\xff" + bytes(996) if not index else bytes(1000)
                crypto = frames.Crypto(index * 1000, hello)
                packet = attacker.long_packet(PacketType.INITIAL, crypto.encode(), number=index)
                attacker.pair.inject(packet, to_server=True)
                if attacker.pair.server.core is not None and attacker.code is not None:
                    break
        assert attacker.code is not None
        assert index < 100


class TestHashes:  # 34
    def test_34_connection_ids_hash_differently_in_every_process(self) -> None:
        command = [sys.executable, "-c", "print(hash(b'8bytesid'))"]
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONHASHSEED"}
        results = {subprocess.run(command, capture_output=True, check=True, env=environment).stdout for _ in range(3)}
        assert len(results) > 1
