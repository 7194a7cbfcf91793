"""Capsules (RFC 9297 section 3): typed pieces of the bytes that follow an extended CONNECT, in both directions."""

from __future__ import annotations

from dataclasses import dataclass

from fairway.http3.errors import MessageError
from fairway.http3.limits import MAX_CAPSULE
from fairway.wire import WireError, decode_varint, encode_varint

DATAGRAM = 0x00
CLOSE_SESSION = 0x2843  # draft-ietf-webtrans-http3, CLOSE_WEBTRANSPORT_SESSION
DRAIN_SESSION = 0x78AE
WT_MAX_DATA = 0x190B4D3D  # draft-ietf-webtrans-http3-16 section 5.6, all of them
WT_MAX_STREAM_DATA = 0x190B4D3E
WT_MAX_STREAMS_BIDI = 0x190B4D3F
WT_MAX_STREAMS_UNI = 0x190B4D40
WT_DATA_BLOCKED = 0x190B4D41
WT_STREAM_DATA_BLOCKED = 0x190B4D42
WT_STREAMS_BLOCKED_BIDI = 0x190B4D43
WT_STREAMS_BLOCKED_UNI = 0x190B4D44

FLOW_CONTROL = frozenset(range(WT_MAX_DATA, WT_STREAMS_BLOCKED_UNI + 1))
KNOWN = frozenset({DATAGRAM, CLOSE_SESSION, DRAIN_SESSION}) | FLOW_CONTROL


@dataclass(frozen=True, slots=True)
class Capsule:
    """One capsule of a known type."""

    kind: int
    value: bytes

    def encode(self) -> bytes:
        """Type, length, value."""
        return encode_varint(self.kind) + encode_varint(len(self.value)) + self.value


class CapsuleReader:
    """Takes the bytes as they come and gives whole capsules; those of unknown types are passed over unkept."""

    def __init__(self) -> None:
        self._buffer = b""
        self._skipping = 0

    @property
    def between(self) -> bool:
        """True where the stream may end: not within a capsule."""
        return not self._buffer and not self._skipping

    def feed(self, data: bytes) -> list[Capsule]:
        """Capsules that are complete now; `MessageError` for one of a known type that is too large.

        A datagram that is too large is dropped (RFC 9297 section 3.5), any other capsule ends the session.
        """
        buffer = self._buffer + data
        capsules: list[Capsule] = []
        at, size = 0, len(buffer)
        while at < size:
            if self._skipping:
                passed = min(self._skipping, size - at)
                self._skipping -= passed
                at += passed
                continue
            try:
                kind, after = decode_varint(buffer, at)
                length, after = decode_varint(buffer, after)
            except WireError:
                break
            if kind not in KNOWN or (kind == DATAGRAM and length > MAX_CAPSULE):
                self._skipping = length
                at = after
                continue
            if length > MAX_CAPSULE:
                raise MessageError(f"a capsule of {length} bytes", section="RFC 9297 section 3.3")
            if size < after + length:
                break
            at = after + length
            capsules.append(Capsule(kind, buffer[after:at]))
        self._buffer = buffer[at:]
        return capsules
