"""The few pages that Prometheus and a supervisor fetch: /metrics, /healthz, /readyz. HTTP/1.1, GET, no more."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fairway.net.agent import metrics
from fairway.net.model.errors import FairwayError

if TYPE_CHECKING:
    from fairway.net.agent.agent import Agent

_REQUEST_MAX = 8192  # bytes of a request's head
_REQUEST_S = 5.0
_CONNECTIONS_MAX = 64
_TEXT = "text/plain; charset=utf-8"
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


class Listener:
    """Every request has a connection of its own."""

    def __init__(self, agent: Agent) -> None:
        metrics.check()
        self._agent = agent
        self._server: asyncio.Server | None = None
        self._open = 0

    async def start(self, host: str, port: int) -> None:
        """Begin to listen."""
        try:
            self._server = await asyncio.start_server(self._accept, host, port, limit=_REQUEST_MAX)
        except OSError as error:
            raise FairwayError(f"metrics.listen {host}:{port}: {error.strerror}", mend="choose another port") from None

    async def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open <= _CONNECTIONS_MAX:
                async with asyncio.timeout(_REQUEST_S):
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(await self._answer(head))
                    writer.close()
                    await writer.wait_closed()  # when all is sent
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # a client that does not speak HTTP, or does not take the answer, or not fast enough
        finally:
            self._open -= 1
            writer.transport.abort()

    async def _answer(self, head: bytes) -> bytes:
        method, _, rest = head.partition(b" ")
        path = rest.split(b" ")[0].split(b"?")[0]
        if method not in (b"GET", b"HEAD"):
            return _response("405 Method Not Allowed", b"GET only\n", head=False)
        status, body, kind = await self._page(path)
        return _response(status, body, kind, head=method == b"HEAD")

    async def _page(self, path: bytes) -> tuple[str, bytes, str]:
        agent = self._agent
        if path == b"/metrics":
            try:
                return "200 OK", await agent.metrics(), _PROMETHEUS
            except FairwayError as error:
                return "503 Service Unavailable", f"{error.message}\n".encode(), _TEXT
        if path in (b"/healthz", b"/readyz"):
            well = agent.healthy and (path == b"/healthz" or agent.ready)
            return ("200 OK", b"ok\n", _TEXT) if well else ("503 Service Unavailable", b"not now\n", _TEXT)
        return "404 Not Found", b"/metrics, /healthz, /readyz\n", _TEXT


def _response(status: str, body: bytes, kind: str = _TEXT, *, head: bool) -> bytes:
    lines = (f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", "Connection: close", "", "")
    return "\r\n".join(lines).encode() + (b"" if head else body)
