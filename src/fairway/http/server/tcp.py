"""HTTP/1.1 and HTTP/2 over TCP, by Hypercorn, beside HTTP/3: so that browsers find it, and older clients work."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import re
import socket
import ssl
from collections.abc import Callable
from typing import Any

from hypercorn.asyncio import serve
from hypercorn.config import Config, Sockets

from fairway.http.server.asgi import Application, Limits, Receive, Scope, Send
from fairway.http.server.asgi.fields import checked_lines, date, field_lines
from fairway.http.server.asgi.types import WEB_VERSION
from fairway.http.server.gate import Gate
from fairway.http.server.sockets import BACKLOG
from fairway.http.server.tcp_exchange import TcpExchange, announced_length
from fairway.quic.endpoint.admission import AdmissionLimits

ALPN = ("h2", "http/1.1")
ALT_SVC_S = 86400
QUEUE = 64
"""Pieces of a body (16 KiB of HTTP/2, up to 64 of HTTP/1.1) that wait for an application: what a client may send while
the application only sends. Hypercorn reads nothing else of the connection once they are full, not even its windows."""

STREAMS = 128
"""Requests of one HTTP/2 connection at once."""

LATE_S = 2.0
"""How much longer than its grace Hypercorn gets before it is cut off."""

_HOST = re.compile(rb"[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\]").fullmatch

_log = logging.getLogger("fairway.server.tcp")


class _Config(Config):
    """Sockets that are bound, behind a gate, and a context that is made already."""

    def __init__(
        self, tls: ssl.SSLContext, secure: list[socket.socket], insecure: list[socket.socket], gate: Gate
    ) -> None:
        super().__init__()
        self._tls = tls
        self._bound = secure, insecure
        self._gate = gate

    @property
    def ssl_enabled(self) -> bool:
        return True

    def create_ssl_context(self) -> ssl.SSLContext:
        return self._tls

    def create_sockets(self) -> Sockets:
        secure, insecure = ([self._gate.guard(sock) for sock in socks] for socks in self._bound)
        return Sockets(secure, insecure, [])


class TcpServer:
    """A running Hypercorn. It closes its copies of the sockets."""

    def __init__(
        self,
        application: Application,
        tls: ssl.SSLContext,
        *,
        secure: list[socket.socket],
        insecure: list[socket.socket],
        port: int,
        root_path: str = "",
        state: Callable[[], dict[str, Any]],
        limits: Limits,
        admission: AdmissionLimits | None = None,
        streams: int = STREAMS,
        advertise: bool = True,
    ) -> None:
        config = _Config(tls, secure, insecure, Gate(admission or AdmissionLimits()))
        config.errorlog = _log
        config.include_server_header = False
        config.include_date_header = False  # `_finished` adds it where the application did not
        config.root_path = root_path
        config.max_app_queue_size = QUEUE
        config.websocket_max_message_size = limits.max_message
        config.websocket_ping_interval = limits.websocket_ping_s
        config.backlog = BACKLOG
        config.h2_max_concurrent_streams = streams
        timeouts: Any = config  # Hypercorn takes fractions, too
        timeouts.keep_alive_timeout = math.inf if limits.idle_timeout_s is None else limits.idle_timeout_s
        if limits.request_timeout_s is not None:
            timeouts.ssl_handshake_timeout = limits.request_timeout_s
        self._config = config
        self._application = _Front(application, port, state, limits, advertise=advertise)
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Accept connections."""
        application: Any = self._application  # Hypercorn has types of its own for the same messages
        running = serve(application, self._config, shutdown_trigger=self._stop.wait, mode="asgi")
        self._task = asyncio.get_running_loop().create_task(running)

    async def close(self, grace_s: float) -> None:
        """Accept nobody new, give requests so long to finish, then cut them off."""
        if self._task is None:
            return
        self._config.graceful_timeout = grace_s
        self._stop.set()
        done, _ = await asyncio.wait([self._task], timeout=grace_s + LATE_S)
        if not done:
            self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task


class _Front:
    """The application as Hypercorn sees it: started already, its responses fit for every version and with Alt-Svc."""

    def __init__(
        self,
        application: Application,
        port: int,
        state: Callable[[], dict[str, Any]],
        limits: Limits,
        *,
        advertise: bool,
    ) -> None:
        self._application = application
        self._port = port
        self._state = state
        self._limits = limits
        self._running = 0
        self._alt_svc = (b"alt-svc", b'h3=":%d"; ma=%d' % (port, ALT_SVC_S)) if advertise else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "lifespan":
            await _agree(receive, send)
        elif kind == "http" and scope["scheme"] == "http":
            await self._redirect(scope, send)
        elif kind == "http":
            await self._request(scope, receive, send)
        else:
            scope["state"] = self._state()
            await self._application(scope, receive, send)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        limits = self._limits
        scope["state"] = self._state()
        scope["asgi"] = WEB_VERSION
        exchange = TcpExchange(receive, send, self._finished, limits)
        self._running += 1
        try:
            if limits.max_requests is not None and self._running > limits.max_requests:
                await exchange.refuse(503, b"Service Unavailable\n", (b"retry-after", b"1"))
            elif limits.max_body is not None and announced_length(scope) > limits.max_body:
                await exchange.refuse(413, b"Content Too Large\n")
            else:
                await exchange.run(self._application, scope)
        finally:
            self._running -= 1
            exchange.close()

    def _finished(self, headers: Any) -> list[tuple[bytes, bytes]]:
        lines = checked_lines(field_lines(headers))
        if all(name != b"date" for name, _ in lines):
            lines.append((b"date", date()))
        if self._alt_svc is not None:
            lines.append(self._alt_svc)
        return lines

    async def _redirect(self, scope: Scope, send: Send) -> None:
        """To the same place by https; 308 keeps method and body (RFC 9110 section 15.4.9)."""
        host = next((value for name, value in scope["headers"] if name == b"host"), b"")
        name = host.rpartition(b":")[0] if host.rpartition(b":")[2].isdigit() else host
        port = b"" if self._port == 443 else b":%d" % self._port
        query = b"?" + scope["query_string"] if scope["query_string"] else b""
        location = b"https://" + name + port + scope["raw_path"] + query
        if not _HOST(name) or not scope["raw_path"].startswith(b"/"):  # no part of it may pass for another part
            name = b""
        status = 308 if name else 400
        headers = [(b"content-length", b"0"), (b"date", date()), *([(b"location", location)] if name else [])]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


async def _agree(receive: Receive, send: Send) -> None:
    """The application's lifespan is not Hypercorn's business."""
    for _ in range(2):
        message = await receive()
        await send({"type": message["type"] + ".complete"})
