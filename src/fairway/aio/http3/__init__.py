"""HTTP/3 with asyncio: `connect` and `serve`, requests and responses."""

from fairway.aio.http3.client import ClientConnection, ClientStream, connect
from fairway.aio.http3.errors import RequestError
from fairway.aio.http3.server import Request, RequestHandler, ServerConnection, serve
from fairway.aio.http3.webtransport import Session, TunnelStream

__all__ = [
    "ClientConnection",
    "ClientStream",
    "Request",
    "RequestError",
    "RequestHandler",
    "ServerConnection",
    "Session",
    "TunnelStream",
    "connect",
    "serve",
]
