"""What a connection tells its application. Every event is a frozen value; `Connection.events()` drains them.

Where there are many fields it is a named tuple: a frozen dataclass takes three times as long to make.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from fairway.quic.errors import Closing


class HandshakeCompleted(NamedTuple):
    """Keys are agreed and the peer is authenticated as configured; streams may be used."""

    alpn: str | None
    cipher_suite: int
    group: int | None
    peer_certificates: tuple[Any, ...]
    resumed: bool
    server_name: str | None
    version: int
    """The QUIC version that was negotiated (RFC 9368)."""


@dataclass(frozen=True, slots=True)
class HandshakeConfirmed:
    """Both sides know that the handshake is complete (RFC 9001 section 4.1.2)."""


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """The peer opened a stream; `early` if in a 0-RTT packet, which may be a replay (RFC 9001 section 9.2)."""

    stream_id: int
    early: bool = False


@dataclass(frozen=True, slots=True)
class StreamReadable:
    """The stream has bytes to read, or its end. Not repeated until `read` was called."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class StreamWritable:
    """Room in the stream's send buffer after `write` accepted less than it was given."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class StreamResetReceived:
    """The peer gave up its sending side (RESET_STREAM, RESET_STREAM_AT): `acknowledge_reset` once you know.

    Until then `read` gives what the peer has committed.
    """

    stream_id: int
    code: int
    final_size: int = 0
    """Bytes that it has sent on the stream, delivered or not."""


@dataclass(frozen=True, slots=True)
class StreamDiscarded:
    """A stream that is no longer read (`stop_sending`) has come to its end: nothing more of it is to be expected."""

    stream_id: int
    final_size: int


@dataclass(frozen=True, slots=True)
class StopSendingReceived:
    """The peer no longer reads; our sending side was reset with the same code."""

    stream_id: int
    code: int


@dataclass(frozen=True, slots=True)
class StreamFinished:
    """Everything written on the stream, and its end, was acknowledged."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class StreamsAvailable:
    """The peer raised its limit: more streams of this kind can be opened."""

    unidirectional: bool


@dataclass(frozen=True, slots=True)
class DatagramReceived:
    """An unreliable datagram (RFC 9221). Those that nobody fetches are bounded: the oldest are dropped."""

    data: bytes


@dataclass(frozen=True, slots=True)
class TicketReceived:
    """A session ticket of the server, for a later resumption."""

    ticket: Any


@dataclass(frozen=True, slots=True)
class ObserverFailed:
    """An observer raised an error and was taken off; the connection goes on."""

    observer: object
    error: Exception


@dataclass(frozen=True, slots=True)
class EarlyDataAccepted:
    """0-RTT: a client's early data was accepted; a server may use streams before the handshake is complete."""

    alpn: str | None
    server_name: str | None


@dataclass(frozen=True, slots=True)
class EarlyDataRejected:
    """0-RTT: the server did not take the early data; it is sent again by itself when the handshake is complete."""


@dataclass(frozen=True, slots=True)
class TokenReceived:
    """An address token of the server (NEW_TOKEN), for the next connection to it."""

    token: bytes


@dataclass(frozen=True, slots=True)
class PathChanged:
    """The connection goes on over another path: the peer has moved, or we have (RFC 9000 section 9)."""

    local: Any
    address: Any


@dataclass(frozen=True, slots=True)
class PathValidated:
    """The peer answers on a path that `probe` asked for: `migrate` may move there."""

    local: Any
    address: Any


@dataclass(frozen=True, slots=True)
class PathFailed:
    """A path that `probe` or `migrate` asked for does not work; the connection stays where it works."""

    local: Any
    address: Any
    reason: str


@dataclass(frozen=True, slots=True)
class PreferredAddressOffered:
    """The server would rather be reached elsewhere (section 9.6): host and port, None where it has none."""

    ipv4: tuple[str, int] | None
    ipv6: tuple[str, int] | None


@dataclass(frozen=True, slots=True)
class ConnectionTerminated:
    """The connection ended; no event follows it."""

    closing: Closing


Event = (
    HandshakeCompleted
    | HandshakeConfirmed
    | EarlyDataAccepted
    | EarlyDataRejected
    | StreamOpened
    | StreamReadable
    | StreamWritable
    | StreamResetReceived
    | StreamDiscarded
    | StopSendingReceived
    | StreamFinished
    | StreamsAvailable
    | DatagramReceived
    | TicketReceived
    | ObserverFailed
    | TokenReceived
    | PathChanged
    | PathValidated
    | PathFailed
    | PreferredAddressOffered
    | ConnectionTerminated
)
