"""Every decoder of QUIC with any bytes and with real ones that were changed: a value, or the one typed error."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import pytest
from fuzzing import Mutation, fuzz, mutate, mutation, varints
from hypothesis import example, given
from hypothesis import strategies as st

from fairway.quic import ErrorCode, PeerError, frames
from fairway.quic.packets.headers import (
    KEY_PHASE,
    LONG_HEADER,
    SUPPORTED_VERSIONS,
    LongHeader,
    PacketType,
    encode_long_header,
    encode_retry,
    encode_version_negotiation,
    parse_long_header,
    parse_versions,
)
from fairway.quic.packets.protection import Opener, make_opener
from fairway.quic.transport_parameters import (
    PreferredAddress,
    TransportParameters,
    decode_parameters,
    encode_parameters,
)
from fairway.tls import CipherSuite
from fairway.wire import RangeSet, Reader, WireError, decode_varint, encode_varint

ids = st.binary(max_size=20)
buffers = st.sampled_from([bytes, bytearray, memoryview])
changes = st.lists(mutation, max_size=4)


def changed(data: bytes, mutations: list[Mutation]) -> bytes:
    for change in mutations:
        data = mutate(data, *change)
    return data


@given(data=st.binary(max_size=20), offset=st.integers(0, 24), kind=buffers)
@fuzz
def test_a_varint_lies_within_its_buffer(data: bytes, offset: int, kind: type) -> None:
    try:
        value, after = decode_varint(kind(data), offset)
    except WireError:
        return
    assert 0 <= value < 1 << 62
    assert offset < after <= len(data)


@given(
    data=st.binary(max_size=40),
    names=st.lists(
        st.sampled_from(["u8", "u16", "u24", "u32", "u64", "varint", "rest", "vector8", "vector16", "vector24"]),
        max_size=12,
    ),
    kind=buffers,
)
@fuzz
def test_a_reader_never_passes_its_end(data: bytes, names: list[str], kind: type) -> None:
    reader = Reader(kind(data), 0, len(data) * 3 // 4)
    for name in names:
        before = reader.offset
        try:
            getattr(reader, name)()
        except WireError:
            assert reader.offset >= before
        assert before <= reader.offset <= len(data) * 3 // 4


steps = st.lists(
    st.tuples(st.sampled_from(["add", "remove", "pop"]), st.integers(0, 14), st.integers(0, 14)), max_size=30
)


@given(steps=steps)
@fuzz
def test_ranges_are_the_set_that_they_stand_for(steps: list[tuple[str, int, int]]) -> None:
    ranges, model = RangeSet(), set[int]()
    for what, start, stop in steps:
        if what == "add":
            ranges.add(start, stop)
            model |= set(range(start, stop))
        elif what == "remove":
            ranges.remove(start, stop)
            model -= set(range(start, stop))
        elif ranges:
            model -= set(range(*ranges.pop_first()))
        assert {n for low, high in ranges for n in range(low, high)} == model
        pairs = list(ranges)
        assert all(low < high for low, high in pairs)
        assert all(first[1] < second[0] for first, second in pairwise(pairs))
        assert {n for low, high in ranges.gaps(0, 14) for n in range(low, high)} == set(range(14)) - model
        assert ranges.covers(start, stop) == (set(range(start, stop)) <= model)


# Frames

types = st.one_of(st.integers(0, 0x20), st.sampled_from([0x30, 0x31]))
typed = st.builds(lambda kind, rest: bytes((kind,)) + rest, types, st.binary(max_size=60))
numbers = st.builds(
    lambda kind, values, rest: bytes((kind,)) + b"".join(encode_varint(value) for value in values) + rest,
    types,
    st.lists(varints, max_size=6),
    st.binary(max_size=30),
)


@given(payload=st.one_of(st.binary(max_size=200), st.lists(st.one_of(typed, numbers), max_size=5).map(b"".join)))
@fuzz
def test_frames_of_any_payload(payload: bytes) -> None:
    reader = Reader(payload)
    while reader.remaining:
        before = reader.offset
        try:
            _, frame = frames.decode_frame(reader)
        except PeerError as error:
            assert error.code in (ErrorCode.FRAME_ENCODING_ERROR, ErrorCode.PROTOCOL_VIOLATION)  # noqa: PT017
            assert error.section  # noqa: PT017
            return
        assert before < reader.offset <= len(payload)
        assert frames.decode_frame(Reader(frame.encode()))[1] == frame  # what was understood can be said again


# Transport parameters

EVERYTHING = TransportParameters(
    original_destination_connection_id=b"12345678",
    max_idle_timeout_ms=30_000,
    stateless_reset_token=bytes(16),
    max_udp_payload_size=1472,
    initial_max_data=1 << 20,
    initial_max_stream_data_bidi_local=1 << 20,
    initial_max_stream_data_bidi_remote=1 << 20,
    initial_max_stream_data_uni=1 << 20,
    initial_max_streams_bidi=100,
    initial_max_streams_uni=100,
    ack_delay_exponent=5,
    max_ack_delay_ms=30,
    disable_active_migration=True,
    reset_stream_at=True,
    preferred_address=PreferredAddress(bytes(4), 1, bytes(16), 2, b"preferred", bytes(16)),
    active_connection_id_limit=4,
    initial_source_connection_id=b"source",
    retry_source_connection_id=b"retry",
    max_datagram_frame_size=65535,
)
ANY_PARAMETERS = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 0x12), st.just(0x20), varints),
        st.one_of(st.binary(max_size=60), varints.map(encode_varint)),
    )
).map(lambda pairs: b"".join(encode_varint(n) + encode_varint(len(value)) + value for n, value in pairs))


@given(
    data=st.one_of(
        st.binary(max_size=200),
        ANY_PARAMETERS,
        changes.map(lambda mutations: changed(encode_parameters(EVERYTHING), mutations)),
    ),
    from_client=st.booleans(),
)
@fuzz
def test_any_transport_parameters(data: bytes, from_client: bool) -> None:
    try:
        parameters = decode_parameters(data, from_client=from_client)
    except PeerError as error:
        assert error.code == ErrorCode.TRANSPORT_PARAMETER_ERROR  # noqa: PT017
        return
    assert decode_parameters(encode_parameters(parameters), from_client=from_client) == parameters


# Packet headers

long_headers = st.builds(
    encode_long_header,
    st.sampled_from([PacketType.INITIAL, PacketType.ZERO_RTT, PacketType.HANDSHAKE]),
    st.sampled_from(SUPPORTED_VERSIONS),
    ids,
    ids,
    st.integers(0, 1 << 40),
    st.integers(1, 4),
    st.integers(20, 100),
    st.binary(max_size=40),
)
negotiations = st.builds(
    encode_version_negotiation,
    ids,
    ids,
    st.lists(st.integers(0, (1 << 32) - 1), max_size=5).map(tuple),
    st.integers(0, 255),
)
retries = st.builds(encode_retry, st.sampled_from(SUPPORTED_VERSIONS), ids, ids, st.binary(max_size=60))
headers = st.one_of(st.binary(max_size=80), long_headers, negotiations, retries)


@given(
    data=headers,
    mutations=changes,
    rest=st.one_of(st.just(b""), st.binary(max_size=120)),
    start=st.integers(0, 10),
    kind=buffers,
)
@example(data=b"\xc0\0\0\0\0\0\x09source", mutations=[], rest=b"", start=0, kind=bytes)
@fuzz
def test_any_long_header(data: bytes, mutations: list[Mutation], rest: bytes, start: int, kind: type) -> None:
    data = bytes(start) + changed(data, mutations) + rest
    if not start < len(data):
        return
    end = len(data) - len(rest) // 3
    header = parsed(kind(data), start, end)
    if header is None:
        return
    assert start < header.number_offset <= header.end <= end
    assert max(len(header.destination), len(header.source)) <= (255 if header.type in (None, 4) else 20)
    if header.type is PacketType.VERSION_NEGOTIATION:
        try:
            assert parse_versions(data, header)
        except WireError:
            assert (header.end - header.number_offset) % 4 or header.end == header.number_offset


def parsed(buffer: bytes, start: int, end: int) -> LongHeader | None:
    try:
        return parse_long_header(buffer, start, end)
    except WireError:
        return None


# Packet protection


@cache
def opener(suite: CipherSuite) -> Opener:
    return make_opener(SUPPORTED_VERSIONS[0], suite, bytes(suite.key_length))


@pytest.mark.parametrize("suite", CipherSuite)
@given(
    data=st.binary(min_size=1, max_size=400),
    segment=st.integers(1, 400),
    destination=ids,
    largest=st.one_of(st.just(-1), varints),
    phase=st.sampled_from([0, KEY_PHASE]),
    kind=buffers,
)
@fuzz
def test_any_buffer_opens_to_nothing_and_every_datagram_with_a_sample_is_named(
    suite: CipherSuite, data: bytes, segment: int, destination: bytes, largest: int, phase: int, kind: type
) -> None:
    result = opener(suite).open_batch(kind(data), len(data), segment, destination, largest, phase)
    opened, payloads, others = result
    assert not opened
    assert not payloads
    sampled = [at for at in range(0, len(data), segment) if at + 1 + len(destination) + 20 <= len(data)]
    assert [at for at, _ in others] == sampled


@pytest.mark.parametrize("suite", CipherSuite)
@given(data=long_headers, mutations=changes, rest=st.binary(max_size=120), largest=varints, kind=buffers)
@fuzz
def test_any_long_packet_opens_to_nothing(
    suite: CipherSuite, data: bytes, mutations: list[Mutation], rest: bytes, largest: int, kind: type
) -> None:
    data = changed(data, mutations) + rest
    if not data or not data[0] & LONG_HEADER:
        return
    header = parsed(data, 0, len(data))
    if header is not None and header.type in (PacketType.INITIAL, PacketType.HANDSHAKE):
        assert opener(suite).open_long(kind(data), 0, header, largest) is None
