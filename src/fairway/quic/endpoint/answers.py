"""Datagrams that answer a newcomer of whom nothing is kept."""

from __future__ import annotations

from fairway.quic.errors import ErrorCode, PeerError
from fairway.quic.frames import ConnectionClose
from fairway.quic.packets.headers import Buffer, LongHeader, PacketType, encode_long_header, encode_retry
from fairway.quic.packets.protection import TAG_LENGTH, initial_secrets, make_opener, make_sealer, retry_tag
from fairway.tls import CipherSuite


def retry(header: LongHeader, source: bytes, token: bytes) -> bytes:
    """A Retry for the Initial packet with `header` (RFC 9000 section 17.2.5); `source` is what to address next."""
    packet = encode_retry(header.version, header.source, source, token)
    return packet + retry_tag(header.version, header.destination, packet)


def close(header: LongHeader, code: ErrorCode) -> bytes:
    """A close of the handshake that the Initial packet with `header` would begin (sections 5.2.2 and 8.1.3)."""
    payload = ConnectionClose(code, 0, b"").encode()
    _, secret = initial_secrets(header.version, header.destination)
    sealer = make_sealer(header.version, CipherSuite.AES_128_GCM_SHA256, secret)
    size = len(payload) + TAG_LENGTH
    packet = encode_long_header(PacketType.INITIAL, header.version, header.source, header.destination, 0, 2, size)
    return sealer.seal_long(packet, 0, 2, payload)


def arrived_whole(header: LongHeader, buffer: Buffer) -> bool:
    """Whether the Initial packet at the start of `buffer` is what its sender sealed: every bit, its token's too."""
    theirs, _ = initial_secrets(header.version, header.destination)
    opener = make_opener(header.version, CipherSuite.AES_128_GCM_SHA256, theirs)
    try:
        return opener.open_long(buffer, 0, header, -1) is not None
    except PeerError:  # reserved bits that no packet has: whole, and of nobody who is owed an answer
        return False
