"""QUIC with asyncio: `connect`, `serve`, connections and streams. The only room with an event loop and a UDP socket."""

from fairway.aio.client import connect
from fairway.aio.connection import QuicConnection
from fairway.aio.moving import MigrationError
from fairway.aio.options import ConnectOptions, ServeOptions
from fairway.aio.server import Server, serve
from fairway.aio.session_file import FileSessionStore
from fairway.aio.stream import Stream
from fairway.aio.workers.serving import Workers
from fairway.quic import (
    ClosedBy,
    Closing,
    ConnectionClosed,
    ErrorCode,
    QuicConfiguration,
    StreamReset,
    UsageError,
)
from fairway.quic.endpoint import AdmissionLimits, ServerId

__all__ = [
    "AdmissionLimits",
    "ClosedBy",
    "Closing",
    "ConnectOptions",
    "ConnectionClosed",
    "ErrorCode",
    "FileSessionStore",
    "MigrationError",
    "QuicConfiguration",
    "QuicConnection",
    "ServeOptions",
    "Server",
    "ServerId",
    "Stream",
    "StreamReset",
    "UsageError",
    "Workers",
    "connect",
    "serve",
]
