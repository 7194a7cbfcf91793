"""Control frames without end, and acknowledgements withheld (attack 21)."""

from __future__ import annotations

import os

import pytest
from quic_attacker import Attacker, FalseServer, bounded
from quic_pair import CLIENT_ADDRESS

from fairway.quic import QuicConfiguration, frames
from fairway.quic.packets.headers import PacketType
from fairway.wire import encode_varints

STREAMS = QuicConfiguration(handshake_timeout_s=120.0, max_streams_bidi=8, max_streams_uni=8)


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
        with bounded(steps=10_000_000, megabytes=1.0):
            for _ in range(200):
                attacker.send(flood)
        assert attacker.code is None
        assert attacker.answered - answered < 200 * 100
        attacker.honest_peers_notice_nothing()


class TestWithheldAcknowledgements:  # 21
    @pytest.mark.parametrize(
        "make",
        [
            lambda i: frames.Ping().encode(),
            lambda i: frames.MaxStreams(10 + i, bool(i & 1)).encode(),
            lambda i: frames.MaxData(1_000_000 + i).encode(),
            lambda i: frames.StreamDataBlocked(4 * (i % 8), i).encode(),
            lambda i: frames.MaxStreamData(4 * (i % 8), i).encode(),
            lambda i: frames.StopSending(4 * (i % 8), i).encode(),
            lambda i: frames.PathResponse(os.urandom(8)).encode(),
            lambda i: frames.Stream(4 * (i % 8), 0, b"").encode(),
        ],
        ids=["PING", "MAX_STREAMS", "MAX_DATA", "STREAM_DATA_BLOCKED", "MAX_STREAM_DATA", "STOP_SENDING",
             "PATH_RESPONSE", "empty STREAM"],
    )  # fmt: skip
    def test_21_no_frame_makes_us_remember_more_and_more(self, make) -> None:  # type: ignore[no-untyped-def]
        attacker = Attacker(STREAMS)
        with bounded(steps=8_000_000, megabytes=0.6):
            for i in range(4000):
                attacker.push(make(i) * 3)
                while attacker.server.transmit(attacker.pair.now) is not None:
                    pass
        assert attacker.code is None
        statistics = attacker.server.statistics()
        assert statistics["bytes_in_flight"] <= statistics["congestion_window"] + 1200
        assert statistics["runs_remembered"] < 500
        assert len(attacker.server.events()) < 100

    def test_21_a_stranger_who_asks_for_acknowledgements_only_is_not_remembered(self) -> None:
        attacker = Attacker(connect=False)
        attacker.pair.run(lambda: attacker.pair.server.core is not None)
        attacker.take_over()
        for number in range(100, 1100):
            attacker.pair.inject(attacker.long_packet(PacketType.INITIAL, b"\1", number), to_server=True)
        assert attacker.code is None
        assert attacker.server.statistics()["packets_sent"] > 500
        assert attacker.server.statistics()["runs_remembered"] < 20

    def test_21_tokens_without_end_are_bounded(self) -> None:
        server = FalseServer()
        with bounded(steps=600_000, megabytes=0.1):
            for size in (1, 500, 1000, 60_000):
                for _ in range(100):
                    server.send(frames.NewToken(os.urandom(size)).encode())
        assert server.code is None

    def test_21_frames_of_one_byte_in_a_large_datagram(self) -> None:
        attacker = Attacker()
        with bounded(steps=4_000_000):
            attacker.push(b"\0\1" * 30_000)
        assert attacker.code is None


def test_of_a_reason_without_end_a_kilobyte_is_kept() -> None:
    attacker = Attacker()
    long = encode_varints(frames.CONNECTION_CLOSE_APPLICATION, 0x100, 5_000) + b"why" * 2_000
    packet = attacker.packet(long[:5_005])
    attacker.pair.endpoint.receive(packet, len(packet), CLIENT_ADDRESS, attacker.pair.now)
    attacker.pair.settle()
    assert attacker.closing is not None
    assert len(attacker.closing.reason) == 1024
