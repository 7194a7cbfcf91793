"""Attacks on HTTP/3 by a peer that writes its own frames: 24 to 27, and what 18, 19 and 21 mean for requests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "http3"))

from http3_pair import GET, OK, POST
from quic_attacker import bounded
from raw_peers import RawPeer, data, headers, section

from fairway.http3 import BodyReadable, H3Code, MessageFailed, RequestReceived, frames
from fairway.http3.limits import MAX_EARLY_PRIORITIES, MAX_UNDECODED_FIELDS
from fairway.quic import QuicConfiguration
from fairway.wire import encode_varint

ENCODER_STREAM = encode_varint(frames.QPACK_ENCODER_STREAM)
SET_4096 = b"\x3f\xe1\x1f"
UNKNOWN = 0x1F * 9 + 0x21


def insert(name: bytes, value: bytes) -> bytes:
    """Insert a field with a literal name (RFC 9204 section 4.3.3)."""
    length = len(value)
    assert length >= 127
    rest, tail = length - 127, b""
    while rest >= 128:
        tail += bytes((rest & 0x7F | 0x80,))
        rest >>= 7
    return bytes((0x40 | len(name),)) + name + b"\x7f" + tail + bytes((rest,)) + value


class TestExpansion:  # 24
    @pytest.mark.parametrize("lines", [200, 500, 5_000, 60_000])
    @pytest.mark.parametrize("place", ["headers", "trailers"])
    def test_24_few_bytes_do_not_become_many(self, lines: int, place: str) -> None:
        peer = RawPeer(client=True)
        peer.stream(ENCODER_STREAM + SET_4096 + insert(b"x", b"v" * 4000))
        bomb = frames.encode(frames.HEADERS, b"\x02\x00" + section(GET)[2:] + b"\x80" * lines)
        if place == "trailers":
            bomb = headers(POST) + data(b"body") + frames.encode(frames.HEADERS, b"\x02\x00" + b"\x80" * lines)
        with bounded(steps=250_000, megabytes=3.0):
            stream_id = peer.request(bomb)
            while peer.http.read(stream_id):
                pass
            peer.pair.run_for(0.1)
        assert len(peer.tested.of(RequestReceived)) == (place == "trailers")
        assert [type(event) for event in peer.tested.of(MessageFailed)] == [MessageFailed]
        assert peer.code is None

    def test_24_the_bomb_again_and_again_ends_the_connection(self) -> None:
        peer = RawPeer(client=True)
        peer.stream(ENCODER_STREAM + SET_4096 + insert(b"x", b"v" * 4000))
        bomb = frames.encode(frames.HEADERS, b"\x02\x00" + b"\x80" * 60_000)
        with bounded(steps=40_000_000, megabytes=4.0):
            for _ in range(1500):
                if peer.core.closing is not None:
                    break
                peer.core.write(peer.open(unidirectional=False), bomb, end=True, whole=True)
                peer.pair.run_for(0.03)
                peer.tested.events.clear() if peer.core.closing is None else None
                peer.side.received.clear()
                peer.side.events.clear()
        assert peer.core.closing is not None
        assert peer.core.closing.code == H3Code.H3_EXCESSIVE_LOAD


class TestBlockedAndThrashed:  # 25
    def test_25_blocked_sections_of_the_largest_size_are_bounded(self) -> None:
        peer = RawPeer(client=True)
        peer.stream(ENCODER_STREAM + SET_4096)
        block = b"\x02\x00" + section([*GET, (b"x", b"y" * 60_000)])[2:] + b"\x80"
        with bounded(steps=800_000, megabytes=4.0):
            for _ in range(16):
                if peer.core.closing is None:
                    peer.request(frames.encode(frames.HEADERS, block))
        assert peer.code == H3Code.H3_EXCESSIVE_LOAD

    def test_25_capacity_changes_and_insertions_without_end_cost_what_they_send(self) -> None:
        peer = RawPeer(client=True)
        stream_id = peer.stream(ENCODER_STREAM)
        thrash = (b"\x20" + SET_4096 + insert(b"x", b"v" * 2000) + insert(b"y", b"v" * 1900)) * 20
        with bounded(steps=2_000_000, megabytes=2.0):
            for _ in range(50):
                peer.write(stream_id, thrash)
        assert peer.code is None
        peer.request(headers(GET), end=True)
        assert peer.tested.of(RequestReceived)


class TestFrames:  # 26
    @pytest.mark.parametrize(
        "spam",
        [
            frames.encode(UNKNOWN, b""),
            frames.encode(frames.MAX_PUSH_ID, encode_varint(5)),
            frames.Goaway(0).encode(),
            frames.PriorityUpdate(4, b"u=1").encode(),
        ],
        ids=["unknown", "MAX_PUSH_ID", "GOAWAY", "PRIORITY_UPDATE"],
    )
    def test_26_frames_without_end_on_the_control_stream_end_the_connection(self, spam: bytes) -> None:
        peer = RawPeer(client=True)
        peer.write(peer.control, spam * 150)
        assert peer.code is None
        with bounded(steps=25_000, megabytes=4.0):
            peer.write(peer.control, spam * 100_000)
        assert peer.code == H3Code.H3_EXCESSIVE_LOAD

    def test_26_requests_buy_frames_on_the_control_stream_but_few(self) -> None:
        peer = RawPeer(client=True)
        for _ in range(20):
            peer.request(headers(GET), end=True)
        peer.write(peer.control, frames.encode(UNKNOWN, b"") * 390)
        assert peer.code is None
        peer.write(peer.control, frames.encode(UNKNOWN, b"") * 20)
        assert peer.code == H3Code.H3_EXCESSIVE_LOAD

    @pytest.mark.parametrize(
        ("kind", "size", "code"),
        [
            (frames.GOAWAY, 9, H3Code.H3_FRAME_ERROR),
            (frames.MAX_PUSH_ID, 9, H3Code.H3_FRAME_ERROR),
            (frames.CANCEL_PUSH, 1 << 40, H3Code.H3_FRAME_ERROR),
            (frames.PRIORITY_UPDATE, 5000, H3Code.H3_EXCESSIVE_LOAD),
        ],
        ids=["GOAWAY", "MAX_PUSH_ID", "CANCEL_PUSH", "PRIORITY_UPDATE"],
    )
    def test_26_an_oversize_frame_is_refused_before_it_is_there(self, kind: int, size: int, code: H3Code) -> None:
        peer = RawPeer(client=True)
        peer.write(peer.control, frames.encode_header(kind, size))
        assert peer.code == code

    def test_26_an_oversize_field_section_is_refused_before_it_is_there(self) -> None:
        peer = RawPeer(client=True)
        stream_id = peer.request(encode_varint(frames.HEADERS) + encode_varint(65_537))
        (failed,) = peer.tested.of(MessageFailed)
        assert (failed.stream_id, failed.code) == (stream_id, H3Code.H3_EXCESSIVE_LOAD)  # type: ignore[union-attr]
        assert peer.code is None

    def test_26_oversize_settings_are_refused(self) -> None:
        many = b"".join(encode_varint(0x1000 + n) + b"\0" for n in range(65))
        assert RawPeer(client=True, settings=frames.encode(frames.SETTINGS, many)).code == H3Code.H3_EXCESSIVE_LOAD
        large = frames.encode_header(frames.SETTINGS, 5000)
        assert RawPeer(client=True, settings=large).code == H3Code.H3_EXCESSIVE_LOAD

    def test_26_an_unknown_frame_of_any_size_is_passed_over_unkept(self) -> None:
        peer = RawPeer(client=True)
        stream_id = peer.request(frames.encode_header(UNKNOWN, (1 << 62) - 1))
        with bounded(steps=2_000_000, megabytes=3.0):
            for _ in range(20):
                peer.write(stream_id, bytes(200_000))
        assert peer.http.unfinished(peer.pair.now) == [stream_id]
        assert peer.code is None

    @pytest.mark.parametrize("empty", [data(b""), frames.encode(UNKNOWN, b"")], ids=["DATA", "unknown"])
    def test_26_frames_that_bring_nothing_end_the_connection(self, empty: bytes) -> None:
        peer = RawPeer(client=True)
        with bounded(steps=120_000, megabytes=3.0):
            stream_id = peer.request(headers(POST) + empty * 50_000)
            while peer.http.read(stream_id):
                pass
        assert peer.code == H3Code.H3_EXCESSIVE_LOAD

    def test_26_priorities_for_streams_that_never_come_are_bounded(self) -> None:
        peer = RawPeer(client=True)
        content = b"".join(frames.PriorityUpdate(4 * n, b"u=1").encode() for n in range(MAX_EARLY_PRIORITIES + 28))
        with bounded(steps=50_000, megabytes=2.0):
            peer.write(peer.control, content)
        assert peer.code is None


class TestSmuggling:  # 27
    @pytest.mark.parametrize(
        "fields",
        [
            [*POST, (b"transfer-encoding", b"chunked")],
            [*POST, (b"content-length", b"3"), (b"content-length", b"4")],
            [*POST, (b"content-length", b"3, 3")],
            [*POST, (b"content-length", b"3")],  # with four bytes
            [*POST, (b"x", b"y\r\ncontent-length: 0")],
            [*POST, (b"x\r\ncontent-length", b"0")],
            [*POST, (b"content-length ", b"4")],
            [*POST, (b"host", b"elsewhere")],
            [*POST[:3], (b":path", b"/ HTTP/1.1\r\nhost: elsewhere")],
            [(b":method", b"POST / HTTP/1.1\r\nx:"), *POST[1:]],
            [*POST[:2], (b":authority", b"a\r\nx: y"), POST[3]],
        ],
    )
    def test_27_what_two_sides_could_read_differently_is_refused(self, fields: list[tuple[bytes, bytes]]) -> None:
        peer = RawPeer(client=True)
        stream_id = peer.request(headers(fields) + data(b"4444"), end=True)
        assert peer.http.read(stream_id) == b""
        peer.pair.run_for(0.1)
        assert peer.resets() == {stream_id: H3Code.H3_MESSAGE_ERROR}
        assert peer.code is None


class TestSlowAndMany:  # 18, 19
    def test_19_halves_of_many_field_sections_are_bounded_over_all_streams(self) -> None:
        peer = RawPeer(client=True)
        half = frames.encode_header(frames.HEADERS, 60_000) + bytes(30_000)
        with bounded(steps=600_000, megabytes=5.0):
            for _ in range(128):
                if peer.core.closing is not None:
                    break
                peer.request(half)
        assert peer.code == H3Code.H3_EXCESSIVE_LOAD
        assert len(half) * 128 > MAX_UNDECODED_FIELDS

    def test_19_what_was_given_up_no_longer_counts(self) -> None:
        peer = RawPeer(client=True)
        half = frames.encode_header(frames.HEADERS, 60_000) + bytes(50_000)
        for _ in range(50):
            stream_id = peer.request(half)
            peer.core.reset(stream_id, H3Code.H3_REQUEST_CANCELLED)
            peer.pair.run_for(0.1)
        assert peer.code is None

    def test_19_a_body_that_nobody_reads_holds_no_more_than_the_window(self) -> None:
        configuration = QuicConfiguration(handshake_timeout_s=120.0, stream_window=100_000, stream_window_cap=100_000)
        peer = RawPeer(client=True, configuration=configuration)
        stream_id = peer.request(headers(POST))
        with bounded(steps=300_000, megabytes=1.5):
            peer.write(stream_id, frames.encode_header(frames.DATA, 800_000) + bytes(800_000))
            peer.pair.run_for(5)
        assert len(peer.http.read(stream_id)) <= 200_000
        assert len(peer.tested.of(BodyReadable)) <= 3

    @pytest.mark.parametrize("content", [b"", headers(GET)], ids=["before the request", "after it"])
    def test_18_rapid_reset_leaves_nothing_and_ends_the_connection(self, content: bytes) -> None:
        peer = RawPeer(client=True)
        with bounded(steps=6_000_000, megabytes=3.0):
            for _ in range(60):
                for _ in range(50):
                    if peer.core.closing is None and (stream_id := peer.core.open_stream()) is not None:
                        peer.core.write(stream_id, content, whole=True)
                        peer.pair.settle() if content else None
                        peer.core.reset(stream_id, H3Code.H3_REQUEST_CANCELLED)
                        peer.core.stop_sending(stream_id, H3Code.H3_REQUEST_CANCELLED)
                peer.pair.run_for(0.1)
                for event in peer.tested.of(RequestReceived):
                    peer.http.abort(event.stream_id)  # type: ignore[union-attr]
                if peer.core.closing is not None:
                    break
                peer.tested.events.clear()
        assert peer.core.closing is not None
        assert peer.core.closing.code == H3Code.H3_EXCESSIVE_LOAD

    def test_18_a_client_that_gives_up_now_and_then_is_served(self) -> None:
        peer = RawPeer(client=True)
        for number in range(900):
            stream_id = peer.request(headers(GET), end=True)
            if number % 3:
                peer.http.respond(stream_id, OK, end=True)
            else:
                peer.core.stop_sending(stream_id, H3Code.H3_REQUEST_CANCELLED)
        assert peer.code is None
