"""Many streams of one small frame each: requests and responses that share packets."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from quic_pair import Pair

from fairway.quic import Connection, ErrorCode, PeerError, frames
from fairway.quic import events as ev
from fairway.quic.configuration import QuicConfiguration
from fairway.quic.frames import Stream
from fairway.quic.receiving.stream_frames import take_streams
from fairway.quic.state import ConnectionState
from fairway.quic.transport_parameters import TransportParameters
from fairway.wire import Reader, encode_varint


def server_state() -> ConnectionState:
    """A server that takes 4 streams of each kind, of 100 bytes each."""
    parameters = TransportParameters(
        initial_max_data=1000,
        initial_max_stream_data_bidi_remote=100,
        initial_max_stream_data_uni=100,
        initial_max_streams_bidi=4,
        initial_max_streams_uni=4,
    )

    return ConnectionState(
        QuicConfiguration(),
        is_client=False,
        random=bytes,
        address=None,
        local_id=bytes(8),
        remote_id=bytes(8),
        parameters=parameters,
        make_id=lambda: bytes(24),
    )


def take_one_by_one(state: ConnectionState, payload: bytes, at: int) -> int:
    """What `take_streams` does, by the frames' own decoder."""
    reader = Reader(payload, at)
    while reader.remaining and frames.STREAM <= payload[reader.offset] < frames.STREAM + 8:
        frame_type, frame = frames.decode_frame(reader)
        assert isinstance(frame, Stream)
        try:
            stream = state.streams.for_receiving(frame.stream_id, frames.STREAM)
            if stream is not None:
                state.incoming.received(stream, stream.receive(frame.offset, frame.data, frame.fin))
                if stream.readable and not stream.notified:
                    stream.notified = True
                    state.events.append(ev.StreamReadable(frame.stream_id))
        except PeerError as error:
            error.frame_type = error.frame_type or frame_type
            raise
    return reader.offset


def outcome(take: Callable[[ConnectionState, bytes, int], int], payload: bytes) -> object:
    state = server_state()
    try:
        at = take(state, payload, 0)
    except PeerError as error:
        return error.code, error.frame_type, bool(error.section)
    streams = {}
    for stream_id in state.streams.opened:
        pair = state.streams.get(stream_id)
        if pair is not None and pair.recv is not None:
            streams[stream_id] = (pair.recv.state, pair.recv.window.highest, pair.recv.read())
    return at, list(state.events), streams, state.incoming.window.highest


integers = st.one_of(st.integers(0, 20), st.sampled_from([63, 64, 101, (1 << 62) - 1]))
stream_frames = st.builds(
    Stream, st.integers(0, 17), st.integers(0, 12), st.binary(max_size=70), st.booleans(), st.booleans()
).map(lambda frame: frame.encode())
raw_frames = st.builds(
    lambda kind, values, rest: bytes((kind,)) + b"".join(map(encode_varint, values)) + rest,
    st.integers(8, 15),
    st.lists(integers, max_size=3),
    st.binary(max_size=10),
)


class TestParsing:
    @given(st.lists(st.one_of(stream_frames, stream_frames, raw_frames, st.just(b"\1")), max_size=6).map(b"".join))
    @example(b"\x0e")
    @example(b"\x0a\x00")
    @example(b"\x0a\x00\x40")
    @example(b"\x0a\x00\x05abcd")
    @example(b"\x0e\x00" + encode_varint((1 << 62) - 1) + b"\x01a")
    def test_frames_mean_what_their_decoder_says(self, payload: bytes) -> None:
        assert outcome(take_streams, payload) == outcome(take_one_by_one, payload)

    def test_a_frame_that_is_cut_off_is_an_encoding_error_that_names_it(self) -> None:
        whole = Stream(4, 70, b"abcdef" * 20, fin=True).encode()
        for length in range(1, len(whole)):
            with pytest.raises(PeerError) as raised:
                take_streams(server_state(), whole[:length], 0)
            assert (raised.value.code, raised.value.frame_type) == (ErrorCode.FRAME_ENCODING_ERROR, 0x0F)


class TestRequests:
    def test_a_hundred_requests_leave_in_one_buffer_and_so_do_their_responses(self) -> None:
        pair = Pair()
        pair.run_for(1.0)
        client, server = pair.client.core, pair.server.core
        assert client is not None
        assert server is not None
        size = 60
        for _ in range(100):
            stream_id = client.open_stream()
            assert stream_id is not None
            client.write(stream_id, bytes(size), end=True)
        self.one_buffer(client, server, pair.now, 100 * size)
        readable = [event.stream_id for event in server.events() if isinstance(event, ev.StreamReadable)]
        assert len(readable) == 100
        for stream_id in readable:
            assert server.read(stream_id) == bytes(size)
            assert server.at_end(stream_id)
            server.write(stream_id, bytes(size), end=True)
        self.one_buffer(server, client, pair.now, 100 * size)
        for event in client.events():
            if isinstance(event, ev.StreamReadable):
                assert client.read(event.stream_id) == bytes(size)
                assert client.at_end(event.stream_id)
        pair.run_for(1.0)
        assert (client.statistics()["streams"], server.statistics()["streams"]) == (0, 0)

    def one_buffer(self, sender: Connection, receiver: Connection, now: float, total: int) -> None:
        """All is in one buffer of packets of one size, and not much is padding."""
        out = sender.transmit(now)
        assert out is not None
        assert total < len(out.data) < 1.25 * total
        assert sender.transmit(now) is None
        receiver.receive(out.data, out.segment, now)

    def test_a_stream_that_ends_without_a_byte_is_readable_and_at_its_end(self) -> None:
        pair = Pair()
        client = pair.client.core
        assert client is not None
        stream_id = client.open_stream()
        assert stream_id is not None
        client.write(stream_id, b"", end=True)
        pair.run(lambda: stream_id in pair.server.ended)
        assert pair.server.received[stream_id] == b""
