"""The agent's end of the shim's socket: one connection a call."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

from fairway.net.cni.wire import LONGEST_REQUEST, Answer, Request, decode_request, encode_answer
from fairway.net.model.errors import FairwayError

SOCKET = Path("/run/fairway/cni.sock")

_LOG = logging.getLogger("fairway.agent.cni")  # said as the agent says its own
_BACKLOG = 1024  # calls that wait while the agent is busy: a runtime that starts a thousand pods at once
_REQUEST_S = 10.0  # for a shim to send its request in

Answerer = Callable[[Request], Awaitable[Answer]]


class Server:
    """Listens for shims. `answer` is awaited for each request; it decides what may run beside what."""

    def __init__(self, path: Path, answer: Answerer) -> None:
        self._path = path
        self._answer = answer
        self._server: asyncio.Server | None = None
        self._calls: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen; an error if another agent does. Only root may connect: who can, makes interfaces."""
        self._path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if _is_served(self._path):
            raise FairwayError(f"another agent serves {self._path}", mend="stop it first")
        # Bound elsewhere and moved, so that a shim finds either no socket or one that is listened to.
        new = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        new.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(str(new))
            new.chmod(0o600)
            listener.listen()
            new.rename(self._path)
        except OSError:
            listener.close()
            raise
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: _Connection(self._take), sock=listener, backlog=_BACKLOG)

    async def stop(self) -> None:
        """Take no more calls, and answer those that were taken."""
        if self._server is None:
            return
        self._path.unlink(missing_ok=True)
        self._server.close()
        if self._calls:
            await asyncio.wait(self._calls)
        self._server = None

    def _take(self, connection: _Connection, request: Request) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(connection, request))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _serve(self, connection: _Connection, request: Request) -> None:
        connection.finish(await self._answer(request))


class _Connection(asyncio.Protocol):
    """A shim's connection: everything that it says, then the answer."""

    def __init__(self, take: Callable[[_Connection, Request], None]) -> None:
        self._take = take
        self._data = bytearray()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A shim has connected; one that says nothing is not waited for."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._timer = asyncio.get_running_loop().call_later(_REQUEST_S, transport.abort)

    def data_received(self, data: bytes) -> None:
        """More of the request."""
        self._data += data
        if len(self._data) > LONGEST_REQUEST and self._transport is not None:
            _LOG.warning("a request of more than %d bytes was dropped", LONGEST_REQUEST)
            self._transport.abort()

    def eof_received(self) -> bool:
        """The request is whole."""
        self._stop_timer()
        try:
            request = decode_request(bytes(self._data))
        except ValueError as error:
            _LOG.warning("what came by the socket is no request: %s", error)
            return False
        self._take(self, request)
        return True  # keep the connection for the answer

    def connection_lost(self, exc: Exception | None) -> None:
        """The shim is gone; what it asked for is done all the same."""
        self._stop_timer()
        self._transport = None

    def finish(self, answer: Answer) -> None:
        """Send the answer and close."""
        if self._transport is not None:
            self._transport.write(encode_answer(answer))
            self._transport.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, contextlib.suppress(OSError):
        probe.connect(str(path))
        return True
    return False
