"""Fragments, resets, limits and final sizes (attacks 17, 18, 20)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from quic_attacker import AES, Attacker, bounded

from fairway.quic import ErrorCode, QuicConfiguration, ack_frames, frames
from fairway.quic.packets.headers import VERSION_1
from fairway.quic.packets.protection import make_opener
from fairway.wire import Reader, encode_varint

STREAMS = QuicConfiguration(handshake_timeout_s=120.0, max_streams_bidi=8, max_streams_uni=8)
LARGE = QuicConfiguration(handshake_timeout_s=120.0, stream_window=8 << 20, connection_window=16 << 20)
TOP = encode_varint((1 << 62) - 1)


def stream(stream_id: int, offset: int, data: bytes, fin: bool = False) -> bytes:
    return frames.Stream(stream_id, offset, data, fin).encode()


class TestStreams:  # 17, 18, 20
    def test_17_fragments_of_one_byte_are_bounded(self) -> None:
        attacker = Attacker()
        with bounded(steps=400_000, megabytes=2.0):
            for start in range(1, 8000, 200):
                attacker.send(b"".join(stream(0, offset, b"x") for offset in range(start, start + 200, 2)))
                if attacker.code is not None:
                    break
        assert attacker.code == ErrorCode.PROTOCOL_VIOLATION
        attacker.honest_peers_notice_nothing()

    def test_17_fragments_that_touch_become_one(self) -> None:
        attacker = Attacker()
        with bounded(steps=2_500_000, megabytes=2.0):
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
        with bounded(steps=3_000_000, megabytes=1.0):
            for index in range(5000):
                attacker.send(stream(2 + 4 * index, 0, b"x") + frames.ResetStream(2 + 4 * index, 0, 1).encode())
                attacker.pair.now += 0.0001
                if attacker.code is not None:
                    break
                opened += 1
        assert attacker.code == ErrorCode.PROTOCOL_VIOLATION
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


class TestCrumbs:  # 17
    def test_17_crumbs_in_descending_order_before_a_large_piece_do_not_copy_it(self) -> None:
        attacker = Attacker(LARGE)
        for offset in range(30_000, 7_000_000, 60_000):
            attacker.push(stream(0, offset, bytes(60_000)))
        with bounded(steps=4_000_000, at_once=2.0):
            for top in range(30_000, 20_000, -500):
                attacker.push(b"".join(stream(0, offset, b"x") for offset in range(top - 1, top - 501, -1)))
        assert attacker.code is None
        attacker.push(stream(0, 0, bytes(20_000)))
        attacker.pair.settle()
        assert attacker.pair.server.received[0][19_998:30_002] == bytes(2) + b"x" * 10_000 + bytes(2)

    def test_17_crumbs_in_order_that_nobody_reads_cost_what_they_hold(self) -> None:
        attacker = Attacker()
        attacker.pair.server.reading = False
        with bounded(steps=12_000_000, megabytes=0.5):
            for start in range(0, 100_000, 5000):
                attacker.send(b"".join(stream(0, offset, b"xy") for offset in range(start, start + 5000, 2)))
        assert attacker.server.read(0) == b"xy" * 50_000

    def test_17_a_stream_that_nobody_reads_any_more_keeps_nothing(self) -> None:
        """Its bytes no longer count against the connection's window, so they must not be kept past a gap either."""
        attacker = Attacker()
        with bounded(steps=600_000, megabytes=1.0):
            for stream_id in range(0, 4 * 32, 4):
                attacker.send(frames.MaxData(1 << 40).encode() + stream(stream_id, 1, b"x"))
                attacker.server.stop_sending(stream_id, 7)
                for offset in range(10, 400_000, 50_000):
                    attacker.send(stream(stream_id, offset, bytes(50_000)))
        assert attacker.code is None
        attacker.honest_peers_notice_nothing()

    @pytest.mark.parametrize("stopped_first", [False, True])
    def test_17_a_stream_that_nobody_reads_ends_with_its_size(self, stopped_first: bool) -> None:
        attacker = Attacker()
        attacker.send(stream(2, 5, b"x", fin=not stopped_first))
        attacker.server.stop_sending(2, 7)
        if stopped_first:
            attacker.send(stream(2, 6, b"", fin=True))
        assert attacker.server.statistics()["streams"] == 0
        assert attacker.code is None


class TestLimits:  # 18, 20
    @pytest.mark.parametrize("unidirectional", [False, True])
    @pytest.mark.parametrize(
        "make",
        [
            lambda i: stream(i, 0, b"x"),
            lambda i: frames.ResetStream(i, 0, 0).encode(),
            lambda i: frames.ResetStreamAt(i, 0, 0, 0).encode(),
            lambda i: frames.StreamDataBlocked(i, 0).encode(),
            lambda i: frames.MaxStreamData(i, 0).encode(),
            lambda i: frames.StopSending(i, 0).encode(),
        ],
        ids=["STREAM", "RESET_STREAM", "RESET_STREAM_AT", "STREAM_DATA_BLOCKED", "MAX_STREAM_DATA", "STOP_SENDING"],
    )
    def test_18_no_frame_opens_a_stream_past_the_limit(self, make, unidirectional: bool) -> None:  # type: ignore[no-untyped-def]
        for stream_id in (4 * 8 + 2 * unidirectional, (1 << 62) - 4 + 2 * unidirectional):
            attacker = Attacker(STREAMS)
            with bounded(steps=2_000):
                attacker.send(make(stream_id))
            ours_only = unidirectional and make(0)[0] in (frames.MAX_STREAM_DATA, frames.STOP_SENDING)
            assert attacker.code == (ErrorCode.STREAM_STATE_ERROR if ours_only else ErrorCode.STREAM_LIMIT_ERROR)

    @pytest.mark.parametrize(
        "payload",
        [
            b"\x08\x03x",
            frames.ResetStream(3, 0, 0).encode(),
            frames.ResetStream(1, 0, 0).encode(),
            frames.ResetStreamAt(3, 0, 0, 0).encode(),
            frames.ResetStreamAt(1, 0, 0, 0).encode(),
            frames.StreamDataBlocked(3, 0).encode(),
            frames.MaxStreamData(1, 9).encode(),
            frames.MaxStreamData(2, 9).encode(),
            frames.StopSending(1, 0).encode(),
            frames.StopSending(2, 0).encode(),
        ],
    )
    def test_20_frames_for_the_wrong_half_or_before_we_opened(self, payload: bytes) -> None:
        attacker = Attacker(STREAMS)
        attacker.send(payload)
        assert attacker.code == ErrorCode.STREAM_STATE_ERROR
        assert attacker.closing is not None
        assert attacker.closing.frame_type == payload[0]

    @pytest.mark.parametrize(
        "payload",
        [
            stream(0, 0, b"0123456789") + stream(0, 0, b"0123", fin=True),
            stream(0, 0, b"0123456789") + frames.ResetStream(0, 0, 9).encode(),
            stream(0, 10, b"", fin=True) + stream(0, 11, b"", fin=True),
            stream(0, 10, b"", fin=True) + stream(0, 10, b"x"),
            stream(0, 10, b"", fin=True) + frames.ResetStream(0, 0, 11).encode(),
            frames.ResetStream(0, 0, 5).encode() + frames.ResetStream(0, 0, 6).encode(),
            frames.ResetStream(0, 0, 5).encode() + stream(0, 0, b"012345"),
            stream(0, 0, b"0123456789") + frames.ResetStreamAt(0, 0, 9, 2).encode(),
            frames.ResetStreamAt(0, 0, 5, 2).encode() + frames.ResetStreamAt(0, 0, 6, 2).encode(),
            frames.ResetStreamAt(0, 0, 5, 2).encode() + stream(0, 0, b"012345"),
        ],
    )
    def test_20_a_final_size_holds(self, payload: bytes) -> None:
        attacker = Attacker(STREAMS)
        attacker.push(payload)
        assert attacker.code == ErrorCode.FINAL_SIZE_ERROR

    @pytest.mark.parametrize(
        "payload",
        [
            stream(0, (1 << 62) - 1, b"x"),
            b"\x12" + encode_varint((1 << 60) + 1),
            b"\x13" + TOP,
            b"\x16" + TOP,
            b"\x17" + TOP,
            b"\x06" + TOP + b"\1x",
            b"\x0e\0\0" + TOP,
            b"\x07\0",
            b"\x21",
            b"\xff" * 8,
        ],
    )
    def test_20_what_no_number_can_be(self, payload: bytes) -> None:
        attacker = Attacker(STREAMS)
        attacker.push(payload)
        assert attacker.code == ErrorCode.FRAME_ENCODING_ERROR

    @pytest.mark.parametrize("limit", [(1 << 62) - 1, 1 << 60])
    def test_20_the_greatest_limits_are_taken(self, limit: int) -> None:
        attacker = Attacker(STREAMS)
        attacker.send(frames.MaxData((1 << 62) - 1).encode() + frames.MaxStreams(min(limit, 1 << 60), False).encode())
        stream_id = attacker.server.open_stream()
        assert stream_id is not None
        attacker.send(frames.MaxStreamData(stream_id, limit).encode())
        attacker.server.write(stream_id, bytes(100_000))
        attacker.pair.run_for(1.0)
        assert attacker.code is None

    def test_20_limits_that_shrink_are_ignored(self) -> None:
        attacker = Attacker()
        stream_id = attacker.server.open_stream()
        assert stream_id is not None
        low = frames.MaxData(0).encode() + frames.MaxStreamData(stream_id, 0).encode()
        attacker.send(low + frames.MaxStreams(0, False).encode() + frames.MaxStreams(0, True).encode())
        before = attacker.answered
        attacker.server.write(stream_id, bytes(5000))
        attacker.pair.run_for(0.1)
        assert attacker.answered - before > 5000
        assert attacker.server.open_stream() is not None


class Unlimited:
    """A controller that lets everything go: only the bound is left to hold the sender up."""

    window = 1 << 30

    def nothing(self, *_: object) -> None:
        """Whatever happens."""

    on_sent = on_acked = on_lost = on_spurious_loss = on_packet_size = nothing


def begins(payload: bytes, stream_id: int) -> bool:
    """Whether a packet carries the first byte of a stream."""
    reader = Reader(payload)
    while reader.remaining:
        _, frame = frames.decode_frame(reader)
        if isinstance(frame, frames.Stream) and frame.stream_id == stream_id and frame.offset == 0:
            return True
    return False


class TestOfAllStreams:
    def test_17_fragments_are_bounded_over_all_streams_too(self) -> None:
        attacker = Attacker(replace(LARGE, max_streams_uni=128))
        with bounded(steps=3_000_000, megabytes=4.0):
            for start in range(1, 1800, 200):
                for index in range(128):
                    attacker.push(b"".join(stream(2 + 4 * index, at, b"x") for at in range(start, start + 200, 2)))
                    if attacker.code is not None:
                        break
        assert attacker.code == ErrorCode.PROTOCOL_VIOLATION
        assert attacker.closing is not None
        assert "streams" in attacker.closing.reason
        attacker.honest_peers_notice_nothing()

    def test_17_fragments_of_streams_that_are_reset_or_no_longer_read_do_not_count(self) -> None:
        attacker = Attacker(replace(LARGE, max_streams_uni=128))
        for index in range(120):
            stream_id = 2 + 4 * index
            attacker.push(b"".join(stream(stream_id, at, b"x") for at in range(1, 600, 2)))
            if index % 2:
                attacker.push(frames.ResetStream(stream_id, 0, 600).encode())
                attacker.server.acknowledge_reset(stream_id)
            else:
                attacker.server.stop_sending(stream_id, 0)
        assert attacker.code is None

    def test_an_early_byte_that_is_never_acknowledged_holds_up_the_sender_in_bounds(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The limits rise and rise, all is acknowledged but for the first packet: what follows it is kept."""
        monkeypatch.setattr("fairway.quic.streams.outgoing.MAX_BYTES_KEPT", 1 << 20)
        attacker = Attacker(QuicConfiguration(congestion=lambda size: Unlimited()))
        opener = make_opener(VERSION_1, AES, attacker.secret("SERVER_TRAFFIC_SECRET_0"))
        server, pair = attacker.server, attacker.pair
        stream_id = server.open_stream(unidirectional=True)
        assert stream_id is not None
        block, largest, written = bytes(50_000), -1, 0
        attacker.push(frames.MaxData(1 << 40).encode() + frames.MaxStreamData(stream_id, 1 << 40).encode())
        with bounded(steps=1_500_000, megabytes=3.0):
            for _ in range(100):
                written += server.write(stream_id, block)
                seen: list[int] = []
                while (out := server.transmit(pair.now)) is not None:
                    numbers, payloads, _ = opener.open_batch(
                        out.data, len(out.data), out.segment, attacker.client_id, largest, 0
                    )
                    largest = max([largest, *numbers])
                    seen += [n for n, payload in zip(numbers, payloads, strict=True) if not begins(payload, stream_id)]
                for number in seen:
                    attacker.push(ack_frames.Ack(((number, number),), 0).encode())
                pair.now += 0.01
                server.handle_timeout(pair.now)
        assert attacker.code is None
        assert written > 1 << 20
        assert server.statistics()["stream_bytes_kept"] <= 1 << 20
        attacker.honest_peers_notice_nothing()
