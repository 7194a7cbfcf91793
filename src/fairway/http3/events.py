"""What an HTTP/3 connection tells its application. `Http3Connection.events()` drains them, in order.

Fields are lists of (name, value) in bytes, names in lower case, pseudo-fields first. The connection's own events
(HandshakeCompleted, EarlyDataAccepted, StreamsAvailable, StreamWritable, StreamFinished, ConnectionTerminated ...)
come through as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

from fairway.http3.priorities import Priority
from fairway.http3.settings import Settings
from fairway.quic.events import (
    ConnectionTerminated,
    EarlyDataAccepted,
    EarlyDataRejected,
    HandshakeCompleted,
    HandshakeConfirmed,
    ObserverFailed,
    StreamFinished,
    StreamsAvailable,
    StreamWritable,
    TicketReceived,
)

Fields = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class SettingsReceived:
    """The peer's settings are known."""

    settings: Settings


@dataclass(frozen=True, slots=True)
class RequestReceived:
    """A client's request; `ended` if nothing follows its fields."""

    stream_id: int
    fields: Fields
    ended: bool


@dataclass(frozen=True, slots=True)
class InformationalReceived:
    """A 1xx response; the final one follows."""

    stream_id: int
    fields: Fields


@dataclass(frozen=True, slots=True)
class ResponseReceived:
    """A server's final response; `ended` if nothing follows its fields."""

    stream_id: int
    fields: Fields
    ended: bool


@dataclass(frozen=True, slots=True)
class BodyReadable:
    """`read` has something, or the end. Not repeated until `read` was called."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class TrailersReceived:
    """Fields after the body, which has been read."""

    stream_id: int
    fields: Fields


@dataclass(frozen=True, slots=True)
class MessageFailed:
    """The peer's message was malformed; the stream was given up with `code`. Other streams go on."""

    stream_id: int
    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class StreamAborted:
    """The peer gave up sending on the stream (RESET_STREAM)."""

    stream_id: int
    code: int


@dataclass(frozen=True, slots=True)
class ReadingStopped:
    """The peer no longer reads the stream (STOP_SENDING); ours was reset, or had ended and is not all delivered."""

    stream_id: int
    code: int


@dataclass(frozen=True, slots=True)
class PriorityUpdated:
    """The client gave a request another priority; the stream's order has been changed already."""

    stream_id: int
    priority: Priority


@dataclass(frozen=True, slots=True)
class GoawayReceived:
    """The peer shuts down: a server does not process requests from stream `identifier` on."""

    identifier: int


@dataclass(frozen=True, slots=True)
class DatagramReceived:
    """An HTTP datagram of a request (RFC 9297 section 2.1)."""

    stream_id: int
    data: bytes


@dataclass(frozen=True, slots=True)
class TunnelStreamOpened:
    """The peer opened a stream of a WebTransport session; `read` gives its bytes."""

    session_id: int
    stream_id: int


Event = (
    SettingsReceived
    | RequestReceived
    | InformationalReceived
    | ResponseReceived
    | BodyReadable
    | TrailersReceived
    | MessageFailed
    | StreamAborted
    | ReadingStopped
    | PriorityUpdated
    | GoawayReceived
    | DatagramReceived
    | TunnelStreamOpened
    | EarlyDataAccepted
    | EarlyDataRejected
    | HandshakeCompleted
    | HandshakeConfirmed
    | StreamsAvailable
    | StreamWritable
    | StreamFinished
    | TicketReceived
    | ObserverFailed
    | ConnectionTerminated
)
