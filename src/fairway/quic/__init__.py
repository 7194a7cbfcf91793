"""QUIC version 1 and 2 (RFC 9000, 9001, 9002) without I/O: a `Connection`, and the `Endpoint` that finds it."""

from fairway.quic.configuration import QuicConfiguration
from fairway.quic.connection import Connection
from fairway.quic.endpoint import Endpoint
from fairway.quic.errors import (
    ClosedBy,
    Closing,
    ConnectionClosed,
    ErrorCode,
    PeerError,
    StreamReset,
    UsageError,
)
from fairway.quic.handshake.sessions import KnownServer, MemorySessionStore, SavedSession, ServerKey, SessionStore
from fairway.quic.sending.transmitter import Transmit
from fairway.quic.state import Phase

__all__ = [
    "ClosedBy",
    "Closing",
    "Connection",
    "ConnectionClosed",
    "Endpoint",
    "ErrorCode",
    "KnownServer",
    "MemorySessionStore",
    "PeerError",
    "Phase",
    "QuicConfiguration",
    "SavedSession",
    "ServerKey",
    "SessionStore",
    "StreamReset",
    "Transmit",
    "UsageError",
]
