"""QPACK (RFC 9204): the dynamic table both ways, blocked streams, cancelled ones."""

from __future__ import annotations

import pytest
from http3_pair import GET, OK, HttpPair
from raw_peers import RawPeer, section

from fairway.http3 import (
    DEFAULT_SETTINGS,
    H3Code,
    RequestReceived,
    ResponseReceived,
    Settings,
    TrailersReceived,
    frames,
)
from fairway.http3.errors import Http3Error
from fairway.http3.limits import MAX_FIELD_LINES
from fairway.http3.qpack import FieldCoder, count_lines
from fairway.wire import encode_varint

EXTRA = [(b"x-long-name", b"a value that is worth remembering"), (b"x-other", b"and another one")]


def instructions_and_block(index: int) -> tuple[bytes, bytes]:
    """By hand: insert `x-N: v`, and a section that needs so many entries and refers to the last one."""
    name = b"x-%d" % index
    insert = bytes((0x40 | len(name),)) + name + b"\x01v"
    needed = index + 1
    encoded = needed % (2 * 128) + 1  # RFC 9204 section 4.5.1.1: 4096 bytes are 128 entries
    return insert, bytes((encoded, 0)) + section(GET)[2:] + b"\x80"


class Manual(RawPeer):
    """A client whose encoder stream is written by hand."""

    def __init__(self, *, client: bool = True) -> None:
        super().__init__(client=client)
        self.encoder_stream = self.stream(encode_varint(frames.QPACK_ENCODER_STREAM) + b"\x3f\xe1\x1f")  # 4096

    def blocked(self, index: int, *, end: bool = True) -> int:
        """A request whose last field has not been inserted yet."""
        return self.request(frames.encode(frames.HEADERS, instructions_and_block(index)[1]), end=end)

    def insert(self, index: int) -> None:
        """Insert the field."""
        self.write(self.encoder_stream, instructions_and_block(index)[0])


class TestBlockedStreams:  # RFC 9204 section 2.1.2
    def test_a_request_waits_for_the_encoder_stream(self) -> None:
        peer = Manual()
        stream_id = peer.blocked(0)
        assert not peer.tested.of(RequestReceived)
        assert peer.http.unfinished(peer.pair.now) == [stream_id]
        peer.insert(0)
        (request,) = peer.tested.of(RequestReceived)
        assert request == RequestReceived(stream_id, [*GET, (b"x-0", b"v")], ended=True)
        assert peer.http.unfinished(peer.pair.now) == []

    def test_a_body_behind_blocked_fields_waits_too(self) -> None:
        peer = Manual()
        _, block = instructions_and_block(0)
        stream_id = peer.request(frames.encode(frames.HEADERS, block) + frames.encode(frames.DATA, b"body"), end=True)
        assert peer.http.read(stream_id) == b""
        peer.insert(0)
        assert peer.pair.read_all(peer.tested, stream_id) == b"body"

    def test_trailers_wait_too_and_come_after_the_body(self) -> None:
        peer = Manual()
        trailers = frames.encode(frames.HEADERS, b"\x02\x00\x80")
        stream_id = peer.request(
            frames.encode(frames.HEADERS, section(GET)) + frames.encode(frames.DATA, b"body") + trailers, end=True
        )
        assert peer.http.read(stream_id) == b"body"
        assert not peer.http.at_end(stream_id)
        peer.insert(0)
        assert [event.fields for event in peer.tested.of(TrailersReceived)] == [[(b"x-0", b"v")]]  # type: ignore[union-attr]
        assert peer.http.read(stream_id) == b""
        assert peer.http.at_end(stream_id)

    def test_one_insertion_frees_all_that_waited_for_it(self) -> None:
        peer = Manual()
        streams = [peer.blocked(0) for _ in range(16)]
        peer.insert(0)
        assert [event.stream_id for event in peer.tested.of(RequestReceived)] == streams  # type: ignore[union-attr]

    def test_more_blocked_streams_than_we_allow_are_an_error(self) -> None:
        peer = Manual()
        for _ in range(16):
            peer.blocked(0)
        assert peer.code is None
        peer.blocked(0)
        assert peer.code == H3Code.QPACK_DECOMPRESSION_FAILED

    @pytest.mark.parametrize("how", ["reset", "stopped", "aborted by us"])
    def test_a_blocked_stream_that_is_given_up_is_cancelled(self, how: str) -> None:
        peer = Manual()
        stream_id = peer.blocked(0, end=False)
        if how == "reset":
            peer.core.reset(stream_id, H3Code.H3_REQUEST_CANCELLED)
        elif how == "stopped":
            peer.core.stop_sending(stream_id, H3Code.H3_REQUEST_CANCELLED)
        else:
            peer.http.abort(stream_id)
        peer.pair.run_for(0.1)
        decoder_stream = next(
            content for content in peer.side.received.values() if content[:1] == b"\x03"
        )  # fmt: skip
        assert decoder_stream == b"\x03" + bytes((0x40 | stream_id,))  # section 4.4.2
        peer.insert(0)
        assert not peer.tested.of(RequestReceived)
        assert peer.http.is_over(stream_id)
        assert peer.code is None

    def test_many_blocked_and_cancelled_streams_leave_nothing(self) -> None:
        peer = Manual()
        for _ in range(100):
            peer.core.reset(peer.blocked(0, end=False), H3Code.H3_REQUEST_CANCELLED)
            peer.pair.run_for(0.1)
        assert peer.code is None
        assert peer.http.unfinished(peer.pair.now) == []


class TestDynamicTable:  # RFC 9204 section 3.2
    def test_both_directions_use_it(self) -> None:
        pair = HttpPair()
        lengths = []
        extra = [*EXTRA, (b"x-large", b"v" * 400)]
        for _ in range(6):
            before = pair.there.bytes, pair.back.bytes
            stream_id = pair.request([*GET, *extra])
            pair.server_http.respond(stream_id, [*OK, *extra], end=True)
            pair.run_for(1)
            lengths.append((pair.there.bytes - before[0], pair.back.bytes - before[1]))
        assert len(pair.client.of(ResponseReceived)) == 6
        for direction in (0, 1):
            assert lengths[-1][direction] < lengths[0][direction]
        for response in pair.client.of(ResponseReceived):
            assert response.fields == [*OK, *extra]  # type: ignore[union-attr]

    @pytest.mark.parametrize("capacity", [0, 100, 4096, 16384, 65536, 70_000, 1 << 30])
    def test_references_stay_right_whatever_size_the_peer_offers(self, capacity: int) -> None:
        settings = Settings(qpack_max_table_capacity=capacity, qpack_blocked_streams=16)
        ours, theirs = FieldCoder(DEFAULT_SETTINGS), FieldCoder(settings)
        ours.use(settings)
        for number in range(15_000):  # more insertions than a wrong idea of the size survives
            fields = [(b"x-%d" % (number // 3), b"v" * 20)]
            block = ours.encode(4 * number, fields)
            theirs.feed_encoder(ours.encoder_out)
            ours.encoder_out = b""
            assert theirs.decode(4 * number, block) == fields
            if theirs.decoder_out:
                ours.feed_decoder(theirs.decoder_out)
                theirs.decoder_out = b""

    @pytest.mark.parametrize(("capacity", "used"), [(65536, True), (65537, False), (1 << 30, False)])
    def test_of_a_table_that_is_too_large_to_keep_nothing_is_used(self, capacity: int, used: bool) -> None:
        coder = FieldCoder(DEFAULT_SETTINGS)
        coder.use(Settings(qpack_max_table_capacity=capacity, qpack_blocked_streams=16))
        coder.encoder_out = b""
        for number in range(100):
            coder.encode(4 * number, [(b"x-the-same", b"again and again")])
        assert bool(coder.encoder_out) == used

    @pytest.mark.parametrize("capacity", [0, 1 << 30])
    def test_where_no_table_is_used_no_instructions_are_sent(self, capacity: int) -> None:  # section 3.2.3
        coder = FieldCoder(DEFAULT_SETTINGS)
        coder.encode(0, EXTRA)
        coder.use(Settings(qpack_max_table_capacity=capacity, qpack_blocked_streams=16))
        for number in range(1, 4):
            coder.encode(4 * number, EXTRA)
        assert coder.encoder_out == b""

    def test_our_decoder_takes_what_our_settings_say(self) -> None:
        coder = FieldCoder(Settings(qpack_max_table_capacity=8192, qpack_blocked_streams=1))
        coder.feed_encoder(b"\x3f\xe1\x3f")  # a capacity of 8192
        with pytest.raises(Http3Error, match="QPACK_ENCODER_STREAM_ERROR"):
            FieldCoder(DEFAULT_SETTINGS).feed_encoder(b"\x3f\xe1\x3f")

    def test_a_thousand_and_nine_hundred_and_ninety_nine_requests_share_a_connection(self) -> None:
        pair = HttpPair()
        streams: list[int] = []
        answered = 0
        read = 0

        def turn() -> None:
            nonlocal answered, read
            while len(streams) < 1999:
                fields = [*GET[:3], (b":path", b"/%d" % len(streams)), (b"x-turn", b"%d" % (len(streams) % 70))]
                stream_id = pair.client_http.request(fields, end=True)
                if stream_id is None:
                    break
                streams.append(stream_id)
            for event in pair.server.of(RequestReceived)[answered:]:
                answered += 1
                path = event.fields[3][1]  # type: ignore[union-attr]
                pair.server_http.respond(event.stream_id, [*OK, (b"x-path", path)], data=path, end=True)  # type: ignore[union-attr]
            for event in pair.client.of(ResponseReceived)[read:]:
                assert pair.client_http.read(event.stream_id) == dict(event.fields)[b"x-path"]  # type: ignore[union-attr]
                assert pair.client_http.is_over(event.stream_id)  # type: ignore[union-attr]
                read += 1

        pair.on_turn = turn
        turn()
        pair.run(lambda: read == 1999)
        assert streams == list(range(0, 4 * 1999, 4))
        assert pair.client_http.unfinished(pair.now) == pair.server_http.unfinished(pair.now) == []


SET_72 = b"\x3f\x29"
"""A capacity of 72 bytes: two entries of `instructions_and_block`."""

INVALID_SECTIONS = {  # where two entries were inserted
    "more inserts needed than said": b"\x02\x01\x80",
    "the same, past the base": b"\x02\x00\x10",
    "the same, for a name": b"\x02\x01\x40\x01v",
    "the same, for a name past the base": b"\x02\x00\x00\x01v",
    "an entry, though none is said to be needed": b"\x00\x02\x80",
    "an entry before the first": b"\x03\x00\x82",
    "a static entry that there is not": b"\x00\x00\xff\x24",
    "a static name that there is not": b"\x00\x00\x5f\x54\x01v",
    "a count of none that is not 0": b"\x01\x00\xd1",
    "a count past the range": b"\xff\x02\x00\xd1",
    "a count past what can be inserted": b"\xf0\x00\xd1",
    "a base below zero": b"\x00\x80\xd1",
    "an entry behind a base below zero": b"\x02\x81\x80",
    "a string with the symbol of its end": b"\x00\x00\x51\x84\xff\xff\xff\xff",
    "a string cut short": b"\x00\x00\x51\x05/",
}


class TestInvalidSections:  # RFC 9204 sections 2.2.1, 2.2.3, 3.1, 4.5.1
    @staticmethod
    def code(block: bytes, inserted: int) -> int | None:
        """The code with which the connection ends."""
        peer = RawPeer(client=True)
        inserts = b"".join(instructions_and_block(index)[0] for index in range(inserted))
        peer.stream(encode_varint(frames.QPACK_ENCODER_STREAM) + SET_72 + inserts)
        peer.request(frames.encode(frames.HEADERS, block))
        return peer.code

    @pytest.mark.parametrize("block", INVALID_SECTIONS.values(), ids=INVALID_SECTIONS)
    def test_each_ends_the_connection(self, block: bytes) -> None:
        assert self.code(block, 2) == H3Code.QPACK_DECOMPRESSION_FAILED

    def test_so_does_a_reference_to_an_entry_that_was_evicted(self) -> None:
        assert self.code(b"\x04\x00\x80" + section(GET)[2:] + b"\x81", 3) is None
        assert self.code(b"\x04\x00\x80" + section(GET)[2:] + b"\x82", 3) == H3Code.QPACK_DECOMPRESSION_FAILED

    @pytest.mark.parametrize("block", [b"\x03\x00\x80", b"\x03\x80\x10", b"\x00\x05\xd1", b"\x00\x00\xff\x23"])
    def test_what_is_next_to_them_is_right(self, block: bytes) -> None:
        coder = FieldCoder(DEFAULT_SETTINGS)
        coder.feed_encoder(SET_72 + instructions_and_block(0)[0] + instructions_and_block(1)[0])
        fields = coder.decode(0, block)
        assert fields in ([(b"x-1", b"v")], [(b":method", b"GET")], [(b"x-frame-options", b"sameorigin")])


class TestCountingLines:
    def test_lines_of_every_form_are_counted(self) -> None:
        fields = [*GET, (b"a", b"b"), (b"cookie", b"x" * 300), (b"n" * 200, b"v" * 200), (b"accept", b"*/*")]
        assert count_lines(section(fields), MAX_FIELD_LINES) == len(fields)
        assert count_lines(b"\0\0" + b"\x80\x10\x00\x01x\x20\x00", 100) == 4
        assert count_lines(b"\0\0" + b"\x80" * 1000, 100) == 101
