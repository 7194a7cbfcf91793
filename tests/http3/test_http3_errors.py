"""Each rule of RFC 9114 and RFC 9204 whose breach ends the connection, with the code that the RFC names."""

from __future__ import annotations

from dataclasses import replace

import pytest
from http3_pair import GET, OK, POST
from quic_pair import CLIENT_ADDRESS
from raw_peers import SETTINGS, RawPeer, data, headers

from fairway.http3 import (
    DEFAULT_SETTINGS,
    DatagramReceived,
    H3Code,
    MessageFailed,
    RequestReceived,
    ResponseReceived,
    frames,
)
from fairway.http3.webtransport import with_webtransport
from fairway.quic import ClosedBy, QuicConfiguration
from fairway.quic.events import ConnectionTerminated
from fairway.wire import encode_varint

UNKNOWN = 0x1F * 7 + 0x21
TUNNEL = [(b":method", b"CONNECT"), (b":authority", b"example.org:443")]


def frame(kind: int, payload: bytes = b"") -> bytes:
    return frames.encode(kind, payload)


def integer(kind: int, value: int) -> bytes:
    return frame(kind, encode_varint(value))


def setting(*pairs: int) -> bytes:
    return frame(frames.SETTINGS, b"".join(encode_varint(value) for value in pairs))


class TestControlStream:  # RFC 9114 sections 6.2.1, 7.2
    @pytest.mark.parametrize("from_client", [True, False], ids=["from a client", "from a server"])
    @pytest.mark.parametrize(
        ("first", "code"),
        [
            (integer(frames.GOAWAY, 0), H3Code.H3_MISSING_SETTINGS),
            (frame(UNKNOWN), H3Code.H3_MISSING_SETTINGS),
            (data(b"x"), H3Code.H3_MISSING_SETTINGS),
            (setting(0x00, 1), H3Code.H3_SETTINGS_ERROR),
            (setting(0x02, 1), H3Code.H3_SETTINGS_ERROR),
            (setting(0x03, 1), H3Code.H3_SETTINGS_ERROR),
            (setting(0x04, 1), H3Code.H3_SETTINGS_ERROR),
            (setting(0x05, 1), H3Code.H3_SETTINGS_ERROR),
            (setting(0x06, 1, 0x06, 1), H3Code.H3_SETTINGS_ERROR),
            (setting(UNKNOWN, 1, UNKNOWN, 2), H3Code.H3_SETTINGS_ERROR),
            (setting(0x08, 2), H3Code.H3_SETTINGS_ERROR),
            (setting(0x33, 2), H3Code.H3_SETTINGS_ERROR),
            (setting(0x06), H3Code.H3_FRAME_ERROR),
            (frame(frames.SETTINGS, b"\x06\x40"), H3Code.H3_FRAME_ERROR),
            (SETTINGS + SETTINGS, H3Code.H3_FRAME_UNEXPECTED),
            (SETTINGS + data(b"x"), H3Code.H3_FRAME_UNEXPECTED),
            (SETTINGS + headers(GET), H3Code.H3_FRAME_UNEXPECTED),
            (SETTINGS + frame(frames.PUSH_PROMISE, b"\0"), H3Code.H3_FRAME_UNEXPECTED),
            (SETTINGS + frame(0x02), H3Code.H3_FRAME_UNEXPECTED),
            (SETTINGS + frame(0x06), H3Code.H3_FRAME_UNEXPECTED),
            (SETTINGS + frame(0x08), H3Code.H3_FRAME_UNEXPECTED),
            (SETTINGS + frame(0x09), H3Code.H3_FRAME_UNEXPECTED),
            (SETTINGS + frame(frames.GOAWAY), H3Code.H3_FRAME_ERROR),
            (SETTINGS + frame(frames.GOAWAY, b"\0\0"), H3Code.H3_FRAME_ERROR),
            (SETTINGS + integer(frames.GOAWAY, 4) + integer(frames.GOAWAY, 8), H3Code.H3_ID_ERROR),
            (SETTINGS + integer(frames.CANCEL_PUSH, 0), H3Code.H3_ID_ERROR),
            (SETTINGS + frame(frames.CANCEL_PUSH, b"\x40"), H3Code.H3_FRAME_ERROR),
            (SETTINGS + frame(frames.CANCEL_PUSH, b"\0\0"), H3Code.H3_FRAME_ERROR),
        ],
    )  # fmt: skip
    def test_a_wrong_frame_ends_the_connection(self, from_client: bool, first: bytes, code: H3Code) -> None:
        peer = RawPeer(client=from_client, settings=first)
        assert peer.code == code
        assert peer.closing is not None
        assert peer.closing.by is ClosedBy.LOCAL

    @pytest.mark.parametrize(
        ("frames_", "code"),
        [
            (integer(frames.MAX_PUSH_ID, 4) + integer(frames.MAX_PUSH_ID, 3), H3Code.H3_ID_ERROR),
            (frame(frames.MAX_PUSH_ID, b"\0\0"), H3Code.H3_FRAME_ERROR),
            (frame(frames.PRIORITY_UPDATE), H3Code.H3_FRAME_ERROR),
            (integer(frames.PRIORITY_UPDATE, 1), H3Code.H3_ID_ERROR),
            (integer(frames.PRIORITY_UPDATE, 2), H3Code.H3_ID_ERROR),
            (integer(frames.PRIORITY_UPDATE, 128 * 4), H3Code.H3_ID_ERROR),
            (integer(frames.PRIORITY_UPDATE_PUSH, 0), H3Code.H3_ID_ERROR),
        ],
    )
    def test_a_wrong_frame_of_a_client(self, frames_: bytes, code: H3Code) -> None:
        assert RawPeer(client=True, settings=SETTINGS + frames_).code == code

    @pytest.mark.parametrize(
        ("frames_", "code"),
        [
            (integer(frames.MAX_PUSH_ID, 0), H3Code.H3_FRAME_UNEXPECTED),
            (integer(frames.PRIORITY_UPDATE, 0), H3Code.H3_FRAME_UNEXPECTED),
            (integer(frames.PRIORITY_UPDATE_PUSH, 0), H3Code.H3_FRAME_UNEXPECTED),
            (integer(frames.GOAWAY, 1), H3Code.H3_ID_ERROR),
            (integer(frames.GOAWAY, 2), H3Code.H3_ID_ERROR),
            (integer(frames.GOAWAY, 3), H3Code.H3_ID_ERROR),
        ],
    )
    def test_a_wrong_frame_of_a_server(self, frames_: bytes, code: H3Code) -> None:
        assert RawPeer(client=False, settings=SETTINGS + frames_).code == code

    def test_frames_and_settings_that_nobody_knows_are_ignored(self) -> None:
        greased = setting(UNKNOWN, 99, 0x06, 1000) + frame(UNKNOWN, b"x" * 9000) + frame(0x21)
        peer = RawPeer(client=True, settings=greased + integer(frames.MAX_PUSH_ID, 0))
        assert peer.code is None
        assert peer.http.peer_settings is not None
        assert peer.http.peer_settings.max_field_section_size == 1000

    @pytest.mark.parametrize("from_client", [True, False], ids=["from a client", "from a server"])
    def test_who_takes_http_datagrams_need_not_take_those_of_quic(self, from_client: bool) -> None:
        peer = RawPeer(client=from_client, settings=setting(0x33, 1))
        assert peer.code is None
        assert peer.http.max_datagram_size(0) == 0

    def test_frames_arrive_in_any_pieces(self) -> None:
        peer = RawPeer(client=True, settings=None)
        control = peer.open()
        content = encode_varint(0) + SETTINGS + frame(UNKNOWN, b"abc") + integer(frames.MAX_PUSH_ID, 70)
        for at in range(len(content)):
            peer.write(control, content[at : at + 1])
        assert peer.code is None
        peer.write(control, integer(frames.MAX_PUSH_ID, 69))
        assert peer.code == H3Code.H3_ID_ERROR


class TestUnidirectionalStreams:  # RFC 9114 section 6.2, RFC 9204 section 4.2
    @pytest.mark.parametrize("from_client", [True, False])
    @pytest.mark.parametrize("kind", [0x00, 0x02, 0x03])
    def test_a_second_critical_stream_is_an_error(self, kind: int, from_client: bool) -> None:
        peer = RawPeer(client=from_client)
        if kind:  # the first control stream is there
            peer.stream(encode_varint(kind))
        peer.stream(encode_varint(kind))
        assert peer.code == H3Code.H3_STREAM_CREATION_ERROR

    @pytest.mark.parametrize("from_client", [True, False])
    @pytest.mark.parametrize("kind", [0x00, 0x02, 0x03])
    @pytest.mark.parametrize("how", ["ended at once", "ended", "reset", "stopped"])
    def test_a_critical_stream_must_stay_open(self, kind: int, how: str, from_client: bool) -> None:
        content = encode_varint(kind) + (SETTINGS if not kind else b"")
        peer = RawPeer(client=from_client, settings=None)
        if how == "stopped":
            ours = [2, 6, 10] if not from_client else [3, 7, 11]
            peer.core.stop_sending(ours[(0, 2, 3).index(kind)], 0)
        else:
            stream_id = peer.stream(content, end=how == "ended at once")
            if how == "ended":
                peer.write(stream_id, b"", end=True)
            elif how == "reset":
                peer.core.reset(stream_id, 0)
        assert peer.code == H3Code.H3_CLOSED_CRITICAL_STREAM

    def test_a_push_stream_of_a_client_is_an_error(self) -> None:
        peer = RawPeer(client=True)
        peer.stream(encode_varint(frames.PUSH_STREAM))
        assert peer.code == H3Code.H3_STREAM_CREATION_ERROR

    def test_a_push_that_was_not_allowed_is_an_error(self) -> None:
        peer = RawPeer(client=False)
        peer.stream(encode_varint(frames.PUSH_STREAM) + encode_varint(0))
        assert peer.code == H3Code.H3_ID_ERROR

    def test_a_bidirectional_stream_of_a_server_is_an_error(self) -> None:
        peer = RawPeer(client=False)
        peer.request(b"")
        peer.request(headers(OK))
        assert peer.code == H3Code.H3_STREAM_CREATION_ERROR

    @pytest.mark.parametrize("when", ["before its settings", "after its settings"])
    def test_a_bidirectional_stream_of_a_server_that_speaks_no_webtransport_is_an_error(self, when: str) -> None:
        early = when == "before its settings"
        peer = RawPeer(
            client=False, settings=None if early else SETTINGS, client_settings=with_webtransport(DEFAULT_SETTINGS)
        )
        peer.request(encode_varint(frames.WEBTRANSPORT_STREAM) + b"\0")
        if early:
            assert peer.code is None
            peer.stream(encode_varint(frames.CONTROL_STREAM) + SETTINGS)
        assert peer.code == H3Code.H3_STREAM_CREATION_ERROR

    def test_a_stream_of_an_unknown_kind_is_refused_and_nothing_else_happens(self) -> None:
        peer = RawPeer(client=True)
        stream_id = peer.stream(encode_varint(UNKNOWN) + b"whatever")
        assert peer.code is None
        assert peer.stops() == {stream_id: H3Code.H3_STREAM_CREATION_ERROR}

    @pytest.mark.parametrize("end", ["end", "reset"])
    def test_a_stream_may_end_before_its_kind_is_known(self, end: str) -> None:
        peer = RawPeer(client=True)
        stream_id = peer.stream(b"\x40", end=end == "end")
        if end == "reset":
            peer.core.reset(stream_id, 5)
        peer.stream(b"", end=True)
        assert peer.code is None


class TestRequestStreams:  # RFC 9114 sections 4.1, 7.1, 7.2
    @pytest.mark.parametrize(
        ("content", "code"),
        [
            (data(b"x"), H3Code.H3_FRAME_UNEXPECTED),
            (data(b""), H3Code.H3_FRAME_UNEXPECTED),
            (headers(POST) + headers([(b"a", b"b")]) + data(b"x"), H3Code.H3_FRAME_UNEXPECTED),
            (headers(POST) + headers([(b"a", b"b")]) + headers([(b"a", b"b")]), H3Code.H3_FRAME_UNEXPECTED),
            (headers(TUNNEL) + headers([(b"a", b"b")]), H3Code.H3_FRAME_UNEXPECTED),
            (headers(POST) + frame(frames.PUSH_PROMISE, b"\0"), H3Code.H3_FRAME_UNEXPECTED),
            *[
                (headers(POST) + integer(kind, 0), H3Code.H3_FRAME_UNEXPECTED)
                for kind in sorted(frames.CONTROL_ONLY | frames.RESERVED)
            ],
            (headers(POST)[:-1], H3Code.H3_FRAME_ERROR),
            (headers(POST)[:1], H3Code.H3_FRAME_ERROR),
            (headers(POST) + data(b"12345")[:-1], H3Code.H3_FRAME_ERROR),
            (headers(POST) + b"\0", H3Code.H3_FRAME_ERROR),
            (headers(POST) + b"\0\x40", H3Code.H3_FRAME_ERROR),
            (headers(POST) + frame(UNKNOWN, b"12345")[:-1], H3Code.H3_FRAME_ERROR),
            (frame(frames.HEADERS, b"\0"), H3Code.QPACK_DECOMPRESSION_FAILED),
            (frame(frames.HEADERS, b""), H3Code.QPACK_DECOMPRESSION_FAILED),
            (frame(frames.HEADERS, b"\0\0\xff\xff\xff\xff"), H3Code.QPACK_DECOMPRESSION_FAILED),
            (frame(frames.HEADERS, b"\0\0\x80"), H3Code.QPACK_DECOMPRESSION_FAILED),  # dynamic, where there is nothing
            (frame(frames.HEADERS, b"\xff\xff\0\x80"), H3Code.QPACK_DECOMPRESSION_FAILED),
        ],
    )  # fmt: skip
    def test_a_wrong_frame_ends_the_connection(self, content: bytes, code: H3Code) -> None:
        peer = RawPeer(client=True)
        stream_id = peer.request(content, end=True)
        for _ in range(5):
            peer.http.read(stream_id)
        assert peer.code == code

    @pytest.mark.parametrize(
        ("content", "code"),
        [
            (data(b"x"), H3Code.H3_FRAME_UNEXPECTED),
            (headers([(b":status", b"103")]) + data(b"x"), H3Code.H3_FRAME_UNEXPECTED),
            (headers(OK) + headers([(b"a", b"b")]) + data(b"x"), H3Code.H3_FRAME_UNEXPECTED),
            (headers(OK) + headers([(b"a", b"b")]) + headers([(b"a", b"b")]), H3Code.H3_FRAME_UNEXPECTED),
            *[
                (headers(OK) + integer(kind, 0), H3Code.H3_FRAME_UNEXPECTED)
                for kind in sorted(frames.CONTROL_ONLY | frames.RESERVED)
            ],
            (headers(OK) + frame(frames.PUSH_PROMISE, b"\0" + headers(GET)), H3Code.H3_ID_ERROR),
            (headers(OK) + frame(frames.PUSH_PROMISE), H3Code.H3_FRAME_ERROR),
            (headers(OK) + frame(frames.PUSH_PROMISE, b"\x40"), H3Code.H3_FRAME_ERROR),
            (headers(OK) + frame(frames.PUSH_PROMISE, b"\0")[:-1], H3Code.H3_FRAME_ERROR),
            (headers(OK) + data(b"12345")[:-1], H3Code.H3_FRAME_ERROR),
            (headers(OK)[:-1], H3Code.H3_FRAME_ERROR),
            (frame(frames.HEADERS, b"\0\0\x80"), H3Code.QPACK_DECOMPRESSION_FAILED),
        ],
    )
    def test_a_wrong_frame_of_a_response(self, content: bytes, code: H3Code) -> None:
        peer = RawPeer(client=False)
        stream_id = peer.asked(GET)
        peer.write(stream_id, content, end=True)
        assert not peer.http.at_end(stream_id)
        for _ in range(5):
            peer.http.read(stream_id)
        assert peer.code == code

    @pytest.mark.parametrize("kind", sorted(frames.CONTROL_ONLY | frames.RESERVED | {frames.PUSH_PROMISE}))
    def test_nothing_but_data_may_come_through_a_tunnel(self, kind: int) -> None:  # section 4.4
        peer = RawPeer(client=False)
        stream_id = peer.asked(TUNNEL)
        peer.write(stream_id, headers(OK) + frame(UNKNOWN) + data(b"x") + integer(kind, 0))
        for _ in range(2):
            peer.http.read(stream_id)
        assert peer.code == H3Code.H3_FRAME_UNEXPECTED

    def test_unknown_frames_are_passed_over_wherever_they_stand(self) -> None:
        peer = RawPeer(client=True)
        grease = frame(UNKNOWN, b"g" * 100_000) + frame(0x21)
        stream_id = peer.request(
            grease + headers(POST) + grease + data(b"one") + grease + data(b"two") + grease, end=True
        )
        assert peer.pair.read_all(peer.tested, stream_id) == b"onetwo"
        assert peer.code is None

    def test_a_stream_that_ends_before_its_request_is_incomplete(self) -> None:
        peer = RawPeer(client=True)
        stream_id = peer.request(frame(UNKNOWN, b"x"), end=True)
        assert peer.resets() == {stream_id: H3Code.H3_REQUEST_INCOMPLETE}
        assert peer.code is None

    def test_a_stream_that_ends_without_a_response_fails_alone(self) -> None:
        peer = RawPeer(client=False)
        stream_id = peer.asked(GET)
        peer.write(stream_id, headers([(b":status", b"103")]), end=True)
        (failed,) = peer.tested.of(MessageFailed)
        assert (failed.stream_id, failed.code) == (stream_id, H3Code.H3_MESSAGE_ERROR)  # type: ignore[union-attr]
        assert not peer.tested.of(ResponseReceived)
        assert peer.code is None

    def test_the_last_event_comes_even_if_the_peer_errs_and_leaves_at_once(self) -> None:
        peer = RawPeer(client=True)
        pair = peer.pair
        peer.core.write(peer.open(unidirectional=False), data(b"x"))
        for _ in range(2):  # both arrive before the server looks at its events
            while (out := peer.core.transmit(pair.now)) is not None:
                pair.endpoint.receive(out.data, out.segment, CLIENT_ADDRESS, pair.now)
            peer.core.close(pair.now, 0x100)
        told = peer.http.events(pair.now)
        assert [event.closing.by for event in told if isinstance(event, ConnectionTerminated)] == [ClosedBy.PEER]

    def test_a_request_is_told_before_the_error_that_follows_it(self) -> None:
        peer = RawPeer(client=True)
        peer.request(headers(GET), end=True)
        peer.stream(encode_varint(frames.PUSH_STREAM))
        assert [type(event) for event in peer.tested.events][-2:][0] is RequestReceived


class TestDatagrams:  # RFC 9297 section 2
    @staticmethod
    def peer() -> RawPeer:
        settings = replace(DEFAULT_SETTINGS, h3_datagram=True, enable_connect_protocol=True)
        configuration = QuicConfiguration(handshake_timeout_s=120.0, max_datagram_frame_size=65535)
        return RawPeer(client=True, configuration=configuration, server_settings=settings)

    @pytest.mark.parametrize(
        ("content", "code"),
        [
            (b"", H3Code.H3_DATAGRAM_ERROR),
            (b"\x40", H3Code.H3_DATAGRAM_ERROR),
            (encode_varint(1 << 60), H3Code.H3_DATAGRAM_ERROR),
            (encode_varint((1 << 60) - 1), H3Code.H3_ID_ERROR),
            (encode_varint(128), H3Code.H3_ID_ERROR),
        ],
        ids=["none", "cut short", "too large", "the largest", "past the limit"],
    )
    def test_a_datagram_that_names_no_stream_is_an_error(self, content: bytes, code: H3Code) -> None:
        peer = self.peer()
        peer.core.send_datagram(encode_varint(127) + b"of a stream that is not open: dropped")
        assert peer.code is None
        peer.core.send_datagram(content)
        assert peer.code == code

    @pytest.mark.parametrize("fields", [POST, TUNNEL], ids=["POST", "CONNECT"])
    def test_a_request_that_has_no_datagrams_ends_with_one(self, fields: list[tuple[bytes, bytes]]) -> None:
        peer = self.peer()
        stream_id = peer.request(headers(fields))
        peer.core.send_datagram(encode_varint(stream_id >> 2) + b"of a request that knows none")
        assert peer.code is None
        assert peer.resets() == peer.stops() == {stream_id: H3Code.H3_DATAGRAM_ERROR}
        (failed,) = peer.tested.of(MessageFailed)
        assert failed.stream_id == stream_id  # type: ignore[union-attr]

    def test_a_datagram_after_the_end_of_its_request_is_dropped(self) -> None:
        peer = self.peer()
        stream_id = peer.request(headers([TUNNEL[0], (b":protocol", b"connect-udp"), *GET[1:]]))
        datagram = encode_varint(stream_id >> 2) + b"x"
        peer.core.send_datagram(datagram)
        peer.write(stream_id, b"", end=True)
        peer.http.read(stream_id)
        peer.core.send_datagram(datagram)
        assert peer.code is None
        assert peer.tested.of(DatagramReceived) == [DatagramReceived(stream_id, b"x")]
        assert peer.resets() == {}


class TestConnections:  # RFC 9114 section 6.2
    def test_a_peer_that_allows_no_three_unidirectional_streams_is_not_spoken_to(self) -> None:
        peer = RawPeer(client=True, settings=None, configuration=QuicConfiguration(max_streams_uni=2))
        assert peer.code == H3Code.H3_GENERAL_PROTOCOL_ERROR


class TestQpackStreams:  # RFC 9204 section 6
    @pytest.mark.parametrize(
        "instructions",
        [
            b"\x3f\xff\xff\x7f",  # a capacity above ours (section 4.3.1)
            b"\xff\x40\x00",  # the name of an entry that the static table has not (4.3.2)
            b"\x3f\x45\x80\x00",  # the name of an entry that was never inserted
            b"\x3f\x45\x00",  # a duplicate of it (4.3.4)
            b"\x3f\x29" + b"\x41a\x01v" * 3 + b"\x02",  # of an entry that was evicted (2.2.3)
            b"\x3f\x29" + b"\x41a\x01v" * 3 + b"\x82\x01v",  # the name of one
            b"\x3f\x29\x41a\x64" + b"v" * 100,  # an entry larger than the table (3.2.2)
            b"\x3f\x45\x41a\x84\xff\xff\xff\xff",  # a string with the symbol of its end
            b"\x3f" + b"\xff" * 12 + b"\x01",  # an integer beyond all
        ],
        ids=[
            "capacity",
            "static name",
            "dynamic name",
            "duplicate",
            "evicted",
            "evicted name",
            "large",
            "string",
            "integer",
        ],
    )
    def test_an_instruction_that_cannot_be_obeyed(self, instructions: bytes) -> None:
        peer = RawPeer(client=True)
        peer.stream(encode_varint(frames.QPACK_ENCODER_STREAM) + instructions)
        assert peer.code == H3Code.QPACK_ENCODER_STREAM_ERROR

    def test_an_instruction_that_can_be_obeyed(self) -> None:
        peer = RawPeer(client=True)
        peer.stream(encode_varint(frames.QPACK_ENCODER_STREAM) + b"\x3f\x45\x45nname\x00\x00")
        assert peer.code is None

    @pytest.mark.parametrize(
        "instruction",
        [b"\x80", b"\x00", b"\x01", b"\x3f" + b"\xff" * 12 + b"\x01"],
        ids=["section", "none", "inserts", "integer"],
    )
    def test_an_acknowledgement_of_what_was_not_sent(self, instruction: bytes) -> None:
        peer = RawPeer(client=True)
        peer.stream(encode_varint(frames.QPACK_DECODER_STREAM) + instruction)
        assert peer.code == H3Code.QPACK_DECODER_STREAM_ERROR

    @pytest.mark.parametrize(
        ("instructions", "code"),
        [
            (b"\x02", None),
            (b"\x84", None),
            (b"\x84\x44", None),  # the cancelled stream has nothing left to cancel
            (b"\x84\x84", H3Code.QPACK_DECODER_STREAM_ERROR),
            (b"\x02\x01", H3Code.QPACK_DECODER_STREAM_ERROR),
            (b"\x03", H3Code.QPACK_DECODER_STREAM_ERROR),
        ],
        ids=["inserts", "section", "cancelled", "section twice", "an insert twice", "more inserts"],
    )
    def test_an_acknowledgement_of_what_was_sent_counts_once(self, instructions: bytes, code: H3Code | None) -> None:
        peer = RawPeer(client=False)
        for _ in range(2):  # the second refers to two entries: of its authority, and of x-the-same
            peer.asked([*GET, (b"x-the-same", b"again and again")])
        peer.stream(encode_varint(frames.QPACK_DECODER_STREAM) + instructions)
        assert peer.code == code
