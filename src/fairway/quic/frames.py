# ruff: noqa: D102 - the contract of every `encode` and `decode` stands at `Frame`
"""The frames of RFC 9000 section 19, RFC 9221 and reliable stream resets: one frozen value each.

Each has one `encode` and one `decode`. Those about acknowledgements are in `ack_frames`.

Decoding is pure: it checks what one frame can be wrong in by itself and raises `PeerError`. What a frame means
to a connection is in `receiving`. STREAM, ACK and CRYPTO are hot there and do not pass through their objects.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol, Self

from fairway.quic.ack_frames import ACK, ACK_ECN, ACK_FREQUENCY, IMMEDIATE_ACK, Ack, AckFrequency, ImmediateAck
from fairway.quic.errors import ErrorCode, PeerError, bad_encoding
from fairway.quic.limits import MAX_CONNECTION_ID_LENGTH, MAX_REASON_BYTES, MAX_STREAMS_CAP
from fairway.wire import Reader, WireError, encode_varint, encode_varints

PADDING = 0x00
PING = 0x01
RESET_STREAM = 0x04
STOP_SENDING = 0x05
CRYPTO = 0x06
NEW_TOKEN = 0x07
STREAM = 0x08  # to 0x0f
STREAM_FIN = 0x01
STREAM_LEN = 0x02
STREAM_OFF = 0x04
MAX_DATA = 0x10
MAX_STREAM_DATA = 0x11
MAX_STREAMS_BIDI = 0x12
MAX_STREAMS_UNI = 0x13
DATA_BLOCKED = 0x14
STREAM_DATA_BLOCKED = 0x15
STREAMS_BLOCKED_BIDI = 0x16
STREAMS_BLOCKED_UNI = 0x17
NEW_CONNECTION_ID = 0x18
RETIRE_CONNECTION_ID = 0x19
PATH_CHALLENGE = 0x1A
PATH_RESPONSE = 0x1B
CONNECTION_CLOSE = 0x1C
CONNECTION_CLOSE_APPLICATION = 0x1D
HANDSHAKE_DONE = 0x1E
RESET_STREAM_AT = 0x24  # draft-ietf-quic-reliable-stream-reset section 4
DATAGRAM = 0x30  # and 0x31: RFC 9221 section 4
DATAGRAM_LEN = 0x01

_STREAM_TYPES = tuple(bytes((STREAM + bits,)) for bits in range(8))

MAX_OFFSET = (1 << 62) - 1  # the greatest final offset of a stream: section 4.5


class Frame(Protocol):
    """What all frames can do; `decode` reads what follows the frame's type."""

    def encode(self) -> bytes:
        """The frame's bytes, with its type."""

    @classmethod
    def decode(cls, reader: Reader, frame_type: int) -> Self:
        """The frame of this type that `reader` stands at."""


@dataclass(frozen=True, slots=True)
class Padding:
    """PADDING: `length` zero bytes (section 19.1)."""

    length: int = 1

    def encode(self) -> bytes:
        return bytes(self.length)

    @classmethod
    def decode(cls, reader: Reader, frame_type: int) -> Self:
        rest = reader.rest()
        others = len(rest.lstrip(b"\0"))
        reader.offset -= others
        return cls(1 + len(rest) - others)


@dataclass(frozen=True, slots=True)
class Ping:
    """PING (section 19.2)."""

    def encode(self) -> bytes:
        return b"\x01"

    @classmethod
    def decode(cls, reader: Reader, frame_type: int) -> Self:
        return cls()


@dataclass(frozen=True, slots=True)
class ResetStream:
    """RESET_STREAM (section 19.4)."""

    stream_id: int
    code: int
    final_size: int

    def encode(self) -> bytes:
        return encode_varints(RESET_STREAM, self.stream_id, self.code, self.final_size)

    @classmethod
    def decode(cls, reader: Reader, frame_type: int) -> Self:
        return cls(reader.varint(), reader.varint(), reader.varint())


@dataclass(frozen=True, slots=True)
class ResetStreamAt:
    """RESET_STREAM_AT (draft-ietf-quic-reliable-stream-reset section 4): `reliable_size` bytes still arrive."""

    stream_id: int
    code: int
    final_size: int
    reliable_size: int

    def encode(self) -> bytes:
        return encode_varints(RESET_STREAM_AT, self.stream_id, self.code, self.final_size, self.reliable_size)

    @classmethod
    def decode(cls, reader: Reader, frame_type: int) -> Self:
        frame = cls(reader.varint(), reader.varint(), reader.varint(), reader.varint())
        if frame.reliable_size > frame.final_size:
            raise bad_encoding(frame_type, "more of a stream is reliable than there is of it")
        return frame


@dataclass(frozen=True, slots=True)
class StopSending:
    """STOP_SENDING (section 19.5)."""

    stream_id: int
    code: int

    def encode(self) -> bytes:
        return encode_varints(STOP_SENDING, self.stream_id, self.code)

    @classmethod
    def decode(cls, reader: Reader, frame_type: int) -> Self:
        return cls(reader.varint(), reader.varint())


@dataclass(frozen=True, slots=True)
class Crypto:
    """CRYPTO (section 19.6)."""

    offset: int
    data: bytes

    def encode(self) -> bytes:
        return crypto_header(self.offset, len(self.data)) + self.data

    @classmethod
    def decode(cls, reader: Reader, frame_type: int) -> Self:
        offset = reader.varint()
        data = reader.take(reader.varint())
        if offset + len(data) > MAX_OFFSET:
            raise bad_encoding(frame_type, "CRYPTO data passes 2^62 - 1")
        return cls(offset, data)


def crypto_header(offset: int, length: int) -> bytes:
    """A CRYPTO frame up to its data."""
    return b"\x06" + encode_varint(offset) + encode_varint(length)


@dataclass(frozen=True, slots=True)
class NewToken:
    """NEW_TOKEN (section 19.7)."""

    token: bytes

    def encode(self) -> bytes:
        return encode_varints(NEW_TOKEN, len(self.token)) + self.token

    @classmethod
    def decode(cls, reader: Reader, frame_type: int) -> Self:
        token = reader.take(reader.varint())
        if not token:
            raise bad_encoding(frame_type, "an empty token")
        return cls(token)


@dataclass(frozen=True, slots=True)
class Stream:
    """STREAM (section 19.8); `explicit_length` is False where the data reaches to the packet's end."""

    stream_id: int
    offset: int
    data: bytes
    fin: bool = False
    explicit_length: bool = True

    def encode(self) -> bytes:
        length = len(self.data) if self.explicit_length else None
        return stream_header(self.stream_id, self.offset, length, self.fin) + self.data

    @classmethod
    def decode(cls, reader: Reader, frame_type: int) -> Self:
        stream_id = reader.varint()
        offset = reader.varint() if frame_type & STREAM_OFF else 0
        explicit = bool(frame_type & STREAM_LEN)
        data = reader.take(reader.varint()) if explicit else reader.rest()
        if offset + len(data) > MAX_OFFSET:
            raise bad_encoding(frame_type, "STREAM data passes 2^62 - 1")
        return cls(stream_id, offset, data, bool(frame_type & STREAM_FIN), explicit)


def stream_header(stream_id: int, offset: int, length: int | None, fin: bool) -> bytes:
    """A STREAM frame up to its data; `length` None leaves it out: the data reaches to the packet's end."""
    frame_type = STREAM | fin
    fields = encode_varint(stream_id)
    if offset:
        frame_type |= STREAM_OFF
        fields += encode_varint(offset)
    if length is not None:
        frame_type |= STREAM_LEN
        fields += encode_varint(length)
    return _STREAM_TYPES[frame_type - STREAM] + fields


@dataclass(frozen=True, slots=True)
class MaxData:
    """MAX_DATA (section 19.9)."""

    limit: int

    def encode(self) -> bytes:
        return encode_varints(MAX_DATA, self.limit)

    @classmethod
    def decode(cls, reader: Reader, frame_type: int) -> Self:
        return cls(reader.varint())


@dataclass(frozen=True, slots=True)
class MaxStreamData:
    """MAX_STREAM_DATA (section 19.10)."""

    stream_id: int
    limit: int

    def encode(self) -> bytes:
        return encode_varints(MAX_STREAM_DATA, self.stream_id, self.limit)

    @classmethod
    def decode(cls, reader: Reader, frame_type: int) -> Self:
        return cls(reader.varint(), reader.varint())


@dataclass(frozen=True, slots=True)
class MaxStreams:
    """MAX_STREAMS (section 19.11)."""

    limit: int
    unidirectional: bool

    def encode(self) -> bytes:
        return encode_varints(MAX_STREAMS_UNI if self.unidirectional else MAX_STREAMS_BIDI, self.limit)

    @classmethod
    def decode(cls, reader: Reader, frame_type: int) -> Self:
        limit = reader.varint()
        if limit > MAX_STREAMS_CAP:
            raise bad_encoding(frame_type, "more than 2^60 streams")
        return cls(limit, frame_type == MAX_STREAMS_UNI)


@dataclass(frozen=True, slots=True)
class DataBlocked:
    """DATA_BLOCKED (section 19.12)."""

    limit: int

    def encode(self) -> bytes:
        return encode_varints(DATA_BLOCKED, self.limit)

    @classmethod
    def decode(cls, reader: Reader, frame_type: int) -> Self:
        return cls(reader.varint())


@dataclass(frozen=True, slots=True)
class StreamDataBlocked:
    """STREAM_DATA_BLOCKED (section 19.13)."""

    stream_id: int
    limit: int

    def encode(self) -> bytes:
        return encode_varints(STREAM_DATA_BLOCKED, self.stream_id, self.limit)

    @classmethod
    def decode(cls, reader: Reader, frame_type: int) -> Self:
        return cls(reader.varint(), reader.varint())


@dataclass(frozen=True, slots=True)
class StreamsBlocked:
    """STREAMS_BLOCKED (section 19.14)."""

    limit: int
    unidirectional: bool

    def encode(self) -> bytes:
        return encode_varints(STREAMS_BLOCKED_UNI if self.unidirectional else STREAMS_BLOCKED_BIDI, self.limit)

    @classmethod
    def decode(cls, reader: Reader, frame_type: int) -> Self:
        limit = reader.varint()
        if limit > MAX_STREAMS_CAP:
            raise bad_encoding(frame_type, "more than 2^60 streams")
        return cls(limit, frame_type == STREAMS_BLOCKED_UNI)


@dataclass(frozen=True, slots=True)
class NewConnectionId:
    """NEW_CONNECTION_ID (section 19.15)."""

    sequence: int
    retire_prior_to: int
    connection_id: bytes
    reset_token: bytes

    RESET_TOKEN_LENGTH: ClassVar[int] = 16

    def encode(self) -> bytes:
        head = encode_varints(NEW_CONNECTION_ID, self.sequence, self.retire_prior_to)
        return head + bytes((len(self.connection_id),)) + self.connection_id + self.reset_token

    @classmethod
    def decode(cls, reader: Reader, frame_type: int) -> Self:
        sequence, retire_prior_to = reader.varint(), reader.varint()
        length = reader.take(1)[0]
        if not 1 <= length <= MAX_CONNECTION_ID_LENGTH:
            raise bad_encoding(frame_type, "a connection ID's length is not 1 to 20")
        if retire_prior_to > sequence:
            raise bad_encoding(frame_type, "Retire Prior To is greater than the sequence number")
        return cls(sequence, retire_prior_to, reader.take(length), reader.take(cls.RESET_TOKEN_LENGTH))


@dataclass(frozen=True, slots=True)
class RetireConnectionId:
    """RETIRE_CONNECTION_ID (section 19.16)."""

    sequence: int

    def encode(self) -> bytes:
        return encode_varints(RETIRE_CONNECTION_ID, self.sequence)

    @classmethod
    def decode(cls, reader: Reader, frame_type: int) -> Self:
        return cls(reader.varint())


@dataclass(frozen=True, slots=True)
class PathChallenge:
    """PATH_CHALLENGE (section 19.17)."""

    data: bytes

    def encode(self) -> bytes:
        return b"\x1a" + self.data

    @classmethod
    def decode(cls, reader: Reader, frame_type: int) -> Self:
        return cls(reader.take(8))


@dataclass(frozen=True, slots=True)
class PathResponse:
    """PATH_RESPONSE (section 19.18)."""

    data: bytes

    def encode(self) -> bytes:
        return b"\x1b" + self.data

    @classmethod
    def decode(cls, reader: Reader, frame_type: int) -> Self:
        return cls(reader.take(8))


class ConnectionClose(NamedTuple):
    """CONNECTION_CLOSE (section 19.19) of the transport, or of the application (then without a frame type)."""

    code: int
    frame_type: int = 0
    reason: bytes = b""
    application: bool = False

    def encode(self) -> bytes:
        reason = self.reason[:MAX_REASON_BYTES]
        if self.application:
            return encode_varints(CONNECTION_CLOSE_APPLICATION, self.code, len(reason)) + reason
        return encode_varints(CONNECTION_CLOSE, self.code, self.frame_type, len(reason)) + reason

    @classmethod
    def decode(cls, reader: Reader, frame_type: int) -> Self:
        code = reader.varint()
        application = frame_type == CONNECTION_CLOSE_APPLICATION
        blamed = 0 if application else reader.varint()
        return cls(code, blamed, reader.take(reader.varint())[:MAX_REASON_BYTES], application)


@dataclass(frozen=True, slots=True)
class HandshakeDone:
    """HANDSHAKE_DONE (section 19.20)."""

    def encode(self) -> bytes:
        return b"\x1e"

    @classmethod
    def decode(cls, reader: Reader, frame_type: int) -> Self:
        return cls()


@dataclass(frozen=True, slots=True)
class Datagram:
    """DATAGRAM (RFC 9221 section 4); `explicit_length` is False where the data reaches to the packet's end."""

    data: bytes
    explicit_length: bool = True

    @property
    def size(self) -> int:
        """Bytes of the whole frame, which a peer's max_datagram_frame_size limits."""
        length = len(self.data)
        return 1 + length + (len(encode_varint(length)) if self.explicit_length else 0)

    def encode(self) -> bytes:
        if self.explicit_length:
            return encode_varints(DATAGRAM | DATAGRAM_LEN, len(self.data)) + self.data
        return bytes((DATAGRAM,)) + self.data

    @classmethod
    def decode(cls, reader: Reader, frame_type: int) -> Self:
        explicit = bool(frame_type & DATAGRAM_LEN)
        return cls(reader.take(reader.varint()) if explicit else reader.rest(), explicit)


Decoder = Callable[[Reader, int], Frame]

DECODERS: dict[int, Decoder] = {
    PADDING: Padding.decode,
    PING: Ping.decode,
    ACK: Ack.decode,
    ACK_ECN: Ack.decode,
    RESET_STREAM: ResetStream.decode,
    STOP_SENDING: StopSending.decode,
    CRYPTO: Crypto.decode,
    NEW_TOKEN: NewToken.decode,
    **dict.fromkeys(range(STREAM, STREAM + 8), Stream.decode),
    MAX_DATA: MaxData.decode,
    MAX_STREAM_DATA: MaxStreamData.decode,
    MAX_STREAMS_BIDI: MaxStreams.decode,
    MAX_STREAMS_UNI: MaxStreams.decode,
    DATA_BLOCKED: DataBlocked.decode,
    STREAM_DATA_BLOCKED: StreamDataBlocked.decode,
    STREAMS_BLOCKED_BIDI: StreamsBlocked.decode,
    STREAMS_BLOCKED_UNI: StreamsBlocked.decode,
    NEW_CONNECTION_ID: NewConnectionId.decode,
    RETIRE_CONNECTION_ID: RetireConnectionId.decode,
    PATH_CHALLENGE: PathChallenge.decode,
    PATH_RESPONSE: PathResponse.decode,
    CONNECTION_CLOSE: ConnectionClose.decode,
    CONNECTION_CLOSE_APPLICATION: ConnectionClose.decode,
    HANDSHAKE_DONE: HandshakeDone.decode,
    RESET_STREAM_AT: ResetStreamAt.decode,
    DATAGRAM: Datagram.decode,
    DATAGRAM | DATAGRAM_LEN: Datagram.decode,
    IMMEDIATE_ACK: ImmediateAck.decode,
    ACK_FREQUENCY: AckFrequency.decode,
}


def decode_frame(reader: Reader) -> tuple[int, Frame]:
    """The type of the frame that `reader` stands at, and the frame (RFC 9000 section 12.4)."""
    start = reader.offset
    try:
        frame_type = reader.varint()
    except WireError as error:
        raise bad_encoding(0, "the packet ends within a frame type") from error
    decoder = DECODERS.get(frame_type)
    if decoder is None:
        raise bad_encoding(frame_type, f"unknown frame type {frame_type:#x}")
    if reader.offset - start != (1 if frame_type < 0x40 else 2):  # all of these types fit two bytes
        raise PeerError(
            ErrorCode.PROTOCOL_VIOLATION,
            "a frame type is not in its shortest encoding",
            frame_type=frame_type,
            section="RFC 9000 section 12.4",
        )
    try:
        return frame_type, decoder(reader, frame_type)
    except WireError as error:
        raise bad_encoding(frame_type, "the packet ends within a frame") from error
