"""Frames of HTTP/3 (RFC 9114 section 7, RFC 9218 section 7.2): type, length, payload.

DATA and HEADERS are handled where they arrive, without an object; the frames of the control stream are values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fairway.http3.errors import H3Code, Http3Error
from fairway.http3.settings import Settings
from fairway.wire import Reader, WireError, decode_varint, encode_varint

DATA = 0x00
HEADERS = 0x01
CANCEL_PUSH = 0x03
SETTINGS = 0x04
PUSH_PROMISE = 0x05
GOAWAY = 0x07
MAX_PUSH_ID = 0x0D
WEBTRANSPORT_STREAM = 0x41  # a signal, not a frame: no length follows, but the session's ID
PRIORITY_UPDATE = 0xF0700
PRIORITY_UPDATE_PUSH = 0xF0701

RESERVED = frozenset({0x02, 0x06, 0x08, 0x09})
"""Frame types of HTTP/2 that must not appear (RFC 9114 section 7.2.8)."""

CONTROL_ONLY = frozenset({CANCEL_PUSH, SETTINGS, GOAWAY, MAX_PUSH_ID, PRIORITY_UPDATE, PRIORITY_UPDATE_PUSH})
REQUEST_ONLY = frozenset({DATA, HEADERS, PUSH_PROMISE})

ONE_INTEGER = frozenset({CANCEL_PUSH, GOAWAY, MAX_PUSH_ID})
"""Frames whose payload is one integer, and so 8 bytes at most."""

NAMES = {
    DATA: "DATA",
    HEADERS: "HEADERS",
    CANCEL_PUSH: "CANCEL_PUSH",
    SETTINGS: "SETTINGS",
    PUSH_PROMISE: "PUSH_PROMISE",
    GOAWAY: "GOAWAY",
    MAX_PUSH_ID: "MAX_PUSH_ID",
    PRIORITY_UPDATE: "PRIORITY_UPDATE",
    PRIORITY_UPDATE_PUSH: "PRIORITY_UPDATE of a push",
}

_SECTIONS = {
    DATA: "RFC 9114 section 7.2.1",
    HEADERS: "RFC 9114 section 7.2.2",
    CANCEL_PUSH: "RFC 9114 section 7.2.3",
    SETTINGS: "RFC 9114 section 7.2.4",
    PUSH_PROMISE: "RFC 9114 section 7.2.5",
    GOAWAY: "RFC 9114 section 7.2.6",
    MAX_PUSH_ID: "RFC 9114 section 7.2.7",
    PRIORITY_UPDATE: "RFC 9218 section 7.2",
    PRIORITY_UPDATE_PUSH: "RFC 9218 section 7.2",
}

# Unidirectional streams (RFC 9114 section 6.2, RFC 9204 section 4.2)
CONTROL_STREAM = 0x00
PUSH_STREAM = 0x01
QPACK_ENCODER_STREAM = 0x02
QPACK_DECODER_STREAM = 0x03
WEBTRANSPORT_UNI_STREAM = 0x54


def name(frame_type: int) -> str:
    """A frame type's name, for people."""
    return NAMES.get(frame_type, f"frame {frame_type:#x}")


def section(frame_type: int) -> str:
    """Where it says on which streams a frame may come."""
    return _SECTIONS.get(frame_type, "RFC 9114 section 7.2.8")


def decode_header(buffer: bytes, offset: int = 0) -> tuple[int, int, int] | None:
    """Type, length and where the payload begins; None if the buffer ends before."""
    try:
        frame_type, after = decode_varint(buffer, offset)
        length, after = decode_varint(buffer, after)
    except WireError:
        return None
    return frame_type, length, after


def encode_header(frame_type: int, length: int) -> bytes:
    """A frame's beginning."""
    return encode_varint(frame_type) + encode_varint(length)


def encode(frame_type: int, payload: bytes) -> bytes:
    """A whole frame."""
    return encode_varint(frame_type) + encode_varint(len(payload)) + payload


@dataclass(frozen=True, slots=True)
class Goaway:
    """The sender shuts down (section 5.2); from a server a request's stream ID, from a client a push ID."""

    identifier: int

    def encode(self) -> bytes:
        """The whole frame."""
        return encode(GOAWAY, encode_varint(self.identifier))

    @classmethod
    def decode(cls, payload: bytes) -> Goaway:
        """Read the payload."""
        return cls(_one_integer(payload, GOAWAY))


@dataclass(frozen=True, slots=True)
class MaxPushId:
    """The client takes pushes up to this ID (section 7.2.7)."""

    identifier: int

    @classmethod
    def decode(cls, payload: bytes) -> MaxPushId:
        """Read the payload."""
        return cls(_one_integer(payload, MAX_PUSH_ID))


@dataclass(frozen=True, slots=True)
class CancelPush:
    """A push is not wanted or not made (section 7.2.3)."""

    identifier: int

    @classmethod
    def decode(cls, payload: bytes) -> CancelPush:
        """Read the payload."""
        return cls(_one_integer(payload, CANCEL_PUSH))


@dataclass(frozen=True, slots=True)
class PriorityUpdate:
    """Another priority for a request or a push (RFC 9218 section 7.2)."""

    identifier: int
    value: bytes
    push: bool = False

    def encode(self) -> bytes:
        """The whole frame."""
        kind = PRIORITY_UPDATE_PUSH if self.push else PRIORITY_UPDATE
        return encode(kind, encode_varint(self.identifier) + self.value)

    @classmethod
    def decode(cls, payload: bytes) -> PriorityUpdate:
        """Read the payload of the frame for requests."""
        reader = Reader(payload)
        try:
            return cls(reader.varint(), reader.rest())
        except WireError:
            raise wrong_length(PRIORITY_UPDATE) from None

    @classmethod
    def decode_push(cls, payload: bytes) -> PriorityUpdate:
        """Read the payload of the frame for pushes."""
        update = cls.decode(payload)
        return cls(update.identifier, update.value, push=True)


ControlFrame = Settings | Goaway | MaxPushId | CancelPush | PriorityUpdate

DECODERS: dict[int, Callable[[bytes], ControlFrame]] = {
    SETTINGS: Settings.decode,
    GOAWAY: Goaway.decode,
    MAX_PUSH_ID: MaxPushId.decode,
    CANCEL_PUSH: CancelPush.decode,
    PRIORITY_UPDATE: PriorityUpdate.decode,
    PRIORITY_UPDATE_PUSH: PriorityUpdate.decode_push,
}
"""The frames of the control stream."""


def _one_integer(payload: bytes, frame_type: int) -> int:
    reader = Reader(payload)
    try:
        value = reader.varint()
        reader.finish()
    except WireError:
        raise wrong_length(frame_type) from None
    return value


def wrong_length(frame_type: int) -> Http3Error:
    """What ends the connection of a peer whose frame is longer or shorter than what it should hold."""
    return Http3Error(
        H3Code.H3_FRAME_ERROR, f"{name(frame_type)} has another length than its fields", section="RFC 9114 section 7.1"
    )
