"""ASGI 3 applications over HTTP/3: `AsgiHandler` for requests and WebSockets, `Lifespan` around them."""

from fairway.http.server.asgi.errors import ClientDisconnectedError, LifespanError
from fairway.http.server.asgi.handler import AsgiHandler
from fairway.http.server.asgi.lifespan import Lifespan
from fairway.http.server.asgi.limits import Limits
from fairway.http.server.asgi.types import Application, Message, Receive, Scope, Send

__all__ = [
    "Application",
    "AsgiHandler",
    "ClientDisconnectedError",
    "Lifespan",
    "LifespanError",
    "Limits",
    "Message",
    "Receive",
    "Scope",
    "Send",
]
