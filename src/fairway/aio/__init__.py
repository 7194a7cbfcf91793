"""QUIC with asyncio: `connect`, `serve`, connections and streams. The only room with an event loop and a UDP socket."""

from fairway.aio.client import connect
from fairway.aio.connection import QuicConnection
from fairway.aio.moving import MigrationError
from fairway.aio.options import ConnectOptions, ServeOptions
from fairway.aio.server import Server, serve
from fairway.aio.stream import Stream
from fairway.quic import (
    ClosedBy,
    Closing,
    ConnectionClosed,
    ErrorCode,
    QuicConfiguration,
    StreamReset,
    UsageError,
)

__all__ = [
    "ClosedBy",
    "Closing",
    "ConnectOptions",
    "ConnectionClosed",
    "ErrorCode",
    "MigrationError",
    "QuicConfiguration",
    "QuicConnection",
    "ServeOptions",
    "Server",
    "Stream",
    "StreamReset",
    "UsageError",
    "connect",
    "serve",
]
