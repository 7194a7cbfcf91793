"""Runs an application for every request and WebSocket of HTTP/3 connections."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fairway.aio.http3 import Request
from fairway.aio.signal import Signal
from fairway.http.server.asgi.exchange import Exchange
from fairway.http.server.asgi.fields import date
from fairway.http.server.asgi.limits import Limits
from fairway.http.server.asgi.scope import Surroundings, make_scope
from fairway.http.server.asgi.types import Application
from fairway.http.server.asgi.websocket import WebSocket
from fairway.http3 import DEFAULT_SETTINGS
from fairway.tls import Identity

SETTINGS = replace(DEFAULT_SETTINGS, enable_connect_protocol=True)
"""Settings of a server whose applications have WebSockets (RFC 9220)."""


class AsgiHandler:
    """The `handler` of `fairway.aio.http3.serve`: give it `SETTINGS` and `outlive=True` there.

    `state` is what the lifespan left; each request gets a copy. `server` is where the server listens, for the scopes;
    `identities` are its certificates, for the TLS extension.
    """

    def __init__(
        self,
        application: Application,
        *,
        root_path: str = "",
        state: dict[str, Any] | None = None,
        server: tuple[str, int] | None = None,
        identities: Sequence[Identity] = (),
        limits: Limits | None = None,
    ) -> None:
        self._application = application
        self._root_path = root_path
        self._state = state
        self.server = server
        self._identities = tuple(identities)
        self._limits = limits or Limits()
        self._loop = asyncio.get_running_loop()
        self._running: set[Exchange | WebSocket] = set()
        self._idle = Signal()

    @property
    def running(self) -> int:
        """Requests and WebSockets that the application works on."""
        return len(self._running)

    async def __call__(self, request: Request) -> None:
        """Answer one request."""
        connection = request.connection
        surroundings = connection.context
        if surroundings is None:
            surroundings = Surroundings(connection, self.server, self._identities)
            if connection.handshake is not None:  # in 0-RTT what it says of the client is not known yet
                connection.context = surroundings
        limit = self._limits.max_requests
        if limit is not None and len(self._running) >= limit:
            _refuse(request, b"503", b"Service Unavailable\n", (b"retry-after", b"1"))
            return
        running: Exchange | WebSocket
        if request.field(b":method") != b"CONNECT":
            scope = make_scope(request, surroundings, self._root_path, self._state)
            running = Exchange(request, scope, self._limits, self._loop)
        elif request.field(b":protocol") == b"websocket":
            scope = make_scope(request, surroundings, self._root_path, self._state)
            running = WebSocket(request, scope, self._limits, self._loop)
        else:
            _refuse(request, b"501", b"Not Implemented\n")  # RFC 9220 section 3
            return
        self._running.add(running)
        try:
            await running.run(self._application)
        finally:
            self._running.discard(running)
            if not self._running:
                self._idle.fire()

    async def wait_idle(self) -> None:
        """Wait until the application works on nothing."""
        while self._running:
            await self._idle.wait()

    def expire(self, now: float) -> None:
        """Give up on clients that an application has waited for too long; to be called now and then."""
        for running in list(self._running):
            if running.overdue(now):
                running.expire()


def _refuse(request: Request, status: bytes, body: bytes, *fields: tuple[bytes, bytes]) -> None:
    plain = (b"content-type", b"text/plain; charset=utf-8")
    head = [(b":status", status), plain, (b"content-length", b"%d" % len(body)), (b"date", date()), *fields]
    request.respond(head, body, end=True)
