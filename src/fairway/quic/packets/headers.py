"""Packet headers (RFC 9000 section 17): parsing what is not encrypted, building what is not masked.

A packet number and the low bits of the first byte are under header protection; `protection` takes that off
and puts it on. Everything here works on plain bytes and never raises anything but `WireError`.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from fairway.quic.limits import MAX_CONNECTION_ID_LENGTH
from fairway.wire import WireError, decode_varint, encode_varint

VERSION_NEGOTIATION = 0x00000000
VERSION_1 = 0x00000001  # RFC 9000 section 15
VERSION_2 = 0x6B3343CF  # RFC 9369 section 3.1
SUPPORTED_VERSIONS = (VERSION_1, VERSION_2)
VERSION_NAMES = {"1": VERSION_1, "2": VERSION_2}
"""As people know them."""

LONG_HEADER = 0x80  # RFC 9000 section 17.2: header form
FIXED_BIT = 0x40
SPIN_BIT = 0x20  # section 17.3.1
KEY_PHASE = 0x04
SHORT_RESERVED = 0x18
LONG_RESERVED = 0x0C

RETRY_TAG_LENGTH = 16  # RFC 9001 section 5.8

Buffer = bytes | bytearray | memoryview

_BYTE = tuple(bytes((value,)) for value in range(256))
_FIRST_FIELDS = struct.Struct("!BIB").unpack_from  # the first byte, the version, the length of the destination


class PacketType(IntEnum):
    """The long header types of version 1 (RFC 9000 section 17.2), and the two without a type of their own."""

    INITIAL = 0
    ZERO_RTT = 1
    HANDSHAKE = 2
    RETRY = 3
    VERSION_NEGOTIATION = 4
    ONE_RTT = 5


# Members of an enum are found by a look-up that costs more than the comparisons that they are for.
_INITIAL, _RETRY = PacketType.INITIAL, PacketType.RETRY

_TYPE_BITS = {
    # RFC 9369 section 3.2 rotates the types so that no middlebox may learn them.
    VERSION_1: (PacketType.INITIAL, PacketType.ZERO_RTT, PacketType.HANDSHAKE, PacketType.RETRY),
    VERSION_2: (PacketType.RETRY, PacketType.INITIAL, PacketType.ZERO_RTT, PacketType.HANDSHAKE),
}


class LongHeader(NamedTuple):
    """The visible part of a long header packet; `end` is where the packet ends in the datagram."""

    version: int
    type: PacketType | None  # None: a version that we do not speak
    destination: bytes
    source: bytes
    token: bytes
    number_offset: int
    end: int


def parse_long_header(buffer: Buffer, start: int, end: int) -> LongHeader:
    """Parse the long header at `start` of a datagram that ends at `end`.

    For a version unknown to us only the fields that all versions share are read (RFC 8999 section 5.1). The fixed bit
    may be anything: who has told the peer so takes that (RFC 9287), and who has not looks himself.
    """
    if end - start < 7:
        raise WireError("a long header needs at least 7 bytes")
    first, version, length = _FIRST_FIELDS(buffer, start)
    types = _TYPE_BITS.get(version)
    most = MAX_CONNECTION_ID_LENGTH if types is not None else 255
    at = start + 6
    offset = at + length
    if offset >= end or length > most:
        raise WireError("a connection ID runs past the datagram or is too long")
    destination = bytes(buffer[at:offset])
    at = offset + 1
    length = buffer[offset]
    offset = at + length
    if offset > end or length > most:
        raise WireError("a connection ID runs past the datagram or is too long")
    source = bytes(buffer[at:offset])
    if types is None:
        kind = PacketType.VERSION_NEGOTIATION if version == VERSION_NEGOTIATION else None
        return LongHeader(version, kind, destination, source, b"", offset, end)
    kind = types[(first >> 4) & 3]
    token = b""
    if kind is _RETRY:
        if end - offset < RETRY_TAG_LENGTH:
            raise WireError("a Retry packet ends before its integrity tag")
        token = bytes(buffer[offset : end - RETRY_TAG_LENGTH])
        return LongHeader(version, kind, destination, source, token, end - RETRY_TAG_LENGTH, end)
    if kind is _INITIAL:
        if offset < end and not buffer[offset]:  # no token, as it mostly is
            offset += 1
        else:
            length, offset = _varint(buffer, offset, end)
            if length > end - offset:
                raise WireError("the token runs past the datagram")
            token = bytes(buffer[offset : offset + length])
            offset += length
    length, offset = _varint(buffer, offset, end)
    if length > end - offset:
        raise WireError("the packet's length runs past the datagram")
    return LongHeader(version, kind, destination, source, token, offset, offset + length)


def _varint(buffer: Buffer, offset: int, end: int) -> tuple[int, int]:
    if offset < end:
        first = buffer[offset]
        after = offset + (1 << (first >> 6))
        if after <= end:
            if first < 0x40:
                return first, after
            if first < 0x80:
                return (first & 0x3F) << 8 | buffer[offset + 1], after
            return decode_varint(buffer, offset)
    raise WireError("a variable-length integer runs past the datagram")


def encode_long_header(
    kind: PacketType,
    version: int,
    destination: bytes,
    source: bytes,
    number: int,
    number_length: int,
    payload_length: int,
    token: bytes = b"",
    fixed_bit: int = FIXED_BIT,
) -> bytes:
    """A long header up to and with its packet number; `payload_length` counts the AEAD tag."""
    first = LONG_HEADER | fixed_bit | (_TYPE_BITS[version].index(kind) << 4) | (number_length - 1)
    # The length is always two bytes, so that the header's length does not depend on the payload's.
    length = 0x4000 | (number_length + payload_length)
    number &= (1 << (8 * number_length)) - 1
    return b"".join(
        (
            (first << 40 | version << 8 | len(destination)).to_bytes(6, "big"),
            destination,
            _BYTE[len(source)],
            source,
            b"" if kind is not _INITIAL else encode_varint(len(token)) + token if token else b"\0",
            (length << 8 * number_length | number).to_bytes(2 + number_length, "big"),
        )
    )


def long_header_size(destination: int, source: int, number_length: int, token: int | None) -> int:
    """Length of what `encode_long_header` gives, from the lengths of its parts; no token but in an Initial."""
    size = 1 + 4 + 1 + destination + 1 + source + 2 + number_length
    return size if token is None else size + len(encode_varint(token)) + token


def encode_version_negotiation(destination: bytes, source: bytes, versions: tuple[int, ...], unused: int = 0) -> bytes:
    """A Version Negotiation packet (RFC 9000 section 17.2.1); the low 7 bits of the first byte are `unused`."""
    return b"".join(
        [
            bytes((LONG_HEADER | FIXED_BIT | (unused & 0x3F),)),
            bytes(4),
            bytes((len(destination),)),
            destination,
            bytes((len(source),)),
            source,
            *(version.to_bytes(4, "big") for version in versions),
        ]
    )


def parse_versions(buffer: Buffer, header: LongHeader) -> tuple[int, ...]:
    """The versions that a Version Negotiation packet lists."""
    body = bytes(buffer[header.number_offset : header.end])
    if len(body) == 0 or len(body) % 4:
        raise WireError("a Version Negotiation packet lists no whole number of versions")
    return tuple(int.from_bytes(body[i : i + 4], "big") for i in range(0, len(body), 4))


def encode_retry(version: int, destination: bytes, source: bytes, token: bytes) -> bytes:
    """A Retry packet without its integrity tag (RFC 9000 section 17.2.5)."""
    first = LONG_HEADER | FIXED_BIT | (_TYPE_BITS[version].index(PacketType.RETRY) << 4)
    return b"".join(
        [
            bytes((first,)),
            version.to_bytes(4, "big"),
            bytes((len(destination),)),
            destination,
            bytes((len(source),)),
            source,
            token,
        ]
    )


def number_length(number: int, largest_acknowledged: int) -> int:
    """Bytes that a packet number needs so that the peer can recover it (RFC 9000 appendix A.2)."""
    bits = (number - largest_acknowledged).bit_length() + 1
    return 1 if bits <= 8 else 2 if bits <= 16 else 3 if bits <= 24 else 4


def expand_number(truncated: int, length: int, largest: int) -> int:
    """The full packet number, `largest` being the largest received so far, -1 if none (appendix A.3)."""
    window = 1 << (8 * length)
    expected = largest + 1
    candidate = (expected & ~(window - 1)) | truncated
    if candidate <= expected - window // 2 and candidate < (1 << 62) - window:
        return candidate + window
    if candidate > expected + window // 2 and candidate >= window:
        return candidate - window
    return candidate
