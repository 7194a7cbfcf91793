"""Frames, headers and transport parameters: what is encoded decodes to the same; all else is the peer's fault."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairway.quic import ack_frames, frames
from fairway.quic.errors import ErrorCode, PeerError
from fairway.quic.packets.headers import (
    VERSION_1,
    VERSION_2,
    PacketType,
    encode_long_header,
    encode_retry,
    encode_version_negotiation,
    expand_number,
    long_header_size,
    number_length,
    parse_long_header,
    parse_versions,
)
from fairway.quic.receiving.dispatch import TABLE
from fairway.quic.transport_parameters import (
    PreferredAddress,
    TransportParameters,
    decode_parameters,
    encode_parameters,
    encode_reserved,
)
from fairway.quic.version_information import VersionInformation
from fairway.wire import Reader, WireError, encode_varint

varint = st.integers(0, (1 << 62) - 1)
small = st.integers(0, 1 << 40)
streams = st.integers(0, 1 << 60)


@st.composite
def acks(draw: st.DrawFn) -> ack_frames.Ack:
    gaps = draw(st.lists(st.tuples(st.integers(2, 1000), st.integers(0, 1000)), max_size=20))
    last = draw(st.integers(1_000_000, 1 << 40))
    first = last - draw(st.integers(0, 1000))
    ranges = [(first, last)]
    for gap, length in gaps:
        last = first - gap
        first = last - length
        ranges.append((first, last))
    ecn = draw(st.none() | st.builds(ack_frames.EcnCounts, varint, varint, varint))
    return ack_frames.Ack(tuple(ranges), draw(varint), ecn)


@st.composite
def new_connection_ids(draw: st.DrawFn) -> frames.NewConnectionId:
    sequence = draw(varint)
    prior = draw(st.integers(0, sequence))
    return frames.NewConnectionId(
        sequence, prior, draw(st.binary(min_size=1, max_size=20)), draw(st.binary(min_size=16, max_size=16))
    )


FRAMES = st.one_of(
    st.builds(frames.Padding, st.integers(1, 50)),
    st.builds(frames.Ping),
    st.builds(ack_frames.ImmediateAck),
    st.builds(ack_frames.AckFrequency, varint, varint, varint, varint),
    acks(),
    st.builds(frames.ResetStream, varint, varint, varint),
    st.builds(
        lambda stream, code, sizes: frames.ResetStreamAt(stream, code, max(sizes), min(sizes)),
        varint,
        varint,
        st.tuples(varint, varint),
    ),
    st.builds(frames.StopSending, varint, varint),
    st.builds(frames.Crypto, small, st.binary(max_size=100)),
    st.builds(frames.NewToken, st.binary(min_size=1, max_size=100)),
    st.builds(frames.Stream, varint, small, st.binary(max_size=100), st.booleans(), st.booleans()),
    st.builds(frames.MaxData, varint),
    st.builds(frames.MaxStreamData, varint, varint),
    st.builds(frames.MaxStreams, streams, st.booleans()),
    st.builds(frames.DataBlocked, varint),
    st.builds(frames.StreamDataBlocked, varint, varint),
    st.builds(frames.StreamsBlocked, streams, st.booleans()),
    new_connection_ids(),
    st.builds(frames.RetireConnectionId, varint),
    st.builds(frames.PathChallenge, st.binary(min_size=8, max_size=8)),
    st.builds(frames.PathResponse, st.binary(min_size=8, max_size=8)),
    st.builds(frames.ConnectionClose, varint, varint, st.binary(max_size=100), st.just(False)),
    st.builds(frames.ConnectionClose, varint, st.just(0), st.binary(max_size=100), st.just(True)),
    st.builds(frames.HandshakeDone),
)


def fault(work: Callable[[], object]) -> int | None:
    """The code of the `PeerError` that `work` raises; None if it does not."""
    try:
        work()
    except PeerError as error:
        return error.code
    return None


class TestFrames:
    @given(FRAMES)
    def test_every_frame_decodes_to_what_was_encoded(self, frame: frames.Frame) -> None:
        reader = Reader(frame.encode())
        kind, decoded = frames.decode_frame(reader)
        assert decoded == frame
        assert reader.remaining == 0
        assert kind in TABLE

    @given(st.binary(min_size=1, max_size=200))
    def test_any_bytes_are_frames_or_the_peers_fault_and_always_make_progress(self, data: bytes) -> None:
        reader = Reader(data)
        while reader.remaining:
            before = reader.offset
            code = fault(lambda: frames.decode_frame(reader))
            if code is not None:
                assert code in (ErrorCode.FRAME_ENCODING_ERROR, ErrorCode.PROTOCOL_VIOLATION)
                return
            assert reader.offset > before

    def test_an_unknown_frame_type_is_an_encoding_error(self) -> None:
        with pytest.raises(PeerError) as raised:
            frames.decode_frame(Reader(b"\x40\xff"))
        assert raised.value.code == ErrorCode.FRAME_ENCODING_ERROR

    def test_a_frame_type_in_two_bytes_is_a_violation(self) -> None:
        with pytest.raises(PeerError) as raised:
            frames.decode_frame(Reader(b"\x40\x01"))
        assert raised.value.code == ErrorCode.PROTOCOL_VIOLATION

    @pytest.mark.parametrize(
        "data",
        [
            bytes([ack_frames.ACK, 1, 0, 0, 5]),  # the first range goes below zero
            bytes([ack_frames.ACK, 9, 0, 1, 2, 5, 5]),  # the second one does
            bytes([frames.NEW_TOKEN, 0]),
            bytes([frames.RESET_STREAM_AT, 0, 0, 5, 6]),  # more is reliable than there is
            bytes([frames.NEW_CONNECTION_ID, 0, 1, 1, 0]) + bytes(16),  # retires more than it is
            bytes([frames.NEW_CONNECTION_ID, 1, 0, 0]) + bytes(16),  # no ID
            bytes([frames.MAX_STREAMS_BIDI]) + b"\xff" * 8,
            bytes([frames.STREAM | frames.STREAM_OFF, 0]) + b"\xff" * 8 + b"xx",  # past 2^62 - 1
        ],
    )
    def test_values_out_of_range_are_encoding_errors(self, data: bytes) -> None:
        with pytest.raises(PeerError) as raised:
            frames.decode_frame(Reader(data))
        assert raised.value.code == ErrorCode.FRAME_ENCODING_ERROR


ids = st.binary(max_size=20)


class TestHeaders:
    @given(
        st.sampled_from([PacketType.INITIAL, PacketType.ZERO_RTT, PacketType.HANDSHAKE]),
        st.sampled_from([VERSION_1, VERSION_2]),
        ids,
        ids,
        st.integers(0, (1 << 32) - 1),
        st.integers(1, 4),
        st.integers(20, 1200),
        st.binary(max_size=50),
    )
    def test_long_headers(
        self,
        kind: PacketType,
        version: int,
        destination: bytes,
        source: bytes,
        number: int,
        length: int,
        payload: int,
        token: bytes,
    ) -> None:
        token = token if kind is PacketType.INITIAL else b""
        encoded = encode_long_header(kind, version, destination, source, number, length, payload, token)
        expected = len(token) if kind is PacketType.INITIAL else None
        assert len(encoded) == long_header_size(len(destination), len(source), length, expected)
        packet = encoded + bytes(payload)
        header = parse_long_header(packet, 0, len(packet))
        assert (header.type, header.version) == (kind, version)
        assert (header.destination, header.source, header.token) == (destination, source, token)
        assert header.end == len(packet)
        truncated = packet[header.number_offset : header.number_offset + length]
        assert int.from_bytes(truncated, "big") == number % (1 << 8 * length)

    @given(st.binary(max_size=100))
    def test_any_bytes_are_a_header_or_a_wire_error(self, data: bytes) -> None:
        data = bytes((data[0] | 0x80,)) + data[1:] if data else data
        try:
            header = parse_long_header(data, 0, len(data))
        except WireError:
            return
        assert 0 < header.number_offset <= header.end <= len(data)

    def test_retry_and_version_negotiation(self) -> None:
        retry = encode_retry(VERSION_1, b"dest", b"source", b"token") + bytes(16)
        header = parse_long_header(retry, 0, len(retry))
        assert (header.type, header.token) == (PacketType.RETRY, b"token")
        packet = encode_version_negotiation(b"dest", b"source", (VERSION_1, 0x1A2A3A4A), 0xFF)
        header = parse_long_header(packet, 0, len(packet))
        assert header.type is PacketType.VERSION_NEGOTIATION
        assert parse_versions(packet, header) == (VERSION_1, 0x1A2A3A4A)

    @given(st.integers(0, (1 << 62) - 1), st.integers(0, 1 << 20))
    def test_a_truncated_number_is_recovered_by_whoever_has_seen_what_was_acknowledged(
        self, number: int, behind: int
    ) -> None:
        acknowledged = max(number - behind - 1, -1)
        length = number_length(number, acknowledged)
        truncated = number % (1 << 8 * length)
        for largest in (acknowledged, (acknowledged + number) // 2, number - 1):
            assert expand_number(truncated, length, largest) == number

    def test_the_examples_of_appendix_a(self) -> None:
        assert number_length(0xAC5C02, 0xABE8B3) == 2
        assert number_length(0xACE8FE, 0xABE8B3) == 3
        assert expand_number(0x9B32, 2, 0xA82F30EA) == 0xA82F9B32


class TestTransportParameters:
    def test_everything_survives(self) -> None:
        parameters = TransportParameters(
            original_destination_connection_id=b"original",
            max_idle_timeout_ms=30_000,
            stateless_reset_token=bytes(16),
            max_udp_payload_size=1452,
            initial_max_data=1 << 20,
            initial_max_stream_data_bidi_local=1,
            initial_max_stream_data_bidi_remote=2,
            initial_max_stream_data_uni=3,
            initial_max_streams_bidi=4,
            initial_max_streams_uni=5,
            ack_delay_exponent=7,
            max_ack_delay_ms=100,
            disable_active_migration=True,
            preferred_address=PreferredAddress(bytes(4), 443, bytes(16), 443, b"cid", bytes(16)),
            active_connection_id_limit=8,
            initial_source_connection_id=b"",
            retry_source_connection_id=b"retry",
            version_information=VersionInformation(VERSION_2, (VERSION_2, VERSION_1)),
            max_datagram_frame_size=65535,
            grease_quic_bit=True,
            reset_stream_at=True,
        )
        encoded = encode_parameters(parameters) + encode_reserved(b"grease")
        assert decode_parameters(encoded, from_client=False) == parameters

    @pytest.mark.parametrize("number", [0x0C, 0x1D, 0x2AB2])
    def test_a_parameter_that_is_a_flag_has_no_value(self, number: int) -> None:
        assert fault(lambda: decode_parameters(encode_varint(number) + bytes([0]), from_client=True)) is None
        code = fault(lambda: decode_parameters(encode_varint(number) + bytes([1, 1]), from_client=True))
        assert code == ErrorCode.TRANSPORT_PARAMETER_ERROR

    @given(st.binary(max_size=200), st.booleans())
    def test_any_bytes_are_parameters_or_the_peers_fault(self, data: bytes, from_client: bool) -> None:
        code = fault(lambda: decode_parameters(data, from_client=from_client))
        assert code in (None, ErrorCode.TRANSPORT_PARAMETER_ERROR)
